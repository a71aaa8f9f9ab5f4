"""Packages for the BioImage Model Zoo: described from the weights and their card, tested by bioimageio.core."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import yaml
from PIL import Image

import monai_iste
from monai_iste.errors import ConfigError, OutputError
from monai_iste.io.files import checksum
from monai_iste.networks import released_weights
from monai_iste.networks.presets import DEFAULT_PRESET
from scripts import model_zoo
from scripts.drawn_tissue import drawn_tissue
from scripts.fixed_factor import tiling_of


@pytest.fixture(scope="module")
def released():
    return monai_iste.load(DEFAULT_PRESET)


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
