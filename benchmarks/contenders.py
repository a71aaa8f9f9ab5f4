"""Networks that a benchmark compares: bicubic interpolation, LIIF as published, and any files of weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from torch import nn

from benchmarks.common import Row
from benchmarks.tile_scores import published_liif
from monai_iste.errors import ConfigError, check_choice
from monai_iste.io.files import checksum
from monai_iste.networks import PRESETS, Bicubic
from monai_iste.networks.checks import check_input_blur
from monai_iste.networks.grid_sampling import takes_input_blur
from monai_iste.networks.presets import BASELINES, require_weights
from monai_iste.networks.runtime import load_network

__all__ = [
    *("BICUBIC", "PEER", "RELEASED", "Contender", "LiifOption", "WeightsSpec", "add_told", "contenders", "load"),
    "load_liif",
]

BICUBIC, PEER, RELEASED = "bicubic", "LIIF", "released"

LiifOption = Annotated[
    Path | None,
    typer.Option("--liif", envvar="LIIF_WEIGHTS", help="edsr-baseline-liif.pth as its authors published it."),
]


class Contender(NamedTuple):
    """Network, the hash and the name of its file of weights; None for random weights and for bicubic interpolation.

    ``told`` is true if it is told the blur of every input.
    """

    network: nn.Module
    weights: str | None = None
    file: str | None = None
    preset: str | None = None
    told: bool = False

    @property
    def parameters(self) -> int:
        return sum(tensor.numel() for tensor in self.network.parameters())

    @property
    def scored(self) -> bool:
        """True if its quality is meaningful, that is, if its weights are trained or it has none."""
        return self.weights is not None or not self.parameters

    def describe(self) -> Row:
        """Describe it for the manifest of a measurement."""
        about = {"preset": self.preset, "file": self.file, "sha256": self.weights, "parameters": self.parameters}
        return about | ({"blur_told": True} if self.told else {})


class WeightsSpec(NamedTuple):
    """Weights as named on the command line: ``FILE``, ``NAME=FILE`` or ``NAME=PRESET:FILE``.

    Args:
        name: name in the tables; ``FILE`` itself if none is given.
        preset: network. A name that is a preset names its network, too.
        file: file of the weights, or ``released``.
    """

    name: str
    preset: str
    file: str

    @classmethod
    def parse(cls, text: str, preset: str | None = None) -> WeightsSpec:
        """Parse one entry of ``--weights``.

        Args:
            preset: network of entries that name none; None if entries must name one.
        Raises:
            ConfigError: the entry has another form, or no network is named.

        Example:
            >>> WeightsSpec.parse("new=iste_small:runs/model.pt")
            WeightsSpec(name='new', preset='iste_small', file='runs/model.pt')
            >>> WeightsSpec.parse("iste_small=model.pt"), WeightsSpec.parse("model.pt", "iste_light")
            (WeightsSpec(name='iste_small', preset='iste_small', file='model.pt'), \
WeightsSpec(name='model.pt', preset='iste_light', file='model.pt'))
        """
        known = {**PRESETS, **BASELINES}
        name, equals, rest = text.partition("=")
        if preset is not None and (not equals or Path(text).exists()):
            return cls(text, preset, text)
        given, colon, file = rest.partition(":")
        if not colon or given not in known:
            given, file = (name if name in known else preset or ""), rest
        if not (name and equals and file):
            raise ConfigError("PRESET=FILE or NAME=PRESET:FILE", repr(text), "Such as iste_light=model.pt.")
        if not given:
            raise ConfigError(f"a preset ({', '.join(known)})", repr(text), "Name it: NAME=PRESET:FILE.")
        return cls(name, given, file)


def load(spec: WeightsSpec, device: str) -> Contender:
    """Load a network with its weights.

    Raises:
        ConfigError: unknown preset, or one without released weights.
        CheckpointError: the file is missing, damaged, or belongs to another network.
    """
    file = require_weights(spec.preset) if spec.file == RELEASED else Path(spec.file)
    network = load_network(spec.preset, file, device)  # before the checksum: it refuses a missing file in a sentence
    return Contender(network, checksum(file), file.name, spec.preset)


def load_liif(file: Path, device: str) -> Contender:
    """Load LIIF with its authors' weights."""
    return Contender(published_liif(file, device), checksum(file), file.name, "liif, EDSR-baseline encoder")


def contenders(weights: Sequence[str], preset: str, liif: Path | None, device: str) -> dict[str, Contender]:
    """Load what a table compares, by its name there: bicubic, LIIF if a file is given, and the weights.

    Args:
        weights: entries as :class:`WeightsSpec`.
        preset: network of entries that name none.
    Raises:
        ConfigError: two entries have the same name, or none is given.
    """
    found = {BICUBIC: Contender(Bicubic())}
    if liif is not None:
        found[PEER] = load_liif(liif, device)
    for spec in (WeightsSpec.parse(text, preset) for text in weights):
        if spec.name in found:
            raise ConfigError("weights with different names", f"{spec.name!r} twice", "Name them: NAME=FILE.")
        found[spec.name] = load(spec, device)
    if not weights:
        raise ConfigError("weights to measure", "none", "Give --weights released, or files.")
    return found


def add_told(found: dict[str, Contender], names: Sequence[str]) -> dict[str, Contender]:
    """Add contenders that are told the blur of every input, as ``NAME-told``.

    Raises:
        ConfigError: no contender of that name, or its network cannot be told.
    """
    told = {}
    for name in names:
        check_choice("a name of --weights for --told", name, found)
        check_input_blur(0.0, takes_input_blur(found[name].network))
        told[f"{name}-told"] = found[name]._replace(told=True)
    return {**found, **told}
