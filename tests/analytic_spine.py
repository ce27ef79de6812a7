"""A lumbar spine written down as formulas, sampled into DICOM slices of any orientation.

The truth of the pipeline's tests: every disc's place is a number below, none comes from the product's code. Grey values
name the tissue, so that ``GreyLocaliser`` can stand in for a trained network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from cauda.core.domain import F32, F64, BundleInfo, GradeScale, Level
from cauda.pipeline.parts import Parts, Preprocessing
from cauda.pipeline.source import SourceImage

MR = "1.2.840.10008.5.1.4.1.1.4"
CANAL, VERTEBRA, DISC, SACRUM, TISSUE = 900.0, 420.0, 260.0, 700.0, 60.0
T1_CANAL = 150.0
FRONT = -11.0  # the vertebrae end this far before the canal's centre


@dataclass(frozen=True)
class Spine:
    """Millimetres LPS. Discs are counted from the sacrum up: disc 0 is L5/S1."""

    x: float = 3.0  # the canal's side-to-side position
    y: float = 20.0
    lowest: float = -90.0  # z of the L5/S1 disc at the canal
    spacing: float = 33.0
    count: int = 7
    depth: float = 35.0
    tilt: float = 0.5  # of L5/S1: it falls this much per millimetre to the front; less from disc to disc
    lordosis: float = 0.0006  # y = this * (z - lowest)^2
    dark: Mapping[int, float] = field(default_factory=dict)  # canal brightness at some discs, 1 is normal
    marker: tuple[float, float, float] | None = None  # centre of a bright 4 mm ball
    fluid: float = CANAL
    remnant: float = 0.0  # depth of an S1/S2 disc, mm

    def canal_y(self, z: F64) -> F64:
        """The canal's front-to-back position."""
        return np.asarray(self.y + self.lordosis * (z - self.lowest) ** 2)

    def tilt_of(self, number: int) -> float:
        """How much a disc falls per millimetre to the front."""
        return self.tilt * max(0.0, 1 - number / 3)

    def plane_point(self, number: int) -> tuple[float, float, float]:
        """Where the disc's middle plane meets the canal's centre."""
        z = self.lowest + number * self.spacing
        return self.x, float(self.canal_y(np.array(z))), z

    def disc_point(self, number: int) -> tuple[float, float, float]:
        """The canal's centre straight behind the disc's back edge."""
        z = self.lowest + number * self.spacing + FRONT * self.tilt_of(number)
        return self.x, float(self.canal_y(np.array(z))), z

    def grey(self, points: F64) -> F32:
        """Grey values at points (..., 3)."""
        x, y, z = points[..., 0] - self.x, points[..., 1], points[..., 2]
        behind = y - self.canal_y(z)
        value = TISSUE + 25 * np.cos(x / 9) * np.cos(y / 7)  # symmetric about the spine
        top = self.lowest + (self.count + 0.5) * self.spacing
        body = (np.abs(x) < 23) & (behind < FRONT) & (behind > FRONT - self.depth) & (z < top)
        level = np.full(x.shape, np.inf)
        for number in range(self.count):
            height = z - (self.lowest + number * self.spacing) - self.tilt_of(number) * behind
            level = np.where(np.abs(height) < np.abs(level), height, level)
            if number == 0:
                above = height > 0
        value = np.where(body & above, VERTEBRA, value)
        value = np.where(body & ~above & (z > self.lowest - 75), SACRUM, value)
        value = np.where(body & (np.abs(level) < 4.5), DISC, value)
        remnant = np.abs(z - (self.lowest - 27) - self.tilt * behind) < 3
        value = np.where(body & remnant & (behind > FRONT - self.remnant), DISC, value)
        sac = np.hypot(x, behind) < 8
        share = np.ones(x.shape)
        for number, dimmed in self.dark.items():
            share = np.where(np.abs(z - self.disc_point(number)[2]) < 8, dimmed, share)
        value = np.where(sac, self.fluid * share, value)
        if self.marker is not None:
            value = np.where(np.linalg.norm(points - np.array(self.marker), axis=-1) < 4, 2000, value)
        return np.asarray(value, dtype=np.float32)


def slice_image(
    spine: Spine,
    *,
    origin: Sequence[float] | F64,
    right: Sequence[float] | F64,
    down: Sequence[float] | F64,
    uid: str,
    series: str,
    number: int,
    shape: tuple[int, int] = (160, 160),
    spacing: tuple[float, float] = (1.0, 1.0),
    **tags: Any,
) -> SourceImage:
    """One classic MR image; ``tags`` are further attributes, None leaves one out."""
    start, across, along = (np.asarray(v, dtype=np.float64) for v in (origin, right, down))
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    points = start + cols[..., None] * spacing[1] * across + rows[..., None] * spacing[0] * along
    return pixel_image(
        spine.grey(points), origin=origin, right=right, down=down, uid=uid, series=series, number=number,
        spacing=spacing, **tags,
    )  # fmt: skip


def pixel_image(
    grey: F32 | F64,
    *,
    origin: Sequence[float] | F64,
    right: Sequence[float] | F64,
    down: Sequence[float] | F64,
    uid: str,
    series: str,
    number: int,
    spacing: tuple[float, float],
    **tags: Any,
) -> SourceImage:
    """Grey values (H, W) as one classic MR image."""
    shape = grey.shape
    pixels = grey.clip(0, 4095).astype(np.uint16)
    dataset = Dataset()
    attributes: dict[str, Any] = {
        "SOPClassUID": MR, "SOPInstanceUID": uid, "SeriesInstanceUID": series, "StudyInstanceUID": "1.2.3",
        "Modality": "MR", "InstanceNumber": number, "ImagePositionPatient": list(map(float, origin)),
        "ImageOrientationPatient": [*map(float, right), *map(float, down)], "PixelSpacing": list(spacing),
        "FrameOfReferenceUID": "1.2.3.99", "Rows": shape[0], "Columns": shape[1], "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11,
        "PixelRepresentation": 0, "StudyDescription": "MR LUMBAR SPINE",
    }  # fmt: skip
    for keyword, value in {**attributes, **tags}.items():
        if value is not None:
            setattr(dataset, keyword, value)
    return _source(dataset, pixels.tobytes())


def _source(header: Dataset, pixels: bytes) -> SourceImage:
    def read() -> Dataset:
        whole = Dataset()
        whole.update(header)
        whole.file_meta = FileMetaDataset()
        whole.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        whole.add_new("PixelData", "OW", pixels)
        return whole

    return SourceImage(header=header, read=read)


T2_TAGS: dict[str, Any] = {"EchoTime": 100.0, "RepetitionTime": 3500.0, "SeriesDescription": "t2"}
T1_TAGS: dict[str, Any] = {"EchoTime": 11.0, "RepetitionTime": 600.0, "SeriesDescription": "t1"}


def sagittal(spine: Spine, series: str = "1.2.3.1", *, flipped: bool = False, **tags: Any) -> list[SourceImage]:
    """A sagittal stack of 13 slices, 4 mm apart, 260 mm high; ``flipped`` runs right to left."""
    xs = np.arange(-24.0, 25.0, 4.0)
    return [
        slice_image(
            spine, origin=(x, -70, 150), right=(0, 1, 0), down=(0, 0, -1), uid=f"{series}.{i}", series=series,
            number=i, shape=(300, 160), **{**T2_TAGS, **tags},
        )
        for i, x in enumerate(xs[::-1] if flipped else xs, start=1)
    ]  # fmt: skip


def axial_block(
    spine: Spine, disc: int, series: str = "1.2.3.2", start: int = 1, *, upward: bool = False, **tags: Any
) -> list[SourceImage]:
    """Five slices, 4 mm apart, tilted as the disc is and centred on it; ``upward`` runs from feet to head."""
    tilt = spine.tilt_of(disc)
    right = np.array([1.0, 0.0, 0.0])
    down = np.array([0.0, 1.0, tilt]) / np.hypot(1, tilt)
    normal = np.cross(right, down)
    center = np.array(spine.plane_point(disc))
    offsets = np.arange(-8.0, 9.0, 4.0)
    return [
        slice_image(
            spine, origin=center + offset * normal - 80 * right - 90 * down, right=right, down=down,
            uid=f"{series}.{start + i}", series=series, number=start + i, **{**T2_TAGS, **tags},
        )
        for i, offset in enumerate(offsets if upward else offsets[::-1])
    ]  # fmt: skip


def study(spine: Spine, discs: Sequence[int] = (4, 3, 2, 1, 0), **tags: Any) -> list[SourceImage]:
    """Sagittal T1 and T2 and one axial T2 series of angled blocks, one per disc."""
    axial = [image for i, disc in enumerate(discs) for image in axial_block(spine, disc, start=1 + 5 * i, **tags)]
    t1 = replace(spine, fluid=T1_CANAL)
    return [*sagittal(spine, **tags), *sagittal(t1, "1.2.3.3", **{**T1_TAGS, **tags}), *axial]


def multi_frame(classic: Sequence[SourceImage]) -> SourceImage:
    """The same slices as one Enhanced MR image."""
    header = Dataset()
    header.update(classic[0].header)
    groups = []
    for image in classic:
        item, place = Dataset(), Dataset()
        place.ImagePositionPatient = image.header.ImagePositionPatient
        item.PlanePositionSequence = [place]
        turn = Dataset()
        turn.ImageOrientationPatient = image.header.ImageOrientationPatient
        item.PlaneOrientationSequence = [turn]
        groups.append(item)
    measures, shared, values = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = header.PixelSpacing
    values.RescaleSlope, values.RescaleIntercept = 1, 0
    shared.PixelMeasuresSequence = [measures]
    shared.PixelValueTransformationSequence = [values]
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(header, keyword)
    header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    header.SharedFunctionalGroupsSequence = [shared]
    header.PerFrameFunctionalGroupsSequence = groups
    header.NumberOfFrames = len(classic)

    def read() -> Dataset:
        whole = classic[0].read()
        whole.NumberOfFrames = len(classic)
        whole.PixelData = b"".join(image.read().PixelData for image in classic)
        return whole

    return SourceImage(header=header, read=read)


class GreyLocaliser:
    """Reads the tissue off the grey value."""

    classes = ("background", "vertebra", "disc", "canal", "sacrum")

    def segment(self, slices: F32, spacing_mm: tuple[float, float]) -> F32:  # noqa: ARG002  # the protocol's
        """One-hot probabilities (N, C, H, W)."""
        ranges = {1: [(370, 470)], 2: [(220, 330)], 3: [(800, 1000), (120, 180)], 4: [(650, 750)]}
        answer = np.zeros((len(slices), len(self.classes), *slices.shape[1:]), dtype=np.float32)
        for index, spans in ranges.items():
            answer[:, index] = np.any([(slices >= a) & (slices <= b) for a, b in spans], axis=0)
        answer[:, 0] = 1 - answer[:, 1:].sum(axis=1)
        return np.asarray(answer, dtype=np.float32)


class CoreEmbedder:
    """Mean grey of the middle 8 mm of a crop."""

    def embed(self, crops: F32) -> F32:
        """(N, 1)."""
        half = crops.shape[1] // 2
        core = crops[:, half - 8 : half + 8, half - 8 : half + 8]
        return np.asarray(core.mean(axis=(1, 2))[:, None], dtype=np.float32)


class CoreGrader:
    """The darker the core, the worse."""

    def __init__(self, far: Callable[[F32], F64] | None = None) -> None:
        self.far = far or (lambda features: np.zeros(len(features)))

    def predict_proba(self, features: F32, levels: Sequence[Level]) -> F64:  # noqa: ARG002  # the protocol's
        """(N, 3)."""
        bright = features[:, 0].astype(np.float64).clip(0, 1)
        severe, mild = (1 - bright) ** 2, bright**2
        return np.stack([mild, 1 - mild - severe, severe], axis=1)

    def distance(self, features: F32) -> F64:
        """(N,)."""
        return self.far(features)


def parts(**preprocessing: Any) -> Parts:
    """Stand-ins for a bundle."""
    return Parts(
        info=BundleInfo(name="analytic", version="1", digest="0" * 64, scale=GradeScale.RSNA_3),
        localiser=GreyLocaliser(),
        embedder=CoreEmbedder(),
        grader=CoreGrader(),
        preprocessing=Preprocessing(**preprocessing),
    )
