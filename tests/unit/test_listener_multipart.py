"""A multipart body is split the same however it arrives, and no trick with boundaries costs memory or an object."""

from __future__ import annotations

from email.message import EmailMessage
from email.mime.application import MIMEApplication
from email.mime.multipart import MIMEMultipart
from email.policy import HTTP

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cauda.listener import multipart
from cauda.listener.multipart import Begin, Content, End, Malformed, Splitter, media_type

CLOSE = b"\r\n--b--\r\n"


def parts_of(body: bytes, boundary: str = "b", pieces: int = 1 << 20) -> list[tuple[str, bytes]]:
    """Media type and content of each whole part, the body fed so many bytes at a time."""
    splitter, parts, content, kind = Splitter(boundary), [], b"", ""
    for at in range(0, len(body), pieces):
        for event in splitter.feed(body[at : at + pieces]):
            match event:
                case Begin(media):
                    content, kind = b"", media
                case Content(more):
                    content += more
                case End():
                    parts.append((kind, content))
    if not splitter.complete:
        raise Malformed("not complete")
    return parts


@settings(deadline=None)
@given(
    contents=st.lists(st.binary(max_size=60) | st.sampled_from([b"\r\n", b"\r\n--", b"\r\n-", b"--b", b"\r\n\r\n"])),
    pieces=st.integers(1, 40),
)
def test_parts_are_what_went_in_however_the_body_is_cut(contents: list[bytes], pieces: int) -> None:
    contents = [c for c in contents if b"\r\n--b" not in b"\r\n" + c]
    head = b"--b\r\nContent-Type: Application/DICOM; x=y\r\n\r\n"
    body = b"preamble\r\n" + b"\r\n".join(head + c for c in contents) + CLOSE + b"epilogue" * 9
    assert parts_of(body, pieces=pieces) == [("application/dicom", c) for c in contents]


def test_what_pythons_own_writer_makes_is_read() -> None:
    made = MIMEMultipart("related", boundary="=_x(1)", policy=HTTP)
    for content in (b"one", b"two" * 50):
        made.attach(MIMEApplication(content, "dicom", lambda part: part.__setitem__("Content-ID", "<1>"), policy=HTTP))
        made.get_payload()[-1].set_payload(content.decode())
    head, _, body = made.as_bytes(policy=HTTP).partition(b"\r\n\r\n")
    read = EmailMessage(policy=HTTP)
    read["Content-Type"] = head.split(b"Content-Type: ")[1].split(b"\r\nMIME")[0].decode()
    found = media_type(str(read["Content-Type"]))
    assert found.name == "multipart/related"
    assert [content for _, content in parts_of(body, found.boundary)] == [b"one", b"two" * 50]


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (b"--b\r\n\r\n\r\n--b--", [("", b"")]),  # an empty part
        (b"--b \t\r\n\r\nx\r\n--b--", [("", b"x")]),  # white space after the boundary
        (b"--b\r\nA: 1\r\nCONTENT-TYPE:image/png\r\n\r\nx\r\n--b--more", [("image/png", b"x")]),
        (b"\r\n--b\r\n\r\n\r\n\r\n\r\n--b--", [("", b"\r\n\r\n")]),  # content of line ends
    ],
)
def test_odd_bodies_that_are_allowed(body: bytes, parts: list[tuple[str, bytes]]) -> None:
    for pieces in (1, 2, 3, 1000):
        assert parts_of(body, pieces=pieces) == parts


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--c\r\n\r\nx\r\n--c--",  # another boundary
        b"x" * 100_000,
        b"--b\r\n\r\nx",  # cut in a part
        b"--b\r\n\r\nx\r\n--b",  # cut in the last boundary
        b"--b\r\n\r\nx\r\n--bb--",  # a boundary that goes on
        b"--b" + b" " * 1000,
        b"--b\r\n" + b"A: " + b"x" * 100_000,  # a header without end
        b"--b\r\n" + b"A: 1\r\n" * 10_000 + b"\r\nx" + CLOSE,
    ],
)
def test_a_body_that_is_not_what_it_says_is_malformed(body: bytes) -> None:
    for pieces in (1000, 1 << 20):
        with pytest.raises(Malformed):
            parts_of(body, pieces=pieces)


def test_little_is_held_back_whatever_comes() -> None:
    splitter = Splitter("b" * 70)
    list(splitter.feed(b"--" + b"b" * 70 + b"\r\n\r\n"))
    given_out = 0
    for _ in range(50):
        given_out += sum(len(e.content) for e in splitter.feed(b"\r\n--bbbb" * 1000) if isinstance(e, Content))
        assert len(splitter._held) < 80
    assert given_out > 50 * 8000 - 80


@pytest.mark.parametrize(
    ("header", "name", "root", "boundary"),
    [
        ('multipart/related; type="application/dicom"; boundary=abc', "multipart/related", "application/dicom", "abc"),
        ('Multipart/Related;boundary="a b";TYPE=Application/DICOM', "multipart/related", "application/dicom", "a b"),
        ("multipart/related; type=application/dicom", "multipart/related", "application/dicom", ""),
        ("application/dicom", "application/dicom", "", ""),
        ("", "", "", ""),
    ],
)
def test_content_types(header: str, name: str, root: str, boundary: str) -> None:
    assert media_type(header) == multipart.MediaType(name=name, root_type=root, boundary=boundary)


@pytest.mark.parametrize("boundary", ["x" * 201, "a\tb", "é", "a{b"])
def test_a_boundary_that_no_standard_allows(boundary: str) -> None:
    with pytest.raises(Malformed):
        media_type(f'multipart/related; boundary="{boundary}"')
