"""Packages for the BioImage Model Zoo: the released weights as TorchScript of one fixed factor.

Everything in a package comes from the preset, its weights file, its model card and ``CITATION.cff``. A package is
written only if ``bioimageio.core``'s own test of it passes. Needs the extra ``bioimageio``, and a clone.
"""

from __future__ import annotations

import copy
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from PIL import Image
from skimage.draw import ellipse
from skimage.filters import gaussian
from torch import Tensor, nn

import monai_iste
from monai_iste.errors import ConfigError, DataError, require_extra
from monai_iste.io.files import check_new_path, checksum, make_folder, open_output
from monai_iste.networks import ISTE, PRESETS, load_network
from monai_iste.networks.presets import DEFAULT_PRESET, require_weights

FACTORS = (2, 4)

#: Sizes of tiles are multiples of it: the period of the key lattice.
_STEP = 8
_SIDE = 129  # of the image in which the receptive field is looked for
_TEST_SIZE = (64, 80)
_COVER_SIDE = 96  # low-resolution pixels of the cover's drawing
_CODE = Path(monai_iste.__file__).parent.parent


class FixedFactor(nn.Module):
    """Network of one factor from 8-bit numbers to 8-bit numbers, as programs hold images.

    It can be compiled by TorchScript.

    Args:
        network: in evaluation mode.
        factor: magnification.
    Shape:
        image: (B, 3, h, w), of any type; returns (B, 3, factor * h, factor * w), float32
    Units: 0 to 255; the result in whole numbers.

    Example:
        >>> from monai_iste.networks import EDSREncoder
        >>> network = ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8).eval()
        >>> FixedFactor(network, 2)(torch.zeros(1, 3, 5, 7)).shape
        torch.Size([1, 3, 10, 14])
    """

    def __init__(self, network: nn.Module, factor: int) -> None:
        super().__init__()
        self.network = network
        self.factor = float(factor)

    def forward(self, image: Tensor) -> Tensor:
        with torch.no_grad():  # memory stays flat, whatever the program that runs it
            return (self.network(image.float() / 255, scale=self.factor).clamp(0, 1) * 255).round()


def receptive_field(network: ISTE) -> int:
    """Measure how many pixels beyond its own an output pixel depends on, by its gradient.

    The retrieval of textures is left out: it looks at the whole tile.

    Raises:
        ConfigError: it reaches further than 64 pixels, as attention in windows does.

    Example:
        >>> from monai_iste.networks import EDSREncoder
        >>> receptive_field(ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8))
        6
    """
    local = copy.deepcopy(network).eval()
    local.self_texture_fusion = None
    image = torch.rand(1, 3, _SIDE, _SIDE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    offsets = torch.tensor([-0.5, 0.5]) / _SIDE
    coord = torch.cartesian_prod(offsets, offsets).unsqueeze(0)  # four points of the pixel in the middle
    local(image, coord=coord, cell=torch.ones(1, 2)).sum().backward()
    assert image.grad is not None
    touched = image.grad.abs().sum((0, 1)).nonzero()
    reach = int((touched - _SIDE // 2).abs().max())
    if reach >= _SIDE // 2:
        raise ConfigError(f"a network that sees less than {_SIDE // 2} pixels around", "more", "Choose a light preset.")
    return reach


class Tiling(NamedTuple):
    """Sizes of the tiles of a package, in pixels of the input.

    Attributes:
        reach: receptive field beyond a pixel, see :func:`receptive_field`.
        halo: cut away on each side after upscaling.
        smallest: smallest height and width; larger ones differ from it by a multiple of ``step``.
        step: see ``smallest``.
    """

    reach: int
    halo: int
    smallest: int
    step: int


def tiling_of(network: ISTE) -> Tiling:
    """Return the tiling whose halo holds the receptive field, and whose tiles begin on the lattice of the keys."""
    reach = receptive_field(network)
    halo = -(-reach // _STEP) * _STEP
    return Tiling(reach, halo, 2 * (halo + _STEP), _STEP)


def drawn_tissue(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Draw tissue-like pixels: (height, width, 3) uint8, pink ground with fibers, violet nuclei with chromatin.

    It is drawn, not photographed, so that a package holds pixels of no patient. The drawing is four times as large and
    then reduced, as a scanner does.

    Example:
        >>> drawn_tissue(20, 30).shape
        (20, 30, 3)
    """
    random = np.random.default_rng(seed)
    zoom = 4
    size = (zoom * height, zoom * width)
    fibers = gaussian(random.normal(size=size), (2, 14)) * 0.9 + gaussian(random.normal(size=size), (12, 3)) * 0.6
    ground = np.array([0.90, 0.70, 0.82]) + fibers[..., None] * np.array([0.8, 1.4, 1.0])
    chromatin = gaussian(random.normal(size=size), 2.2) * 2.2
    for _ in range(height * width // 110):
        y, x = random.uniform(0, size[0]), random.uniform(0, size[1])
        long, short = random.uniform(13, 22), random.uniform(9, 14)
        rows, columns = ellipse(y, x, long, short, size, random.uniform(0, np.pi))
        shade = 1 + chromatin[rows, columns]
        ground[rows, columns] = np.array([0.42, 0.29, 0.58]) * shade[:, None]
    pixels = (gaussian(ground, 1.2, channel_axis=-1).clip(0, 1) * 255).round().astype(np.uint8)
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def tile_difference(network: ISTE, factor: int, tiling: Tiling) -> float:
    """Compute the mean difference, in 8-bit levels, between an image in tiles without halos and the same in one piece.

    Halos hide what the convolutions see beyond a tile. What remains is the retrieval, which sees one tile at a time.
    """
    program, inner = FixedFactor(network, factor), tiling.smallest - 2 * tiling.halo + tiling.step
    side = inner + 2 * tiling.halo
    image = _as_batch(drawn_tissue(side + inner, side + inner))
    whole, differences = program(image), []
    for top in (0, inner):
        for left in (0, inner):
            tile = program(image[:, :, top : top + side, left : left + side])
            kept = slice(tiling.halo * factor, (side - tiling.halo) * factor)
            there = whole[:, :, top * factor : (top + side) * factor, left * factor : (left + side) * factor]
            differences.append(float((tile - there)[:, :, kept, kept].abs().mean()))
    return sum(differences) / len(differences)


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


class Card(NamedTuple):
    """Model card of released weights, and what a package takes from it.

    Attributes:
        text: the card without links, which would lead nowhere in a package.
        terms: its paragraph of terms.
        license: SPDX identifier.
        cited: (text, DOI) of each work that the terms ask to cite.
    """

    text: str
    terms: str
    license: str
    cited: list[tuple[str, str]]

    @classmethod
    def read(cls, preset: str, models: Path = _CODE / "bundles" / "iste" / "models") -> Card:
        """Read the card of a preset's released weights.

        Raises:
            DataError: there is none, it is of other weights, or license or DOIs are missing.
        """
        path, digest = models / f"{preset}.md", checksum(require_weights(preset))
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if digest not in text:
            raise DataError(f"a model card {path.name} that names the SHA-256 of the weights", digest, "Write it.")
        terms = re.search(r"\*\*Terms\.\*\*.*?(?=\n\n)", text, re.S)
        found = " ".join(terms[0].split()) if terms else ""
        stated = re.search(r"Apache-2\.0|CC BY(?:-[A-Z]{2})* \d\.\d", found)
        works = r"((?:(?!Cite )[A-Z][\w-]* )+(?:et al\. )?\d{4}) \((?:([^()]*?), )?doi (10\.[^\s()]+?)\)"
        cited = re.findall(works, found)
        if stated is None or stated[0] not in PRESETS[preset].terms or not cited:
            raise DataError(
                f"a paragraph **Terms.** in {path.name} with the preset's license and what to cite, with each doi",
                found[:200] or "none",
                "Complete it.",
            )
        return cls(
            _without_links(text),
            found,
            stated[0].replace(" ", "-"),
            [(f"{work} ({part})" if part else work, doi) for work, part, doi in cited],
        )


def _without_links(text: str) -> str:
    """Return Markdown without pictures, and with links replaced by their words."""
    return re.sub(r"\[([^\[\]]*)\]\([^()]*\)", r"\1", re.sub(r"!\[[^\[\]]*\]\([^()]*\)\n?", "", text))


def _describe(folder: Path, network: ISTE, preset: str, factor: int, tiling: Tiling, card: Card) -> Any:
    """Write the files of a package and return its description, of the newest format 0.5."""
    from bioimageio.spec.model import v0_5 as v

    program = FixedFactor(network, factor).eval()
    torch.jit.save(torch.jit.freeze(torch.jit.script(program)), folder / "weights.pt")
    tile = drawn_tissue(*_TEST_SIZE)
    np.save(folder / "test_input.npy", _as_batch(tile).numpy())
    np.save(folder / "test_output.npy", program(_as_batch(tile)).byte().numpy())  # by Python: the test compares with it
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
        description=f"Upscales H&E images by {factor}. Research only, not for diagnosis: new pixels are inferred.",
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
    upscaled = program(_as_batch(tile))[0].byte().permute(1, 2, 0).numpy()
    side = 4 * _COVER_SIDE
    cover = Image.new("RGB", (2 * side, side))
    for left, pixels in ((0, tile), (side, upscaled)):
        cover.paste(Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST), (left, 0))
    cover.save(path, optimize=True)


def _as_batch(pixels: np.ndarray) -> Tensor:
    """Return (h, w, 3) pixels as (1, 3, h, w)."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]))
