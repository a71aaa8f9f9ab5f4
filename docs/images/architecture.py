"""Draw ``architecture.svg``, the boxes of ISTE: ``python docs/images/architecture.py``.

Widths and numbers of parameters are those of the preset ``iste``. The two tiles are a part of scikit-image's
immunohistochemistry sample, reduced as training pairs are, and the same part super-resolved by the released weights.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch import nn

import monai_iste
from monai_iste.data import sample_datalists
from monai_iste.networks import create_iste
from monai_iste.transforms import degrade

PICTURE = Path(__file__).with_suffix(".svg")
SIZE = (1480, 550)
SCALE, SIDE, CORNER = 4, 32, (40, 152)  # of the tiles: scale, low-resolution side, place in the sample
PIXELS_ROW, TEXTURE_ROW, MIDDLE = 165, 395, 280
LEFT, FIRST, SECOND, THIRD, SUM, RIGHT = 215, 490, 775, 1060, 1262, 1356
HALF = 93  # of a box's width

STYLE = """
text { font-family: Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif; fill: #1f2937; font-size: 13px }
.title { font-weight: bold; font-size: 14px } .small { font-size: 11px; fill: #4b5563 }
.file { font-family: Menlo, Consolas, 'DejaVu Sans Mono', monospace; font-size: 10px; fill: #64748b }
.symbol { font-style: italic; font-size: 15px } .stage { font-weight: bold; font-size: 12px }
.box { stroke-width: 1.5; rx: 9px } .band { rx: 16px; stroke-width: 1.2; stroke-dasharray: 5 4 }
.flow { fill: none; stroke: #475569; stroke-width: 1.7 } .chip { fill: #fff; stroke: #94a3b8; rx: 13px }
"""
GRAY, BLUE, GREEN, AMBER, VIOLET = (
    ("#f1f5f9", "#64748b"),
    ("#e6effc", "#3b74c4"),
    ("#e4f5ec", "#2e8b60"),
    ("#fff4dc", "#c98a16"),
    ("#f1eafc", "#7c58c0"),
)


class Box(NamedTuple):
    """Box of a module: its center, text and colors."""

    x: int
    y: int
    title: str
    lines: tuple[str, ...]
    module: nn.Module
    file: str
    colors: tuple[str, str]
    width: int = 2 * HALF

    def svg(self) -> str:
        left, top, height = self.x - self.width // 2, self.y - 52, 104
        fill, stroke = self.colors
        place = f'x="{left}" y="{top}" width="{self.width}" height="{height}"'
        rows = [f'<rect class="box" {place} {_paint(fill, stroke)}/>']
        rows.append(_text(self.x, top + 22, self.title, "title"))
        rows += [_text(self.x, top + 42 + 16 * i, line, "small") for i, line in enumerate(self.lines)]
        rows.append(_text(self.x, top + height - 11, _millions(self.module), "small"))
        rows.append(_text(self.x, top + height + 15, self.file, "file"))
        return "\n".join(rows)


def _paint(fill: str, stroke: str) -> str:
    return f'fill="{fill}" stroke="{stroke}"'


def _text(x: int, y: int, words: str, style: str = "", anchor: str = "middle") -> str:
    return f'<text x="{x}" y="{y}" class="{style}" text-anchor="{anchor}">{words}</text>'


def _symbol(letter: str, index: str) -> str:
    return f'{letter}<tspan dy="4" font-size="10">{index}</tspan>'


def _tensor(x: int, y: int, symbol: str, shape: str, anchor: str = "middle") -> str:
    """Draw a tensor's label beside its arrow: the paper's symbol above the shape."""
    return _text(x, y, symbol, "symbol", anchor) + "\n" + _text(x, y + 19, shape, "small", anchor)


def _arrow(*points: tuple[int, int]) -> str:
    path = " L ".join(f"{x} {y}" for x, y in points)
    return f'<path class="flow" d="M {path}" marker-end="url(#tip)"/>'


def _chip(x: int, y: int) -> str:
    """Draw the query, which enters twice."""
    words = '<tspan class="symbol">x<tspan dy="4" font-size="10">q</tspan></tspan><tspan dy="-4">, cell</tspan>'
    rect = f'<rect class="chip" x="{x - 46}" y="{y - 14}" width="92" height="28"/>'
    return f"{rect}\n{_text(x, y + 4, words)}"


def _band(x: int, y: int, width: int, height: int, colors: tuple[str, str]) -> str:
    return f'<rect class="band" x="{x}" y="{y}" width="{width}" height="{height}" {_paint(*colors)}/>'


def _millions(module: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.2f} M parameters"


def drawing(small: str = "", large: str = "") -> str:
    """Return the SVG, with the two tiles as data URIs."""
    net = create_iste("iste")
    assert net.self_texture_fusion is not None
    assert net.local_texture_decoder is not None
    c, t = net.encoder.out_channels, net.local_pixel_decoder.feature_part.in_channels
    top, low, middle = PIXELS_ROW, TEXTURE_ROW, MIDDLE
    boxes = [
        Box(LEFT, middle, "Encoder", ("SwinIR, padded inside",), net.encoder, "encoders/swinir.py", GRAY, 150),
        Box(
            FIRST,
            top,
            "Local Feature Interactor",
            ("a pixel attends to its 3×3,", f"Eq. (2); then 1×1, {c} → {t}"),
            net.local_feature_interactor,
            "local_feature_interactor.py",
            BLUE,
        ),
        Box(
            FIRST,
            low,
            "Texture Learner",
            ("amplitude · sin(frequency ·", "offset + phase), Eq. (3)"),
            net.texture_learner,
            "texture_learner.py",
            GREEN,
        ),
        Box(
            SECOND,
            top,
            "Self-Texture Fusion",
            ("most similar key, by how", "similar it is, Eq. (4)-(5)"),
            net.self_texture_fusion,
            "self_texture_fusion.py",
            BLUE,
        ),
        Box(
            THIRD,
            top,
            "Local Pixel Decoder",
            ("MLP at four corners,", "blended by area, Eq. (6)"),
            net.local_pixel_decoder,
            "local_decoders.py",
            BLUE,
        ),
        Box(
            THIRD,
            low,
            "Local Texture Decoder",
            ("MLP of the texture", "at the query, Eq. (7)"),
            net.local_texture_decoder,
            "local_decoders.py",
            GREEN,
        ),
    ]
    fork, half = 374, HALF
    parts = [
        _band(SECOND - 108, 66, 216, 192, AMBER),
        _text(SECOND, 86, "Stage 1: features take up texture", "stage"),
        _band(THIRD + 105, 222, 126, 116, VIOLET),
        _text(THIRD + 114, middle - 14, "Stage 2:", "stage", "start"),
        _text(THIRD + 114, middle + 3, "colors add", "stage", "start"),
        _text(THIRD + 114, middle + 21, "Eq. (8)", "small", "start"),
        _arrow((126, middle), (138, middle)),
        _arrow((290, middle), (fork, middle), (fork, top), (FIRST - half - 2, top)),
        _arrow((fork, middle), (fork, low), (FIRST - half - 2, low)),
        _tensor(298, middle - 28, _symbol("F", "LR"), f"(B, {c}, h, w)", "start"),
        _arrow((FIRST + half, top), (SECOND - half - 2, top)),
        _tensor(625, top - 30, _symbol("F", "LFIC"), f"(B, {t}, h, w)"),
        _arrow((FIRST + half, low - 20), (SECOND, low - 20), (SECOND, top + 77)),
        _tensor(SECOND + 9, 305, "keys", f"(B, K, {t}), textures of the image", "start"),
        _arrow((SECOND + half, top), (THIRD - half - 2, top)),
        _tensor(925, top - 30, _symbol("F", "STF"), f"(B, {t}, h, w)"),
        _arrow((FIRST + half, low + 20), (THIRD - half - 2, low + 20)),
        _text(SECOND, low + 12, _symbol("F", "TL"), "symbol"),
        _text(SECOND, low + 38, f"(B, Q, {t})", "small"),
        _arrow((THIRD + half, top), (SUM, top), (SUM, middle - 16)),
        _tensor(SUM + 10, top + 10, _symbol("I", "LPD"), "(B, Q, 3)", "start"),
        _arrow((THIRD + half, low), (SUM, low), (SUM, middle + 16)),
        _tensor(SUM + 10, low - 10, _symbol("I", "LTD"), "(B, Q, 3)", "start"),
        f'<circle cx="{SUM}" cy="{middle}" r="15" fill="#fff" stroke="{VIOLET[1]}" stroke-width="1.7"/>',
        f'<path class="flow" d="M {SUM - 9} {middle} h 18 M {SUM} {middle - 9} v 18"/>',
        _arrow((SUM + 15, middle), (RIGHT - 4, middle)),
        _chip(THIRD, 40),
        _arrow((THIRD, 54), (THIRD, 111)),
        _chip(FIRST, 512),
        _arrow((FIRST, 498), (FIRST, 470)),
    ]
    return _page(parts + [box.svg() for box in boxes], small, large)


def _page(parts: list[str], small: str, large: str) -> str:
    width, height = SIZE
    size = f'width="{width}" height="{height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {size}>',
            "<title>ISTE: the boxes of the paper's Figure 2, with shapes, parameters and files</title>",
            f"<style>{STYLE}</style>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M 0 0.6 L 7.5 4 L 0 7.4 z" fill="#475569"/></marker></defs>',
            f'<rect width="{width}" height="{height}" rx="12" fill="#fff"/>',
            *parts,
            _tile(24, small),
            _tensor(74, MIDDLE - 82, _symbol("X", "LR"), "(B, 3, h, w)"),
            _tile(RIGHT, large),
            _tensor(RIGHT + 50, MIDDLE - 82, _symbol("I", "Pred"), "(B, Q, 3), any points;"),
            _text(RIGHT + 50, MIDDLE + 70, "here the grid of x4", "small"),
            "</svg>\n",
        ]
    )


def _tile(x: int, uri: str) -> str:
    place = f'x="{x}" y="{MIDDLE - 50}" width="100" height="100"'
    image = f'<image {place} style="image-rendering: pixelated" href="{uri}"/>'
    return f'{image}\n<rect {place} fill="none" stroke="#94a3b8"/>'


def tiles() -> tuple[str, str]:
    """Return a part of the sample, reduced and super-resolved, as data URIs."""
    sample = sample_datalists()[1][0]["image"]
    (top, left), side = CORNER, SIDE * SCALE
    small = degrade(sample[:, top : top + side, left : left + side], (SIDE, SIDE))
    large = monai_iste.upscale(np.moveaxis(np.asarray(small), 0, -1), SCALE, model=monai_iste.load())
    return _uri(np.moveaxis(np.asarray(small), 0, -1), "PNG"), _uri(large, "JPEG")


def _uri(pixels: np.ndarray, kind: str) -> str:
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, kind, quality=88)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


if __name__ == "__main__":
    PICTURE.write_text(drawing(*tiles()))
    print(f"wrote {PICTURE}")
