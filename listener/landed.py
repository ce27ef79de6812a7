"""A landed file, read as far as filing needs: whose it is and who brought it. Its pixels are not looked at."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_dataset

from cauda.core import headers
from cauda.listener import head, part10, prefix

_FRONT_BYTES, _META_AT = 1 << 17, 132


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed:
    """What a landed file says of itself."""

    header: headers.Header
    origin: part10.Origin | None  # None when its File Meta does not say


def read(path: Path) -> Landed:
    """Raises Rejected when no study can be read from it, OSError when the file cannot."""
    with path.open("rb") as file:
        front = file.read(_FRONT_BYTES)
        begin = prefix.read(front)
        if begin is None:
            raise prefix.none()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content, memoryview(content) as whole:
            found = _excerpt(whole[begin.length :], begin.transfer_syntax)
    return Landed(
        header=headers.read_elements(found.content, implicit=found.implicit, big=found.big),
        origin=part10.origin_of(_meta(front[_META_AT : begin.length])),
    )


def _excerpt(data: memoryview, transfer_syntax: str) -> head.Excerpt:
    with data:
        return head.excerpt(data, transfer_syntax, headers.MOST_BYTES)


def _meta(content: bytes) -> FileMetaDataset:
    return FileMetaDataset(read_dataset(BytesIO(content), is_implicit_VR=False, is_little_endian=True))
