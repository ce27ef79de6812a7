"""A received object as a Part 10 file: our File Meta before the data set's bytes as they came (PS3.10 section 7).

Where it came from travels in the File Meta, so that it survives a crash before filing.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from pydicom.dataset import FileMetaDataset

from cauda.core import uids

_LONG = {b"OB"}
_DATASET_AT_BYTES, _CHUNK_BYTES = 144, 1 << 20
_PREFIX = b"\0" * 128 + b"DICM"
PRIVATE_CREATOR = uids.derived("cauda", "provenance")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who brought an object, over which association."""

    association_id: str
    calling_aet: str
    called_aet: str
    address: str


def file_meta(*, sop_class_uid: str, sop_uid: str, transfer_syntax: str, origin: Origin) -> bytes:
    """Preamble, prefix and File Meta Information."""
    before, after = _around(sop_class_uid, transfer_syntax, origin)
    elements = before + _element(0x0003, b"UI", _uid(sop_uid)) + after
    return _PREFIX + _element(0x0000, b"UL", struct.pack("<I", len(elements))) + elements


@lru_cache(maxsize=512)
def _around(sop_class_uid: str, transfer_syntax: str, origin: Origin) -> tuple[bytes, bytes]:
    """What stands before and after the SOP Instance UID: the same for all images of a kind in one association."""
    provenance = json.dumps(asdict(origin), separators=(",", ":")).encode("ascii")
    before = _element(0x0001, b"OB", b"\x00\x01") + _element(0x0002, b"UI", _uid(sop_class_uid))
    after = b"".join(
        (
            _element(0x0010, b"UI", _uid(transfer_syntax)),
            _element(0x0012, b"UI", _uid(uids.IMPLEMENTATION_CLASS_UID)),
            _element(0x0013, b"SH", _text(uids.IMPLEMENTATION_VERSION_NAME)),
            _element(0x0016, b"AE", _text(origin.calling_aet)),
            _element(0x0017, b"AE", _text(origin.calling_aet)),
            _element(0x0018, b"AE", _text(origin.called_aet)),
            _element(0x0100, b"UI", _uid(PRIVATE_CREATOR)),
            _element(0x0102, b"OB", provenance + b" " * (len(provenance) % 2)),
        )
    )
    return before, after


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    if vr in _LONG:
        return struct.pack("<HH2s2xI", 0x0002, number, vr, len(value)) + value
    return struct.pack("<HH2sH", 0x0002, number, vr, len(value)) + value


def _uid(text: str) -> bytes:
    raw = text.encode("ascii")
    return raw + b"\0" * (len(raw) % 2)


def _text(text: str) -> bytes:
    raw = text.encode("ascii", "replace")[:16]
    return raw + b" " * (len(raw) % 2)


def origin_of(meta: FileMetaDataset) -> Origin | None:
    """Where a landed file came from; None when its File Meta does not say."""
    try:
        return Origin(**json.loads(bytes(meta.PrivateInformation)))
    except (AttributeError, ValueError, TypeError, KeyError):
        return None


def digests(path: Path) -> tuple[str, str, int]:
    """SHA-256 of a file, SHA-256 of its data set without File Meta, and the file's size in bytes."""
    whole, dataset, size = hashlib.sha256(), hashlib.sha256(), 0
    with path.open("rb") as file:
        front = file.read(_DATASET_AT_BYTES)
        at = dataset_at(front)
        file.seek(0)
        while content := file.read(_CHUNK_BYTES):
            whole.update(content)
            dataset.update(memoryview(content)[max(at - size, 0) :])
            size += len(content)
    return whole.hexdigest(), dataset.hexdigest(), size


def same_dataset(one: Path, other: Path) -> bool:
    """Whether two files hold the same data set, whatever their File Meta says."""
    return digests(one)[1] == digests(other)[1]


def dataset_at(content: bytes) -> int:
    """Where the data set begins in a file that `file_meta` headed."""
    length: int = struct.unpack_from("<I", content, 140)[0]
    return 144 + length
