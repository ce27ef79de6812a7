"""UIDs from outside name files: nothing but digits and single dots may pass."""

from __future__ import annotations

import tracemalloc

import pytest

from cauda.core import uids
from cauda.core.domain import Reason
from cauda.core.errors import Rejected

TRICKS = [
    "", ".", "..", "../1.2.3", "1.2/3", "1.2.3/../../etc", "/etc/passwd", "1..2", ".1.2", "1.2.", "1.2.3\n",
    "1.2.3\x00", " 1.2.3", "1.2.3 ", "1.2.a", "-1.2", "1,2", "1.2.3.dcm", "\uff11.2", "\u0661.2", "1" * 65,
    "1." * 32 + "1",
]  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS, ids=ascii)
def test_a_text_that_could_leave_the_folder_is_no_uid(trick: str) -> None:
    assert not uids.is_uid(trick)
    with pytest.raises(Rejected) as refused:
        uids.checked(trick, "SOPInstanceUID")
    assert refused.value.reason is Reason.UID_INVALID


def test_what_a_peer_sent_in_place_of_uids_is_not_kept_in_memory() -> None:
    tracemalloc.start()
    for number in range(50):
        assert not uids.is_uid(f"{number}" + "1" * 1_000_000)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 1_000_000


def test_a_refused_uid_is_not_repeated_in_the_message() -> None:
    """Somebody put a name where the UID belongs: it must not reach the log."""
    with pytest.raises(Rejected) as refused:
        uids.checked("DOE^JANE", "StudyInstanceUID")
    assert "DOE" not in str(refused.value)
    assert "StudyInstanceUID" in str(refused.value)


@pytest.mark.parametrize("real", ["1", "1.2.840.10008.5.1.4.1.1.4", "2.25." + "9" * 39, "1.02.003", "9" * 64])
def test_what_real_scanners_send_passes(real: str) -> None:
    """Leading zeros are wrong (PS3.5 9.1) and common."""
    assert uids.checked(real, "x") == real


def test_a_derived_uid_depends_on_every_part_and_on_nothing_else() -> None:
    """PS3.5 B.2: 2.25 and a 128-bit integer without leading zeros, so at most 44 characters."""
    one = uids.derived("study", "1", "sr")
    assert one == uids.derived("study", "1", "sr")
    others = {uids.derived("study", "1", "sc"), uids.derived("study1", "", "sr"), uids.derived("study", "1", "sr", "")}
    assert len(others | {one}) == 4
    assert one.startswith("2.25.")
    number = int(one[5:])
    assert str(number) == one[5:]
    assert number < 2**128
    assert (number >> 62) & 0b11 == 0b10  # RFC 9562 variant
    assert (number >> 76) & 0xF == 8  # version 8: the meaning of the bits is our own
