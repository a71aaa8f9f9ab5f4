"""Files of the viewer: images, exports with their provenance, overlays."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from slide_files import picture

from monai_iste.errors import ConfigError
from monai_iste.slides.consistency import FULL_RANGE
from monai_iste.viewer import encoding
from monai_iste.viewer.encoding import _notice, encode_export, encode_image, encode_overlay
from monai_iste.viewer.viewport import Viewport


def test_encoded_pictures():
    pixels = picture(40, 60)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encode_image(pixels, "png")))), pixels)
    turned = np.asarray(Image.open(io.BytesIO(encode_image(pixels, "png", rotation=90))))
    np.testing.assert_array_equal(turned[0], pixels[::-1, 0])  # clockwise: the left edge is on top, its foot first
    gray = Image.open(io.BytesIO(encode_image(pixels, "jpg", "gray")))
    assert (gray.mode, gray.format) == ("L", "JPEG")
    with pytest.raises(ConfigError, match="png"):
        encode_image(pixels, "bmp")


def test_an_exported_picture_records_how_it_was_made():
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    viewport, pixels = Viewport((200, 400), 0, 0, 40, 60), picture(40, 60)
    details = {"inferred": True, "preset": "tiny", "scale": [2, 4]}
    opened = Image.open(io.BytesIO(encode_export(pixels, viewport, (100, 100), (0.5, 0.5), icc, details)))
    np.testing.assert_array_equal(np.asarray(opened)[:40, :60], pixels)
    assert opened.info["dpi"] == pytest.approx((25_400 / 0.125, 25_400 / 0.25), rel=1e-4)  # (x, y)
    assert opened.info["icc_profile"] == icc
    assert "inferred, not measured" in opened.text["Description"]
    assert json.loads(opened.text["Provenance"]) == details
    assert (np.asarray(opened)[40:] > 250).any()  # the caption
    plain = Image.open(io.BytesIO(encode_export(pixels, viewport, (100, 100), None, None, {"inferred": False})))
    assert "dpi" not in plain.info
    assert "measured" not in plain.text["Description"]


def test_the_overlay_grows_with_the_excess_and_ends_at_half():
    levels = np.array([[0, FULL_RANGE / 2], [2 * FULL_RANGE, -3]])
    viewport = Viewport((64, 64), -4, 16, 36, 32)  # x2 of 32 x 32; the map begins at (8, 8) of the slide
    overlay = np.asarray(Image.open(io.BytesIO(encode_overlay(levels, (0, 8), 8, viewport, (32, 32)))))
    opacity = overlay[..., 3].astype(int)
    assert (opacity[:4] == 0).all()  # above the slide
    assert (opacity[4:20, :16] == 0).all()
    assert (opacity[4:20, 16:32] == 64).all()
    assert (opacity[20:36, :16] == 128).all()
    assert (opacity[20:36, 16:32] == 0).all()


def test_the_legend_ends_in_the_overlay_s_last_color():
    style = (Path(encoding.__file__).parent / "static" / "viewer.css").read_text()
    ramp = re.search(r"\.ramp \{[^}]*linear-gradient\(to right, rgb\((.+?) / 0%\), rgb\((.+?) / (\d+)%\)\)", style)
    color = " ".join(map(str, encoding._OVERLAY_COLOR))
    assert ramp.groups() == (color, color, str(round(encoding._OVERLAY_MAX_ALPHA / 255 * 100)))


@pytest.mark.parametrize("method", ["bicubic", "native", "resampled", "sr"])
def test_the_notice_says_how_the_pixels_were_made(method):
    words = _notice({"method": method, "inferred": method == "sr", "preset": "tiny"}, 3.374)
    assert words.isascii()  # Pillow's own font has no other characters
    assert words.endswith("Not for diagnosis.")
    assert "x3.374" in words
    assert ("Inferred: tiny" in words) == (method == "sr")
    assert ("Bicubic" in words) == (method == "bicubic")
