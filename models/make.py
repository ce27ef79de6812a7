"""`make models`: trains the starter bundle from scratch; stop it and it goes on.

Localiser on SPIDER and phantom, embedding network and graders on phantom alone. What it reaches is printed with its
interval and goes into the bundle. ``--keep-localiser`` trains the graders only.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import safetensors.torch
from torch import Tensor

from cauda.core.domain import F64, GradeScale
from cauda.models import bundle, evaluate, train_grader, train_localiser
from cauda.models import manifest as manifests
from cauda.models.bundle import Card, Made
from cauda.models.phantom.crops import bright_fraction
from cauda.pipeline.parts import Preprocessing

SEEDS = (1, 2, 3)  # the median is shipped: neither luck nor choice
_FIRST_SPINE, _SPINES = 10_000, 1200
_REFERENCES = 12
_FAMILIAR = 0.999  # share of held-out crops that lie within the distance that counts as familiar
_SLACK = 2.0  # real pictures lie farther out than phantoms; beyond this factor they resemble nothing known
# With 0.5, Severe phantom levels were withheld nine times as often as Normal/Mild ones (2.7 % and 0.3 % of the
# held-out crops): a check that discards disease (CLINICAL.md 12).
_UNCERTAIN = 0.4

CARD = Card(
    name="starter",
    version="1.1",
    scale=GradeScale.RSNA_3,
    footer="Central canal only. Not assessed: lateral recess, foramen, herniation, fracture, tumour, infection, "
    "conus, alignment. No result is not a normal result. Cauda sends no alerts.",
    intended_use="Evaluation and research. Trained on synthetic images only; orders severity within a patient; not "
    "shown to grade correctly; probabilities uncalibrated until local data are added; Moderate unreliable; not for "
    "clinical use.",
    exclusions="Under 18; interventional; metal, surgery, fracture, mass, scoliosis are not detected.",
    training_data=(
        "Grader: Cauda phantom (synthetic), this repository",
        "Localiser: SPIDER lumbar spine MRI, van der Graaf et al. 2024, CC BY 4.0; Cauda phantom",
    ),
)


def main() -> None:
    """Train, evaluate, write `models/starter`."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--keep-localiser", action="store_true", help="take it from models/starter as it is")
    given = options.parse_args()
    root = Path(__file__).resolve().parent
    work = Path(os.environ.get("CAUDA_MODELS_WORK") or root.parent / "out" / "models")
    data = Path(os.environ.get("CAUDA_REALDATA") or root.parents[1] / "shared" / "data")
    if not (data / "spider" / "t2_space").is_dir():
        sys.exit(f"SPIDER is not at {data / 'spider'}: set CAUDA_REALDATA to the folder that holds spider/t2_space")
    work.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {text}", flush=True)  # noqa: T201  the command's output

    slices = train_localiser.spider(data / "spider")
    held = train_localiser.held_out(slices)
    say(f"SPIDER: {len(slices)} slices, patients held out: {sorted(held)}")
    about = CARD
    if given.keep_localiser:
        localiser, about = _kept(root / "starter")
        overlap = evaluate.overlap(localiser, [one for one in slices if one.patient in held])
    else:
        localiser, overlap = _median_localiser(slices, held, work, say)
    trained, seeds = _median_grader(work, say)
    scores = evaluate.grades(trained.probabilities, trained.held_out, np.random.default_rng(0)) | seeds
    scores |= {f"localiser_dice_{name}": value for name, value in overlap.items()}
    scores |= {f"bright_fraction_{k}": v for k, v in _baseline(trained).items()}
    made = _made(localiser, trained, scores)
    scores |= evaluate.abstention(trained.probabilities, trained.distances, trained.held_out, made.preprocessing)
    for name, value in scores.items():
        say(f"{name} = {value:.3f}")
    digest = bundle.save_bundle(work / "starter", replace(made, evaluation=scores), about)
    (work / "starter" / "CARD.md").write_text(evaluate.card(about, scores, digest))
    bundle.load_bundle(work / "starter")  # one that may not be served does not take the place of one that may
    shutil.rmtree(root / "starter")
    shutil.copytree(work / "starter", root / "starter")
    say(f"models/starter verified and written, digest {digest}")


def _kept(folder: Path) -> tuple[dict[str, Tensor], Card]:
    """The localiser of the bundle that is there, and a card that says so."""
    manifest, _ = manifests.read_manifest(folder)
    content = manifests.read_files(folder, manifest, [bundle.LOCALISER])
    grader, localiser = CARD.training_data
    kept = f"{localiser} (kept from an earlier bundle: weights {manifest.files[bundle.LOCALISER][:12]})"
    return safetensors.torch.load(content[bundle.LOCALISER]), replace(CARD, training_data=(grader, kept))


def _median_localiser(
    slices: Sequence[train_localiser.Masked], held: set[int], work: Path, say: Callable[[str], None]
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The localiser of the seed in the middle, by its mean overlap on held-out patients; and its overlap by class."""
    known = [one for one in slices if one.patient not in held]
    found = []
    for seed in SEEDS:
        say(f"localiser, seed {seed}")
        plan = train_localiser.Plan(seed=seed)
        weights = train_localiser.train(known, plan, work / f"localiser-{seed}.pt", say)
        overlap = evaluate.overlap(weights, [one for one in slices if one.patient in held])
        say("held-out patients, Dice: " + ", ".join(f"{k} {v:.3f}" for k, v in overlap.items()))
        found.append((weights, overlap))
    found.sort(key=lambda one: float(np.mean(list(one[1].values()))))
    return found[len(found) // 2]


def _median_grader(work: Path, say: Callable[[str], None]) -> tuple[train_grader.Trained, dict[str, float]]:
    """The grader of the seed in the middle, by its log loss on held-out spines; and what each seed reached."""
    data = train_grader.drawn(work / "crops", _FIRST_SPINE, _SPINES, processes=len(os.sched_getaffinity(0)), say=say)
    found: list[tuple[float, train_grader.Trained]] = []
    said: dict[str, float] = {}
    for seed in SEEDS:
        say(f"grader, seed {seed}")
        trained = train_grader.train(data, train_grader.Plan(seed=seed), work / f"grader-{seed}.pt", say)
        scores = evaluate.grades(trained.probabilities, trained.held_out, np.random.default_rng(0))
        say("held-out spines: " + ", ".join(f"{k} {scores[k]:.3f}" for k in ("accuracy", "log_loss", "ranked_right")))
        said |= {f"seed_{seed}_{k}": scores[k] for k in ("log_loss", "ranked_right")}
        found.append((scores["log_loss"], trained))
    found.sort(key=lambda one: one[0])
    return found[len(found) // 2][1], said


def _baseline(trained: train_grader.Trained) -> dict[str, float]:
    narrow: F64 = 1.0 - bright_fraction(trained.held_out.pixels)
    return {"ranked_right": evaluate.ranked_right(narrow, trained.held_out)}


def _made(localiser: dict[str, Tensor], trained: train_grader.Trained, scores: dict[str, float]) -> Made:
    return Made(
        localiser=localiser,
        backbone=train_grader.STARTER_BACKBONE,
        backbone_weights=trained.weights,
        grader="logistic",
        graders=trained.graders,
        preprocessing=Preprocessing(
            max_distance=float(np.quantile(trained.distances, _FAMILIAR)) * _SLACK, uncertain_below=_UNCERTAIN
        ),
        templates=trained.templates,
        reference_crops=np.round(trained.held_out.pixels[:_REFERENCES] * 255).astype(np.float32) / np.float32(255),
        reference_levels=trained.held_out.levels[:_REFERENCES],
        evaluation=scores,
    )


if __name__ == "__main__":
    main()
