"""Backbones that turn crops into features: any timm model, weights from a local file, never from a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from cauda.core.domain import F32
from cauda.core.errors import Misconfigured

_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """How a timm model is made and fed. Travels with the weights."""

    name: str  # timm's own
    size_px: int = 128
    channels: int = 1
    mean: float = 0.5
    std: float = 0.5
    field: float = 1.0  # share of the crop's side, around its middle, that the network sees
    options: tuple[tuple[str, Any], ...] = ()  # further arguments of timm.create_model


def create(backbone: Backbone, *, classes: int = 0) -> nn.Module:
    """The network on random weights; 0 classes gives pooled features. Nothing is fetched."""
    if not timm.is_model(backbone.name):
        raise Misconfigured(f"backbone {backbone.name!r} is not a timm model; see timm.list_models()")
    made: nn.Module = timm.create_model(
        backbone.name, pretrained=False, in_chans=backbone.channels, num_classes=classes, **dict(backbone.options)
    )
    return made


def load_weights(path: Path) -> dict[str, Tensor]:
    """A state dict from a local file: safetensors, or a torch file read without unpickling code."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file  # noqa: PLC0415  only where such a file is used

        return dict(load_file(path))
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


class TimmEmbedder:
    """`cauda.pipeline.parts.Embedder` by a timm model's pooled features."""

    def __init__(self, backbone: Backbone, weights: Mapping[str, Tensor] | None, *, device: str = "cpu") -> None:
        """``weights`` None keeps random ones; a classifier head among them is left out."""
        self.backbone = backbone
        self._device = torch.device(device)
        self._net = create(backbone).to(self._device).eval()
        if weights is not None:
            wanted = self._net.state_dict().keys()
            kept = {name: value for name, value in weights.items() if name in wanted}
            if missing := sorted(wanted - kept.keys()):
                raise Misconfigured(f"backbone {backbone.name}: weights lack {missing[0]} and {len(missing) - 1} more")
            self._net.load_state_dict(kept)

    def embed(self, crops: F32) -> F32:
        """Features (N, D) for crops (N, P, P) in 0..1."""
        out = []
        with torch.inference_mode():
            for start in range(0, len(crops), _BATCH):
                x = prepared(torch.from_numpy(np.ascontiguousarray(crops[start : start + _BATCH])), self.backbone)
                out.append(self._net(x.to(self._device)).float().cpu().numpy())
        return np.concatenate(out) if out else np.zeros((0, features(self._net)), np.float32)


def features(net: nn.Module) -> int:
    """How many features a timm model hands to its classifier; some widen after pooling."""
    count: Any = getattr(net, "head_hidden_size", None) or net.num_features
    return int(count)


def prepared(crops: Tensor, backbone: Backbone) -> Tensor:
    """Crops (N, P, P) in 0..1 as the network wants them: (N, channels, size, size)."""
    x = _middle(crops.float()[:, None], backbone.field)
    if x.shape[-1] != backbone.size_px:
        size = (backbone.size_px, backbone.size_px)
        x = functional.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)
    return ((x - backbone.mean) / backbone.std).expand(-1, backbone.channels, -1, -1)


def _middle(x: Tensor, share: float) -> Tensor:
    size = x.shape[-1]
    edge = round(size * (1 - share) / 2)
    return x[..., edge : size - edge, edge : size - edge]
