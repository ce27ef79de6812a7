"""Inputs of the hostile soak: spoilt compressed images and decompression bombs, each drawn from a seed and a number."""

from __future__ import annotations

import os
import random
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000, UID, JPEG2000Lossless, JPEGLSLossless, JPEGLSNearLossless, RLELossless

sys.path.insert(0, str(Path(__file__).parents[1]))
import builders
import zoo
from listener_house import with_meta

EXPLICIT, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"
BASELINE, LOSSLESS, LOSSLESS_SV1 = (f"1.2.840.10008.1.2.4.{end}" for end in ("50", "57", "70"))
_UID_LENGTH = 40
_ZOO_MOST_BYTES = 65_536
_PIXEL_DATA = b"\xe0\x7f\x10\x00"


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One object as it goes over the wire."""

    kind: str
    sop_class: str
    sop_uid: str
    syntax: str
    data: bytes


def made_uid(seed: int, *parts: int) -> str:
    """A UID of `_UID_LENGTH` characters."""
    draw = random.Random(f"uid {seed} {parts}")
    return "2.25." + str(draw.randrange(10 ** (_UID_LENGTH - 6), 10 ** (_UID_LENGTH - 5)))


# Spoilt files


def bases(realdata: Path | None) -> list[Sent]:
    """Sound compressed images: made here in every encoding that can be written, and what the zoo has of them."""
    found = list(_made())
    if realdata is not None:
        for path in sorted((realdata / "dicom-zoo").glob("*.dcm")):
            if path.stat().st_size <= _ZOO_MOST_BYTES:
                try:
                    sent = zoo.as_sent(path)
                except (ValueError, KeyError, struct.error, zlib.error, IndexError):
                    continue
                if sent.syntax.startswith("1.2.840.10008.1.2.4.") or sent.syntax == RLELossless:
                    found.append(Sent(kind=f"zoo {sent.syntax}", sop_class=sent.sop_class, sop_uid=sent.sop_uid,
                                      syntax=sent.syntax, data=sent.data))  # fmt: skip
    return found


def _made() -> Iterator[Sent]:
    number = 0
    for side, bits, frames in ((32, 8, 1), (64, 12, 1), (48, 16, 1), (32, 12, 3)):
        for syntax in (JPEG2000Lossless, JPEG2000, JPEGLSLossless, JPEGLSNearLossless, RLELossless):
            number += 1
            image = _picture(number, side, bits, frames)
            try:
                with_meta(image).compress(syntax, **_options(syntax), generate_instance_uid=False)
            except (ValueError, RuntimeError, NotImplementedError):
                continue  # not every encoder takes every depth
            yield _sent(image, str(syntax))
    for side in (32, 64):
        number += 1
        image = _picture(number, side, 8, 1)
        picture = Image.fromarray(np.frombuffer(image.PixelData, np.uint8).reshape(side, side))
        out = BytesIO()
        picture.save(out, "JPEG", quality=85)
        _encapsulated(image, out.getvalue())
        yield _sent(image, BASELINE)
    for side, bits in ((32, 8), (64, 12), (32, 16)):
        for syntax in (LOSSLESS, LOSSLESS_SV1):
            number += 1
            image = _picture(number, side, bits, 1)
            stream = _jpeg_lossless(image, 1 if syntax == LOSSLESS_SV1 else 4)
            _encapsulated(image, stream)
            yield _sent(image, syntax)


def _options(syntax: UID) -> dict[str, object]:
    if syntax == JPEG2000:
        return {"j2k_cr": [4]}
    return {"jls_error": 2} if syntax == JPEGLSNearLossless else {}


def _picture(number: int, side: int, bits: int, frames: int) -> Dataset:
    draw = np.random.default_rng(number)
    rows, columns = np.mgrid[0:side, 0:side]
    waves = (np.sin(rows / 5) + np.cos(columns / 7) + 2) / 4 * (2**bits - 1)
    pixels = np.clip(waves + draw.normal(0, 2**bits / 50, (frames, side, side)), 0, 2**bits - 1)
    image = builders.mr_image(
        made_uid(0, 1), made_uid(0, 2), made_uid(0, 3),
        Rows=side, Columns=side, BitsAllocated=8 if bits == 8 else 16, BitsStored=bits, HighBit=bits - 1,
        PixelData=pixels.astype("u1" if bits == 8 else "<u2").tobytes(),
    )  # fmt: skip
    if frames > 1:
        image.NumberOfFrames = frames
    return image


def _encapsulated(image: Dataset, stream: bytes) -> None:
    image.PixelData = encapsulate([stream])
    image["PixelData"].VR = "OB"
    image["PixelData"].is_undefined_length = True


def _sent(image: Dataset, syntax: str) -> Sent:
    data = builders.dataset_bytes(builders.part10(image, syntax))
    return Sent(
        kind=f"made {syntax}", sop_class=image.SOPClassUID, sop_uid=image.SOPInstanceUID, syntax=syntax, data=data
    )


def _jpeg_lossless(image: Dataset, predictor: int) -> bytes:
    """A JPEG Lossless stream (ITU-T T.81 process 14), one component; categories coded in five bits each."""
    side, bits = image.Rows, image.BitsStored
    pixels = np.frombuffer(image.PixelData, "u1" if bits == 8 else "<u2").reshape(side, side).astype(int)
    codes = "".join(_predicted(pixels, predictor, bits))
    codes += "1" * (-len(codes) % 8)
    scan = bytes(int(codes[at : at + 8], 2) for at in range(0, len(codes), 8)).replace(b"\xff", b"\xff\x00")
    table = bytes([0x00]) + bytes([0] * 4 + [17] + [0] * 11) + bytes(range(17))
    return b"".join((
        b"\xff\xd8",
        b"\xff\xc3" + struct.pack(">HBHHB", 11, bits, side, side, 1) + b"\x01\x11\x00",
        b"\xff\xc4" + struct.pack(">H", 2 + len(table)) + table,
        b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\x01\x00" + bytes([predictor, 0, 0]),
        scan, b"\xff\xd9",
    ))  # fmt: skip


def _predicted(pixels: np.ndarray, predictor: int, bits: int) -> Iterator[str]:
    for row in range(len(pixels)):
        for column in range(len(pixels[0])):
            left = pixels[row, column - 1] if column else None
            above = pixels[row - 1, column] if row else None
            if left is None:
                guess = 1 << bits - 1 if above is None else above
            elif above is None or predictor == 1:
                guess = left
            else:
                guess = left + above - pixels[row - 1, column - 1]
            difference = (int(pixels[row, column]) - int(guess) + 32768) % 65536 - 32768
            category = abs(difference).bit_length()
            yield f"{category:05b}"
            if 0 < category < 16:
                yield f"{difference if difference > 0 else difference + (1 << category) - 1:0{category}b}"


def spoilt(base: list[Sent], seed: int, number: int) -> Sent:
    """The image of a number: pairs share a SOP Instance UID, so that the second is a later version of the first."""
    draw = random.Random(f"{seed} file {number}")
    one = base[random.Random(f"{seed} base {number // 2}").randrange(len(base))]
    uid = made_uid(seed, 1, number // 2)
    uid = uid if len(one.sop_uid) == _UID_LENGTH else ("1." + uid[5:])[: len(one.sop_uid)].rstrip(".")
    fits = len(uid) == len(one.sop_uid) and len(uid) > 20
    data = bytearray(one.data.replace(one.sop_uid.encode(), uid.encode()) if fits else one.data)
    study = made_uid(seed, 2, number // 200).encode()
    data = bytearray(bytes(data).replace(made_uid(0, 1).encode(), study))
    sound = draw.random() < 0.25
    if not sound:
        _spoil(data, draw)
    return Sent(kind=f"{one.kind} {'sound' if sound else 'spoilt'}", sop_class=one.sop_class,
                sop_uid=uid if fits else one.sop_uid, syntax=one.syntax, data=bytes(data))  # fmt: skip


def _spoil(data: bytearray, draw: random.Random) -> None:
    at = data.rfind(_PIXEL_DATA)
    first = at + 12 if at >= 0 and draw.random() < 0.95 else 0
    span = len(data) - first
    if span <= 0:
        return
    reach = draw.choice([64, 200, span, span])  # codestream headers come first
    for _ in range(draw.choice([1, 1, 2, 2, 3, 8])):
        place = first + draw.randrange(min(reach, span))
        data[place] = draw.choice([draw.randrange(256), 0, 0xFF, data[place] ^ 1 << draw.randrange(8)])


# Bombs


def bombs() -> list[Callable[[int, int], Sent]]:
    """Makers of one bomb each, of a seed and a number."""
    return [_deflated, _deflated_items, _items, _nested, _large_picture, _long_value, _just_allowed, _long_text]


def bomb(seed: int, number: int) -> Sent:
    """The bomb of a number."""
    makers = bombs()
    return makers[number % len(makers)](seed, number)


def _image(seed: int, number: int, **attributes: object) -> tuple[bytes, str]:
    uid = made_uid(seed, 3, number)
    image = builders.mr_image(made_uid(seed, 4, number // 500), made_uid(seed, 5), uid, **attributes)
    return builders.dataset_bytes(builders.part10(image)), uid


def _bomb(kind: str, uid: str, data: bytes, syntax: str = EXPLICIT, sop_class: str = builders.MR_IMAGE) -> Sent:
    return Sent(kind=kind, sop_class=sop_class, sop_uid=uid, syntax=syntax, data=data)


def _blocks(content: bytes, times: int, tail: bytes = b"") -> bytes:
    """Raw deflate of a content many times over, made once and repeated: each block stands alone."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(content) + packer.flush(zlib.Z_FULL_FLUSH)
    last = zlib.compressobj(9, zlib.DEFLATED, -15)
    return block * times + last.compress(tail) + last.flush(zlib.Z_FINISH)


def _front(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush(zlib.Z_FULL_FLUSH)


def _deflated(seed: int, number: int) -> Sent:
    """Pixels of 5 to 1,000 MiB in 5 KiB to 1 MiB."""
    draw = random.Random(f"{seed} bomb {number}")
    mib = draw.choice([5, 20, 60, 200, 500, 1000])
    side = int((mib << 19) ** 0.5)
    data, uid = _image(seed, number, Rows=side, Columns=side, PixelData=b"")
    front = data[:-4] + struct.pack("<I", mib << 20)
    return _bomb(f"deflated {mib} MiB", uid, _front(front) + _blocks(bytes(1 << 20), mib), DEFLATED)


def _deflated_items(seed: int, number: int) -> Sent:
    """Up to 64 million items in a small data set."""
    draw = random.Random(f"{seed} bomb {number}")
    times = draw.choice([1, 10, 100, 500])
    data, uid = _image(seed, number)
    at = data.index(b"\x20\x00\x0d\x00UI")
    items = b"\xfe\xff\x00\xe0\0\0\0\0" * 131_072
    front = _front(data[:at] + b"\x19\x00\x10\x10SQ\0\0\xff\xff\xff\xff")
    end = b"\xfe\xff\xdd\xe0\0\0\0\0" + data[at:]
    return _bomb("deflated items", uid, front + _blocks(items, times, end), DEFLATED)


def _with_element(data: bytes, element: bytes) -> bytes:
    at = data.index(b"\x20\x00\x0d\x00UI")
    return data[:at] + element + data[at:]


def _sequence(items: bytes, *, undefined: bool, vr: bytes = b"SQ") -> bytes:
    length = 0xFFFFFFFF if undefined else len(items)
    return b"\x19\x00\x10\x10" + vr + b"\0\0" + struct.pack("<I", length) + items + (
        b"\xfe\xff\xdd\xe0\0\0\0\0" if undefined else b""
    )  # fmt: skip


def _items(seed: int, number: int) -> Sent:
    draw = random.Random(f"{seed} bomb {number}")
    count = draw.choice([100_001, 400_000, 600_000])
    item = draw.choice([b"\xfe\xff\x00\xe0\0\0\0\0", b"\xfe\xff\x00\xe0\xff\xff\xff\xff\xfe\xff\x0d\xe0\0\0\0\0"])
    data, uid = _image(seed, number)
    sequence = _sequence(item * count, undefined=draw.random() < 0.5, vr=draw.choice([b"SQ", b"UN"]))
    return _bomb(f"{count} items", uid, _with_element(data, sequence))


def _nested(seed: int, number: int) -> Sent:
    draw = random.Random(f"{seed} bomb {number}")
    depth = draw.choice([33, 100, 900, 20_000])
    data, uid = _image(seed, number)
    opened = b"\x19\x00\x10\x10SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * depth
    closed = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0" * depth
    return _bomb(f"{depth} levels", uid, _with_element(data, opened + closed))


def _large_picture(seed: int, number: int) -> Sent:
    """20 frames of 8192 x 8192, and more, in a few bytes of RLE."""
    draw = random.Random(f"{seed} bomb {number}")
    rows, frames = draw.choice([(8192, 20), (65535, 1), (65535, 2_000_000_000), (4096, 60), (2048, 120)])
    segment = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x00" * 400
    data, uid = _image(
        seed, number, Rows=rows, Columns=rows, NumberOfFrames=frames, BitsAllocated=8, BitsStored=8, HighBit=7,
        PixelData=b"",
    )  # fmt: skip
    pixels = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + encapsulate([segment]) + b"\xfe\xff\xdd\xe0\0\0\0\0"
    return _bomb(f"{frames} frames of {rows}", uid, data[:-12] + pixels, str(RLELossless))


def _long_value(seed: int, number: int) -> Sent:
    """A value that says to be longer than what follows, or than anything."""
    draw = random.Random(f"{seed} bomb {number}")
    data, uid = _image(seed, number)
    length = draw.choice([0xFFFFFFFE, 0x7FFFFFFF, 1 << 29, len(data)])
    element = b"\x19\x00\x10\x10" + draw.choice([b"OB", b"UT", b"UN", b"SQ"]) + b"\0\0" + struct.pack("<I", length)
    return _bomb("a long value", uid, _with_element(data, element))


def _just_allowed(seed: int, number: int) -> Sent:
    """What the limits allow: it is stored, and costs no memory either."""
    data, uid = _image(seed, number)
    count = 2000 if number % 20 else 99_000
    items = _sequence(b"\xfe\xff\x00\xe0\0\0\0\0" * count, undefined=True)
    return _bomb("items allowed", uid, _with_element(data, items))


def _long_text(seed: int, number: int) -> Sent:
    """Text of some megabytes in an element that decides whose the image is."""
    draw = random.Random(f"{seed} bomb {number}")
    data, uid = _image(seed, number)
    long = b"\x19\x00\x10\x10UT\0\0" + struct.pack("<I", 1 << 20) + bytes(1 << 20)
    packed = _front(_with_element(data, long))
    last = zlib.compressobj(9, zlib.DEFLATED, -15)
    if draw.random() < 0.5:
        return _bomb("deflated text", uid, packed + last.flush(zlib.Z_FINISH), DEFLATED)
    at = data.index(b"\x10\x00\x10\x00PN")
    name = b"\x10\x00\x10\x00PN" + struct.pack("<H", 65_000) + b"A" * 65_000
    length = 8 + struct.unpack_from("<H", data, at + 6)[0]
    return _bomb("a long name", uid, data[:at] + name + data[at + length :])


def realdata() -> Path | None:
    """Where the zoo is, if anywhere."""
    folder = os.environ.get("CAUDA_REALDATA")
    return Path(folder) if folder and (Path(folder) / "dicom-zoo").is_dir() else None
