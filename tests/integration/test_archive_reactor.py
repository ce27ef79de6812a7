"""Who asks over an association of ours gets the answer, whatever pynetdicom's reactor was about to do."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from dicom_peers import storescp
from peers import HOST, until
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from cauda.archive.reactor import keep_answers

pytestmark = pytest.mark.peers


class Held:
    """The reactor, stopped once where it has been let through its pause and has not said so yet."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, association: Any) -> None:
        self.inside, self.go, self.back = threading.Event(), threading.Event(), threading.Event()
        self._reactor, self._wait = association, threading.Event.wait
        monkeypatch.setattr(threading.Event, "wait", self._waiting())

    def _waiting(self) -> Any:
        def wait(event: threading.Event, timeout: float | None = None) -> bool:
            mine = event is self._reactor._reactor_checkpoint
            if mine and self.inside.is_set():
                self.back.set()
            passed = self._wait(event, timeout)
            if mine and not self.inside.is_set():
                self.inside.set()
                self._wait(self.go)
            return passed

        return wait


def test_an_answer_is_not_taken_by_a_reactor_that_was_just_going_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with storescp() as peer:
        ae = AE()
        ae.dimse_timeout = 5
        ae.add_requested_context(Verification)
        association = keep_answers(ae.associate(HOST, peer.port, ae_title=peer.aet))
        assert association.is_established
        messages = association.dimse.msg_queue
        get = messages.get
        with monkeypatch.context() as patch:
            held = Held(patch, association)
            until(held.inside.is_set, what="the reactor between its pause and its next step")

            def after_the_reactor(block: bool = True, timeout: float | None = None) -> Any:
                if block:  # who asked comes last
                    until(lambda: messages.qsize() > 0, what="the answer")
                    held.go.set()
                    until(held.back.is_set, what="the reactor to come round")
                return get(block, timeout)

            patch.setattr(messages, "get", after_the_reactor)
            assert association.send_c_echo().Status == 0x0000
        association.release()
