"""Command ``monai-iste compare``: an image beside its upscaled versions, with or without ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monai_iste import DEFAULT_PRESET
from monai_iste.cli.options import (
    DeviceOption,
    InputBlurOption,
    OverwriteOption,
    PrecisionOption,
    PresetOption,
    ThreadsOption,
    UntrainedOption,
    WeightsOption,
    network_of,
    sentences,
)

if TYPE_CHECKING:
    from PIL import Image
    from torch import nn


def with_truth(source: Path, scale: float, network: nn.Module) -> Image.Image:
    """Draw input, bicubic, ISTE, truth and errors of an image that is first reduced under the protocol iste-rgb."""
    import torch

    from monai_iste.functional import upscale_bands
    from monai_iste.metrics import get_protocol
    from monai_iste.visualize import comparison

    protocol = get_protocol("iste-rgb")
    item = dict(protocol.preprocessing(crop=1024)({"image": str(source), "scale": scale}))
    height, width = item["label"].shape[1:]
    pred = torch.cat(list(upscale_bands(item["image"], network, (height, width))), dim=1)
    return comparison([{**item, **dict(protocol.postprocessing()({**item, "pred": pred}))}])


def without_truth(source: Path, scale: float, network: nn.Module, side: int = 320) -> Image.Image:
    """Draw input, bicubic and ISTE in the window of at most side x side output pixels with the highest variance."""
    import torch
    from PIL import Image

    from monai_iste.functional import to_array, upscale_bands
    from monai_iste.inferers import Region
    from monai_iste.inferers.output_size import OutputSize
    from monai_iste.io.image_reader import read_rgb
    from monai_iste.io.image_writer import MAX_FILE_PIXELS
    from monai_iste.visualize import contact_sheet

    image = torch.tensor(read_rgb(source))
    size = (image.shape[1], image.shape[2])
    output = OutputSize(scale).resolve_upscaled(size, limit=MAX_FILE_PIXELS)
    height, width = min(side, output[0]), min(side, output[1])
    h, w = (min(n, max(1, round(m / scale))) for n, m in zip(size, (height, width), strict=True))
    starts = ((y, x) for y in range(0, size[0] - h + 1, h) for x in range(0, size[1] - w + 1, w))
    y, x = max(starts, key=lambda at: float(image[:, at[0] : at[0] + h, at[1] : at[1] + w].float().var()))
    top = min(round(y * output[0] / size[0]), output[0] - height)
    left = min(round(x * output[1] / size[1]), output[1] - width)
    bands = upscale_bands(image, network, output, Region(top, left, height, width))
    iste = to_array(torch.cat(list(bands), dim=1))
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    ry, rx = size[0] / output[0], size[1] / output[1]
    box = (left * rx, top * ry, (left + width) * rx, (top + height) * ry)
    panels = {
        f"input x{scale:g}": picture.resize((width, height), Image.Resampling.NEAREST, box),
        "bicubic": picture.resize((width, height), Image.Resampling.BICUBIC, box),
        "ISTE": Image.fromarray(iste),
    }
    return contact_sheet([panels])


# --- compare ----------------------------------------------------------------------------------------------------------


def compare(
    source: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image.")],
    scale: Annotated[float, typer.Option("--scale", help="Magnification.")] = 4.0,
    target: Annotated[Path, typer.Option("-o", "--output", help="The picture, .png, .tif or .jpg.")] = Path(
        "comparison.png"
    ),
    degrade: Annotated[
        bool, typer.Option("--degrade", help="Reduce the image first (protocol iste-rgb), to show truth and errors.")
    ] = False,
    input_blur: InputBlurOption = None,
    preset: PresetOption = DEFAULT_PRESET,
    weights: WeightsOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = "fp32",
    threads: ThreadsOption = None,
    overwrite: OverwriteOption = False,
    allow_untrained: UntrainedOption = False,
) -> None:
    """Draw bicubic and ISTE side by side, where the image has most detail."""
    import numpy as np

    from monai_iste.inferers.output_size import OutputSize
    from monai_iste.io.files import check_apart
    from monai_iste.io.image_reader import image_size
    from monai_iste.io.image_writer import MAX_FILE_PIXELS, check_output, save_image

    with sentences():
        OutputSize(scale).resolve_upscaled(image_size(source), limit=MAX_FILE_PIXELS)  # raises before any work
        check_apart(source, target)
        check_output(target, (1, 1), overwrite)
        network, _ = network_of(preset, weights, device, precision, threads, allow_untrained, input_blur)
        picture = with_truth(source, scale, network) if degrade else without_truth(source, scale, network)
        save_image(target, [np.asarray(picture)], (picture.height, picture.width), overwrite=overwrite)
        typer.echo(f"wrote {target}")
