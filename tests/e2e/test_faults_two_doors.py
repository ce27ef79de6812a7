"""Two routers send one study to two listeners at once: one copy stays, and it is the one that is entered."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from builders import mr_study
from harness import Sender, assert_each_once, hash_of, node, settled
from peers import postgres

pytestmark = [pytest.mark.peers, pytest.mark.timeout(900)]


def test_one_study_through_two_doors_at_once_is_kept_and_reported_once(tmp_path: Path) -> None:
    studies = [mr_study(f"both doors {n}") for n in range(4)]
    names = [str(study[0].StudyInstanceUID) for study in studies]
    data, out = tmp_path / "data", f"folder:{tmp_path / 'out'}"
    with postgres() as server, ExitStack() as nodes:
        env = {"CAUDA_LEDGER_URL": server.database()}
        doors = [nodes.enter_context(node(data, out, command=("listen",), env=env, postgres=server)) for _ in range(2)]
        nodes.enter_context(node(data, out, command=("work",), env=env, port=0))
        senders = [Sender(door.port) for door in doors]
        for study in studies:
            threads = [threading.Thread(target=sender.insist, args=(study,)) for sender in senders]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(300)
        settled(doors[0], names, 2)
        assert_each_once(doors[0], senders[0], names, tmp_path / "out")
        for path, entered in doors[0].sql("SELECT path, sha256 FROM instance"):
            assert hash_of((data / path).read_bytes()) == entered
