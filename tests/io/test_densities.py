"""What PNG, JPEG, BMP and NIfTI state about the size of a pixel."""

import nibabel
import numpy as np
import pytest
from PIL import Image

from monai_iste.io.image_reader import probe


def test_png_and_jpeg_state_a_printers_resolution(tmp_path):
    for name in ("a.png", "a.jpg", "a.bmp"):
        Image.new("RGB", (9, 7)).save(tmp_path / name)
        assert "none stated" in probe(tmp_path / name).pixel_size.remark or name == "a.bmp"
        Image.new("RGB", (9, 7)).save(tmp_path / name, dpi=(72, 72))
        found = probe(tmp_path / name).pixel_size
        kind = {"a.jpg": "JPEG"}.get(name, name[2:].upper())
        assert found.mpp is None
        assert f"um/px ({kind}), not believed because this format mostly states a printer's resolution" in found.remark


def test_nifti(tmp_path):
    for unit, zooms, mpp, words in (
        ("mm", (0.0005, 0.00025), (0.25, 0.5), "none stated"),
        ("micron", (0.5, 0.25), (0.25, 0.5), "none stated"),
        ("unknown", (1, 1), None, "none stated"),
        ("unknown", (0.5, 0.5), None, "0.5 unknown per pixel (NIfTI), not believed because 'unknown' is no unit"),
        ("mm", (1, 1), None, "1000 um/px (NIfTI), not believed because it is not between 0.05 and 20 um"),
    ):
        image = nibabel.Nifti1Image(np.zeros((9, 7, 1, 3), np.uint8), np.diag([*zooms, 1, 1]))
        image.header.set_xyzt_units(unit)
        nibabel.save(image, tmp_path / "a.nii")
        found = probe(tmp_path / "a.nii").pixel_size
        assert found.mpp == (mpp and pytest.approx(mpp))
        assert words in found.remark
