"""DICOM slides: every level as OpenSlide reads it, no names of patients, and no file without a pixel size."""

import pytest
from openslide import OpenSlide
from reference import assert_teaches
from written_slides import KNOWN, MPP, SRGB, UNKNOWN, assert_levels, literal_levels, openslide_levels, save, texture

from monai_iste.errors import ConfigError, DataError
from monai_iste.slides.writers.writer import check_slide_output


def test_dicom_needs_a_pixel_size(tmp_path):
    with pytest.raises(DataError) as caught:
        check_slide_output(tmp_path / "a.dcm", (20, 30), UNKNOWN)
    assert_teaches(caught.value, "pixel size", "--input-mpp")


@pytest.mark.parametrize("size", [(1, 1), (600, 1101), (1300, 2001)])
@pytest.mark.parametrize("compression", ["jpeg", "lossless"])
def test_dicom_is_read_with_every_level(tmp_path, size, compression):
    """Needs the extra dicom, and libturbojpeg."""
    pytest.importorskip("wsidicomizer")
    pydicom = pytest.importorskip("pydicom")
    try:
        check_slide_output(tmp_path / "a.dcm", size, KNOWN)
    except ConfigError as error:
        pytest.skip(str(error))
    pixels = texture(*size)
    path = save(tmp_path / "a.dcm", pixels, compression=compression)
    files = list(path.iterdir())
    assert len(files) == len(literal_levels(pixels))
    with OpenSlide(files[0]) as slide:
        assert_levels(openslide_levels(slide), pixels, {"jpeg": 2, "lossless": 0}[compression])
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(MPP[0], rel=1e-6)
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(MPP[1], rel=1e-6)
        assert slide.color_profile.tobytes() == SRGB
    for file in files:
        dataset = pydicom.dcmread(file, stop_before_pixels=True)
        assert dataset.ImageType[:3] == ["DERIVED", "PRIMARY", "VOLUME"]
        assert "not for diagnosis" in dataset.DerivationDescription
        assert dataset.PatientName == dataset.PatientID == ""
