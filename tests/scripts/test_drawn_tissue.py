"""Drawing of tissue."""

import numpy as np

from scripts.drawn_tissue import drawn_tissue


def test_the_drawing_has_ground_and_nuclei_and_is_the_same_each_time():
    drawn = drawn_tissue(96, 80)
    assert drawn.shape == (96, 80, 3)
    assert np.array_equal(drawn, drawn_tissue(96, 80))
    assert not np.array_equal(drawn, drawn_tissue(96, 80, seed=1))
    dark = (drawn.mean(-1) < 150).mean()
    assert 0.1 < dark < 0.7
