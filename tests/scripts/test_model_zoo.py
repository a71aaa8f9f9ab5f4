"""Packages for the BioImage Model Zoo: right for every size of a tile, described from the weights and their card."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from reference import assert_teaches, randomise

import monai_iste
from monai_iste.errors import ConfigError, DataError, OutputError
from monai_iste.io.files import checksum
from monai_iste.networks import ISTE, EDSREncoder, released_weights
from monai_iste.networks.presets import DEFAULT_PRESET, PRESETS
from scripts import model_zoo
from scripts.model_zoo import Card, FixedFactor, Tiling, drawn_tissue, receptive_field, tile_difference, tiling_of

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


def test_the_drawing_has_ground_and_nuclei_and_is_the_same_each_time():
    drawn = drawn_tissue(96, 80)
    assert drawn.shape == (96, 80, 3)
    assert np.array_equal(drawn, drawn_tissue(96, 80))
    assert not np.array_equal(drawn, drawn_tissue(96, 80, seed=1))
    dark = (drawn.mean(-1) < 150).mean()
    assert 0.1 < dark < 0.7


# --- what a package says ----------------------------------------------------------------------------------------------


def test_license_and_citations_come_from_the_card():
    card = Card.read(DEFAULT_PRESET)
    assert card.license == "Apache-2.0"
    assert card.license in PRESETS[DEFAULT_PRESET].terms
    assert len(card.cited) >= 2
    assert all(doi.startswith("10.") for _, doi in card.cited)
    assert "](" not in card.text


GOOD = """# Model card

**Terms.** Released under CC BY-NC-SA 4.0.
Cite Someone et al. 2001 (DATA, doi 10.1/a) and Another et al. 2002 (doi 10.2/b-c).

SHA-256 {digest}, [a link](x.md)
![picture](y.png)
"""


def test_cards_that_lack_something_are_refused(tmp_path):
    digest, path = checksum(released_weights("iste_light")), tmp_path / "iste_light.md"
    with pytest.raises(DataError) as caught:
        Card.read("iste_light", tmp_path)
    assert_teaches(caught.value, "iste_light.md")
    path.write_text(GOOD.format(digest=digest))
    card = Card.read("iste_light", tmp_path)
    assert card.license == "CC-BY-NC-SA-4.0"
    assert card.cited == [("Someone et al. 2001 (DATA)", "10.1/a"), ("Another et al. 2002", "10.2/b-c")]
    assert card.text.endswith(f"SHA-256 {digest}, a link\n")
    for bad in (
        GOOD.format(digest="0" * 64),
        GOOD.format(digest=digest).replace("**Terms.**", "Terms."),
        GOOD.format(digest=digest).replace("CC BY-NC-SA 4.0", "CC BY 4.0"),  # not what the preset states
        GOOD.format(digest=digest).replace("doi ", ""),
    ):
        path.write_text(bad)
        with pytest.raises(DataError):
            Card.read("iste_light", tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [([], "got neither"), (["a.pt", "--bioimageio", "x"], "got both"), (["--bioimageio", "x"], "[bioimageio]")],
)
def test_the_command_wants_one_of_two_things_and_its_packages(words, said, tmp_path):
    hidden = "import sys; sys.modules['bioimageio.core'] = None; sys.argv[0] = 'release'\n"
    program = hidden + "import runpy; runpy.run_module('scripts.release', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)
    assert done.returncode == ConfigError.exit_code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    pytest.importorskip("bioimageio.core", reason="needs the extra: pip install -e '.[bioimageio]'")
    folder = tmp_path_factory.mktemp("zoo") / "new"
    return model_zoo.write_packages(folder)


@pytest.mark.slow
def test_packages_are_described_from_the_preset(packages, released):
    for path, factor in zip(packages, model_zoo.FACTORS, strict=True):
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            (description,) = (name for name in names if name.endswith((".yaml", ".yml")))
            described = yaml.safe_load(archive.read(description))
            with archive.open("cover.png") as file:
                cover = Image.open(file).size
            readme = archive.read("README.md").decode()
        assert {"weights.pt", "test_input.npy", "test_output.npy", "cover.png", "README.md"} <= names
        assert described["format_version"].startswith("0.5.")
        assert described["license"] == "CC-BY-NC-SA-4.0"
        assert cover[0] == 2 * cover[1]
        assert described["config"]["monai_iste"]["weights"] == f"sha256 {checksum(released_weights(DEFAULT_PRESET))}"
        tiling = tiling_of(released)
        (source,), (result,) = described["inputs"], described["outputs"]
        for before, after in zip(source["axes"][2:], result["axes"][2:], strict=True):
            assert before["size"] == {"min": tiling.smallest, "step": tiling.step}
            assert after["scale"] * factor == pytest.approx(before.get("scale", 1))
            assert after["halo"] == factor * tiling.halo
            assert after["size"]["axis_id"] == before["id"]
        assert f"Upscales H&E tiles by {factor}" in readme
        assert "Not for diagnosis" in readme
        assert json.dumps(described).count("sha256") >= 5


@pytest.mark.slow
def test_a_program_that_cuts_tiles_by_the_description_gets_the_image(packages, released):
    """bioimageio.core cuts the tiles, with the halo of the description, and joins them."""
    import bioimageio.core

    image = drawn_tissue(168, 184, seed=3)
    given = np.ascontiguousarray(image.transpose(2, 0, 1)[None])
    model = bioimageio.core.load_model_description(packages[0])
    found = bioimageio.core.predict(model=model, inputs={"image": given}, blocksize_parameter=4)
    (member,) = found.members.values()
    joined = member.data.to_numpy()[0].transpose(1, 2, 0)
    assert joined.dtype == np.uint8
    expected = monai_iste.upscale(image, 2, model=released, device="cpu")
    assert joined.shape == expected.shape
    assert np.abs(joined.astype(int) - expected.astype(int)).mean() < 1.0


@pytest.mark.slow
def test_nothing_is_replaced(packages):
    with pytest.raises(OutputError):
        model_zoo.write_packages(packages[0].parent)
