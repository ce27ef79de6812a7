"""report.json, schema 1 (DESIGN.md 9), written and read back without loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from cauda.core.domain import (
    AxialEvidence,
    BundleInfo,
    Condition,
    Finding,
    GradeScale,
    Json,
    Level,
    Measurement,
    Quality,
    Reason,
    Report,
    SagittalEvidence,
    SeriesRole,
    SeriesUse,
    StackUse,
    Status,
)

SCHEMA = 1


def to_json(report: Report, revision: int) -> Json:
    """The report as plain JSON values; while numbering is in doubt levels are called S-1, S-2, ..."""
    return {
        "schema": SCHEMA,
        "study_instance_uid": report.study_instance_uid,
        "status": report.status.value,
        "reason": _code(report.reason),
        "reason_text": report.reason_text,
        "revision": revision,
        "frame_of_reference_assumed": report.frame_of_reference_assumed,
        "level_doubt": _code(report.level_doubt),
        "bundle": _bundle(report.bundle),
        "levels_from": report.levels_from,
        "series": [_series(use) for use in report.series],
        "findings": [_finding(finding, report.level_code(finding.level)) for finding in report.findings],
        "flags": list(report.flags),
        "timings_ms": {name: _finite(value) for name, value in report.timings_ms.items()},
    }


def from_json(data: Json) -> Report:
    """The report again; ValueError or KeyError when the data are not of this schema."""
    if data["schema"] != SCHEMA:
        raise ValueError(f"report schema {data['schema']} is not {SCHEMA}")
    bundle = data["bundle"]
    return Report(
        study_instance_uid=data["study_instance_uid"],
        status=Status(data["status"]),
        reason=_reason(data["reason"]),
        reason_text=data["reason_text"],
        frame_of_reference_assumed=data["frame_of_reference_assumed"],
        level_doubt=_reason(data["level_doubt"]),
        bundle=bundle and BundleInfo(**{**bundle, "scale": GradeScale(bundle["scale"])}),
        levels_from=data["levels_from"],
        series=tuple(
            SeriesUse(
                series_instance_uid=use["series_instance_uid"],
                role=SeriesRole(use["role"]),
                slices=use["slices"],
                reason=_reason(use["reason"]),
                note=use["note"],
                stacks=tuple(_read_stack(stack) for stack in use.get("stacks", ())),
                series_number=use.get("series_number"),
                images=use.get("images", 0),
                left_out=_read_counts(use.get("left_out", {})),
            )
            for use in data["series"]
        ),
        findings=tuple(_read_finding(finding) for finding in data["findings"]),
        flags=tuple(data["flags"]),
        timings_ms=dict(data["timings_ms"]),
    )


def _code(reason: Reason | None) -> str | None:
    return reason.value if reason else None


def _reason(code: str | None) -> Reason | None:
    return Reason(code) if code else None


def _finite(value: float) -> float:
    """JSON has no NaN."""
    if not math.isfinite(value):
        raise ValueError("a report holds finite numbers only")
    return float(value)


def _numbers(values: Sequence[float]) -> list[float]:
    return [_finite(value) for value in values]


def _optional(value: float | None) -> float | None:
    return None if value is None else _finite(value)


def _bundle(info: BundleInfo | None) -> Json | None:
    if info is None:
        return None
    return {
        "name": info.name,
        "version": info.version,
        "digest": info.digest,
        "scale": info.scale.value,
        "clinical": info.clinical,
        "footer": info.footer,
        "calibration": info.calibration,
    }


def _series(use: SeriesUse) -> Json:
    return {
        "series_instance_uid": use.series_instance_uid,
        "role": use.role.value,
        "slices": use.slices,
        "reason": _code(use.reason),
        "note": use.note,
        "series_number": use.series_number,
        "images": use.images,
        "left_out": _counts(use.left_out),
        "stacks": [
            {
                "role": stack.role.value,
                "plane": stack.plane,
                "slices": stack.slices,
                "reason": _code(stack.reason),
                "note": stack.note,
                "left_out": _counts(stack.left_out),
            }
            for stack in use.stacks
        ],
    }


def _read_stack(data: Json) -> StackUse:
    left_out = _read_counts(data.get("left_out", {}))
    return StackUse(
        **{**data, "role": SeriesRole(data["role"]), "reason": _reason(data["reason"]), "left_out": left_out}
    )


def _counts(left_out: Mapping[Reason, int]) -> dict[str, int]:
    return {reason.value: count for reason, count in left_out.items()}


def _read_counts(data: Mapping[str, int]) -> dict[Reason, int]:
    return {Reason(code): count for code, count in data.items()}


def _finding(finding: Finding, name: str) -> Json:
    axial, sagittal, quality = finding.axial, finding.sagittal, finding.quality
    return {
        "level": name,
        "condition": finding.condition.value,
        "grade": finding.grade,
        "abstained": _code(finding.abstained),
        "possible": list(finding.possible),
        "probabilities": {grade: _finite(value) for grade, value in finding.probabilities.items()},
        "axial": axial
        and {
            "sop_instance_uid": axial.sop_instance_uid,
            "frame": axial.frame,
            "center_px": _numbers(axial.center_px),
            "box_px": _numbers(axial.box_px),
        },
        "sagittal": sagittal
        and {
            "sop_instance_uid": sagittal.sop_instance_uid,
            "frame": sagittal.frame,
            "point_px": _numbers(sagittal.point_px),
        },
        "point_mm": finding.point_mm and _numbers(finding.point_mm),
        "quality": quality
        and {
            "passed": quality.passed,
            "noise_ssim": _optional(quality.noise_ssim),
            "continuity_ssim": _optional(quality.continuity_ssim),
            "template_ssim": _optional(quality.template_ssim),
            "restless": _optional(quality.restless),
            "seam_step": _optional(quality.seam_step),
            "reason": _code(quality.reason),
        },
        "measurements": [
            {
                "name": measurement.name,
                "value": _finite(measurement.value),
                "unit": measurement.unit,
                "uncertainty": _optional(measurement.uncertainty),
                "evidence": measurement.evidence,
            }
            for measurement in finding.measurements
        ],
    }


_LEVELS = {name: level for level in Level for name in (level.value, level.above_sacrum)}


def _read_finding(data: Json) -> Finding:
    axial, sagittal, quality = data["axial"], data["sagittal"], data["quality"]
    return Finding(
        level=_LEVELS[data["level"]],
        condition=Condition(data["condition"]),
        grade=data["grade"],
        abstained=_reason(data["abstained"]),
        possible=tuple(data["possible"]),
        probabilities=dict(data["probabilities"]),
        axial=axial
        and AxialEvidence(
            sop_instance_uid=axial["sop_instance_uid"],
            frame=axial["frame"],
            center_px=_tuple(axial["center_px"]),
            box_px=_tuple(axial["box_px"]),
        ),
        sagittal=sagittal
        and SagittalEvidence(
            sop_instance_uid=sagittal["sop_instance_uid"],
            frame=sagittal["frame"],
            point_px=_tuple(sagittal["point_px"]),
        ),
        point_mm=data["point_mm"] and _tuple(data["point_mm"]),
        quality=quality and Quality(**{**quality, "reason": _reason(quality["reason"])}),
        measurements=tuple(Measurement(**measurement) for measurement in data["measurements"]),
    )


def _tuple(values: Sequence[float]) -> Any:
    return cast("Any", tuple(values))
