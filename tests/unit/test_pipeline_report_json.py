"""report.json is a contract: schema 1, lossless, and no L-name leaves while numbering is in doubt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from typing import Any

import pytest

from cauda.core.domain import (
    AxialEvidence,
    BundleInfo,
    Finding,
    GradeScale,
    Level,
    Measurement,
    Quality,
    Reason,
    Report,
    SagittalEvidence,
    SeriesRole,
    SeriesUse,
    Status,
)
from cauda.pipeline.report_json import from_json, to_json

FULL = Report(
    study_instance_uid="1.2.3",
    status=Status.REPORTED,
    frame_of_reference_assumed=True,
    bundle=BundleInfo(
        name="b", version="1", digest="ab", scale=GradeScale.RSNA_3, footer="Canal only.", calibration="c"
    ),
    levels_from="sagittal",
    series=(SeriesUse(series_instance_uid="1.2.4", role=SeriesRole.AXIAL_T2, slices=30, note="n"),),
    findings=(
        Finding(
            level=Level.L4_L5,
            grade="Severe",
            possible=("Moderate", "Severe"),
            probabilities={"Normal/Mild": 0.1, "Moderate": 0.3, "Severe": 0.6},
            axial=AxialEvidence(
                sop_instance_uid="1.2.5", frame=1, center_px=(10.5, 11.0), box_px=(0.0, 0.5, 21.0, 21.5)
            ),
            sagittal=SagittalEvidence(sop_instance_uid="1.2.6", frame=3, point_px=(1.0, 2.0)),
            point_mm=(1.0, -2.0, 3.5),
            quality=Quality(passed=True, noise_ssim=0.9, continuity_ssim=None, template_ssim=0.4),
            measurements=(Measurement(name="ap", value=11.0, unit="mm", uncertainty=3.0, evidence="mask"),),
        ),
        Finding(level=Level.L5_S1, abstained=Reason.NOT_IMAGED),
    ),
    flags=("Upright or positional exam.",),
    timings_ms={"levels": 12.5},
)
REJECTED = Report(study_instance_uid="1.2", status=Status.REJECTED, reason=Reason.NO_AXIAL_T2, reason_text="no axial")


@pytest.mark.parametrize("report", [FULL, REJECTED, replace(FULL, level_doubt=Reason.SACRUM_NOT_SHOWN)])
def test_a_report_survives_the_way_through_json(report: Report) -> None:
    assert from_json(json.loads(json.dumps(to_json(report, 2), allow_nan=False))) == report


def test_no_l_name_leaves_while_numbering_is_in_doubt() -> None:
    data = json.dumps(to_json(replace(FULL, level_doubt=Reason.TRANSITIONAL), 1))
    assert "L4/L5" not in data
    assert "L5/S1" not in data
    assert [f["level"] for f in json.loads(data)["findings"]] == ["S-2", "S-1"]


@pytest.mark.parametrize("report", [FULL, REJECTED, replace(FULL, level_doubt=Reason.SACRUM_NOT_SHOWN)])
def test_what_is_written_fits_the_published_schema(report: Report) -> None:
    schema = json.loads(files("cauda.pipeline").joinpath("report.schema.json").read_text())
    assert list(_misfits(to_json(report, 1), schema, schema)) == []


def test_the_schema_check_notices_a_wrong_report() -> None:
    schema = json.loads(files("cauda.pipeline").joinpath("report.schema.json").read_text())
    wrong = to_json(FULL, 1)
    wrong["findings"][0]["axial"]["frame"] = 0
    wrong["findings"][0]["level"] = "L6"
    del wrong["flags"]
    assert len(list(_misfits(wrong, schema, schema))) == 3


def test_numbers_that_json_does_not_know_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        to_json(replace(FULL, timings_ms={"levels": float("nan")}), 1)


_TYPES: dict[str, Any] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "number": (int, float), "integer": int,
    "null": type(None),
}  # fmt: skip


def _misfits(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str = "$") -> Iterator[str]:
    """The part of JSON Schema that the file uses, written by hand."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(isinstance(value, _TYPES[kind]) for kind in kinds):
        yield f"{path}: {value!r} is no {kinds}"
        return
    if "const" in schema and value != schema["const"]:
        yield f"{path}: not {schema['const']}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} not allowed"
    if isinstance(value, (int, float)) and value < schema.get("minimum", value):
        yield f"{path}: too small"
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            yield f"{path}: {len(value)} items"
        for index, item in enumerate(value):
            yield from _misfits(item, schema.get("items", {}), root, f"{path}[{index}]")
    if isinstance(value, dict):
        yield from (f"{path}: {key} is missing" for key in schema.get("required", ()) if key not in value)
        for key, item in value.items():
            part = schema.get("properties", {}).get(key) or schema.get("additionalProperties") or {}
            yield from _misfits(item, part, root, f"{path}.{key}")
