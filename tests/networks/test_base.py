"""What every network does with MONAI's images, half precision and long axes."""

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Flip, SpatialPad
from reference import assert_teaches

from monai_iste.coordinates import axis_centers, corner_axis, nearest_axis
from monai_iste.errors import ConfigError
from monai_iste.functional import upscale
from monai_iste.inferers import ArbitraryScaleInferer
from monai_iste.networks import EDSR, ISTE, LIIF, LTE, Bicubic, EDSREncoder, LiUNetGAN, SWDNet
from monai_iste.networks.runtime import at_precision

SMALL = {
    "iste": lambda: ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8, bicubic_residual=True),
    "liif": lambda: LIIF(EDSREncoder(8, 1), 8),
    "lte": lambda: LTE(EDSREncoder(8, 1), 8),
    "edsr": lambda: EDSR(2, 8, 1),
    "swd_net": lambda: SWDNet(2, 4, 4, 1, 4),
    "li_unet_gan": lambda: LiUNetGAN(2, (4, 8, 16, 32)),
    "bicubic": Bicubic,
}


@pytest.fixture(params=SMALL)
def network(request):
    torch.manual_seed(0)
    return SMALL[request.param]().eval()


def scan(batch: int = 1) -> MetaTensor:
    """Pixels of 0.5 x 0.25 um whose first center lies at (3, 4)."""
    affine = torch.tensor([[0.5, 0, 0, 3], [0, 0.25, 0, 4], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float64)
    image = MetaTensor(torch.rand(batch, 3, 8, 10), affine, {"mpp": 0.5})
    return image


CALLS = {
    "network": lambda network, image: network(image),
    "bf16": lambda network, image: at_precision(network, "bf16")(image),
    "inferer": lambda network, image: ArbitraryScaleInferer(window=8, overlap=8, halo=4)(image, network, scale=2),
    "upscale": lambda network, image: upscale(image, 2, model=network),
}


@pytest.mark.parametrize("call", CALLS)
@torch.no_grad()
def test_spacing_of_the_result(network, call):
    image = scan()
    result, plain = CALLS[call](network, image), CALLS[call](network, image.as_tensor())
    assert torch.equal(result.as_tensor(), plain)
    assert type(plain) is torch.Tensor
    expected = torch.tensor([[0.25, 0, 0, 2.875], [0, 0.125, 0, 3.9375], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert torch.equal(result.affine.float(), expected)  # the first center moves by a quarter of a pixel
    assert result.pixdim.tolist()[:2] == [0.25, 0.125]
    assert result.meta["mpp"] == 0.5
    assert image.affine[0, 0] == 0.5


@torch.no_grad()
def test_a_collated_batch_has_an_affine_per_image():
    network, one = SMALL["iste"]().eval(), scan()
    batch = MetaTensor(torch.rand(2, 3, 8, 10), torch.stack([one.affine, 2 * one.affine]))
    batch.is_batch = True
    assert network(batch).affine[:, 0, 0].tolist() == [0.25, 0.5]


@torch.no_grad()
def test_pending_transforms_are_applied(network):
    image = MetaTensor(torch.rand(3, 8, 10))
    lazy = SpatialPad((10, 12))(Flip(0)(image, lazy=True), lazy=True)
    eager = SpatialPad((10, 12))(Flip(0)(image))
    assert lazy.has_pending_operations
    assert torch.equal(upscale(lazy, 2, model=network).as_tensor(), upscale(eager, 2, model=network).as_tensor())
    found, expected = (upscale(image, 2, model=network).affine[:2, [0, 1, -1]] for image in (lazy, eager))
    assert torch.equal(found, expected)
    assert lazy.has_pending_operations  # the caller's image is not changed


@torch.no_grad()
def test_colors_at_coordinates_and_regions_have_no_affine():
    network = SMALL["iste"]().eval()
    colors = network(scan(), coord=torch.zeros(1, 2, 2), cell=torch.ones(1, 2))
    assert type(colors) is torch.Tensor
    assert colors.shape == (1, 2, 3)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_half_precision(network, kind):
    image = torch.rand(1, 3, 8, 10)
    expected = network(image)
    if isinstance(network, Bicubic):
        result = network.to(kind)(image.to(kind))
        assert result.dtype == kind
        torch.testing.assert_close(result.float(), expected, atol=0.01, rtol=0)
        return
    with pytest.raises(ConfigError) as caught:
        network(image.to(kind))
    assert_teaches(caught.value, str(kind), "image.float()")
    network.to(kind)
    for call in (CALLS["network"], CALLS["inferer"]):
        for given in (image, image.to(kind)):
            with pytest.raises(ConfigError) as caught:
                call(network, given)
            assert_teaches(caught.value, f"weights of {kind}", "network.float()", "bf16")


@torch.no_grad()
def test_double_precision(network):
    image = torch.rand(1, 3, 8, 10)
    expected = network(image)
    torch.testing.assert_close(network.double()(image.double()).float(), expected)


@pytest.mark.parametrize("scale", [(3, 2), (5, 2), (1, 2), (7, 4)])
@pytest.mark.parametrize("length", [48, 10_000, 15_000, 40_000, 100_000])
def test_borders_of_long_axes_go_the_same_way(length, scale):
    """Against whole numbers: float32 moves a coordinate by up to length / 2^26 pixels."""
    output = length * scale[0] // scale[1]
    index = torch.arange(output)
    # position + 1/2 = (2 i + 1) length / (2 output), exactly
    exact = (2 * index + 1) * length
    nearest = nearest_axis(axis_centers(output), length).pixel[:, 0]
    assert torch.equal(nearest, exact // (2 * output))
    corners = corner_axis(axis_centers(output), length).pixel[:, 0]
    assert torch.equal(corners, ((exact - output) // (2 * output)).clamp(0, length - 1))


@torch.no_grad()
def test_a_long_image_equals_a_short_one():
    """A pattern that repeats has the same result everywhere, at the end of 15,000 rows too."""
    torch.manual_seed(0)
    network = ISTE(EDSREncoder(4, 1), texture_channels=4, hidden_channels=4, use_stf=False).eval()
    short, scale = torch.rand(1, 3, 40, 8), 1.5
    image = short.repeat(1, 1, 375, 1)
    result, period = network(image, scale=scale), 60
    middle = result[:, :, period : 2 * period]
    for start in (period * 100, period * 200, period * 373):
        torch.testing.assert_close(result[:, :, start : start + period], middle, atol=1e-3, rtol=0)
