"""SR content items (PS3.3 C.17.3), one function a value type."""

from __future__ import annotations

from collections.abc import Iterable

from anyascii import anyascii
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from cauda.pipeline.results.codes import NO_UNITS, SOURCE, coded

CONTAINS = "CONTAINS"
CONCEPT_MOD = "HAS CONCEPT MOD"
OBS_CONTEXT = "HAS OBS CONTEXT"
SELECTED_FROM = "SELECTED FROM"


def _item(relationship: str, value_type: str, name: Code) -> Dataset:
    item = Dataset()
    item.RelationshipType = relationship
    item.ValueType = value_type
    item.ConceptNameCodeSequence = [coded(name)]
    return item


def text(relationship: str, name: Code, value: str) -> Dataset:
    """A TEXT item, in ASCII, which means the same under every character set (CLINICAL.md 30)."""
    item = _item(relationship, "TEXT", name)
    item.TextValue = anyascii(value)
    return item


def code(relationship: str, name: Code, value: Code | Dataset) -> Dataset:
    """A CODE item; ``value`` may be a code sequence item taken from an image."""
    item = _item(relationship, "CODE", name)
    item.ConceptCodeSequence = [coded(value) if isinstance(value, Code) else value]
    return item


def uid_reference(relationship: str, name: Code, value: str) -> Dataset:
    """A UIDREF item."""
    item = _item(relationship, "UIDREF", name)
    item.UID = value
    return item


def number(name: Code, value: float, *modifiers: Dataset) -> Dataset:
    """A NUM item without unit, to four decimals."""
    measured = Dataset()
    measured.NumericValue = f"{value:.4f}"
    measured.MeasurementUnitsCodeSequence = [coded(NO_UNITS)]
    item = _item(CONTAINS, "NUM", name)
    item.MeasuredValueSequence = [measured]
    if modifiers:
        item.ContentSequence = list(modifiers)
    return item


def image(relationship: str, name: Code, reference: Dataset) -> Dataset:
    """An IMAGE item; ``reference`` is an item of a Referenced SOP Sequence."""
    item = _item(relationship, "IMAGE", name)
    item.ReferencedSOPSequence = [reference]
    return item


def composite(relationship: str, name: Code, reference: Dataset) -> Dataset:
    """A COMPOSITE item: a reference to an object that is no image."""
    item = _item(relationship, "COMPOSITE", name)
    item.ReferencedSOPSequence = [reference]
    return item


def polyline(name: Code, points: Iterable[tuple[float, float]], reference: Dataset) -> Dataset:
    """An SCOORD item: a polyline in image coordinates (0.5, 0.5 is the first pixel's centre), column first."""
    item = _item(CONTAINS, "SCOORD", name)
    item.GraphicType = "POLYLINE"
    item.GraphicData = [float(value) for point in points for value in point]
    item.ContentSequence = [image(SELECTED_FROM, SOURCE, reference)]
    return item


def container(name: Code, items: Iterable[Dataset], template: str | None = None) -> Dataset:
    """A CONTAINER item; ``template`` is a TID of the DICOM mapping resource."""
    item = _item(CONTAINS, "CONTAINER", name)
    as_container(item, items, template)
    return item


def as_container(target: Dataset, items: Iterable[Dataset], template: str | None = None) -> None:
    """What a container has beside its name and relationship; the document's root has no relationship."""
    target.ContinuityOfContent = "SEPARATE"
    if template:
        tid = Dataset()
        tid.MappingResource = "DCMR"
        tid.TemplateIdentifier = template
        target.ContentTemplateSequence = [tid]
    target.ContentSequence = list(items)
