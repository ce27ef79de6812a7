"""Trains the sagittal localiser on SPIDER's masked slices (CC BY 4.0) and on phantom slices, lateral ones too.

Augmentation does the work (LEVELS.md): each mask class is recoloured, so that T1, STIR and fat-suppressed pictures
are read though none was ever seen. SPIDER has no sacrum: the body right below the lowest disc is taken for S1, and of
what lies farther down nobody says whether it is sacrum.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from cauda.core.domain import F32
from cauda.models.localiser import CLASSES, MM_PER_PX, UNet, normalised
from cauda.models.phantom.crops import contrast
from cauda.models.phantom.imaging import Plane, Spoil, section, shown
from cauda.models.phantom.sample import sample_spine
from cauda.models.phantom.tissue import Tissue

SPIDER_MM = 0.469  # pixel size of its T2 SPACE slices
_SIZE = 224
_AHEAD = 2  # batches drawn before they are wanted
_BFLOAT16 = torch.cpu._is_avx512_bf16_supported()  # noqa: SLF001  no public way; emulated it is nine times as slow
_COLOURS = 4  # background, vertebra, disc, canal
_VERTEBRA, _DISC, _CANAL, SACRUM = (CLASSES.index(name) for name in ("vertebra", "disc", "canal", "sacrum"))
UNKNOWN = -1  # background or sacrum
_TRANSITIONAL = 0.15  # of the phantoms keep an S1/S2 disc that puts the count in doubt
_S1_MM = 22.0  # of the first sacral body are sure to be sacrum
_AS_CLASS = np.zeros(len(Tissue), np.int64)
_AS_CLASS[[Tissue.MARROW, Tissue.FATTY_MARROW, Tissue.CORTEX, Tissue.ARCH]] = _VERTEBRA
_AS_CLASS[[Tissue.NUCLEUS, Tissue.ANNULUS, Tissue.FRAGMENT]] = _DISC
_AS_CLASS[Tissue.SACRUM] = SACRUM
_AS_CLASS[[Tissue.CSF, Tissue.ROOT, Tissue.CORD, Tissue.EPIDURAL_FAT]] = _CANAL


Classes = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Masked:
    """One labelled slice: picture (H, W) in 0..1, classes (H, W) or ``UNKNOWN``, and whose it is."""

    picture: F32
    classes: Classes
    patient: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long."""

    steps: int = 900
    batch: int = 12
    phantoms: int = 3  # of a batch
    rate: float = 3e-3
    seed: int = 1


def spider(folder: Path) -> list[Masked]:
    """The masked T2 SPACE slices of SPIDER below ``folder``."""
    found = []
    for path in sorted((folder / "t2_space" / "images").glob("*.jpg")):
        mask = np.asarray(Image.open(folder / "t2_space" / "masks" / f"{path.stem}.png"))
        picture = np.asarray(Image.open(path), np.float32) / np.float32(255)
        classes = _with_sacrum(mask.astype(np.int64))
        found.append(Masked(picture=picture, classes=classes, patient=int(path.name.split("_")[0])))
    return found


def _with_sacrum(mask: Classes) -> Classes:
    """SPIDER's mask with the body below the lowest disc as sacrum, and ``UNKNOWN`` for all else below that disc."""
    pieces, count = ndimage.label(mask == _DISC)
    large = [i for i in range(1, count + 1) if (pieces == i).sum() * SPIDER_MM**2 > 50.0]
    if not large:
        return mask
    lowest = max(large, key=lambda i: np.nonzero(pieces == i)[0].mean())
    pixels = np.stack(np.nonzero(pieces == lowest), axis=1) * SPIDER_MM  # (n, 2) row, column
    centre = pixels.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(pixels.T))
    across = vectors[:, 1]
    down = vectors[:, 0] * np.sign(vectors[0, 0])
    half_height, half_depth = 2 * np.sqrt(values)
    points = np.stack(np.meshgrid(*(np.arange(n) * SPIDER_MM for n in mask.shape), indexing="ij"), axis=-1) - centre
    below, aside = points @ down, np.abs(points @ across)
    nobody = mask == 0
    classes = np.where(nobody & (below > half_height), UNKNOWN, mask)
    sure = (below > half_height + 1.5) & (below < _S1_MM) & (aside < half_depth * (0.95 - 0.012 * below))
    if (sure & ~nobody).sum() < 0.1 * sure.sum():  # else a vertebra lies there: the slice passes beside L5/S1
        classes[sure & nobody] = SACRUM
    return classes


def held_out(slices: Sequence[Masked], count: int = 8) -> set[int]:
    """The patients that are never trained on: the same ones every time."""
    patients = sorted({one.patient for one in slices})
    return set(np.random.default_rng(0).permutation(patients)[:count].tolist())


def train(slices: Sequence[Masked], plan: Plan, checkpoint: Path, say: Callable[[str], None]) -> dict[str, Tensor]:
    """Train on ``slices``; goes on from ``checkpoint`` when that is there, and leaves one every 100 steps."""
    torch.manual_seed(plan.seed)
    net = UNet().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(net.parameters(), lr=plan.rate, weight_decay=1e-2)
    done = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        net.load_state_dict(saved["net"])
        optimiser.load_state_dict(saved["optimiser"])
        done = int(saved["step"])
        say(f"localiser: going on at step {done}")
    weight = torch.tensor([0.4, 1.0, 1.6, 1.6, 1.0])
    for step, (x, y) in enumerate(_batches(slices, plan, done), done):
        rate = plan.rate * min(1.0, (step + 1) / 60) * 0.5 * (1 + math.cos(math.pi * step / plan.steps))
        for group in optimiser.param_groups:
            group["lr"] = rate
        net.train()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=_BFLOAT16):
            out = net(x.contiguous(memory_format=torch.channels_last))
        loss = _loss(out.float(), y, weight)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        if (step + 1) % 100 == 0:
            say(f"localiser: step {step + 1}/{plan.steps}, loss {float(loss.detach()):.3f}")
            part = checkpoint.with_suffix(".part")
            torch.save({"net": net.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}, part)
            part.rename(checkpoint)
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def _batches(slices: Sequence[Masked], plan: Plan, first: int) -> Iterator[tuple[Tensor, Tensor]]:
    """One a step; the next is drawn while the last is learnt from. A resumed run sees what an unbroken one would."""
    with ThreadPoolExecutor(1) as drawer:
        ahead = deque[Future[tuple[Tensor, Tensor]]]()
        for step in range(first, plan.steps):
            ahead.append(drawer.submit(_batch, slices, plan, np.random.default_rng([plan.seed, step])))
            if len(ahead) > _AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _loss(out: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy and soft Dice over the classes that are something; what is unknown may be either of two."""
    p = out.softmax(1)
    known = y != UNKNOWN
    truth = functional.one_hot(y.clamp_min(0), len(CLASSES)).permute(0, 3, 1, 2).float()
    truth[:, 0] *= known
    counted = torch.ones_like(p)
    counted[:, SACRUM] = known.float()
    overlap, total = (p * truth).sum((0, 2, 3)), (p * counted + truth).sum((0, 2, 3))
    dice = 1 - ((2 * overlap + 1) / (total + 1))[1:].mean()
    either = -torch.log((p[:, 0] + p[:, SACRUM]).clamp_min(1e-6)) * ~known * weight[0]
    sure = functional.cross_entropy(out, y, weight=weight, ignore_index=UNKNOWN)
    return sure + either.sum() / (weight[y.clamp_min(0)]).sum() + dice


def _batch(slices: Sequence[Masked], plan: Plan, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Pictures (N, 1, S, S) as the network sees them, and their classes (N, S, S)."""
    pairs = [
        _phantom(draw) if i < plan.phantoms else _warped(slices[int(draw.integers(len(slices)))], draw)
        for i in range(plan.batch)
    ]
    spoiled = [_spoiled(x, y, draw) for x, y in pairs]
    return normalised(torch.cat([x for x, _ in spoiled])), torch.stack([y for _, y in spoiled])


def _warped(one: Masked, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A slice recoloured by class, turned, scaled and shifted to the network's pixels."""
    height, width = one.picture.shape
    x, m = torch.from_numpy(one.picture)[None, None], torch.from_numpy(one.classes)
    if draw.random() < 0.6:
        soft = functional.avg_pool2d(functional.one_hot(_coloured(m), _COLOURS).permute(2, 0, 1)[None].float(), 5, 1, 2)
        gain = torch.from_numpy(draw.uniform(0.3, 1.6, _COLOURS).astype(np.float32))[None, :, None, None]
        offset = torch.from_numpy(draw.uniform(-0.35, 0.45, _COLOURS).astype(np.float32))[None, :, None, None]
        x = (x * (soft * gain).sum(1, keepdim=True) + (soft * offset).sum(1, keepdim=True)).clamp(0, 2)
    turn, scale = math.radians(draw.uniform(-18, 18)), math.exp(draw.uniform(math.log(0.75), math.log(1.3)))
    step, aspect = MM_PER_PX / SPIDER_MM * scale, math.exp(draw.normal(0, 0.04))
    cos, sin = math.cos(turn) * step, math.sin(turn) * step
    cx, cy = width * (0.5 + draw.uniform(-0.22, 0.22)), height * (0.5 + draw.uniform(-0.3, 0.3))
    side = torch.arange(_SIZE) - _SIZE / 2
    yy, xx = torch.meshgrid(side, side, indexing="ij")
    gx, gy = cx + cos * xx * aspect - sin * yy, cy + sin * xx * aspect + cos * yy
    grid = torch.stack([2 * (gx + 0.5) / width - 1, 2 * (gy + 0.5) / height - 1], -1)[None].float()
    if draw.random() < 0.7:
        x = functional.avg_pool2d(x, 3, 1, 1)
    picture = functional.grid_sample(x.float(), grid, mode="bilinear", align_corners=False)
    classes = functional.grid_sample(m[None, None].float(), grid, mode="nearest", align_corners=False)
    return picture, classes[0, 0].long()


def _coloured(m: Tensor) -> Tensor:
    """The classes that get a colour of their own: S1's box would show where it ends, so it has the background's."""
    return torch.where((m == UNKNOWN) | (m == SACRUM), 0, m)


def _phantom(draw: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A sagittal slice of a fresh phantom, from the middle or far beside it."""
    spine = sample_spine(int(draw.integers(1_000_000, 2_000_000)), balanced=bool(draw.random() < 0.5))
    if draw.random() < _TRANSITIONAL:
        spine = replace(spine, remnant=(float(draw.uniform(0.6, 1.0)), spine.remnant[1]))
    pixel = MM_PER_PX * float(draw.uniform(0.8, 1.3))
    turn = float(np.radians(draw.uniform(-12, 12)))
    along_row = np.array([0.0, math.cos(turn), math.sin(turn)])
    along_column = np.array([0.0, math.sin(turn), -math.cos(turn)])
    centre = np.asarray(spine.centre) + draw.normal(0, 1, 3) * np.array([13.0, 20.0, 30.0])
    half = (_SIZE - 1) / 2 * pixel
    plane = Plane(corner=centre - half * (along_row + along_column), along_row=along_row, along_column=along_column,
                  pixel_mm=pixel, rows=_SIZE, columns=_SIZE, thickness_mm=4.0)  # fmt: skip
    sheets = section(spine, plane, parts=1)
    signal = contrast(draw)
    spoil = Spoil(noise=0.01, blur_mm=0.8, coil_mm=float(draw.uniform(90, 500)), band=bool(draw.random() < 0.5))
    if draw.random() < 0.5:
        signal = signal * np.exp(draw.normal(0, 0.6, len(signal)))
    image = shown(spine, plane, sheets, signal, draw, spoil)
    classes = _AS_CLASS[sheets[0]]
    _, _, s = spine.coordinates(plane.points())
    sacral = (s > spine.disc_s[-1] + 4) & (classes == _VERTEBRA)
    classes[sacral] = np.where(sheets[0][sacral] == Tissue.CORTEX, SACRUM, UNKNOWN)
    return torch.from_numpy(image)[None, None], torch.from_numpy(classes)


def _spoiled(x: Tensor, y: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Intensity curve, uneven field, a cut field of view, grain; now and then a picture with no spine in it."""
    if draw.random() < 0.8:
        x = x.clamp_min(0) ** float(np.exp(draw.normal(0, 0.35)))
    if draw.random() < 0.12:
        x = x.max() - x
    if draw.random() < 0.8:
        field = torch.from_numpy(draw.normal(0, 0.35, (1, 1, 4, 4)).astype(np.float32))
        x = x * torch.exp(functional.interpolate(field, (_SIZE, _SIZE), mode="bicubic", align_corners=False))
    if draw.random() < 0.3:
        x, y = _cut(x.clone(), y.clone(), draw)
    x = x + torch.from_numpy(draw.normal(0, draw.uniform(0, 0.06), (1, 1, _SIZE, _SIZE)).astype(np.float32))
    if draw.random() < 0.05:
        tiles = x.unfold(2, 32, 32).unfold(3, 32, 32).reshape(49, 32, 32)
        tiles = tiles[torch.from_numpy(draw.permutation(49))]
        x = tiles.reshape(7, 7, 32, 32).permute(0, 2, 1, 3).reshape(1, 1, _SIZE, _SIZE)
        y = torch.zeros_like(y)
    return x, y


def _cut(x: Tensor, y: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
    gone = int(draw.uniform(0.02, 0.35) * _SIZE)
    match int(draw.integers(4)):
        case 0:
            x[..., :gone, :], y[:gone, :] = 0, 0
        case 1:
            x[..., -gone:, :], y[-gone:, :] = 0, 0
        case 2:
            x[..., :gone], y[:, :gone] = 0, 0
        case _:
            x[..., -gone:], y[:, -gone:] = 0, 0
    return x, y
