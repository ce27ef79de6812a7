"""One run: SPIDER's pictures and drawn ones through the probe and the measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from cauda.models.realism import measures, probe, volumes
from cauda.models.realism.pictures import (
    SIDE_MM,
    SIDE_PX,
    Drawing,
    Grey,
    Shot,
    comparable,
    exported,
    patch,
    phantom,
    square,
    stills,
    twins,
)
from cauda.models.realism.probe import Embed, Set
from cauda.models.realism.report import Probed, Range, Report, ranges
from cauda.models.realism.trial import trial

# Two makers with many patients each in SPIDER; the others stand beside them.
FIRST, SECOND = "Siemens Avanto_fit 1.5 T", "Philips Ingenia 3.0 T"
_SISTER, _THIRD = "Siemens SymphonyTim 1.5 T", "Siemens Aera 1.5 T"
_MOST = 48  # pictures of one scanner
_SEEDS = {FIRST: 5_000_000, SECOND: 6_000_000}  # of phantoms: never the same one in training and test
_VOLUME_SEED = 7_000_000
_BLUR_MM = 1.5  # takes noise and texture away and leaves anatomy
WEIGHTS = "mobilenetv2_100.imagenet.pth"

Kinds = dict[str, list[Grey]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """The report and the patches (SIDE_PX, SIDE_PX) that it rests on, by kind."""

    report: Report
    patches: Kinds


def measure(data: Path, say: Callable[[str], None]) -> Found:
    """Everything, about five minutes on two cores; ``data`` holds spider and weights. Same data, same numbers."""
    shots = stills(data / "spider")
    real = {name: _squares(shots, name)[:_MOST] for name in (FIRST, SECOND, _SISTER, _THIRD)}
    drawn: dict[str, list[Shot]] = {}
    for name in (FIRST, SECOND):
        for kind, how, offset in _DRAWINGS:
            drawn[f"{kind}, {name}"] = twins(real[name], how, _SEEDS[name] + offset)
            say(f"{len(real[name])} pictures drawn: {kind} as {name}")
    drawn |= {f"re-exported SPIDER, {name}": [exported(shot) for shot in real[name]] for name in (FIRST, SECOND)}
    kinds = real | drawn
    patches = {name: [patch(shot) for shot in found] for name, found in kinds.items()}
    embed = probe.embedder(data / "weights" / WEIGHTS)
    sets = {name: _set(embed, patches[name], kinds[name]) for name in kinds}
    say(f"{sum(len(one) for one in patches.values())} pictures seen by MobileNetV2")
    blurred = {
        name: _set(embed, [_blurred(one) for one in patches[name]], kinds[name])
        for name in (FIRST, SECOND, f"phantom, {FIRST}", f"phantom, {SECOND}")
    }
    say("and blurred")
    found = [*_stills(patches), *_volumes(data / "spider")]
    say("spectra, tissues and neighbours measured")
    return Found(report=_report(sets, blurred, found), patches=patches)


_DRAWINGS: tuple[tuple[str, Drawing, int], ...] = (("phantom", phantom, 0), ("trial", trial, 500_000))


def _squares(shots: Sequence[Shot], scanner: str) -> list[Shot]:
    """A scanner's pictures that can be compared."""
    return [shot for shot in shots if shot.scanner == scanner and comparable(shot)]


def _set(embed: Embed, pictures: Sequence[Grey], shots: Sequence[Shot]) -> Set:
    return Set(features=embed(pictures), who=np.array([shot.who for shot in shots], np.int64))


def _blurred(picture: Grey) -> Grey:
    return np.asarray(ndimage.gaussian_filter(picture.astype(np.float32), _BLUR_MM * SIDE_PX / SIDE_MM), np.uint8)


def _report(sets: dict[str, Set], blurred: dict[str, Set], found: Sequence[Range]) -> Report:
    def both(what: str, of: dict[str, Set], note: str = "") -> tuple[Probed, ...]:
        return tuple(
            Probed(
                question=f"{what} against SPIDER, taught on {a}, asked on {b}{note}",
                auc=probe.across((of[a], of[f"{what}, {a}"]), (of[b], of[f"{what}, {b}"]), np.random.default_rng(0)),
            )
            for a, b in ((FIRST, SECOND), (SECOND, FIRST))
        )

    def two(a: str, b: str) -> Probed:
        return Probed(
            question=f"{a} against {b}, real both", auc=probe.between(sets[a], sets[b], np.random.default_rng(0))
        )

    stand_in = probe.across((sets[FIRST], sets[_SISTER]), (sets[SECOND], sets[_THIRD]), np.random.default_rng(0))
    unit = probe.distance(sets[FIRST], sets[SECOND])
    return Report(
        ours=(*both("phantom", sets), *both("phantom", blurred, f", both blurred by {_BLUR_MM} mm")),
        control=both("re-exported SPIDER", sets),
        floor=(
            two(FIRST, SECOND),
            two(FIRST, _SISTER),
            Probed(
                question=f"other real scanners in the phantom's place: taught {FIRST} against {_SISTER}, asked "
                f"{SECOND} against {_THIRD}",
                auc=stand_in,
            ),
        ),
        ceiling=both("trial", sets),
        distances={
            f"{what}, as {name}, from {name}": probe.distance(sets[name], sets[f"{what}, {name}"]) / unit
            for what in ("phantom", "trial")
            for name in (FIRST, SECOND)
        },
        ranges=tuple(found),
    )


def _stills(patches: Kinds) -> list[Range]:
    """Greys and spectrum of T2 squares on one grid, each scanner by itself."""
    mm = SIDE_MM / SIDE_PX

    def measured(pictures: Sequence[Grey]) -> list[dict[str, float]]:
        return [measures.surroundings(one) | measures.spectrum(one, mm) for one in pictures]

    return [
        line
        for name in (FIRST, SECOND)
        for line in ranges(f"T2, {name}", measured(patches[name]), measured(patches[f"phantom, {name}"]))
    ]


def _volumes(spider: Path) -> list[Range]:
    """Tissues, spectrum and neighbours of T2 SPACE slices with masks."""
    real = volumes.real(spider)
    with ThreadPoolExecutor(2) as pool:
        ours = list(pool.map(volumes.twin, real, range(_VOLUME_SEED, _VOLUME_SEED + len(real))))
    return ranges("T2 SPACE", [_pair(one) for one in real], [_pair(one) for one in ours])


def _pair(pair: volumes.Pair) -> dict[str, float]:
    picture, beside = (square(one, volumes.MM) for one in (pair.picture, pair.beside))
    return (
        (measures.tissues(pair.picture, pair.mask, volumes.MM) or {})
        | {f"likeness (SSIM) to the slice {volumes.GAP_MM} mm beside": measures.likeness(picture, beside)}
        | measures.spectrum(picture, volumes.MM)
    )
