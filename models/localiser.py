"""The sagittal localiser: a small U-Net: background, vertebra, disc, canal or sacrum at each pixel (LEVELS.md)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cauda.core.domain import F32

CLASSES = ("background", "vertebra", "disc", "canal", "sacrum")
MM_PER_PX = 0.94  # the network's own pixel size
WIDTHS = (16, 32, 64, 96, 128)
_STRIDE = 16  # sides are padded to a multiple of it
_BATCH = 6


class _Block(nn.Sequential):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    """Additive skips; (N, 1, H, W) with sides divisible by 16 in, logits (N, C, H, W) out. 0.75 M parameters."""

    def __init__(self, widths: tuple[int, ...] = WIDTHS, classes: int = len(CLASSES)) -> None:
        super().__init__()
        inputs = (1, *widths[:-1])
        rising = list(reversed(widths))
        self.down = nn.ModuleList(_Block(a, b) for a, b in zip(inputs, widths, strict=True))
        self.lift = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairwise(rising))
        self.up = nn.ModuleList(_Block(b, b) for b in rising[1:])
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Class logits."""
        skips: list[Tensor] = []
        for depth, block in enumerate(self.down):
            x = block(x if depth == 0 else functional.max_pool2d(x, 2))
            skips.append(x)
        for lift, block, skip in zip(self.lift, self.up, reversed(skips[:-1]), strict=True):
            larger = functional.interpolate(lift(x), scale_factor=2.0, mode="bilinear", align_corners=False)
            x = block(larger + skip)
        logits: Tensor = self.head(x)
        return logits


def normalised(x: Tensor) -> Tensor:
    """Each slice of (N, 1, H, W) scaled so that its 1st and 99.5th percentiles become -1 and 1, clipped there."""
    flat = x.flatten(1)
    low = torch.quantile(flat, 0.01, dim=1)[:, None, None, None]
    high = torch.quantile(flat, 0.995, dim=1)[:, None, None, None]
    return ((x - low) / (high - low).clamp_min(1e-6)).clamp(0, 1) * 2 - 1


class UNetLocaliser:
    """`cauda.pipeline.parts.Localiser` by a trained network."""

    def __init__(self, weights: Mapping[str, Tensor], *, device: str = "cpu") -> None:
        """Raises RuntimeError when the weights are not this network's; without the sacrum they may be."""
        head = weights.get("head.bias")
        self.classes = CLASSES if head is None else CLASSES[: len(head)]
        self._device = torch.device(device)
        self._net = UNet(classes=len(self.classes)).to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._net.load_state_dict(dict(weights))
        self._net.eval()

    def segment(self, slices: F32, spacing_mm: tuple[float, float]) -> F32:
        """Class probabilities (N, C, H, W) for slices (N, H, W) with (row, column) spacing, at the input's size."""
        count, height, width = slices.shape
        small = tuple(
            max(1, round(n * s / MM_PER_PX)) for n, s in zip((height, width), spacing_mm, strict=True)
        )  # fmt: skip
        out = np.empty((count, len(self.classes), height, width), np.float32)
        with torch.inference_mode():
            for start in range(0, count, _BATCH):
                x = torch.from_numpy(np.ascontiguousarray(slices[start : start + _BATCH], np.float32))[:, None]
                x = normalised(_resized(x, small)).to(self._device)
                down, right = (-n % _STRIDE for n in small)
                padded = functional.pad(x, (0, right, 0, down), value=-1.0).contiguous(
                    memory_format=torch.channels_last
                )
                p = self._net(padded)[:, :, : small[0], : small[1]].softmax(1)  # (n, C, h, w)
                out[start : start + _BATCH] = _resized(p, (height, width)).cpu().numpy()
        return out


def _resized(x: Tensor, size: tuple[int, ...]) -> Tensor:
    if tuple(x.shape[-2:]) == size:
        return x
    smaller = size[0] < x.shape[-2]
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=smaller)
