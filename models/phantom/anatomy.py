"""Which tissue lies at a point of a spine: the label map, evaluated anywhere.

The sac, its rootlets and the fat around it are what is left between disc, flavum, facets and lamina; no grade is
known here. On a GPU where torch finds one: whole volumes are millions of points.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cauda.core.domain import F64
from cauda.models.phantom.bones import paint_bones
from cauda.models.phantom.canal import paint_canal
from cauda.models.phantom.frame import frame
from cauda.models.phantom.spine import Spine
from cauda.models.phantom.surroundings import paint_surroundings
from cauda.models.phantom.threads import one_thread
from cauda.models.phantom.tissue import Labels, Tissue

_AT_ONCE = 65_536  # points: fewer pay more for each step than for what it does


def device() -> torch.device:
    """Where phantoms are drawn."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def labels(spine: Spine, points: F64) -> Labels:
    """Tissue (...,) at patient points (..., 3) in millimetres, LPS."""
    where = device()
    flat = torch.from_numpy(np.ascontiguousarray(points.reshape(-1, 3), np.float32)).to(where)
    at_once = _AT_ONCE if where.type == "cpu" else len(flat)
    with torch.no_grad(), one_thread():
        out = torch.cat([_painted(spine, part) for part in torch.split(flat, max(at_once, 1))])
    found: Labels = out.cpu().numpy().reshape(points.shape[:-1])
    return found


def _painted(spine: Spine, points: Tensor) -> Tensor:
    here = frame(spine, points)
    out = torch.full((len(points),), int(Tissue.FAT), dtype=torch.uint8, device=points.device)
    return paint_canal(spine, here, paint_bones(spine, here, paint_surroundings(spine, here, out)))
