"""``monai-iste compare``: where most is to be seen, and beside the truth."""

import os

import numpy as np
from commands import TISSUE, assert_refused, files, run
from PIL import Image

import monai_iste
from monai_iste.errors import DataError, OutputError, ShapeError
from monai_iste.functional import upscale


def test_comparison_where_most_is_to_be_seen(weights):
    pixels = np.full((110, 220, 3), 128, np.uint8)
    pixels[:107, 107:214] = TISSUE[:107, :107]
    Image.fromarray(pixels).save("large.png")
    result = run("compare", "large.png", "--scale", 3)
    assert result.stdout == "wrote comparison.png\n"
    sheet = np.asarray(Image.open("comparison.png"))
    source, bicubic, iste = (sheet[42:-6, left : left + 320] for left in (6, 332, 658))
    whole = upscale(pixels, 3, model=monai_iste.load("tiny", weights))
    np.testing.assert_array_equal(iste, whole[:320, 321:641])
    whole = np.asarray(Image.fromarray(pixels).resize((660, 330), Image.Resampling.BICUBIC))
    assert np.abs(bicubic.astype(int) - whole[:320, 321:641]).max() <= 1
    np.testing.assert_array_equal(source[1::3, 1::3], TISSUE[:107, :107])
    assert_refused(run("compare", "large.png"), OutputError, "comparison.png, which exists", left=files())


def test_comparison_with_truth():
    Image.fromarray(TISSUE[:150, :200]).save("large.png")
    assert run("compare", "large.png", "--scale", 3, "--degrade", "-o", "truth.png").exit_code == 0
    assert Image.open("truth.png").size == (6 * 230 + 6, 263)


def test_what_cannot_be_compared_with_truth_is_a_sentence():
    """The protocol's transforms are MONAI's Compose, which wraps what they raise."""
    Image.fromarray(TISSUE).save("half.png")
    os.truncate("half.png", os.path.getsize("half.png") // 2)
    Image.fromarray(TISSUE[:3, :40]).save("flat.png")
    left = files()
    assert_refused(run("compare", "half.png", "--degrade"), DataError, "half.png", left=left)
    assert_refused(run("compare", "flat.png", "--degrade"), ShapeError, "40 x 3", left=left)
