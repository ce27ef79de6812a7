"""What a DICOM result says beyond images and report: UIDs, time, identity, origin. Nothing here is generated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, tzinfo

from cauda.core.domain import Level


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectIds:
    """Where one object goes: its own UIDs and the number of its series in the viewer's list."""

    sop_instance_uid: str
    series_instance_uid: str
    series_number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """An object of the same study, made earlier."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultContext:
    """The arguments of a result that are neither images nor findings: same arguments, same bytes."""

    sr: ObjectIds
    sc: ObjectIds
    heat_map: ObjectIds | None = None  # None: none is made
    note_series_number: int = 9903  # of a note that rejects earlier results
    at: datetime  # aware; becomes the content, series and creation time
    device_uid: str  # stands for this software with this model: new when the model changes
    code_version: str
    configuration_digest: str
    completeness: str  # why the study was taken as complete
    tracking_uids: Mapping[Level, str]  # random once, then the same over all revisions of a study
    revision: int = 1
    research: bool = True  # CLINICAL.md 16: every page and description says so
    site_timezone: tzinfo | None = None  # used where the images state no offset
    identity: Mapping[str, object] = field(default_factory=dict)  # DICOM keyword -> value; str, or raw bytes
    identity_checked: bool = True  # False: the archive could not be asked (CLINICAL.md 25)
    previous: tuple[Reference, ...] = ()  # what this revision replaces
    change_text: str = ""  # "replaces revision 1: L4/L5 Moderate, was Severe; new images"
    sc_modality: str = "OT"

    def __post_init__(self) -> None:
        """A naive time would be written as if it were local."""
        if self.at.tzinfo is None:
            raise ValueError("ResultContext.at has no time zone")
