"""What was measured, as lines of a table, and whether the probe proves anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cauda.models.realism.probe import Auc

CEILING = 0.95  # a probe that does not tell the trial's pictures from real ones this well is too weak to acquit ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """One question to the probe and its answer."""

    question: str
    auc: Auc


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """One measure on real pictures (5th, 50th, 95th percentile) and on the phantom's."""

    on: str
    measure: str
    real: tuple[float, float, float]
    ours: tuple[float, float, float]

    @property
    def within(self) -> bool:
        """Whether the phantom's median lies in the real range."""
        return self.real[0] <= self.ours[1] <= self.real[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that one run of the command found."""

    ours: tuple[Probed, ...]
    control: tuple[Probed, ...]  # what must not be told apart: the same pictures exported twice
    floor: tuple[Probed, ...]
    ceiling: tuple[Probed, ...]
    distances: dict[str, float]  # kernel distance, between the two scanners' real pictures = 1
    ranges: tuple[Range, ...]

    @property
    def proves(self) -> bool:
        """Whether the probe tells the trial's pictures from real ones, so that its word on ours counts."""
        return bool(self.ceiling) and min(one.auc.value for one in self.ceiling) >= CEILING


def ranges(on: str, real: Sequence[dict[str, float]], ours: Sequence[dict[str, float]]) -> list[Range]:
    """A line for each measure; a picture that lacks one is left out of it."""
    return [
        Range(on=on, measure=name, real=_percentiles(real, name), ours=_percentiles(ours, name))
        for name in dict.fromkeys(name for one in real for name in one)
    ]


def table(report: Report) -> str:
    """The report in Markdown, legible as it is."""
    within = sum(one.within for one in report.ranges)
    lines = [
        "| probe (AUC: 0.5 cannot tell, 1 always can) | AUC | 95 % interval | pictures |",
        "|---|---|---|---|",
        *(_probed("", one) for one in report.ours),
        *(_probed("control: ", one) for one in report.control),
        *(_probed("floor: ", one) for one in report.floor),
        *(_probed("ceiling: ", one) for one in report.ceiling),
        "",
        "| kernel distance in feature space | times that between the two scanners |",
        "|---|---|",
        *(f"| {name} | {value:.2f} |" for name, value in report.distances.items()),
        "",
        "| on | measure | real: median [5th, 95th percentile] | phantom | within |",
        "|---|---|---|---|---|",
        *(_ranged(one) for one in report.ranges),
        "",
        f"{within} of {len(report.ranges)} medians of the phantom lie within the real range.",
    ]
    return "\n".join(lines)


def _probed(kind: str, one: Probed) -> str:
    auc = one.auc
    counts = " and ".join(str(count) for count in auc.pictures)
    return f"| {kind}{one.question} | {auc.value:.3f} | {auc.low:.3f}-{auc.high:.3f} | {counts} |"


def _ranged(one: Range) -> str:
    verdict = "yes" if one.within else "**no**"
    return f"| {one.on} | {one.measure} | {_range(one.real)} | {_range(one.ours)} | {verdict} |"


def _range(values: tuple[float, float, float]) -> str:
    return f"{values[1]:.2f} [{values[0]:.2f}, {values[2]:.2f}]"


def _percentiles(found: Sequence[dict[str, float]], name: str) -> tuple[float, float, float]:
    low, middle, high = np.percentile([one[name] for one in found if name in one], (5, 50, 95))
    return float(low), float(middle), float(high)
