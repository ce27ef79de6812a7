"""A data set comes in fragments (PS3.8 E.2) of any size, and is kept to the byte without being held as many of them."""

from __future__ import annotations

import random
import struct
import threading
import time
from pathlib import Path

import builders
import pytest
from impatient_door import CONTEXTS, IMPATIENT, MR, image
from listener_house import filed, listener
from raw_peer import c_store_rq, connected, fragment

from cauda.core.part import Part

pytestmark = [pytest.mark.peers, pytest.mark.usefixtures("data_path")]


@pytest.mark.parametrize(
    ("words", "in_a_fragment"),
    [
        (0, 2),
        (10_000, 16),  # thousands of fragments
        ((1 << 19) - 1000, 16_378),
        (1 << 20, 16_378),  # 1024 x 1024
        ((1 << 20) + 20_000, 16_000),  # about as much as is held before it goes to a file of its own
        ((1 << 20) + 32_768, 1000),
        (3 << 20, 16_378),
        (1 << 18, 131_066),  # large fragments, which are received where they belong
        ((1 << 20) + 20_000, 65_530),
        ((1 << 20) + 32_768, 100_000),
        (3 << 20, 131_066),
    ],
)
def test_an_object_of_any_size_in_fragments_of_any_size_is_kept_byte_for_byte(
    tmp_path: Path, words: int, in_a_fragment: int
) -> None:
    """Twice over one association: what the first has left in a buffer is not in the second."""
    draw = random.Random(words)
    with listener(tmp_path / "data") as house, connected(house.ports.dimse) as peer:
        assert peer.associate(CONTEXTS)
        peer.max_pdu = in_a_fragment + 6
        sent = {}
        for uid in ("1.2.3.4.5", "1.2.3.4.6"):
            data = image(uid, PixelData=draw.randbytes(2 * words))
            answer = peer.store(1, MR, uid, data)
            assert answer is not None
            assert answer.status == 0x0000
            sent[f"{uid}.dcm"] = data
        house.until_filed()
        assert {name: builders.dataset_bytes(content) for name, content in filed(house).items()} == sent


def test_an_object_in_crumbs_is_kept(tmp_path: Path) -> None:
    """However much of them comes at once."""
    data = image("1.2.3.4.5", PixelData=random.Random(1).randbytes(100_000))
    crumbs = [struct.pack(">IBB", 3, 1, 0x02 * (at == len(data) - 1)) + data[at : at + 1] for at in range(len(data))]
    with listener(tmp_path / "data") as house, connected(house.ports.dimse) as peer:
        assert peer.associate(CONTEXTS)
        pdus = (b"".join(crumbs[at : at + 2000]) for at in range(0, len(crumbs), 2000))
        peer.send(
            fragment(1, c_store_rq(MR, "1.2.3.4.5"), command=True, last=True)
            + b"".join(struct.pack(">BxI", 4, len(one)) + one for one in pdus)
        )
        said = peer.answer()
        assert said is not None
        assert said.status == 0x0000
        house.until_filed()
        assert [builders.dataset_bytes(content) for content in filed(house).values()] == [data]


def test_who_is_faster_than_our_disk_is_not_taken_for_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has to be waited for while an object comes that takes longer than an idle peer is given."""
    write = Part.write

    def slowly(self: Part, content: bytes | memoryview) -> None:
        threading.Event().wait(0.4)
        write(self, content)

    monkeypatch.setattr(Part, "write", slowly)
    data = image("1.2.3.4.5", PixelData=random.Random(1).randbytes(20 << 20))
    with listener(tmp_path / "data", limits=IMPATIENT) as house, connected(house.ports.dimse) as peer:
        assert peer.associate(CONTEXTS)
        began = time.monotonic()
        answer = peer.store(1, MR, "1.2.3.4.5", data)
        assert time.monotonic() - began > IMPATIENT["network_timeout_s"], "the case that this is about"
        assert answer is not None
        assert answer.status == 0x0000
