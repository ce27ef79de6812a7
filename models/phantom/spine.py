"""A parametric lumbar spine in millimetres: a curved canal, its discs, and what narrows it at each level.

The canal's centreline is a curve in the patient's space (LPS). Everything else is described in the curve's own
coordinates: ``s`` along it (0 at the disc above the sacrum, growing caudally), ``u`` to the patient's left and ``v``
to the back, so that one anatomy can be cut by any plane.

Levels are counted from the sacrum, as a reader counts who sees one lumbar series: with six lumbar vertebrae the disc
called L5/S1 is L6/S1, and `Spine.lumbar` says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cauda.core.domain import F64, Level, Point

LEVELS = len(Level)
THORACIC = 2  # discs above L1/L2 that are there too


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrowing:
    """What narrows the canal at one disc level; all in millimetres, nothing here is a grade."""

    bulge: float = 0.0  # the disc's whole posterior margin, backward
    protrusion: float = 0.0  # its focal part
    protrusion_side: float = 0.0  # where, to the left
    extrusion: float = 0.0  # radius of a fragment that has left the disc
    extrusion_side: float = 0.0
    extrusion_down: float = 0.0  # how far it has wandered, to the feet
    flavum: float = 2.5  # thickness of the ligamentum flavum
    facet: float = 0.0  # growth of the facet joints into the canal, each side
    fat: float = 0.0  # epidural lipomatosis: taken from the sac's radius
    slip: float = 0.0  # how far the vertebra above stands forward (degenerative: its arch comes along)


@dataclass(frozen=True, slots=True, kw_only=True)
class Strand:
    """One rootlet of the cauda equina: its place in the sac's cross-section and where it leaves."""

    across: float  # -1..1, of the sac's half width
    along: float  # -1 (front) .. 1 (back), of the sac's half depth
    radius: float
    ends: float  # s at which it has left the sac
    wave: float  # phase of its wandering


@dataclass(frozen=True, slots=True, kw_only=True)
class Joint:
    """One facet joint."""

    angle: float  # of the joint's line with the sagittal plane, radians
    size: float  # 1 is usual
    gap: float  # mm
    fluid: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spine:
    """One patient's lumbar spine; D discs from T11/T12 to the one above the sacrum."""

    seed: int
    lumbar: int  # vertebrae: 4, 5 or 6
    disc_s: F64  # (D,) disc centres along the canal
    disc_height: F64  # (D,)
    degeneration: F64  # (D,) 0 bright nucleus .. 1 dark
    fatty: F64  # (D,) mm of fatty marrow beside the endplates
    narrowings: tuple[Narrowing, ...]  # (5,) L1/L2 .. L5/S1
    joints: tuple[tuple[Joint, Joint], ...]  # (D,) right, left
    lamina: F64  # (D,) thickness of the lamina above each disc
    sac: F64  # (D, 2) half width and half depth of the undisturbed sac at each disc
    front_gap: F64  # (D,) epidural fat between sac and vertebral wall
    body: tuple[float, float]  # half width and depth of a vertebral body
    conus_s: float
    remnant: tuple[float, float]  # S1/S2 disc: depth as a share of the sacrum there (0 none), and s
    strands: tuple[Strand, ...]
    curve: F64  # (N, 5): s, y, z, sin and cos of the tangent's angle, one a millimetre
    centre: Point  # of L3/L4, in the patient
    sideways: F64  # (3,) scoliosis: amplitude, phase, length
    muscle_fat: float  # 0 lean .. 1 replaced
    skin: float  # mm of fat between muscle and skin

    def place(self, s: float, u: float = 0.0, v: float = 0.0) -> Point:
        """The patient point of curve coordinates."""
        at = self.curve[:, 0]
        y, z, sin, cos = (float(np.interp(s, at, self.curve[:, i])) for i in range(1, 5))
        x = self.centre[0] + float(self.bend(np.asarray(s)))
        return x + u, y + v * cos, z + v * sin

    def bend(self, s: F64) -> F64:
        """How far the canal leans to the left at ``s``."""
        amplitude, phase, length = self.sideways
        lean: F64 = amplitude * np.sin(phase + s * (2 * np.pi / length))
        return lean

    def slip(self, s: F64) -> tuple[F64, F64]:
        """How far bodies and arches stand forward at ``s``.

        A vertebra that has slipped is followed by those above, ever less. Its arch reaches below the disc: there the
        canal is pinched between it and the body below.
        """
        body, arch = np.zeros_like(s), np.zeros_like(s)
        for level, narrowing in zip(Level, self.narrowings, strict=True):
            if narrowing.slip:
                below = s - self.level_s(level)
                body += narrowing.slip * _step(below + 5.0, 4.0)
                arch += narrowing.slip * _step(below - 9.0, 5.0)
        return body, arch

    def coordinates(self, points: F64) -> tuple[F64, F64, F64]:
        """Curve coordinates (u, v, s) of patient points (..., 3)."""
        at = self.curve[:, 0]
        y, z = points[..., 1], points[..., 2]
        s = np.interp(-z, -self.curve[:, 2], at)  # z falls along the curve
        for _ in range(4):  # to the foot of the perpendicular
            cy, cz = np.interp(s, at, self.curve[:, 1]), np.interp(s, at, self.curve[:, 2])
            sin, cos = np.interp(s, at, self.curve[:, 3]), np.interp(s, at, self.curve[:, 4])
            s = s + np.clip((y - cy) * sin - (z - cz) * cos, -25, 25)
        cy, cz = np.interp(s, at, self.curve[:, 1]), np.interp(s, at, self.curve[:, 2])
        sin, cos = np.interp(s, at, self.curve[:, 3]), np.interp(s, at, self.curve[:, 4])
        v = (y - cy) * cos + (z - cz) * sin
        u = points[..., 0] - self.centre[0] - self.bend(s)
        return u, v, s

    def level_s(self, level: Level) -> float:
        """Where a level's disc is along the canal."""
        return float(self.disc_s[len(self.disc_s) - LEVELS + list(Level).index(level)])

    def canal_centre(self, level: Level) -> Point:
        """The middle of the canal at a level, in the patient."""
        s = self.level_s(level)
        body, arch = self.slip(np.asarray(s))
        return self.place(s, v=-float(body + arch) / 2)

    def disc_centre(self, level: Level) -> Point:
        """The middle of a level's disc, in the patient."""
        place = len(self.disc_s) - LEVELS + list(Level).index(level)
        s = self.level_s(level)
        body, _ = self.slip(np.asarray(s))
        wall = self.sac[place, 1] + self.front_gap[place] + body
        return self.place(s, v=-float(wall + self.body[1] / 2))

    def normal(self, level: Level) -> tuple[float, float, float]:
        """The direction of the canal at a level, pointing to the head."""
        at = self.curve[:, 0]
        s = self.level_s(level)
        sin, cos = (float(np.interp(s, at, self.curve[:, i])) for i in (3, 4))
        return 0.0, -sin, cos


def _step(below: F64, width: float) -> F64:
    """1 for the vertebra above, 0 below the disc, fading over the vertebrae farther up."""
    forward: F64 = np.clip((below + 85.0) / 50.0, 0, 1) / (1 + np.exp(below / width * 4))
    return forward
