"""What is true of a synthetic study, in files: points, sizes and grades as JSON, tissues as label maps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from cauda.core.domain import GradeScale, Level, Point
from cauda.models.phantom.anatomy import labels
from cauda.models.phantom.study import Study
from cauda.models.phantom.tissue import Labels, Tissue

_DECIMALS = 3  # of a millimetre


def write_truth(study: Study, folder: Path) -> None:
    """``STUDY-UID.json`` and ``STUDY-UID.npz`` in ``folder``: `truth_of` and `label_maps`."""
    folder.mkdir(parents=True, exist_ok=True)
    uid = str(study.images[0].StudyInstanceUID)
    (folder / f"{uid}.json").write_text(json.dumps(truth_of(study), indent=2) + "\n")
    # numpy's stub takes any keyword for its own `allow_pickle`; a UID is none
    np.savez_compressed(folder / f"{uid}.npz", **label_maps(study))  # type: ignore[arg-type]


def truth_of(study: Study) -> dict[str, Any]:
    """Points in patient millimetres (LPS), sizes, grades on every scale, and what is right to do with each level."""
    return {
        "study_uid": str(study.images[0].StudyInstanceUID),
        "lumbar_vertebrae": study.spine.lumbar,
        "levels": {level.value: _level(study, level) for level in Level},
        "tissues": {int(tissue): tissue.name.lower() for tissue in Tissue},
    }


def _level(study: Study, level: Level) -> dict[str, Any]:
    found = study.truth[level]
    return {
        "disc_mm": _point(study.spine.disc_centre(level)),
        "canal_mm": _point(study.spine.canal_centre(level)),
        "sac_mm2": round(found.sac_mm2, _DECIMALS),
        "ap_mm": round(found.ap_mm, _DECIMALS),
        "csf_mm2": round(found.csf_mm2, _DECIMALS),
        "csf_share": round(found.csf_share, _DECIMALS),
        "grades": {scale.value: found.grade(scale) for scale in GradeScale},
        "answer": study.answers[level].value,
    }


def _point(point: Point) -> list[float]:
    return [round(float(v), _DECIMALS) for v in point]


def label_maps(study: Study) -> dict[str, Labels]:
    """By SOP Instance UID the `Tissue` in the middle of each voxel, (frames, rows, columns).

    Where a fault lets the picture show something else (wrap-around, motion), this is still what lies there.
    """
    return {
        uid: np.stack([labels(study.spine, plane.points()) for plane in planes]) for uid, planes in study.planes.items()
    }
