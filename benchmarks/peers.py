"""Adapters for the authors' code of LIIF and LTE, from a checkout of their repositories.

Their files are imported unchanged; none of their code is in this repository. Dependencies that inference does not need
(``tensorboardX``, three functions of ``timm``) are replaced by stubs if they are missing.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, cast
from unittest import mock

import torch
from monai.networks.layers import DropPath
from torch import Tensor, nn

from benchmarks import common
from monai_iste.coordinates import output_size, pixel_centers
from monai_iste.errors import ConfigError
from monai_iste.networks import SwinIREncoder

__all__ = ["AuthorsNetwork"]

_HEADS = {"lte": [256] * 3, "liif": [256] * 4}  # the MLPs' hidden layers, from their configurations


class AuthorsNetwork(nn.Module):
    """Network of an author's repository at the published size, with random weights.

    If the repository has a SwinIR and the encoder is one, their SwinIR of the same size is used. Otherwise our encoder
    is placed in their network.

    Args:
        repository: checkout with ``models/lte.py`` or ``models/liif.py``.
        encoder: our encoder, which determines the size.
    Shape:
        image: (B, 3, h, w); returns (B, 3, round(h * scale), round(w * scale))
    Units: image and result in [0, 1].
    Raises:
        ConfigError: the folder is not a checkout of LIIF or LTE.
    """

    batch = 30_000  # queries at once, as in their demos

    def __init__(self, repository: Path, encoder: nn.Module) -> None:
        super().__init__()
        kind = next((name for name in _HEADS if (repository / "models" / f"{name}.py").is_file()), None)
        if kind is None:
            raise ConfigError("a checkout of LIIF or LTE", str(repository), "It has models/liif.py or models/lte.py.")
        with _imports_from(repository):
            models = importlib.import_module("models")
        theirs = _their_swinir(encoder, models)
        models.register("given")(lambda: theirs or _Given(encoder))
        head = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": _HEADS[kind]}}
        self.network = models.make(
            {"name": kind, "args": {"encoder_spec": {"name": "given", "args": {}}, "imnet_spec": head}}
        )
        self.title = f"{kind.upper()}, the authors' code, {'their SwinIR' if theirs else 'our encoder'}"

    def forward(self, image: Tensor, scale: float) -> Tensor:
        output = output_size((image.shape[2], image.shape[3]), scale)
        coord = pixel_centers(output, image.device).expand(image.shape[0], -1, -1).contiguous()
        cell = (2 / torch.tensor(output, device=image.device)).expand_as(coord).contiguous()
        with _without_cuda_calls(image.device):
            self.network.gen_feat((image - 0.5) / 0.5)
            parts = zip(coord.split(self.batch, dim=1), cell.split(self.batch, dim=1), strict=True)
            rgb = torch.cat([self.network.query_rgb(*part) for part in parts], dim=1)
        return (rgb * 0.5 + 0.5).mT.reshape(image.shape[0], 3, *output)


class _Given(nn.Module):
    """Adapter of our encoder to their interface."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.out_dim = encoder, encoder.out_channels

    def forward(self, image: Tensor) -> Tensor:
        return common.without_fast_paths(self.encoder, image)


def _their_swinir(encoder: nn.Module, models: ModuleType) -> nn.Module | None:
    """Create their SwinIR of our encoder's size, or return None if there is none."""
    if not hasattr(models, "swinir") or not isinstance(encoder, SwinIREncoder):
        return None
    layers = [cast(Any, group).layers for group in encoder.groups]
    theirs: nn.Module = models.swinir.SwinIR(
        embed_dim=encoder.shallow.out_channels,
        depths=[len(group) for group in layers],
        num_heads=[group[0].attention.heads for group in layers],
        window_size=encoder.window,
        mlp_ratio=layers[0][0].mlp.linear1.out_features / encoder.shallow.out_channels,
    )
    return theirs


@contextmanager
def _without_cuda_calls(device: torch.device) -> Iterator[None]:
    """Disable ``Tensor.cuda`` on CPUs: their code moves coordinates to the GPU unconditionally."""
    if device.type == "cuda":
        yield
        return
    with mock.patch.object(Tensor, "cuda", lambda tensor: tensor):
        yield


@contextmanager
def _imports_from(repository: Path) -> Iterator[None]:
    """Import from a repository, then remove its ``models`` and ``utils``, names that both repositories use."""
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in ("models", "utils")}
    with mock.patch.object(sys, "path", [str(repository), *sys.path]), mock.patch.dict(sys.modules, _stubs()):
        yield
    sys.modules.update(hidden)


def _stubs() -> dict[str, ModuleType]:
    contents: dict[str, dict[str, Any]] = {
        "tensorboardX": {"SummaryWriter": None},
        "timm": {},
        "timm.models": {},
        "timm.models.layers": {
            "DropPath": DropPath,
            "to_2tuple": lambda n: (n, n),
            "trunc_normal_": nn.init.trunc_normal_,
        },
    }
    modules = {}
    for name, values in contents.items():
        if importlib.util.find_spec(name.split(".")[0]) is None:
            modules[name] = ModuleType(name)
            vars(modules[name]).update(values)
    return modules
