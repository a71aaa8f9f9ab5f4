"""A file beside its magnifications: with the truth where the image is reduced first, without where it is not."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import nn

from monai_iste.data.io import read_rgb
from monai_iste.images import MAX_FILE_PIXELS
from monai_iste.inferers import Region
from monai_iste.magnify import magnified_bands, magnified_size, to_range
from monai_iste.metrics import get_protocol
from monai_iste.transforms.loading import plain_tensor
from monai_iste.visualise import comparison, contact_sheet

__all__ = ["with_truth", "without_truth"]


def with_truth(source: Path, scale: float, network: nn.Module) -> Image.Image:
    """Input, bicubic, ISTE, truth and errors of an image that is first reduced under the protocol iste-rgb."""
    protocol = get_protocol("iste-rgb")
    item = dict(protocol.preprocessing(crop=1024)({"image": str(source), "scale": scale}))
    height, width = item["label"].shape[1:]
    pred = torch.cat(list(magnified_bands(item["image"], network, (height, width))), dim=1)
    return comparison([{**item, **dict(protocol.postprocessing()({**item, "pred": pred}))}])


def without_truth(source: Path, scale: float, network: nn.Module, side: int = 320) -> Image.Image:
    """Input, bicubic and ISTE, of the window of at most side x side output pixels that varies most."""
    image = plain_tensor(read_rgb(source))
    size = (image.shape[1], image.shape[2])
    output = magnified_size(size, scale, limit=MAX_FILE_PIXELS)
    height, width = min(side, output[0]), min(side, output[1])
    h, w = (min(n, max(1, round(m / scale))) for n, m in zip(size, (height, width), strict=True))
    starts = ((y, x) for y in range(0, size[0] - h + 1, h) for x in range(0, size[1] - w + 1, w))
    y, x = max(starts, key=lambda at: float(image[:, at[0] : at[0] + h, at[1] : at[1] + w].float().var()))
    top = min(round(y * output[0] / size[0]), output[0] - height)
    left = min(round(x * output[1] / size[1]), output[1] - width)
    bands = magnified_bands(image, network, output, Region(top, left, height, width))
    iste = to_range(torch.cat(list(bands), dim=1), torch.uint8).permute(1, 2, 0).numpy()
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    ry, rx = size[0] / output[0], size[1] / output[1]
    box = (left * rx, top * ry, (left + width) * rx, (top + height) * ry)
    panels = {
        f"input x{scale:g}": picture.resize((width, height), Image.Resampling.NEAREST, box),
        "bicubic": picture.resize((width, height), Image.Resampling.BICUBIC, box),
        "ISTE": Image.fromarray(iste),
    }
    return contact_sheet([panels])
