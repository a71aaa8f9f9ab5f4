"""Images, coordinates and cells whose shapes do not fit together are refused."""

import pytest
import torch
from reference import assert_teaches

from monai_iste.errors import ShapeError
from monai_iste.networks.checks import check_queries


@pytest.mark.parametrize(
    ("image", "coord", "cell", "words"),
    [
        ((3, 4, 4), (1, 5, 2), (1, 2), ["(B, 3, h, w)", "(3, 4, 4)"]),
        ((1, 1, 4, 4), (1, 5, 2), (1, 2), ["(B, 3, h, w)", "(1, 1, 4, 4)"]),
        ((1, 4, 4, 4), (1, 5, 2), (1, 2), ["(B, 3, h, w)", "(1, 4, 4, 4)"]),
        ((1, 3, 0, 4), (1, 5, 2), (1, 2), ["(B, 3, h, w)", "(1, 3, 0, 4)"]),
        ((2, 3, 4, 4), (2, 5, 3), (2, 2), ["coord", "(2, Q, 2)", "(2, 5, 3)", "pixel_centers"]),
        ((2, 3, 4, 4), (5, 2), (2, 2), ["coord", "(2, Q, 2)", "(5, 2)"]),
        ((2, 3, 4, 4), (1, 5, 2), (2, 2), ["coord", "(2, Q, 2)", "(1, 5, 2)"]),
        ((2, 3, 4, 4), (2, 5, 2), (2,), ["cell", "(2, 2)", "(2, 5, 2)", "(2,)", "cell_size"]),
        ((2, 3, 4, 4), (2, 5, 2), (1, 2), ["cell", "(1, 2)"]),
        ((2, 3, 4, 4), (2, 5, 2), (2, 4, 2), ["cell", "(2, 4, 2)"]),
        ((2, 3, 4, 4), (2, 5, 2), (2, 5, 3), ["cell", "(2, 5, 3)"]),
    ],
)
def test_check_queries_refuses(image, coord, cell, words):
    with pytest.raises(ShapeError) as caught:
        check_queries(torch.zeros(image), torch.zeros(coord), torch.zeros(cell))
    assert_teaches(caught.value, *words)


@pytest.mark.parametrize("cell", [(2, 2), (2, 5, 2)])
def test_check_queries_accepts(cell):
    check_queries(torch.zeros(2, 3, 4, 6), torch.zeros(2, 5, 2), torch.zeros(cell))
