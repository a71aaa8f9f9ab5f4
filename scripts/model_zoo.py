"""Packages for the BioImage Model Zoo: the released weights as TorchScript of one fixed factor.

Everything in a package comes from the preset, its weights file, its model card and ``CITATION.cff``. A package is
written only if ``bioimageio.core``'s own test of it passes. Needs the extra ``bioimageio``, and a clone.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

import monai_iste
from monai_iste.errors import ConfigError, DataError, require_extra
from monai_iste.io.files import check_new_path, checksum, make_folder, open_output
from monai_iste.networks import ISTE, load_network
from monai_iste.networks.presets import DEFAULT_PRESET, require_weights
from scripts.drawn_tissue import drawn_tissue
from scripts.fixed_factor import FixedFactor, Tiling, as_batch, tile_difference, tiling_of
from scripts.model_card import Card

FACTORS = (2, 4)

_TEST_SIZE = (64, 80)
_COVER_SIDE = 96  # low-resolution pixels of the cover's drawing
_CODE = Path(monai_iste.__file__).parent.parent


def write_packages(folder: Path, preset: str = DEFAULT_PRESET, factors: Sequence[int] = FACTORS) -> list[Path]:
    """Write ``<preset>_x<factor>.zip`` for each factor, after ``bioimageio.core`` has tested it.

    Args:
        folder: created if missing; the files must not be there yet.
        preset: preset with released weights and a model card.
    Raises:
        ConfigError: the extra is missing, or no weights are released for this preset.
        DataError: the model card lacks what a package needs, or the test of a package fails.
        OutputError: a file is there already or cannot be written.
    """
    tester = require_extra("bioimageio.core", "bioimageio")
    spec = require_extra("bioimageio.spec", "bioimageio")
    network, card = load_network(preset), Card.read(preset)
    if not isinstance(network, ISTE):
        raise ConfigError("a preset of ISTE", preset, "Choose one of those with released weights.")
    tiling = tiling_of(network)
    targets = [folder / f"{preset}_x{factor}.zip" for factor in factors]
    for target in targets:
        check_new_path(target)
    make_folder(folder)
    for target, factor in zip(targets, factors, strict=True):
        with tempfile.TemporaryDirectory() as name:
            described = _describe(Path(name), network, preset, factor, tiling, card)
            package = spec.save_bioimageio_package(described, output_path=Path(name) / target.name)
            summary = tester.test_model(package)
            if summary.status != "passed":
                raise DataError(f"a package that passes {tester.__name__}", summary.status, summary.format()[-2000:])
            with open_output(target) as file:
                file.write(Path(package).read_bytes())
    return targets


def _describe(folder: Path, network: ISTE, preset: str, factor: int, tiling: Tiling, card: Card) -> Any:
    """Write the files of a package and return its description, of the newest format 0.5."""
    from bioimageio.spec.model import v0_5 as v

    program = FixedFactor(network, factor).eval()
    torch.jit.save(torch.jit.freeze(torch.jit.script(program)), folder / "weights.pt")
    tile = drawn_tissue(*_TEST_SIZE)
    np.save(folder / "test_input.npy", as_batch(tile).numpy())
    np.save(folder / "test_output.npy", program(as_batch(tile)).byte().numpy())  # by Python: the test compares with it
    (folder / "README.md").write_text(
        _readme(preset, factor, tiling, tile_difference(network, factor, tiling), card), encoding="utf-8"
    )
    _draw_cover(folder / "cover.png", program, factor)
    citation = yaml.safe_load((_CODE / "CITATION.cff").read_text(encoding="utf-8"))
    paper = citation["preferred-citation"]

    def file(name: str) -> Any:
        return v.FileDescr(source=folder / name)

    def axis(name: str, of_output: bool) -> Any:
        if not of_output:
            return v.SpaceInputAxis(
                id=v.AxisId(name), size=v.ParameterizedSize(min=tiling.smallest, step=tiling.step), concatenable=True
            )
        return v.SpaceOutputAxisWithHalo(
            id=v.AxisId(name),
            size=v.SizeReference(tensor_id=v.TensorId("image"), axis_id=v.AxisId(name)),
            scale=1 / factor,
            halo=factor * tiling.halo,
        )

    def axes(of_output: bool) -> list[Any]:
        channels = v.ChannelAxis(channel_names=[v.Identifier(name) for name in ("red", "green", "blue")])
        return [v.BatchAxis(), channels, axis("y", of_output), axis("x", of_output)]

    colors = v.IntervalOrRatioDataDescr(type="uint8", range=(0, 255))

    def as_type(name: Any) -> Any:
        return v.EnsureDtypeDescr(kwargs=v.EnsureDtypeKwargs(dtype=name))

    return v.ModelDescr(
        name=f"ISTE super-resolution of H and E histopathology x{factor} ({preset})",
        description=f"Upscales H&E images by {factor}. Not for diagnosis: new pixels are inferred.",
        version=v.Version(monai_iste.__version__),
        authors=[v.Author(name=author["name"]) for author in citation["authors"]],
        cite=[
            v.CiteEntry(text=f"{paper['title']}. {paper['journal']} ({paper['year']})", doi=v.Doi(paper["doi"])),
            *(v.CiteEntry(text=text, doi=v.Doi(doi)) for text, doi in card.cited if doi != paper["doi"]),
        ],
        license=v.LicenseId(card.license),
        documentation=file("README.md"),
        covers=[file("cover.png")],
        tags=["super-resolution", "histopathology", "h-and-e", "rgb", "2d", "pytorch", "deepimagej"],
        inputs=[
            v.InputTensorDescr(
                id=v.TensorId("image"),
                description="H&E tile, 8-bit RGB",
                axes=axes(False),
                data=colors,
                preprocessing=[as_type("float32")],
                test_tensor=file("test_input.npy"),
            )
        ],
        outputs=[
            v.OutputTensorDescr(
                id=v.TensorId("upscaled"),
                description=f"the same area with {factor} times as many pixels along each axis",
                axes=axes(True),
                data=colors,
                postprocessing=[as_type("uint8")],
                test_tensor=file("test_output.npy"),
            )
        ],
        weights=v.WeightsDescr(
            torchscript=v.TorchscriptWeightsDescr(
                source=folder / "weights.pt", pytorch_version=v.Version(torch.__version__.partition("+")[0])
            )
        ),
        config=v.Config(
            bioimageio=v.BioimageioConfig(
                reproducibility_tolerance=[v.ReproducibilityTolerance(absolute_tolerance=1.0)]  # one 8-bit level
            ),
            monai_iste={"preset": preset, "weights": f"sha256 {checksum(require_weights(preset))}"},
        ),
    )


def _readme(preset: str, factor: int, tiling: Tiling, difference: float, card: Card) -> str:
    body = re.sub(r"^#", "##", card.text, flags=re.M)
    return f"""# ISTE: H&E histopathology x{factor}

Upscales H&E tiles by {factor}, as `monai_iste.upscale(tile, {factor}, model="{preset}")` does.

{card.terms}

**Not for diagnosis.** New pixels are inferred, not measured.

## Use

- **Input**: 8-bit RGB, three channels from 0 to 255, no normalization. Height and width are {tiling.smallest},
  {tiling.smallest + tiling.step}, {tiling.smallest + 2 * tiling.step}, ... pixels.
- **Output**: 8-bit RGB, {factor} times as high and wide.
- **Tiles**: the halo is {tiling.halo} pixels of the input ({factor * tiling.halo} of the output). It holds the
  receptive field, {tiling.reach} pixels. Textures are retrieved within one tile, so that tiles differ
  slightly from the image in one piece: on a drawn test image by {difference:.2f} of 255 levels on average.
- **Pixel size**: divide it by {factor}; most programs leave it as it was.

## What it cannot do

- Another factor than {factor}. The network itself takes any: use monai_iste.
- Seamless slides: monai_iste blends overlapping windows, a program that cuts tiles does not.
- Warn of images unlike those that it was trained on.

## Validation

Numbers of these weights, from their model card:

{body}"""


def _draw_cover(path: Path, program: FixedFactor, factor: int) -> None:
    """Draw the cover: the same area twice, its own pixels on the left, upscaled on the right."""
    tile = drawn_tissue(_COVER_SIDE, _COVER_SIDE, seed=1)
    upscaled = program(as_batch(tile))[0].byte().permute(1, 2, 0).numpy()
    side = 4 * _COVER_SIDE
    cover = Image.new("RGB", (2 * side, side))
    for left, pixels in ((0, tile), (side, upscaled)):
        cover.paste(Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST), (left, 0))
    cover.save(path, optimize=True)
