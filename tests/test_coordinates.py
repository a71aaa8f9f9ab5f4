"""Where pixels lie: sizes, centers, neighbors and the key lattice, by hand and against their definitions."""

import math
from fractions import Fraction

import numpy as np
import pytest
import reference
import torch
from reference import SCALES, SIZES, assert_close, assert_teaches

from monai_iste.coordinates import (
    LATTICE_PERIOD,
    cell_size,
    four_corners,
    key_lattice,
    key_step,
    nearest_pixel,
    output_size,
    pixel_centers,
    position,
)
from monai_iste.errors import ScaleError

# --- an image of 2x3 pixels upscaled to 4x6, by hand ------------------------------------------------------------------
# Output pixel (i, j) is centered at y = (2 i + 1) / 4 - 1, x = (2 j + 1) / 6 - 1 in [-1, 1], which is position
# (i + 0.5) / 2 - 0.5, (j + 0.5) / 2 - 0.5 in low-resolution pixels: y = -0.25, 0.25, 0.75, 1.25, x = -0.25 ... 2.25.

BY_HAND = {
    # (0, 4): y = -0.25, x = 1.75. Nearest: row floor(0.25) = 0, column floor(2.25) = 2, index 0 * 3 + 2 = 2, offset
    # twice (-0.25 - 0, 1.75 - 2). Corners: rows -1, 0, columns 1, 2, rows clamped to 0, 0: indices 1, 2, 1, 2; the
    # offsets keep row -1: 2 * (-0.25 + 1) = 1.5. f = (0.75, 0.75), weights (1-fy)(1-fx) = 0.25 * 0.25, ...
    (0, 4): {
        "coord": [-0.75, 0.5],
        "nearest": (2, [-0.5, -0.5]),
        "index": [1, 2, 1, 2],
        "offset": [[1.5, 1.5], [1.5, -0.5], [-0.5, 1.5], [-0.5, -0.5]],
        "weight": [0.0625, 0.1875, 0.1875, 0.5625],
    },
    # (1, 1): y = 0.25, x = 0.25. Nearest (0, 0). Corners (0,0), (0,1), (1,0), (1,1): indices 0, 1, 3, 4.
    # f = (0.25, 0.25): 0.75 * 0.75, 0.75 * 0.25, 0.25 * 0.75, 0.25 * 0.25.
    (1, 1): {
        "coord": [-0.25, -0.5],
        "nearest": (0, [0.5, 0.5]),
        "index": [0, 1, 3, 4],
        "offset": [[0.5, 0.5], [0.5, -1.5], [-1.5, 0.5], [-1.5, -1.5]],
        "weight": [0.5625, 0.1875, 0.1875, 0.0625],
    },
    # (1, 2): y = 0.25, x = 0.75. Nearest (0, 1), index 1. The same four pixels, f = (0.25, 0.75):
    # 0.75 * 0.25, 0.75 * 0.75, 0.25 * 0.25, 0.25 * 0.75.
    (1, 2): {
        "coord": [-0.25, -1 / 6],
        "nearest": (1, [0.5, -0.5]),
        "index": [0, 1, 3, 4],
        "offset": [[0.5, 1.5], [0.5, -0.5], [-1.5, 1.5], [-1.5, -0.5]],
        "weight": [0.1875, 0.5625, 0.0625, 0.1875],
    },
    # (3, 5): y = 1.25, x = 2.25. Nearest (1, 2), index 5, offset (0.5, 0.5). Corners (1,2), (1,3), (2,2), (2,3), all
    # clamped to (1, 2); the offsets are not: 2 * (1.25 - 2) = -1.5, 2 * (2.25 - 3) = -1.5. f = (0.25, 0.25).
    (3, 5): {
        "coord": [0.75, 5 / 6],
        "nearest": (5, [0.5, 0.5]),
        "index": [5, 5, 5, 5],
        "offset": [[0.5, 0.5], [0.5, -1.5], [-1.5, 0.5], [-1.5, -1.5]],
        "weight": [0.5625, 0.1875, 0.1875, 0.0625],
    },
}


@pytest.mark.parametrize("pixel", BY_HAND)
def test_two_by_three_by_hand(pixel):
    hand = BY_HAND[pixel]
    coord = pixel_centers((4, 6))[pixel[0] * 6 + pixel[1]].view(1, 1, 2)
    assert_close(coord[0, 0], hand["coord"], 1e-7)

    near = nearest_pixel(coord, (2, 3))
    assert near.pixel.tolist() == [[[hand["nearest"][0]]]]
    assert_close(near.offset[0, 0, 0], hand["nearest"][1], 1e-6)
    assert near.weight.tolist() == [[[[1.0]]]]

    four = four_corners(coord, (2, 3))
    assert four.pixel[0, 0].tolist() == hand["index"]
    assert_close(four.offset[0, 0], hand["offset"], 1e-6)
    assert_close(four.weight[0, 0, :, 0], hand["weight"], 1e-6)


def test_positions_and_cells_by_hand():
    # 2 -> 5 rows (m = 2.5): (i + 0.5) / 2.5 - 0.5; 3 -> 4 columns (m = 4/3): (j + 0.5) * 3/4 - 0.5.
    coord = pixel_centers((5, 4)).view(5, 4, 2)
    pos = position(coord, (2, 3))
    assert_close(pos[:, 0, 0], [-0.3, 0.1, 0.5, 0.9, 1.3], 1e-6)
    assert_close(pos[0, :, 1], [-0.125, 0.625, 1.375, 2.125], 1e-6)
    # Row 2 lies on the border of rows 0 and 1 and goes up: floor(0.5 + 0.5) = 1, offset 2 * (0.5 - 1) = -1.
    near = nearest_pixel(coord[2:3], (2, 3))
    assert near.pixel.flatten().tolist() == [3, 4, 4, 5]
    assert_close(near.offset[0, :, 0], [[-1, -0.25], [-1, -0.75], [-1, 0.75], [-1, 0.25]], 1e-6)
    # Cells: 2 / 2.5 and 2 / (4/3).
    assert_close(cell_size((2, 3), (5, 4)), [0.8, 1.5], 1e-7)
    assert cell_size((48, 48), (192, 96)).tolist() == [0.5, 1.0]


# --- sizes and grids --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [
        ((48, 48), 4, (192, 192)),
        ((300, 260), 3.7, (1110, 962)),
        ((10, 13), 1.3, (13, 17)),  # 13, 16.9
        ((1, 5), 1.3, (1, 6)),  # 1.3, 6.5: Python rounds halves to even
        ((3, 7), 2.5, (8, 18)),  # 7.5, 17.5
        ((2, 3), 0.1, (1, 1)),  # never empty
        ((100, 170), 1.7, (170, 289)),
    ],
)
def test_output_size_rounds(size, scale, expected):
    assert output_size(size, scale) == expected


@pytest.mark.parametrize("scale", [0, -2, 0.0, math.nan, math.inf, -math.inf, "2", None])
def test_output_size_refuses(scale):
    with pytest.raises(ScaleError) as caught:
        output_size((4, 4), scale)
    assert_teaches(caught.value, "finite scale above 0", repr(scale), "3.7")


@pytest.mark.parametrize("size", [*SIZES, (1, 10007)])
def test_pixel_centers_are_the_rounded_exact_ones(size):
    coord = pixel_centers(size)
    assert coord.shape == (size[0] * size[1], 2)
    assert coord.dtype == torch.float32
    exact = [[np.float32(float(y)), np.float32(float(x))] for y, x in reference.grid(size)]
    assert coord.tolist() == [[float(y), float(x)] for y, x in exact]


@pytest.mark.parametrize("size", SIZES)
def test_scale_one_is_the_identity(size):
    count = size[0] * size[1]
    coord = pixel_centers(size).unsqueeze(0)
    near = nearest_pixel(coord, size)
    assert near.pixel.flatten().tolist() == list(range(count))
    assert near.offset.abs().max() < 1e-5
    four = four_corners(coord, size)
    picked = torch.zeros(count, count).scatter_add_(1, four.pixel[0], four.weight[0, :, :, 0])
    assert_close(picked, np.eye(count))
    assert cell_size(size, size).tolist() == [2.0, 2.0]


def test_positions_are_computed_in_double_precision():
    # On a slide of 100,003 pixels a float32 coordinate is worth 0.003 pixels; a float64 one must lose nothing.
    n = 100_003
    pixels = [0, 1, 49_999, 77_777, n - 1]
    quarter = [[float(reference.centre(i, n) + Fraction(1, 2 * n)), 0.0] for i in pixels]
    coord = torch.tensor(quarter, dtype=torch.float64)
    np.testing.assert_allclose(position(coord, (n, 1))[:, 0], [i + 0.25 for i in pixels], rtol=0, atol=1e-6)
    neighbors = nearest_pixel(coord.unsqueeze(0), (n, 1))
    assert neighbors.pixel.flatten().tolist() == pixels
    assert_close(neighbors.offset[0, :, 0, 0], [0.5] * 5, 1e-6)


# --- nearest pixel and four corners -----------------------------------------------------------------------------------


def assert_equal_reference(neighbors, queries, size, find):
    for q, query in enumerate(queries):
        expected = find(query, size)
        assert neighbors.pixel[0, q].tolist() == [t.row * size[1] + t.col for t in expected], query
        assert_close(neighbors.offset[0, q], [t.offset for t in expected], 2e-6 * max(size))
        assert_close(neighbors.weight[0, q, :, 0], [t.weight for t in expected], 2e-6 * max(size))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", SIZES)
def test_neighbors_equal_the_definition_on_the_grid(size, scale):
    output = output_size(size, scale)
    queries = reference.grid(output)[:: 1 + output[0] * output[1] // 200]
    coord = reference.inexact(queries).unsqueeze(0)
    assert_equal_reference(nearest_pixel(coord, size), queries, size, reference.nearest)
    assert_equal_reference(four_corners(coord, size), queries, size, reference.corners)


@pytest.mark.parametrize("size", SIZES)
def test_neighbors_equal_the_definition_at_random(size):
    coord = torch.rand(1, 100, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1
    queries = reference.exact(coord[0])
    assert_equal_reference(nearest_pixel(coord, size), queries, size, reference.nearest)
    assert_equal_reference(four_corners(coord, size), queries, size, reference.corners)


@pytest.mark.parametrize("scale", [1.5, 2.5, 3.5])
@pytest.mark.parametrize("n", [2, 7, 48, 301, 2048])
def test_ties_ignore_rounding_noise(n, scale):
    length = output_size((n, n), scale)[0]
    along = pixel_centers((length, 1))[:, 0]
    up, down = torch.full_like(along, 2), torch.full_like(along, -2)
    noisy = [along, along.nextafter(up), along.nextafter(down), along.nextafter(up).nextafter(up)]
    exact = [reference.position(reference.centre(i, length), n) for i in range(length)]
    rows = [min(math.floor(p + Fraction(1, 2)), n - 1) for p in exact]
    bases = [max(math.floor(p), 0) for p in exact]
    for coord in noisy:
        coord = torch.stack([coord, torch.zeros_like(coord)], -1).unsqueeze(0)
        assert nearest_pixel(coord, (n, 1)).pixel.flatten().tolist() == rows
        four = four_corners(coord, (n, 1))
        assert four.pixel[0, :, 0].tolist() == bases
        assert four.weight.min() >= 0
        assert four.weight.max() <= 1


def test_a_tie_goes_to_the_greater_index():
    # x2.5 of 2 rows: row 2 lies at position 0.5 exactly, between pixels 0 and 1.
    assert nearest_pixel(pixel_centers((5, 1))[None], (2, 1)).pixel.flatten().tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", SIZES)
def test_weights_sum_to_one(size, scale):
    coord = pixel_centers(output_size(size, scale)).unsqueeze(0)
    weight = four_corners(coord, size).weight
    assert_close(weight.sum(2), np.ones((1, coord.shape[1], 1)), 1e-6)
    assert weight.min() >= 0


def test_at_borders_the_index_is_clamped_and_the_offset_is_not():
    # The corners of [-1, 1] lie half a pixel outside the centers of a 4x5 image's corner pixels.
    coord = torch.tensor([[[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]])
    four = four_corners(coord, (4, 5))
    assert four.pixel[0].tolist() == [[0, 0, 0, 0], [4, 4, 4, 4], [15, 15, 15, 15], [19, 19, 19, 19]]
    assert_close(four.offset[0], np.array([[[1, 1], [1, -1], [-1, 1], [-1, -1]]] * 4), 1e-6)
    near = nearest_pixel(coord, (4, 5))
    assert near.pixel[0, :, 0].tolist() == [0, 4, 15, 19]


def test_the_unit_does_not_depend_on_the_size_of_the_image():
    small = four_corners(pixel_centers((12, 20)).unsqueeze(0), (3, 5))
    large = four_corners(pixel_centers((32, 40)).unsqueeze(0), (8, 10))
    small_first = small.offset.view(12, 20, 4, 2)[5, 7]
    assert_close(small_first, large.offset.view(32, 40, 4, 2)[5, 7].numpy(), 1e-6)
    assert torch.equal(cell_size((3, 5), (12, 20)), cell_size((8, 10), (32, 40)))


def test_neighbors_are_float32_and_batched():
    coord = torch.stack([pixel_centers((3, 4)), pixel_centers((3, 4)).flip(0)])
    for neighbors, n in ((nearest_pixel(coord, (2, 3)), 1), (four_corners(coord.double(), (2, 3)), 4)):
        assert neighbors.pixel.shape == (2, 12, n)
        assert neighbors.pixel.dtype == torch.int64
        assert neighbors.offset.shape == (2, 12, n, 2)
        assert neighbors.offset.dtype == torch.float32
        assert neighbors.weight.shape == (2, 12, n, 1)
        assert neighbors.weight.dtype == torch.float32
        assert torch.equal(neighbors.pixel[0], neighbors.pixel[1].flip(0))
        assert torch.equal(neighbors.offset[0], neighbors.offset[1].flip(0))


# --- the canonical key lattice ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [*SIZES, (17, 24)])
def test_key_lattice_equals_the_sequence(size):
    lattice = key_lattice(size)
    expected = [reference.lattice_offset(row, col) for row in range(size[0]) for col in range(size[1])]
    assert lattice.dtype == torch.float32
    assert_close(lattice, expected, 1e-6)


def test_key_lattice_stays_inside_its_pixel_and_never_repeats_in_a_block():
    lattice = key_lattice((LATTICE_PERIOD, LATTICE_PERIOD))
    assert lattice.shape == (64, 2)
    assert lattice.abs().max() < 1
    distance = torch.cdist(lattice, lattice) + torch.eye(64) * 9
    assert distance.min() > 0.05
    # Low discrepancy: each of 16 equal squares of the pixel receives 64 / 16 = 4 offsets, give or take 2.
    squares = ((lattice + 1) * 2).long()
    counts = torch.bincount(squares[:, 0] * 4 + squares[:, 1], minlength=16)
    assert counts.min() >= 2
    assert counts.max() <= 6


@pytest.mark.parametrize("origin", [(0, 0), (8, 0), (0, 16), (16, 8)])
def test_key_lattice_is_the_same_in_any_crop_at_multiples_of_eight(origin):
    whole = key_lattice((32, 40)).view(32, 40, 2)
    crop = whole[origin[0] : origin[0] + 11, origin[1] : origin[1] + 13]
    assert torch.equal(crop.reshape(-1, 2), key_lattice((11, 13)))


@pytest.mark.parametrize("size", [(1, 1), (48, 48), (49, 49), (144, 144), (30, 400), (1000, 1000)])
def test_no_more_keys_than_in_training(size):
    step = key_step(size)
    keys = -(-size[0] // step) * -(-size[1] // step)
    assert keys <= 48**2 * 1.2 + sum(size)
    assert step == 1 or size[0] * size[1] > 48**2
