"""A listener without patience, and the honest sender that must get through whatever others do to it."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import builders
from listener_house import House, listener
from peers import until
from raw_peer import ABORT, VERIFICATION, RawPeer, c_store_rq, connected, fragment

EXPLICIT, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"
MR = builders.MR_IMAGE
CONTEXTS = [(MR, EXPLICIT), (VERIFICATION, "1.2.840.10008.1.2"), (MR, DEFLATED)]
IMPATIENT = {"min_free_bytes": 0, "drain_s": 2, "acse_timeout_s": 1, "dimse_timeout_s": 1, "network_timeout_s": 2}
MIB = 1 << 20


def image(sop_uid: str, **attributes: object) -> bytes:
    """An MR image's data set, explicit VR."""
    return builders.dataset_bytes(builders.part10(builders.mr_image("1.2.3", "1.2.3.4", sop_uid, **attributes)))


@contextmanager
def door(tmp_path: Path, **limits: int) -> Iterator[House]:
    """A listener without patience; at the end an honest image must have been let in, and nothing else be kept."""
    with listener(tmp_path / "data", limits=IMPATIENT | limits) as house:
        yield house
        honest(house, "1.2.3.4.99")
        house.until_filed()
        until(lambda: not house.open_parts(), what="nothing half received left behind")


def honest(house: House, sop_uid: str) -> None:
    """A sender that does everything right."""
    with connected(house.ports.dimse) as peer:
        assert peer.associate(CONTEXTS)
        assert peer.echo(3)
        answer = peer.store(1, MR, sop_uid, image(sop_uid))
        assert answer is not None
        assert answer.status == 0x0000
        assert peer.release()


def all_gone(house: House, threads: int) -> None:
    """Whoever called before has been let in and is gone, and no more threads are left.

    The kernel hands out connections in their order: one that is answered now has had all others before it.
    """
    with connected(house.ports.dimse) as peer:
        assert peer.associate(CONTEXTS)
        assert peer.echo(3)
        assert peer.release()
    until(lambda: threading.active_count() <= threads, what="no thread left")


def resident_bytes() -> int:
    """What this process, the listener in it, holds in memory."""
    return int(re.findall(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) << 10


def descriptors() -> int:
    """How many files and sockets this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def associated(peer: RawPeer) -> None:
    """It has its association."""
    assert peer.associate(CONTEXTS)


def in_a_message(peer: RawPeer) -> None:
    """It has said that a data set follows."""
    associated(peer)
    peer.send(fragment(1, c_store_rq(MR, "1.2.3.4.5"), command=True, last=True))


def silent(peer: RawPeer) -> bool:
    """Say nothing more; whether the door ended the connection."""
    while (got := peer.receive()) is not None:
        if got[0] == ABORT:
            return True
    return True


def deaf(peer: RawPeer, asked: bytes) -> None:
    """Ask for ever and read nothing; ConnectionError when the door has ended it, TimeoutError when it has not."""
    peer.sock.settimeout(60)
    while True:
        peer.send(asked)
