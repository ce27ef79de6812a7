"""Trains the embedding network on phantom crops end to end, then a calibrated classifier per level on its features."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cauda.core.domain import F32, F64, Level
from cauda.models import backbones, graders
from cauda.models.augment import varied
from cauda.models.backbones import Backbone, TimmEmbedder, prepared
from cauda.models.graders import LevelGraders
from cauda.models.phantom.crops import Crops, crops

STARTER_BACKBONE = Backbone(name="lcnet_050", size_px=88, field=0.6875)  # 44 mm: the canal and its walls
_CHUNK = 25  # spines a process draws at a time
_LOOKS = 2  # scanners that show each slice
_GRADES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and on what."""

    epochs: int = 12
    batch: int = 48
    rate: float = 2e-3
    seed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """What comes out."""

    weights: dict[str, Tensor]
    graders: LevelGraders
    held_out: Crops
    probabilities: F64  # (N, 3) of the held-out crops
    templates: dict[Level, F32]
    distances: F64  # (N,) of the held-out crops


def drawn(cache: Path, first: int, spines: int, *, processes: int, say: Callable[[str], None]) -> Crops:
    """Crops of ``spines`` spines from seed ``first``; chunks that are in ``cache`` already are not drawn again."""
    cache.mkdir(parents=True, exist_ok=True)
    starts = list(range(first, first + spines, _CHUNK))
    missing = [s for s in starts if not (cache / f"{s}.npz").exists()]
    # Fresh processes: a fork of one whose torch has threads would hang.
    with ProcessPoolExecutor(processes, mp_context=get_context("forkserver")) as pool:
        for done, (start, chunk) in enumerate(zip(missing, pool.map(_draw, missing), strict=True), 1):
            path = cache / f"{start}.npz"
            np.savez(
                path.with_suffix(".part.npz"), pixels=np.round(chunk.pixels * 255).astype(np.uint8), rsna=chunk.rsna,
                share=chunk.csf_share, spine=chunk.spine,
                levels=np.array([list(Level).index(level) for level in chunk.levels]),
            )  # fmt: skip
            path.with_suffix(".part.npz").rename(path)
            if done % 8 == 0:
                say(f"phantom crops: {done * _CHUNK * len(Level) * _LOOKS} drawn")
    found = [dict(np.load(cache / f"{s}.npz", allow_pickle=False)) for s in starts]
    joined = {key: np.concatenate([one[key] for one in found]) for key in found[0]}
    pixels = joined.pop("pixels").astype(np.float32)
    pixels /= np.float32(255)
    return Crops(
        pixels=pixels,
        levels=tuple(list(Level)[i] for i in joined["levels"]),
        rsna=joined["rsna"],
        csf_share=joined["share"],
        spine=joined["spine"],
    )


def _draw(start: int) -> Crops:
    torch.set_num_threads(1)  # arrays are small: two threads a process mostly wait for each other
    return crops(start, _CHUNK, looks=_LOOKS)


def train(data: Crops, plan: Plan, checkpoint: Path, say: Callable[[str], None]) -> Trained:
    """Train, embed, fit, calibrate. One tenth of the spines calibrate, one tenth are held out: the same every time."""
    share = (data.spine * 2654435761 % 2**32) / 2**32  # a hash: the split keeps a spine together
    fitted, calibrate, held = share < 0.8, (share >= 0.8) & (share < 0.9), share >= 0.9
    weights = _network(data, fitted, plan, checkpoint, say)
    embedder = TimmEmbedder(STARTER_BACKBONE, weights)
    features = embedder.embed(data.pixels)
    here = ~held
    known = [level for level, kept in zip(data.levels, here, strict=True) if kept]
    fit = graders.fit("logistic", features[here], data.rsna[here], known, calibrate[here], scale=_GRADES)
    held_levels = tuple(level for level, kept in zip(data.levels, held, strict=True) if kept)
    healthy = fitted & (data.rsna == 0)
    return Trained(
        weights=weights,
        graders=fit,
        held_out=Crops(
            pixels=data.pixels[held], levels=held_levels, rsna=data.rsna[held], csf_share=data.csf_share[held],
            spine=data.spine[held],
        ),
        probabilities=fit.predict_proba(features[held], held_levels),
        templates={
            level: data.pixels[healthy & np.array([one is level for one in data.levels])].mean(axis=0)
            for level in Level
        },
        distances=fit.distance(features[held]),
    )  # fmt: skip


def _network(
    data: Crops, rows: NDArray[np.bool_], plan: Plan, checkpoint: Path, say: Callable[[str], None]
) -> dict[str, Tensor]:
    """The backbone's weights, trained with two heads: the grade, and the CSF's share of the sac.

    Goes on from ``checkpoint`` when that is there, and leaves one every epoch.
    """
    torch.manual_seed(plan.seed)
    net = backbones.create(STARTER_BACKBONE).to(memory_format=torch.channels_last)
    head = nn.Linear(backbones.features(net), _GRADES + 1)
    both = nn.ModuleList([net, head])
    optimiser = torch.optim.AdamW(both.parameters(), lr=plan.rate, weight_decay=0.02)
    done = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        both.load_state_dict(saved["net"])
        optimiser.load_state_dict(saved["optimiser"])
        done = int(saved["epoch"])
        say(f"grader: going on at epoch {done}")
    index = np.flatnonzero(rows)
    counts = np.bincount(data.rsna[rows], minlength=_GRADES)
    balance = torch.tensor((counts.sum() / (_GRADES * counts)) ** 0.5, dtype=torch.float32)
    for epoch in range(done, plan.epochs):
        torch.manual_seed(plan.seed * 1000 + epoch)  # a resumed run sees what an unbroken one would
        loss = _epoch(data, index, balance, (net, head), optimiser, plan, epoch)
        say(f"grader: epoch {epoch + 1}/{plan.epochs}, loss {loss:.3f}")
        part = checkpoint.with_suffix(".part")
        torch.save({"net": both.state_dict(), "optimiser": optimiser.state_dict(), "epoch": epoch + 1}, part)
        part.rename(checkpoint)
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def _epoch(
    data: Crops,
    index: NDArray[np.intp],
    balance: Tensor,
    nets: tuple[nn.Module, nn.Module],
    optimiser: torch.optim.Optimizer,
    plan: Plan,
    epoch: int,
) -> float:
    """One pass over the crops; returns the mean loss."""
    net, head = nets
    net.train()
    draw = np.random.default_rng([plan.seed, epoch])
    order = draw.permutation(index)
    batches = len(order) // plan.batch
    total = 0.0
    for number in range(batches):
        step = epoch * batches + number
        rate = plan.rate * min(1.0, (step + 1) / 50)
        rate *= 0.5 * (1 + math.cos(math.pi * step / (plan.epochs * batches)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        chosen = order[number * plan.batch : (number + 1) * plan.batch]
        x = prepared(varied(torch.from_numpy(data.pixels[chosen]), draw), STARTER_BACKBONE)
        out = head(functional.dropout(net(x.contiguous(memory_format=torch.channels_last)), 0.2))
        grade, share = torch.from_numpy(data.rsna[chosen]), torch.from_numpy(data.csf_share[chosen]).float()
        loss = functional.cross_entropy(out[:, :_GRADES], grade, weight=balance)
        loss = loss + 4 * functional.mse_loss(out[:, _GRADES], share)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        total += float(loss.detach())
    return total / max(batches, 1)
