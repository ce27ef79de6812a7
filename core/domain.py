"""The words of the field as values: levels, grades, reasons, volumes, findings, reports.

Everything here is frozen. Coordinates: millimetres are LPS (DICOM patient); pixels are 0-based with an
integer at a pixel's centre, column first in pairs named ``*_px``; frames are 1-based.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Point = tuple[float, float, float]  # x, y, z in millimetres, LPS


class Level(StrEnum):
    """The five lumbar disc levels, cranial to caudal."""

    L1_L2 = "L1/L2"
    L2_L3 = "L2/L3"
    L3_L4 = "L3/L4"
    L4_L5 = "L4/L5"
    L5_S1 = "L5/S1"

    @property
    def above_sacrum(self) -> str:
        """The code in ``report.json`` while numbering is in doubt: ``S-1`` is the lowest disc."""
        return f"S-{len(Level) - list(Level).index(self)}"

    @property
    def from_lowest(self) -> str:
        """The name that readers see while numbering is in doubt; they would take S-1 for S1 (CLINICAL.md 9)."""
        return _FROM_LOWEST[len(Level) - 1 - list(Level).index(self)]


_FROM_LOWEST = ("lowest disc", "2nd from lowest", "3rd from lowest", "4th from lowest", "5th from lowest")


def level_shown(code: str) -> str:
    """A level as ``report.json`` calls it, in the words that readers see: ``S-2`` is the 2nd from lowest."""
    return next((level.from_lowest for level in Level if level.above_sacrum == code), code)


class Condition(StrEnum):
    """What is graded at a level (RSNA 2024)."""

    CANAL = "canal"
    SUBARTICULAR_LEFT = "subarticular_left"
    SUBARTICULAR_RIGHT = "subarticular_right"
    FORAMINAL_LEFT = "foraminal_left"
    FORAMINAL_RIGHT = "foraminal_right"


class GradeScale(StrEnum):
    """A published scale; its grades run from mildest to worst."""

    RSNA_3 = "RSNA 3-grade"
    SCHIZAS_4 = "Schizas 4-grade"
    SCHIZAS_7 = "Schizas 7-grade"

    @property
    def grades(self) -> tuple[str, ...]:
        """The grades in words, mildest first."""
        return _GRADES[self]


_GRADES: dict[GradeScale, tuple[str, ...]] = {
    GradeScale.RSNA_3: ("Normal/Mild", "Moderate", "Severe"),
    GradeScale.SCHIZAS_4: ("A", "B", "C", "D"),
    GradeScale.SCHIZAS_7: ("A1", "A2", "A3", "A4", "B", "C", "D"),
}


class Status(StrEnum):
    """How a study's analysis ended, as report.json says it."""

    REPORTED = "REPORTED"
    REJECTED = "REJECTED"
    HELD = "HELD"
    FAILED = "FAILED"


class Reason(StrEnum):
    """Every rejection, abstention, doubt, hold, refusal and failure there is. Closed: nothing else is written."""

    # A study is rejected: its images cannot be graded, whoever tries again.
    NO_MR_IMAGES = "no_mr_images"
    NO_AXIAL_T2 = "no_axial_t2"
    TOO_FEW_SLICES = "too_few_slices"
    UNDECODABLE = "undecodable"
    NOT_LUMBAR = "not_lumbar"
    EXAM_DENIED = "exam_denied"
    UNDER_18 = "under_18"
    INTERVENTIONAL = "interventional"
    STUDY_TOO_OLD = "study_too_old"  # or not until an operator asks
    # A level is not graded.
    NO_BUNDLE = "no_bundle"
    NOT_IMAGED = "not_imaged"
    MAYBE_LEFT_OUT = "maybe_left_out"  # images were left out whose place is not known
    CANAL_OUTSIDE_FIELD = "canal_outside_field"
    CANAL_NOT_FOUND = "canal_not_found"  # a slice shows the level, and no canal where it should be
    NO_SAGITTAL = "no_sagittal"
    LEVELS_NOT_COUNTED = "levels_not_counted"
    POSITION_NOT_SHARED = "position_not_shared"
    PIXEL_SIZE_DOUBTFUL = "pixel_size_doubtful"
    SAGITTAL_PIXEL_SIZE_DOUBTFUL = "sagittal_pixel_size_doubtful"
    GREY_VALUES_INVERTED = "grey_values_inverted"
    LEVELS_FROM_T1 = "levels_from_t1"
    MOTION = "motion"
    WRAP = "wrap"
    NOISE = "noise"
    LOW_QUALITY = "low_quality"
    CORD_ON_SLICE = "cord_on_slice"
    UNCERTAIN = "uncertain"
    OUT_OF_DISTRIBUTION = "out_of_distribution"
    METAL = "metal"
    POSTOPERATIVE = "postoperative"
    FRACTURE = "fracture"
    MASS = "mass"
    SCOLIOSIS = "scoliosis"
    # Numbering is in doubt (CLINICAL.md 9).
    SACRUM_NOT_SHOWN = "sacrum_not_shown"
    TRANSITIONAL = "transitional"
    SIXTH_SEGMENT = "sixth_segment"
    SERIES_DISAGREE = "series_disagree"
    LEVELS_INCOMPLETE = "levels_incomplete"
    # A series is not used, or an image of it is left out.
    LOCALIZER = "localizer"
    NOT_T2 = "not_t2"
    POST_CONTRAST_FAT_SUPPRESSED = "post_contrast_fat_suppressed"
    GRADIENT_ECHO = "gradient_echo"
    DIXON_PART = "dixon_part"
    MYELOGRAPHY = "myelography"
    DIFFUSION = "diffusion"
    NO_GEOMETRY = "no_geometry"
    NO_POSITION = "no_position"
    NO_ORIENTATION = "no_orientation"
    NO_PIXEL_SIZE = "no_pixel_size"
    NOT_A_SLICE = "not_a_slice"
    PLACE_TAKEN = "place_taken"
    OTHER_PLANE = "other_plane"
    NOT_MAGNITUDE = "not_magnitude"
    CONTRASTS_NOT_TOLD_APART = "contrasts_not_told_apart"
    NOT_BEST = "not_best"
    # A study is held: grading and delivery stop until somebody decides.
    OPERATOR = "operator"
    IDENTITY_MIXED = "identity_mixed"
    IDENTITY_MISMATCH = "identity_mismatch"
    PIXELS_CHANGED = "pixels_changed"
    KNOWN_ELSEWHERE = "known_elsewhere"  # the later of two studies that share SOP Instance UIDs
    MOVED = "moved"  # its images belong to another study now
    IMAGES_PURGED = "images_purged"
    # The door says no.
    CALLED_AE_UNKNOWN = "called_ae_unknown"
    CALLING_AE_NOT_ALLOWED = "calling_ae_not_allowed"
    ASSOCIATE_UNREADABLE = "associate_unreadable"
    EVEN_CONTEXT_ID = "even_context_id"
    PROTOCOL_VERSION = "protocol_version"
    MAXIMUM_LENGTH = "maximum_length"
    ASSOCIATION_TIMEOUT = "association_timeout"
    TOO_MANY_ASSOCIATIONS = "too_many_associations"
    ADDRESS_NOT_ALLOWED = "address_not_allowed"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    PDU_UNREADABLE = "pdu_unreadable"
    TOO_SLOW = "too_slow"
    TLS_ON_PLAIN_PORT = "tls_on_plain_port"
    TOKEN_WRONG = "token_wrong"  # noqa: S105  a reason, no secret
    TOKEN_THROTTLED = "token_throttled"  # noqa: S105
    PROXY_NOT_NAMED = "proxy_not_named"
    # The TLS handshake fails.
    PLAIN_ON_TLS_PORT = "plain_on_tls_port"
    TLS_CERTIFICATE_MISSING = "tls_certificate_missing"
    TLS_CERTIFICATE_EXPIRED = "tls_certificate_expired"
    TLS_CERTIFICATE_NOT_YET_VALID = "tls_certificate_not_yet_valid"
    TLS_CERTIFICATE_SELF_SIGNED = "tls_certificate_self_signed"
    TLS_CERTIFICATE_PURPOSE = "tls_certificate_purpose"
    TLS_CERTIFICATE_WEAK = "tls_certificate_weak"
    TLS_CHAIN_INCOMPLETE = "tls_chain_incomplete"
    TLS_CERTIFICATE_INVALID = "tls_certificate_invalid"
    TLS_OUR_CERTIFICATE_REFUSED = "tls_our_certificate_refused"
    TLS_VERSION = "tls_version"
    TLS_NO_SHARED_CIPHER = "tls_no_shared_cipher"
    TLS_TIMEOUT = "tls_timeout"
    TLS_FAILED = "tls_failed"
    NOT_DICOM = "not_dicom"
    SOP_CLASS_MISMATCH = "sop_class_mismatch"
    SOP_CLASS_NOT_SUPPORTED = "sop_class_not_supported"
    TRANSFER_SYNTAX_NOT_SUPPORTED = "transfer_syntax_not_supported"
    UID_INVALID = "uid_invalid"
    ELEMENT_TWICE = "element_twice"
    UID_MISMATCH = "uid_mismatch"
    TRUNCATED = "truncated"
    TOO_LARGE = "too_large"
    NO_ROOM = "no_room"
    DISK_FAILED = "disk_failed"
    # Images of a study are missing that were sent.
    ARRIVALS_LOST = "arrivals_lost"
    NOT_FILED = "not_filed"
    # A delivery waits, is parked or is refused.
    STUDY_ABSENT = "study_absent"
    IDENTITY_UNKNOWN = "identity_unknown"
    DESTINATION_DOWN = "destination_down"
    DESTINATION_BUSY = "destination_busy"
    DESTINATION_REFUSED = "destination_refused"
    DESTINATION_UNKNOWN = "destination_unknown"
    SHADOW = "shadow"
    NOT_RESEARCH = "not_research"
    PHANTOM_NOT_LIVE = "phantom_not_live"
    TOO_LATE = "too_late"
    SUPERSEDED = "superseded"
    RETRACTED = "retracted"
    NOT_CONFIRMED = "not_confirmed"
    # Something of ours or of the world broke.
    BUG = "bug"
    WORKER_DIED = "worker_died"
    OUT_OF_MEMORY = "out_of_memory"
    BUNDLE_INVALID = "bundle_invalid"
    FILE_MISSING = "file_missing"
    LEDGER_DOWN = "ledger_down"
    MISCONFIGURED = "misconfigured"

    @property
    def text(self) -> str:
        """The reason in words for a reader; falls back to the code's own words."""
        return REASON_TEXT.get(self, self.value.replace("_", " "))


REASON_TEXT: dict[Reason, str] = {
    Reason.NO_BUNDLE: "no grading model installed",
    Reason.NOT_IMAGED: "no axial slice at this level",
    Reason.MAYBE_LEFT_OUT: "images that were left out may show this level",
    Reason.CANAL_OUTSIDE_FIELD: "canal outside the field of the axial images",
    Reason.CANAL_NOT_FOUND: "canal not found on this slice",
    Reason.NO_SAGITTAL: "no sagittal series",
    Reason.LEVELS_NOT_COUNTED: "levels cannot be counted",
    Reason.POSITION_NOT_SHARED: "axial and sagittal images do not agree on position",
    Reason.PIXEL_SIZE_DOUBTFUL: "axial pixel size doubtful",
    Reason.SAGITTAL_PIXEL_SIZE_DOUBTFUL: "sagittal pixel size doubtful",
    Reason.GREY_VALUES_INVERTED: "axial grey values look inverted",
    Reason.LEVELS_FROM_T1: "levels seen on sagittal T1 only",
    Reason.MOTION: "motion. Severe stenosis not excluded",
    Reason.WRAP: "wrap-around. Severe stenosis not excluded",
    Reason.NOISE: "noise. Severe stenosis not excluded",
    Reason.LOW_QUALITY: "poor image quality. Severe stenosis not excluded",
    Reason.CORD_ON_SLICE: "cord/conus on this slice",
    Reason.UNCERTAIN: "model uncertain. Severe stenosis not excluded",
    Reason.OUT_OF_DISTRIBUTION: "unlike the images the model knows",
    Reason.DIXON_PART: "fat or opposed-phase image",
    Reason.NOT_MAGNITUDE: "phase, real or imaginary images",
    Reason.CONTRASTS_NOT_TOLD_APART: "two contrasts in one place, and nothing tells which is T2",
    Reason.NO_GEOMETRY: "no valid geometry",
    Reason.NO_POSITION: "no position",
    Reason.NO_ORIENTATION: "no orientation, so no position",
    Reason.NO_PIXEL_SIZE: "no pixel size",
    Reason.NOT_A_SLICE: "not a grey slice",
    Reason.PLACE_TAKEN: "another picture in the same place",
    Reason.NO_AXIAL_T2: "no axial T2 found",
    Reason.NO_MR_IMAGES: "no MR images found",
    Reason.NOT_LUMBAR: "not a lumbar spine",
    Reason.TOO_FEW_SLICES: "too few slices",
    Reason.UNDECODABLE: "images cannot be decoded",
    Reason.EXAM_DENIED: "exam type not graded at this site",
    Reason.UNDER_18: "patient under 18",
    Reason.INTERVENTIONAL: "interventional exam",
    Reason.STUDY_TOO_OLD: "older study, graded only when an operator asks",
    Reason.SACRUM_NOT_SHOWN: "sacrum not shown",
    Reason.TRANSITIONAL: "transitional segment suspected",
    Reason.SIXTH_SEGMENT: "sixth lumbar-type segment suspected",
    Reason.SERIES_DISAGREE: "series disagree on the count",
    Reason.OUT_OF_MEMORY: "grading takes more memory than it may",
    Reason.LEVELS_INCOMPLETE: "fewer than five discs found",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceRef:
    """Where a slice of a volume came from."""

    sop_instance_uid: str
    sop_class_uid: str
    frame: int  # 1-based; 1 for single-frame
    instance_number: int | None  # as the viewer shows it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Volume:
    """Parallel slices of one series, sorted along the slice normal. An angled block is a volume of its own.

    ``pixels`` is (S, H, W) float32 after rescale. ``affine`` maps (column, row, slice, 1) to millimetres LPS. Where
    slices are not evenly spaced, ``origins_mm`` (S, 3) holds the centre of each one's first pixel, and the affine's
    step is the usual one.
    """

    series_instance_uid: str
    series_number: int | None
    description: str
    pixels: F32
    affine: F64  # (4, 4)
    slices: tuple[SliceRef, ...]  # one per S
    origins_mm: F64 | None = None
    padding: NDArray[np.bool_] | None = None  # (S, H, W) where the device padded; those pixels are dark

    def origin_mm(self, index: float) -> F64:
        """The centre (3,) of the first pixel at a slice position; between slices and past the ends linear."""
        step = self.affine[:3, 2]
        if self.origins_mm is None:
            return np.asarray(self.affine[:3, 3] + index * step, dtype=np.float64)
        last = len(self.origins_mm) - 1
        below = int(np.clip(np.floor(index), 0, last))
        if index <= 0 or index >= last:
            return np.asarray(self.origins_mm[below] + (index - below) * step, dtype=np.float64)
        nearer, farther = self.origins_mm[below], self.origins_mm[below + 1]
        return np.asarray(nearer + (index - below) * (farther - nearer), dtype=np.float64)

    def point_mm(self, col: float, row: float, index: float) -> Point:
        """The patient point of a pixel position."""
        x, y, z = self.origin_mm(index) + self.affine[:3, :2] @ np.array([col, row])
        return float(x), float(y), float(z)

    def voxel(self, point_mm: Point) -> tuple[float, float, float]:
        """The (column, row, slice) position of a patient point; may lie outside the volume."""
        if self.origins_mm is None:
            col, row, index, _ = np.linalg.solve(self.affine, np.array([*point_mm, 1.0]))
            return float(col), float(row), float(index)
        heights = self.heights_mm
        height = float(self.normal @ (np.asarray(point_mm) - self.origins_mm[0]))
        usual = float(self.normal @ self.affine[:3, 2])
        if height <= 0 or len(heights) == 1:
            index = height / usual
        elif height >= heights[-1]:
            index = len(heights) - 1 + (height - heights[-1]) / usual
        else:
            index = float(np.interp(height, heights, np.arange(len(heights))))
        (col, row), *_ = np.linalg.lstsq(self.affine[:3, :2], np.asarray(point_mm) - self.origin_mm(index), rcond=None)
        return float(col), float(row), float(index)

    @property
    def normal(self) -> F64:
        """The unit normal of the slices, in the direction of increasing index."""
        normal = np.cross(self.affine[:3, 0], self.affine[:3, 1])
        sign = 1.0 if normal @ self.affine[:3, 2] >= 0 else -1.0
        return np.asarray(sign * normal / np.linalg.norm(normal), dtype=np.float64)

    @property
    def heights_mm(self) -> F64:
        """How far each slice (S,) lies from the first one along the normal; increasing."""
        origins = np.stack([self.origin_mm(index) for index in range(len(self.slices))])
        return np.asarray((origins - origins[0]) @ self.normal, dtype=np.float64)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """(row, column, slice) spacing: the distance between neighbouring rows, columns and slices."""
        col, row, index = (float(np.linalg.norm(self.affine[:3, axis])) for axis in range(3))
        return row, col, index


class SeriesRole(StrEnum):
    """What a series is used for, as report.json says it."""

    AXIAL_T2 = "axial_t2"
    SAGITTAL_T2 = "sagittal_t2"
    SAGITTAL_T1 = "sagittal_t1"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class StackUse:
    """The images of one series that have one plane and one contrast, and what was made of them."""

    role: SeriesRole
    plane: str
    slices: int
    reason: Reason | None = None  # why they are not used, when they are not
    note: str = ""
    left_out: dict[Reason, int] = field(default_factory=dict)  # images that were not used, though the others were


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesUse:
    """One series of the study and what was made of it: the sum of its stacks."""

    series_instance_uid: str
    role: SeriesRole
    slices: int
    reason: Reason | None = None  # why it is not used, when it is not
    note: str = ""
    stacks: tuple[StackUse, ...] = ()
    series_number: int | None = None  # as the viewer shows it
    images: int = 0  # of a multi-frame image its frames, as in ``slices``
    left_out: dict[Reason, int] = field(default_factory=dict)  # how many of them, in all its stacks and outside them


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleInfo:
    """Which trained parts made a report."""

    name: str
    version: str
    digest: str  # SHA-256 over the manifest, hex
    scale: GradeScale
    clinical: bool = False
    footer: str = ""  # CLINICAL.md 15, from the bundle's conditions
    calibration: str = ""  # how its probabilities were calibrated, and on what; empty where nothing says so


@dataclass(frozen=True, slots=True, kw_only=True)
class AxialEvidence:
    """The axial slice that gave the grade, and the box that was looked at."""

    sop_instance_uid: str
    frame: int
    center_px: tuple[float, float]
    box_px: tuple[float, float, float, float]  # col0, row0, col1, row1


@dataclass(frozen=True, slots=True, kw_only=True)
class SagittalEvidence:
    """The level's point on the sagittal slice nearest to it."""

    sop_instance_uid: str
    frame: int
    point_px: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What was measured of a level's images; None where it could not be measured."""

    passed: bool
    noise_ssim: float | None = None
    continuity_ssim: float | None = None
    template_ssim: float | None = None
    restless: float | None = None  # how much neighbouring lines of k-space disagree
    seam_step: float | None = None  # 1 where the field folds over itself
    reason: Reason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A number about a level, with its uncertainty in the same unit (CLINICAL.md 18: report.json only)."""

    name: str
    value: float
    unit: str  # UCUM
    uncertainty: float | None = None
    evidence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One condition at one level: a grade, or the reason why there is none."""

    level: Level
    condition: Condition = Condition.CANAL
    grade: str | None = None
    abstained: Reason | None = None
    possible: tuple[str, ...] = ()  # the prediction set, mildest first
    probabilities: dict[str, float] = field(default_factory=dict)
    axial: AxialEvidence | None = None
    sagittal: SagittalEvidence | None = None
    point_mm: Point | None = None
    quality: Quality | None = None
    measurements: tuple[Measurement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was made of one frozen set of images. ``reason`` is set when ``status`` is not REPORTED."""

    study_instance_uid: str
    status: Status
    reason: Reason | None = None
    reason_text: str = ""
    frame_of_reference_assumed: bool = False
    level_doubt: Reason | None = None
    bundle: BundleInfo | None = None
    levels_from: str | None = None  # "sagittal", or None when no level was named
    series: tuple[SeriesUse, ...] = ()
    findings: tuple[Finding, ...] = ()
    flags: tuple[str, ...] = ()  # statements for the reader that change no grade (CLINICAL.md 7)
    timings_ms: dict[str, float] = field(default_factory=dict)

    def level_name(self, level: Level) -> str:
        """How readers see the level called: no L-name leaves the node while numbering is in doubt."""
        return level.from_lowest if self.level_doubt else level.value

    def level_code(self, level: Level) -> str:
        """How ``report.json`` calls the level."""
        return level.above_sacrum if self.level_doubt else level.value


Json = dict[str, Any]
