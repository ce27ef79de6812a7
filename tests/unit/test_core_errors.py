"""One table from what went wrong to what a peer is told."""

from __future__ import annotations

import pickle

import pytest

from cauda.core.domain import Reason
from cauda.core.errors import CaudaError, Misconfigured, Rejected, Unavailable, answer_for, error_comment

# PS3.4 table B.2-1 and PS3.7 annex C; HTTP by RFC 9110.
ROWS = [
    (Unavailable(Reason.NO_ROOM), 0xA700, 507),
    (Unavailable(Reason.DISK_FAILED), 0xA700, 507),
    (Unavailable(Reason.LEDGER_DOWN), 0xA700, 503),
    (Rejected(Reason.TOO_LARGE), 0xA700, 413),
    (Rejected(Reason.SOP_CLASS_MISMATCH), 0xA900, 409),
    (Rejected(Reason.UID_MISMATCH), 0xA900, 409),
    (Rejected(Reason.SOP_CLASS_NOT_SUPPORTED), 0x0122, 409),
    (Rejected(Reason.TRANSFER_SYNTAX_NOT_SUPPORTED), 0x0122, 409),
    (Rejected(Reason.NOT_DICOM), 0xC000, 409),
    (Rejected(Reason.TRUNCATED), 0xC000, 409),
    (Rejected(Reason.UID_INVALID), 0xC000, 409),
    (ZeroDivisionError("x"), 0x0110, 500),
]


@pytest.mark.parametrize(("error", "dimse", "http"), ROWS, ids=lambda v: str(getattr(v, "reason", v)))
def test_each_error_has_its_answer(error: Exception, dimse: int, http: int) -> None:
    answer = answer_for(error)
    assert (answer.dimse, answer.http) == (dimse, http)


@pytest.mark.parametrize("reason", list(Reason))
def test_no_error_of_ours_is_ever_answered_with_success_or_as_a_bug(reason: Reason) -> None:
    for error in (Rejected(reason), Unavailable(reason)):
        answer = answer_for(error)
        assert answer.dimse not in {0x0000, 0x0110}
        assert answer.dimse >> 12 != 0xB  # a warning means: stored
        assert 400 <= answer.http != 500


@pytest.mark.parametrize("reason", [Reason.NO_ROOM, Reason.DISK_FAILED, Reason.LEDGER_DOWN, Reason.FILE_MISSING])
def test_what_is_unavailable_invites_the_sender_to_try_again(reason: Reason) -> None:
    """A7xx is a refusal for lack of resources; C000 and A900 tell a modality to give up."""
    assert answer_for(Unavailable(reason)).dimse >> 8 == 0xA7


def test_the_error_comment_fits_its_element() -> None:
    """LO (PS3.5 6.2): 64 characters, no backslash; and no byte that a peer could stumble over."""
    comment = error_comment(Rejected(Reason.NOT_DICOM, "a\\b\n\x00\u00e4" + "x" * 200))
    assert len(comment) == 64
    assert all(" " <= c <= "~" and c != "\\" for c in comment)
    assert "no room" in error_comment(Unavailable(Reason.NO_ROOM, "no room: 3 MiB free"))


def test_a_bug_does_not_tell_a_peer_what_it_stumbled_over() -> None:
    comment = error_comment(ValueError("DOE^JANE is no number"))
    assert "DOE" not in comment
    assert "ValueError" in comment


@pytest.mark.parametrize(
    "error", [Rejected(Reason.UNDECODABLE, "why"), Unavailable(Reason.NO_ROOM), Misconfigured("node.aet: no")]
)
def test_errors_cross_process_borders_whole(error: CaudaError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  our own bytes
    assert type(copy) is type(error)
    assert (copy.reason, copy.message, str(copy)) == (error.reason, error.message, str(error))
