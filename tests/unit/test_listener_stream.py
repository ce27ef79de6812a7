"""A peer's bytes are what it sent, however they come: any PDUs, any fragments, any portions."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

import pytest

from cauda.core.draft import Draft
from cauda.listener.pdu import Malformed, Stream, Whole

LARGEST = 131_072


def fragment(content: bytes, *, command: bool, last: bool, context: int = 1) -> bytes:
    """A PDV item (PS3.8 9.3.5.1)."""
    return struct.pack(">IBB", len(content) + 2, context, command | last << 1) + content


def p_data(items: bytes) -> bytes:
    """A P-DATA-TF."""
    return struct.pack(">BxI", 4, len(items)) + items


def pdus(content: bytes, *, command: bool, draw: random.Random) -> bytes:
    """A command or data set in P-DATA-TFs of one to three fragments of any size."""
    size, at, out, last = draw.choice([1000, 16_378, 40_000, LARGEST - 100]), 0, b"", False
    while not last:
        items = b""
        for _ in range(draw.choice([1, 1, 1, 2, 3])):
            take = draw.choice([size, size, size, size, draw.randint(0, size), 0])
            if last or len(items) + take > LARGEST - 20:
                break
            last = at + take >= len(content) and draw.random() < 0.8  # or an empty one is
            items += fragment(content[at : at + take], command=command, last=last)
            at += take
        out += p_data(items)
    return out


def put(stream: Stream, content: bytes) -> int:
    """As much of it as is taken, which a socket gives in the same way."""

    def receive(places: Sequence[memoryview]) -> int:
        done = 0
        for place in places:
            some = content[done : done + len(place)]
            place[: len(some)] = some
            done += len(some)
        return done

    return stream.fill(receive) or 0


@pytest.mark.parametrize("seed", range(60))
def test_a_message_is_collected_to_the_byte_whatever_the_portions(seed: int) -> None:
    draw = random.Random(seed)
    portions = draw.choice([(1, 40), (1, 5000), (60_000, 70_000), (1, 400_000), (1 << 22, 1 << 22)])
    sizes = [1, 5000, 50_000] if portions == (1, 40) else [1, 5000, 300_000, 1_500_000, 3_000_000]
    messages = [(draw.randbytes(draw.randint(1, 300)), draw.randbytes(draw.choice(sizes))) for _ in range(4)]
    sent = b"".join(pdus(c, command=True, draw=draw) + pdus(d, command=False, draw=draw) for c, d in messages)
    release = struct.pack(">BxII", 5, 4, 0)
    sent += release
    stream, draft, at = Stream(LARGEST), Draft(), 0
    command, data, found, wholes = b"", b"", [], []
    while at < len(sent):
        at += put(stream, sent[at : at + draw.randint(*portions)])
        while (part := stream.next()) is not None:
            if isinstance(part, Whole):
                wholes.append(part.content)
            elif part.command:
                command += bytes(part.content)
                if part.last:
                    draft.begin(b"front")
                    stream.collect(draft, 1)
            else:
                assert not len(part.content), "it is in the draft"
                if draft.full:
                    data += draft.content
                    draft.begin()
                if part.last:
                    stream.hand_out()
                    found.append((command, (data + draft.content).removeprefix(b"front")))
                    command = data = b""
    assert found == messages
    assert wholes == [release]
    assert stream.between


def test_what_is_not_collected_is_handed_out() -> None:
    draw = random.Random(1)
    content, stream, at, got = draw.randbytes(500_000), Stream(LARGEST), 0, b""
    sent = pdus(content, command=False, draw=draw)
    while at < len(sent):
        at += put(stream, sent[at:])
        while (part := stream.next()) is not None:
            assert not isinstance(part, Whole)
            got += part.content
    assert got == content


def test_a_message_that_is_given_up_leaves_the_draft_alone() -> None:
    """The rest of its fragment is handed out, and the draft may be somebody else's."""
    stream, draft = Stream(LARGEST), Draft()
    sent = p_data(fragment(bytes(100_000), command=False, last=True))
    stream.collect(draft, 1)
    at = put(stream, sent[:70_000])
    while stream.next() is not None:
        pass
    stream.hand_out()
    held = len(draft.content)
    while at < len(sent):
        at += put(stream, sent[at:])
        while stream.next() is not None:
            pass
    assert len(draft.content) == held


def test_a_data_set_in_another_context_than_its_command_is_malformed() -> None:
    stream, draft = Stream(LARGEST), Draft()
    stream.collect(draft, 1)
    put(stream, p_data(fragment(b"data", command=False, last=False, context=1)))
    assert stream.next() is None
    put(stream, p_data(fragment(b"data", command=False, last=True, context=3)))
    with pytest.raises(Malformed):
        stream.next()
    assert bytes(draft.content) == b"data"


@pytest.mark.parametrize("length", [0, 3, LARGEST + 1])
def test_a_length_that_no_honest_pdu_has_is_malformed(length: int) -> None:
    stream = Stream(LARGEST)
    put(stream, struct.pack(">BxI", 4, length))
    with pytest.raises(Malformed):
        stream.next()
