"""Draw ``comparison.png``, the README's picture: ``python docs/images/comparison.py``.

The image is scikit-image's immunohistochemistry sample, which no training of the released weights has seen. It is
reduced under the protocol ``iste-rgb`` and super-resolved by ``iste_light2``. PSNR is that of the part shown.
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from skimage.data import immunohistochemistry

import monai_iste
from monai_iste.metrics import get_protocol
from monai_iste.visualize import contact_sheet, to_picture

PICTURE = Path(__file__).with_suffix(".png")
SCALES = (2.5, 4.0)
CORNER, WINDOW, ZOOM = (280, 220), 168, 2  # the part that is shown, in pixels of the sample; how large each is drawn


def panels(scale: float) -> dict[str, Image.Image]:
    """Return one row: the reduced image, bicubic, ISTE and the original, each under its caption."""
    protocol, sample = get_protocol("iste-rgb"), immunohistochemistry().transpose(2, 0, 1)
    item = dict(protocol.preprocessing(crop=512)({"image": sample, "scale": scale}))
    pred = monai_iste.upscale(item["image"], size=tuple(item["label"].shape[1:]), model="iste_light2")
    scored = {**item, **dict(protocol.postprocessing()({**item, "pred": pred}))}
    top, left = (
        at - (full - kept) // 2
        for at, full, kept in zip(CORNER, sample.shape[1:], scored["label"].shape[1:], strict=True)
    )
    part = {k: scored[k][:, top : top + WINDOW, left : left + WINDOW] for k in ("bicubic", "pred", "label")}
    psnr = {k: float(-10 * torch.log10((part[k] - part["label"]).square().mean())) for k in ("bicubic", "pred")}
    border = (item["label"].shape[1] - scored["label"].shape[1]) // 2  # what the protocol cuts off
    box = [round((v + border) / scale) for v in (top, left, top + WINDOW, left + WINDOW)]
    shown = {
        f"input, 1/{scale:g} size": item["image"][:, box[0] : box[2], box[1] : box[3]],
        f"bicubic, {psnr['bicubic']:.1f} dB": part["bicubic"],
        f"iste_light2, {psnr['pred']:.1f} dB": part["pred"],
        "original": part["label"],
    }
    side = (WINDOW * ZOOM, WINDOW * ZOOM)
    return {name: to_picture(image).resize(side, Image.Resampling.NEAREST) for name, image in shown.items()}


def drawing() -> Image.Image:
    """Return the picture, one row of panels for each scale."""
    return contact_sheet([panels(scale) for scale in SCALES])


if __name__ == "__main__":
    drawing().save(PICTURE, optimize=True)
