"""Command ``python -m experiments figure``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from torch import nn

from experiments.datasets import read_instances
from experiments.downstream import Reconstructor
from experiments.figures.decoders import draw_decoders
from experiments.figures.error_maps import draw_error_maps
from experiments.figures.inputs import parse_crop
from experiments.figures.retrieval import draw_retrieval
from experiments.figures.segmentations import draw_segmentations
from experiments.figures.style import PAGE, check_figure_file, save_figure
from experiments.figures.texture_features import draw_texture_features
from experiments.figures.zoom_strip import draw_zoom_strip
from experiments.methods import title_of
from monai_iste.errors import ConfigError, require_extra
from monai_iste.networks.presets import DEFAULT_PRESET
from monai_iste.networks.runtime import default_device

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure(
    number: Annotated[
        int,
        typer.Argument(
            help="5 error maps; 6 non-integer scales; 7 features before and after the Texture Learner; "
            "8 retrieval by Self-Texture Fusion; 9 images of the two decoders; 10 segmentations."
        ),
    ],
    image: Annotated[Path, typer.Option("--image", help="Tile to use.")],
    out: Annotated[
        Optional[Path], typer.Option("--out", help="Output file, .png or .pdf; default: figure<NUMBER>.png.")
    ] = None,
    preset: Annotated[str, typer.Option("--preset", help="Preset of the ISTE network.")] = DEFAULT_PRESET,
    weights: Annotated[
        Optional[Path], typer.Option("--weights", help="File of its weights; default: the released ones.")
    ] = None,
    bicubic_residual: Annotated[
        Optional[bool],
        typer.Option(help="Whether the networks add bicubic interpolation; default: the preset's setting."),
    ] = None,
    method: Annotated[
        Optional[list[str]],
        typer.Option("--method", metavar="NAME[=WEIGHTS]", help="5, 10: another method; repeatable."),
    ] = None,
    masks: Annotated[
        Optional[list[str]],
        typer.Option(
            "--masks",
            metavar="NAME=FILE",
            help="10: a label map; repeatable. A map named after a method, such as ISTE, is drawn on its result.",
        ),
    ] = None,
    scale: Annotated[float, typer.Option("--scale", help="Scale factor (6 has its own).")] = 4.0,
    protocol: Annotated[str, typer.Option("--protocol", help="Protocol of reduction and comparison.")] = "iste-rgb",
    crop: Annotated[
        Optional[str], typer.Option("--crop", metavar="TOP,LEFT,SIZE", help="Square to show, in the tile's pixels.")
    ] = None,
    mpp: Annotated[
        Optional[float],
        typer.Option("--mpp", help="6: micrometers per pixel of the tile, for the scale bar; default: pixels."),
    ] = None,
    reduce: Annotated[
        float, typer.Option("--reduce", help="6: factor to reduce the tile by first; 1 for no reduction.")
    ] = 1.0,
    channels: Annotated[int, typer.Option("--channels", help="7: number of single channels.")] = 3,
    arrows: Annotated[int, typer.Option("--arrows", help="8: number of arrows.")] = 6,
    seed: Annotated[int, typer.Option("--seed", min=0, help="8: seed of the choice of pixels.")] = 0,
    width: Annotated[float, typer.Option("--width", help="Width in inches: 3.5 for one column, 7 for a page.")] = PAGE,
    device: Annotated[Optional[str], typer.Option("--device", help="cpu or cuda; default: the GPU if any.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Draw one of the paper's figures from a tile and real weights, as PNG (300 dpi) or PDF.

    Figures are reproducible: the same tile, weights and options give the same file.
    """
    if not 5 <= number <= 10:
        raise ConfigError("a figure from 5 to 10", str(number), "Those of the paper that show results.")
    require_extra("matplotlib", "experiments")  # before the work
    out = Path(f"figure{number}.png") if out is None else out
    check_figure_file(out, overwrite)
    view, device = parse_crop(crop), device or default_device()
    labels = {name: read_instances(file) for name, file in _pairs("--masks", masks or [])} if number == 10 else {}
    others = (method or []) if number in (5, 10) else []
    main = preset if weights is None else f"{preset}={weights}"
    methods = load_methods([main, *others], scale, device, bicubic_residual)
    name, network = next(iter(methods.items()))
    methods[name] = methods.pop(name)  # ISTE comes last
    drawn: Figure
    if number == 5:
        drawn = draw_error_maps(image, methods, scale, protocol, view, width)
    elif number == 6:
        drawn = draw_zoom_strip(image, network, crop=view, mpp=mpp, reduce=reduce, name=name, width=width)
    elif number == 7:
        drawn = draw_texture_features(image, network, scale, channels, view, protocol, name, width)
    elif number == 8:
        drawn = draw_retrieval(image, network, scale, arrows, seed, view, protocol, width)
    elif number == 9:
        drawn = draw_decoders(image, network, scale, view, protocol, name, width)
    else:
        drawn = draw_segmentations(image, labels, methods, scale, view, protocol, width)
    save_figure(drawn, out, overwrite)
    typer.echo(f"wrote {out}")


def load_methods(
    methods: Sequence[str],
    scale: float,
    device: str = "cpu",
    bicubic_residual: bool | None = None,
) -> dict[str, nn.Module]:
    """Load networks in evaluation mode, by the names to print.

    Args:
        methods: ``NAME`` for released weights, ``NAME=WEIGHTS`` for a file; NAME is any preset.
        scale: scale of networks with one built-in scale.
        device: device of the networks.
        bicubic_residual: whether they add bicubic interpolation; None for each preset's setting.
    Raises:
        ConfigError: there is no such preset, or it has no released weights.
        CheckpointError: the weights do not fit.
        ScaleError: a network of one scale cannot be built for this one.

    Example:
        >>> list(load_methods(["bicubic", "iste_light"], 4))
        ['Bicubic', 'ISTE']
    """
    networks: dict[str, nn.Module] = {}
    for text in methods:
        preset, _, file = text.partition("=")
        network = Reconstructor(preset, file or None, scale, device, bicubic_residual).network
        names = (title_of(preset), preset, text)  # a second network of a method is named by its preset
        networks[next((name for name in names if name not in networks), text)] = network
    return networks


def _pairs(option: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    pairs = [text.partition("=") for text in texts]
    for text, (name, _, value) in zip(texts, pairs, strict=True):
        if not name or not value:
            raise ConfigError(f"{option} NAME=FILE", repr(text), "Give both.")
    return [(name, value) for name, _, value in pairs]
