"""Studies that a training leaves out, and its advice."""

import pytest
from PIL import Image
from slide_files import picture

from monai_iste.errors import DataError
from monai_iste.label import training
from monai_iste.label.training import DEFAULTS, Training


def test_a_study_with_a_readable_header_and_damaged_pixels_is_left_out(tmp_path):
    for name in ("a.png", "b.png", "cut.png"):
        Image.fromarray(picture(200, 200)).save(tmp_path / name)
    damaged = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(damaged[: len(damaged) // 2])
    said = []
    job = Training(tmp_path / "app" / "iste", said.append)
    job.link_images(sorted(tmp_path.glob("*.png")))
    assert sorted(path.name for path in job.images.iterdir()) == ["a.png", "b.png"]
    assert said[0].startswith("skipped: cut.png (Expected ")
    (tmp_path / "b.png").unlink()
    with pytest.raises(DataError, match=r"at least two images.*got 1; left out: cut\.png \(Expected .*Add images"):
        job.run(sorted(tmp_path.glob("*.png")), DEFAULTS)


@pytest.mark.parametrize(("code", "word"), [(-9, "resume"), (143, "resume"), (2, "Change"), (3, "Change")])
def test_the_advice_is_to_resume_only_where_that_helps(code, word):
    assert word in training._remedy(code)
