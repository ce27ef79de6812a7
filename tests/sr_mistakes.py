"""The seven mistakes in an SR that the validators let pass, found without any code of the product."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydicom.dataset import Dataset

# What each code must mean, from PS3.16 and SNOMED CT; private codes are ours to define and stand in our documents.
MEANINGS = {
    ("126000", "DCM"): "Imaging Measurement Report", ("126010", "DCM"): "Imaging Measurements",
    ("125007", "DCM"): "Measurement Group", ("112039", "DCM"): "Tracking Identifier",
    ("112040", "DCM"): "Tracking Unique Identifier", ("121071", "DCM"): "Finding",
    ("363698007", "SCT"): "Finding Site", ("111030", "DCM"): "Image Region", ("260753009", "SCT"): "Source",
    ("121112", "DCM"): "Source of Measurement", ("121106", "DCM"): "Comment", ("121058", "DCM"): "Procedure reported",
    ("363679005", "SCT"): "Imaging procedure", ("121049", "DCM"): "Language of Content Item and Descendants",
    ("en-US", "RFC5646"): "English (United States)", ("121005", "DCM"): "Observer Type", ("121007", "DCM"): "Device",
    ("121012", "DCM"): "Device Observer UID", ("121013", "DCM"): "Device Observer Name",
    ("121014", "DCM"): "Device Observer Manufacturer", ("121015", "DCM"): "Device Observer Model Name",
    ("121016", "DCM"): "Device Observer Serial Number", ("111001", "DCM"): "Algorithm Name",
    ("111003", "DCM"): "Algorithm Version", ("111002", "DCM"): "Algorithm Parameters",
    ("122405", "DCM"): "Algorithm Manufacturer", ("111000", "DCM"): "Algorithm Family",
    ("123110", "DCM"): "Artificial Intelligence", ("246112005", "SCT"): "Severity", ("1", "UCUM"): "no units",
    ("373068000", "SCT"): "Undetermined", ("6736007", "SCT"): "Moderate", ("24484000", "SCT"): "Severe",
    ("122157", "DCM"): "Probability", ("61853006", "SCT"): "Vertebral canal", ("415582006", "SCT"): "Stenosis",
    ("80064006", "SCT"): "L1/L2 disc", ("67459009", "SCT"): "L2/L3 disc", ("62551000", "SCT"): "L3/L4 disc",
    ("84020006", "SCT"): "L4/L5 disc", ("715056000", "SCT"): "L5/S1 disc",
    ("130550", "DCM"): "Imaging Series Quality", ("RID12", "RADLEX"): "Diagnostic quality",
    ("RID13", "RADLEX"): "Limited quality", ("RID14", "RADLEX"): "Non-diagnostic quality",
    ("C0034375", "UMLS"): "Qualitative Evaluations", ("109102", "DCM"): "Processing Equipment",
}  # fmt: skip


def walk(item: Dataset) -> Iterator[Dataset]:
    """The item and all content below it."""
    yield item
    for child in item.get("ContentSequence") or []:
        yield from walk(child)


def name(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].get("CodeValue"))


def children(item: Dataset, code: str) -> list[Dataset]:
    return [child for child in item.ContentSequence if name(child) == code]


def groups(sr: Dataset) -> list[Dataset]:
    """All measurement groups."""
    return [item for item in walk(sr) if name(item) == "125007"]


def of_template(sr: Dataset, template: str) -> list[Dataset]:
    return [group for group in groups(sr) if group.ContentTemplateSequence[0].TemplateIdentifier == template]


def value(item: Dataset) -> str:
    """A CODE item's value."""
    code = item.ConceptCodeSequence[0]
    return str(code.get("CodeValue") or code.LongCodeValue)


def mistakes(sr: Dataset, sources: Sequence[Dataset]) -> set[str]:
    """Which of the seven it has."""
    found = set()
    images = {source.SOPInstanceUID: source for source in sources}
    for group in groups(sr):
        if len(children(group, "112040")) != 1 or not children(group, "112040")[0].UID:
            found.add("no tracking UID")
        if len(children(group, "112039")) != 1 or not children(group, "112039")[0].TextValue.strip():
            found.add("no tracking identifier")
    if not children(sr, "121058"):
        found.add("no procedure reported")
    for group in of_template(sr, "1410"):
        regions = [item for item in children(group, "111030") if item.ValueType == "SCOORD"]
        if not regions:
            found.add("no image region")
        for region in regions:
            found |= _region_mistakes(region, images)
    for code in _codes(sr):
        pair = (str(code.get("CodeValue") or code.get("LongCodeValue")), str(code.CodingSchemeDesignator))
        if pair[1] != "99CAUDA" and MEANINGS.get(pair) != code.CodeMeaning:
            found.add("wrong meaning")
    return found


def _region_mistakes(region: Dataset, images: dict[str, Dataset]) -> set[str]:
    found = set()
    xs, ys = list(region.GraphicData)[0::2], list(region.GraphicData)[1::2]
    if region.GraphicType != "POLYLINE" or len(xs) < 4 or (xs[0], ys[0]) != (xs[-1], ys[-1]):
        found.add("polyline not closed")
    reference = [child for child in region.get("ContentSequence") or [] if child.RelationshipType == "SELECTED FROM"]
    if not reference:
        return found | {"no image region"}
    image = images[reference[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID]
    if min(xs) < 0 or min(ys) < 0 or max(xs) > image.Columns or max(ys) > image.Rows:
        found.add("outside the image")
    return found


def _codes(dataset: Dataset) -> Iterator[Dataset]:
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                if "CodeMeaning" in item:
                    yield item
                yield from _codes(item)
