"""Upscaling in memory: types and layouts are kept, sizes are exact, nothing is displaced."""

import numpy as np
import pytest
import safetensors.torch
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, ScaleIntensity
from PIL import Image
from reference import assert_teaches
from skimage.data import immunohistochemistry
from skimage.registration import phase_cross_correlation
from tiny_preset import add_tiny_preset

import monai_iste
from monai_iste.errors import CheckpointError, ConfigError, ScaleError, ShapeError
from monai_iste.functional import upscale
from monai_iste.inferers import ArbitraryScaleInferer
from monai_iste.inferers.output_size import MAX_OUTPUT_PIXELS, OutputSize
from monai_iste.io.files import CHECKSUMS, checksum
from monai_iste.networks import ISTE, EDSREncoder, load_network, presets, released_weights
from monai_iste.transforms import SuperResolve, SuperResolved

TISSUE = immunohistochemistry()


def tiny(**changes) -> ISTE:
    torch.manual_seed(0)
    return ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8, bicubic_residual=True, **changes).eval()


@pytest.fixture(scope="module")
def network():
    return tiny()


@pytest.fixture
def preset(tmp_path, monkeypatch, network):
    """A preset named tiny, whose released weights are in a temporary folder."""
    add_tiny_preset(monkeypatch)
    (tmp_path / "weights").mkdir()
    file = tmp_path / "weights" / "tiny.safetensors"
    safetensors.torch.save_file(network.state_dict(), file)
    file.with_name(CHECKSUMS).write_text(f"{checksum(file)}  {file.name}\n")
    monkeypatch.setattr(presets.resources, "files", lambda package: tmp_path)
    return "tiny"


# --- weights by name --------------------------------------------------------------------------------------------------


def test_released_weights_are_found_by_name(preset, network):
    assert released_weights(preset).name == "tiny.safetensors"
    assert released_weights("iste") is None
    loaded = monai_iste.load(preset)
    assert not loaded.training
    image = torch.rand(1, 3, 6, 5)
    with torch.no_grad():
        assert torch.equal(loaded(image, scale=2), network(image, scale=2))


def test_changed_weights_are_not_the_released_ones(preset, tmp_path):
    file = released_weights(preset)
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CheckpointError) as caught:
        monai_iste.load(preset)
    assert_teaches(caught.value, "tiny.safetensors with SHA-256", "Install monai_iste again")
    assert isinstance(monai_iste.load(preset, weights=file), ISTE)
    file.write_bytes(content)
    file.with_name(CHECKSUMS).unlink()
    with pytest.raises(CheckpointError):
        monai_iste.load(preset)


def test_weights_of_ones_own(preset, tmp_path):
    path = tmp_path / "mine.safetensors"
    safetensors.torch.save_file({k: torch.zeros_like(v) for k, v in tiny().state_dict().items()}, path)
    assert not any(p.any() for p in monai_iste.load(preset, weights=path).parameters())
    with pytest.raises(CheckpointError):
        monai_iste.load("iste_light", weights=path)


def test_a_preset_without_weights_refuses(preset):
    with pytest.raises(ConfigError) as caught:
        load_network("iste")
    assert_teaches(caught.value, "(tiny)", "'iste'", "--allow-untrained")
    with pytest.raises(ConfigError) as caught:
        upscale(TISSUE[:4, :4], 2, model="iste_small")
    assert_teaches(caught.value, "'iste_small'")
    assert isinstance(load_network("iste_small", allow_untrained=True), ISTE)


@pytest.mark.parametrize("device", ["warp", "cuda:99"])
def test_a_device_that_is_not_there(preset, device):
    with pytest.raises(ConfigError) as caught:
        load_network(preset, device=device)
    assert_teaches(caught.value, "device", repr(device))
    with pytest.raises(ConfigError):
        upscale(TISSUE[:4, :4], 2, model=load_network(preset), device=device)


def test_load_leaves_monai_its_own():
    from monai.bundle import ComponentLocator

    assert ComponentLocator().get_component_module_name("load") == "monai.bundle.scripts"


# --- kinds and layouts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (20, 33)])
def test_the_same_kind_comes_back(network, size):
    pixels = TISSUE[: size[0], : size[1]]
    expected = upscale(pixels, 1.7, model=network)
    assert expected.dtype == np.uint8
    assert expected.shape == (*OutputSize(1.7).resolve_upscaled(size), 3)
    assert expected.flags.c_contiguous

    picture = upscale(Image.fromarray(pixels), 1.7, model=network)
    np.testing.assert_array_equal(np.asarray(picture), expected)
    for kind in (np.float32, np.float64, np.float16):
        result = upscale((pixels / 255).astype(kind), 1.7, model=network)
        assert result.dtype == kind
        np.testing.assert_allclose(result * 255, expected, atol=1.2)

    channels_first = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
    result = upscale(channels_first, 1.7, model=network)
    np.testing.assert_array_equal(result.permute(1, 2, 0).numpy(), expected)
    batch = upscale(torch.stack([channels_first.flip(2), channels_first]).float() / 255, 1.7, model=network)
    assert batch.shape == (2, 3, *expected.shape[:2])
    assert torch.equal((batch[1] * 255).round().byte(), result)
    assert batch.is_contiguous()


def test_odd_memory_layouts(network):
    expected = upscale(np.ascontiguousarray(TISSUE[:9:, 11:3:-1]), 2, model=network)
    np.testing.assert_array_equal(upscale(TISSUE[:9:, 11:3:-1], 2, model=network), expected)
    frozen = TISSUE[:9:, 11:3:-1].copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(upscale(frozen, 2, model=network), expected)


def test_a_profile_stays_with_its_picture(network):
    picture = Image.fromarray(TISSUE[:4, :4])
    picture.info["icc_profile"] = b"profile"
    assert upscale(picture, 2, model=network).info["icc_profile"] == b"profile"


def test_it_is_the_inferer_rounded_once(network):
    image = torch.from_numpy(TISSUE[:130, :40].transpose(2, 0, 1).copy())
    expected = ArbitraryScaleInferer()(image[None].float() / 255, network, scale=1.3)[0]
    assert torch.equal(upscale(image, 1.3, model=network), (expected.clamp(0, 1) * 255).round().byte())


def test_exact_sizes(network):
    result = upscale(TISSUE[:10, :12], size=(23, 12), model=network)
    assert result.shape == (23, 12, 3)
    image = torch.rand(1, 3, 110, 9)
    inferer = ArbitraryScaleInferer()
    assert torch.equal(inferer(image, network, scale=(220, 18)), inferer(image, network, scale=2))
    for wrong in [(0, 5), (5.0, 5), (1, 2, 3)]:
        with pytest.raises(ScaleError):
            inferer(image, network, scale=wrong)


def test_a_preset_by_name_is_loaded_once(preset, network, monkeypatch):
    monai_iste.networks.runtime._load_released.cache_clear()
    expected = upscale(TISSUE[:8, :8], 2, model=network)
    np.testing.assert_array_equal(upscale(TISSUE[:8, :8], 2, model=preset, device="cpu"), expected)
    monkeypatch.setattr(monai_iste.networks.runtime, "load_network", None)
    np.testing.assert_array_equal(upscale(TISSUE[:8, :8], 2, model=preset, device="cpu"), expected)
    monai_iste.networks.runtime._load_released.cache_clear()


def test_half_precision_stays_close_and_does_not_leak(network):
    image = TISSUE[:40, :40]
    exact = upscale(image, 2, model=network).astype(int)
    rough = upscale(image, 2, model=network, precision="bf16").astype(int)
    assert np.abs(exact - rough).max() <= 2
    assert not torch.is_autocast_enabled("cpu")


def test_what_half_precision_loses_is_computed_again(network):
    """A sum that only bfloat16 turns into NaN: the result is that of full precision."""

    def overflow(module, args, result):
        return result * torch.nan if torch.is_autocast_enabled("cpu") else result

    handle = network.encoder.register_forward_hook(overflow)
    rough = upscale(TISSUE[:20, :20], 2, model=network, precision="bf16")
    handle.remove()
    np.testing.assert_array_equal(rough, upscale(TISSUE[:20, :20], 2, model=network))


@pytest.mark.parametrize("scale", [1.3, 2, 3.7, 8])
def test_nothing_is_displaced(scale):
    """With decoders that return 0 the result is the interpolation, at the positions of Pillow's."""
    network = tiny()
    for decoder in (network.local_pixel_decoder, network.local_texture_decoder):
        for parameter in decoder.mlp[-1].parameters():
            torch.nn.init.zeros_(parameter)
    pixels = TISSUE[:128, 100:236]
    result = upscale(pixels, scale, model=network)
    expected = np.asarray(Image.fromarray(pixels).resize(result.shape[1::-1], Image.Resampling.BICUBIC))
    shift = phase_cross_correlation(expected.mean(2), result.mean(2), upsample_factor=100)[0]
    assert np.abs(shift).max() < 0.02


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0, -1, -1e6, float("nan"), float("inf"), float("-inf")])
def test_scales_that_are_none(network, scale):
    with pytest.raises(ScaleError) as caught:
        upscale(TISSUE, scale, model=network)
    assert_teaches(caught.value, "finite scale above 0", repr(float(scale)))


def test_reducing_is_refused(network):
    with pytest.raises(ScaleError) as caught:
        upscale(TISSUE, 0.5, model=network)
    assert_teaches(caught.value, "at least 1", "0.5", "resampler")
    with pytest.raises(ScaleError) as caught:
        upscale(TISSUE[:10, :10], size=(20, 9), model=network)
    assert_teaches(caught.value, "10 x 10", "20 x 9", "resampler")


@pytest.mark.parametrize("wanted", [{"scale": 1e6}, {"size": (512_000_000, 512_000_000)}])
def test_too_large_is_refused_with_its_size(network, wanted):
    with pytest.raises(ScaleError) as caught:
        upscale(TISSUE, **wanted, model=network)
    assert_teaches(caught.value, f"{MAX_OUTPUT_PIXELS:,}", "512,000,000 x 512,000,000", "GB")
    with pytest.raises(ScaleError):
        OutputSize(1e308).resolve_upscaled((3, 3))


def test_a_window_that_no_memory_holds_is_refused(network):
    """Windows are computed whole: 208 x 208 pixels at x1000 would take 3 TB, whatever part of them is wanted."""
    with pytest.raises(ScaleError) as caught:
        upscale(TISSUE[:20, :20], 1000, model=network)
    assert_teaches(caught.value, "208 x 208", "x1000", "two steps")
    assert OutputSize(100).resolve_upscaled((20, 20)) == (2000, 2000)
    with pytest.raises(ScaleError):
        OutputSize(size=(208 * 28, 208 * 28)).resolve_upscaled((208, 208))
    assert OutputSize(16).resolve_upscaled((500, 500)) == (8000, 8000)


@pytest.mark.parametrize("size", [18, (18,), (18, 22, 3), "18x22", (18.5, 22), (18, 0)])
def test_sizes_that_are_none(network, size):
    with pytest.raises(ConfigError) as caught:
        upscale(TISSUE[:9, :11], size=size, model=network)
    assert_teaches(caught.value, "size (H, W)", repr(size), "two whole numbers")


@pytest.mark.parametrize("wanted", [{}, {"scale": 2, "size": (8, 8)}])
def test_one_of_scale_and_size(network, wanted):
    with pytest.raises(ConfigError) as caught:
        upscale(TISSUE[:4, :4], **wanted, model=network)
    assert_teaches(caught.value, "one of scale and size", "both" if wanted else "neither")


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((3, 8, 8), np.uint8), ("(H, W, 3)", "(3, 8, 8)")),
        (np.zeros((8, 8), np.uint8), ("(H, W, 3)", "(8, 8)")),
        (np.zeros((0, 8, 3), np.uint8), ("(3, 0, 8)",)),
        (np.zeros((8, 8, 3), np.int64), ("uint8", "int64")),
        (np.full((8, 8, 3), 255.0), ("[0, 1]", "255")),
        (np.full((8, 8, 3), np.nan), ("[0, 1]", "nan")),
        (Image.new("L", (4, 4)), ("RGB", "mode L")),
        (torch.zeros(8, 8, 3), ("(3, H, W)", "(8, 8, 3)")),
        (torch.zeros(3, 8, 8, dtype=torch.int32), ("uint8", "int32")),
        ("a.png", ("NumPy array", "str")),
    ],
)
def test_unsupported_images_are_refused(network, image, words):
    with pytest.raises(ShapeError) as caught:
        upscale(image, 2, model=network)
    assert_teaches(caught.value, *words)


def test_unknown_precision(network):
    with pytest.raises(ConfigError) as caught:
        upscale(TISSUE[:4, :4], 2, model=network, precision="int1")
    assert_teaches(caught.value, "fp32, bf16", "'int1'")


# --- MONAI transforms -------------------------------------------------------------------------------------------------


def test_in_a_pipeline(network):
    pixels = TISSUE[:9, :7].transpose(2, 0, 1).copy()
    chain = Compose([SuperResolve(2, model=network), ScaleIntensity(0, 1)])
    assert chain(pixels).shape == (3, 18, 14)
    result = SuperResolved(("image", "other"), size=(10, 21), model=network, allow_missing_keys=True)(
        {"image": torch.from_numpy(pixels), "name": "a"}
    )
    assert result["image"].shape == (3, 10, 21)
    assert result["image"].dtype == torch.uint8
    assert result["name"] == "a"
    expected = upscale(TISSUE[:9, :7], 2, model=network)
    array = SuperResolve(2, model=network)(pixels)
    assert isinstance(array, np.ndarray)
    np.testing.assert_array_equal(array.transpose(1, 2, 0), expected)
    with pytest.raises(ShapeError):
        SuperResolve(2, model=network)(torch.zeros(1, 3, 4, 4))


def test_a_metatensor_keeps_its_place(network):
    affine = torch.diag(torch.tensor([0.5, 0.25, 1, 1], dtype=torch.float64))
    affine[:2, 3] = torch.tensor([10, 20])
    image = MetaTensor(torch.rand(3, 8, 6), affine=affine, meta={"name": "a"})
    result = SuperResolve(size=(16, 18), model=network)(image)
    assert isinstance(result, MetaTensor)
    assert result.meta["name"] == "a"
    assert torch.allclose(result.pixdim[:2], torch.tensor([0.25, 0.25 / 3], dtype=torch.float64))
    # The image's outer corner stays where it is: half a pixel before the center of the first.
    corner = torch.tensor([-0.5, -0.5, 0, 1], dtype=torch.float64)
    assert torch.allclose(result.affine @ corner, image.affine @ corner)
