"""Exported programs return the network's results, at sizes and scales that they were not exported with."""

import json
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from monai.bundle import load
from reference import assert_teaches, randomise

import monai_iste
from monai_iste.coordinates import cell_size, output_size, pixel_centers
from monai_iste.errors import ConfigError, OutputError
from monai_iste.networks import ISTE, BlurConditionedEncoder, EDSREncoder, SwinIREncoder, create_iste, export, tuning

BUNDLE = Path(__file__).parents[2] / "bundles" / "iste"
NARROW = {"texture_channels": 8, "hidden_channels": 8}
NETWORKS = {
    "light": lambda: create_iste("iste_light"),
    "not told its blur": lambda: ISTE(BlurConditionedEncoder(8, 1), **NARROW),
    "told its blur": lambda: ISTE(BlurConditionedEncoder(8, 1), input_blur=0.3, **NARROW),
    "swinir": lambda: ISTE(SwinIREncoder(8, dim=12, depths=(2,), heads=2), **NARROW),
    "four corners": lambda: ISTE(EDSREncoder(8, 1), texture_corners="four", heads=2, query_kernel=3, **NARROW),
    "without LFI, TL": lambda: ISTE(EDSREncoder(8, 1), use_lfi=False, use_tl=False, **NARROW),
    "without STF, LTD": lambda: ISTE(EDSREncoder(8, 1), use_stf=False, use_ltd=False, **NARROW),
}
SIZES, SCALES = [(12, 7), (50, 61)], [2.5, 3.7]

needs_onnx = pytest.mark.skipif(
    not (find_spec("onnx") and find_spec("onnxruntime")), reason="needs the extra: pip install -e '.[export]'"
)


def queries(size: tuple[int, int], scale: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    output = output_size(size, scale)
    return torch.rand(1, 3, *size), pixel_centers(output).unsqueeze(0), cell_size(size, output).unsqueeze(0)


def assert_same(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal to 1e-4, but for the few pixels whose hard retrieval was a tie within rounding and fell the other way."""
    assert actual.shape == expected.shape
    assert ((actual - expected).abs() > 1e-4).float().mean() < 0.1


@torch.no_grad()
def assert_script_equals(script: torch.jit.ScriptModule, network: ISTE) -> None:
    for size in SIZES:
        for scale in SCALES:
            image, coord, cell = queries(size, scale)
            expected = network(image, coord, cell)
            each = cell.unsqueeze(1).expand(coord.shape)
            for actual in (script(image, coord, cell), script(image, coord, each), script(image, coord, scale=scale)):
                assert_same(actual, expected)
            assert_same(script(image, scale=scale), network(image, scale=scale))
        assert_same(script(image), network(image))


@pytest.mark.parametrize("network", [*NETWORKS, "all keys"])
def test_torchscript_equals_the_network(network, tmp_path):
    make = NETWORKS.get(network, lambda: ISTE(EDSREncoder(8, 1), inference_keys="all", **NARROW))
    network = randomise(make()).eval()
    torch.jit.save(torch.jit.script(network), tmp_path / "network.ts")
    assert_script_equals(torch.jit.load(tmp_path / "network.ts"), network)


@pytest.mark.parametrize("preset", ["iste_small", "iste"])
def test_large_presets_compile(preset):
    image = torch.rand(1, 3, 9, 5)
    network = create_iste(preset).eval()
    with torch.no_grad():
        assert_same(torch.jit.script(network)(image, scale=1.5), network(image, scale=1.5))


@pytest.mark.parametrize("blur", [None, 0.3])
def test_upscale_takes_a_program_for_a_network(blur, tmp_path):
    network = randomise(ISTE(BlurConditionedEncoder(8, 1), **NARROW)).eval().with_input_blur(blur)
    torch.jit.save(torch.jit.script(network), tmp_path / "network.ts")
    script, tile = torch.jit.load(tmp_path / "network.ts"), torch.rand(3, 30, 41)
    assert_same(monai_iste.upscale(tile, 2.7, model=script), monai_iste.upscale(tile, 2.7, model=network))
    with pytest.raises(ConfigError, match="told the blur"):
        monai_iste.upscale(tile, 2.7, model=script, input_blur=0.2)


def test_torchscript_refuses_what_the_network_refuses():
    script = torch.jit.script(ISTE(EDSREncoder(8, 1), **NARROW).eval())
    for image, scale, words in (
        (torch.rand(3, 4, 4), 2.0, "ShapeError.*3, h, w"),
        (torch.rand(1, 3, 4, 4), float("nan"), "ScaleError.*finite scale above 0"),
        (torch.rand(1, 3, 4, 4), 0.0, "ScaleError.*finite scale above 0"),
    ):
        with pytest.raises(torch.jit.Error, match=words):
            script(image, scale=scale)


@needs_onnx
@pytest.mark.parametrize("network", NETWORKS)
def test_onnx_equals_the_network(network, tmp_path, monkeypatch):
    import onnxruntime

    monkeypatch.setattr(tuning, "QUERY_CHUNK", 1000)  # more blocks at the second size than at the example's
    network = randomise(NETWORKS[network]()).train()
    export.export_onnx(network, tmp_path / "network.onnx")
    assert network.training
    assert [path.name for path in tmp_path.iterdir()] == ["network.onnx"]
    network.eval()
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx")
    for size in SIZES:
        for scale in SCALES:
            arguments = queries(size, scale)
            feed = {name: value.numpy() for name, value in zip(("image", "coord", "cell"), arguments, strict=True)}
            with torch.no_grad():
                expected = network(*arguments)
            actual = torch.from_numpy(session.run(["rgb"], feed)[0])
            assert_same(actual, expected)


def test_the_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        export.export_onnx(create_iste("iste_light"), tmp_path / "network.onnx")
    assert_teaches(caught.value, "pip install -e", "[export]")


@needs_onnx
def test_onnx_refuses_keys_that_depend_on_the_scale(tmp_path):
    with pytest.raises(ConfigError) as caught:
        export.export_onnx(create_iste("iste_light", inference_keys="all"), tmp_path / "network.onnx")
    assert_teaches(caught.value, "lattice", "'all'")


@needs_onnx
def test_a_place_that_cannot_be_written_to_is_one_sentence(tmp_path):
    with pytest.raises(OutputError) as caught:
        export.export_onnx(ISTE(EDSREncoder(8, 1), **NARROW), tmp_path / "missing" / "network.onnx")
    assert_teaches(caught.value, "missing")


def packaged(tmp_path: Path) -> ISTE:
    """Unpack a zip of the bundle as git has it, as a user would; returns the network of the released weights."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    if not (BUNDLE.parents[1] / ".git").exists():
        pytest.skip("needs a clone: what belongs to the bundle is what git does not ignore")
    names = subprocess.run(listing, cwd=BUNDLE, check=True, capture_output=True, text=True).stdout.split("\0")[:-1]
    with zipfile.ZipFile(tmp_path / "iste_v0.1.0.zip", "w") as archive:
        for name in names:
            archive.write(BUNDLE / name, Path("iste", name))
    with zipfile.ZipFile(tmp_path / "iste_v0.1.0.zip") as archive:
        archive.extractall(tmp_path / "bundles")
    return monai_iste.load()


@pytest.mark.parametrize("cuda", [False, True])
def test_monai_loads_the_packaged_bundle(cuda, tmp_path, monkeypatch):
    """With a GPU too: MONAI would copy nothing, and say nothing, if the configuration then built another network."""
    network = packaged(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    loaded = load("iste", bundle_dir=str(tmp_path / "bundles"), device="cpu")
    image = torch.rand(1, 3, 9, 7)
    with torch.no_grad():
        assert torch.equal(loaded.eval()(image, scale=2.5), network(image, scale=2.5))


@pytest.mark.slow
def test_monai_exports_the_packaged_bundle(tmp_path):
    network = packaged(tmp_path)
    root = tmp_path / "bundles" / "iste"
    command = f"-m monai.bundle ckpt_export --bundle_root {root} --config_file {root / 'configs' / 'inference.json'}"
    subprocess.run([sys.executable, *command.split()], check=True, cwd=tmp_path)
    script, metadata, _ = load("iste", bundle_dir=str(tmp_path / "bundles"), load_ts_module=True, device="cpu")
    assert metadata["version"] == json.loads((root / "configs" / "metadata.json").read_text())["version"]
    assert_script_equals(script, network)
