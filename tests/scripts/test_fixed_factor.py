"""Network of one factor for programs that cut tiles: the library's pixels at every size, and the halo of tiles."""

import numpy as np
import pytest
import torch
from reference import assert_teaches, randomise

import monai_iste
from monai_iste.errors import ConfigError
from monai_iste.networks import ISTE, EDSREncoder
from monai_iste.networks.presets import DEFAULT_PRESET
from scripts import model_zoo
from scripts.drawn_tissue import drawn_tissue
from scripts.fixed_factor import FixedFactor, Tiling, receptive_field, tile_difference, tiling_of

NARROW = {"texture_channels": 8, "hidden_channels": 8, "bicubic_residual": True}


def small(**options) -> ISTE:
    torch.manual_seed(0)
    return randomise(ISTE(EDSREncoder(8, 1), **{**NARROW, **options})).eval()


@pytest.fixture(scope="module")
def released():
    return monai_iste.load(DEFAULT_PRESET)


@pytest.mark.parametrize("factor", model_zoo.FACTORS)
def test_the_program_has_the_librarys_pixels_at_every_size(factor, released, tmp_path):
    """The smallest tile, the next and a long one, alone and as a batch."""
    torch.jit.save(torch.jit.freeze(torch.jit.script(FixedFactor(released, factor).eval())), tmp_path / "weights.pt")
    program, tiling = torch.jit.load(tmp_path / "weights.pt"), tiling_of(released)
    for columns in (tiling.smallest, tiling.smallest + tiling.step, tiling.smallest + 9 * tiling.step):
        tile = drawn_tissue(tiling.smallest, columns, seed=columns)
        batch = torch.from_numpy(np.stack([tile, tile[::-1, ::-1]]).transpose(0, 3, 1, 2).copy())
        for given in (batch, batch.float()):  # some programs have float32 alone
            with torch.enable_grad():
                found = program(given)
            assert found.dtype == torch.float32
            assert not found.requires_grad
            for one, expected in zip(found, (tile, np.ascontiguousarray(tile[::-1, ::-1])), strict=True):
                expected = monai_iste.upscale(expected, factor, model=released, device="cpu").astype(np.float32)
                different = np.abs(one.permute(1, 2, 0).numpy() - expected)
                assert different.max() <= 1
                assert (different > 0).mean() < 1e-3


@pytest.mark.parametrize("blocks", [1, 2])
@torch.no_grad()
def test_the_receptive_field_is_exact(blocks):
    torch.manual_seed(0)
    network = randomise(ISTE(EDSREncoder(8, blocks), use_stf=False, texture_channels=8, hidden_channels=8)).eval()
    with torch.enable_grad():
        reach = receptive_field(network)
    assert reach == 4 + 2 * blocks
    image, middle = torch.rand(1, 3, 81, 81), 40

    def change(row):
        """What another color of one row of pixels does to the pixel in the middle."""
        other = image.clone()
        other[..., row, :] = 1 - other[..., row, :]
        one, two = (network(it, scale=2)[..., 80:82, 80:82] for it in (image, other))
        return float((one - two).abs().max())

    assert max(change(middle - reach - 1), change(middle + reach + 1)) < 1e-6
    assert max(change(middle - reach), change(middle + reach)) > 1e-5


def test_tiles_without_their_halo_are_the_whole_image_but_for_the_retrieval():
    local, retrieving = small(use_stf=False), small()
    tiling = tiling_of(local)
    assert tiling == Tiling(6, 8, 32, 8)
    alone = tile_difference(local, 2, tiling)
    assert alone < 1e-3  # single colors that round to the other level
    assert tile_difference(local, 2, Tiling(6, 0, 32, 8)) > 100 * alone
    assert tile_difference(retrieving, 2, tiling) > 100 * alone


def test_a_network_that_sees_everything_has_no_halo():
    from monai_iste.networks import SwinIREncoder

    with pytest.raises(ConfigError) as caught:
        receptive_field(ISTE(SwinIREncoder(8, dim=12, depths=(6,) * 5, heads=2), **NARROW))
    assert_teaches(caught.value, "less than 64 pixels")
