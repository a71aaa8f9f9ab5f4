"""Plans of slides: windows that cover the output once, and a digest that tells jobs apart."""

import pytest
from slide_files import write_slide_file
from slide_windows import PIXELS
from torch import nn

from monai_iste.errors import ScaleError, ShapeError
from monai_iste.inferers import Region
from monai_iste.networks import ISTE, EDSREncoder
from monai_iste.slides.plan import network_digest, plan_slide
from monai_iste.slides.reader import Slide

pytest.importorskip("zarr")


@pytest.mark.parametrize("scale", [1, 1.3, 2, 3.7])
def test_windows_cover_the_output_once(slide, network, scale):
    plan = plan_slide(slide, network, scale=scale)
    assert sum(plan.pixels(window) for window in plan.windows) == plan.output[0] * plan.output[1]
    assert [plan.window(window.key).key for window in plan.windows] == [window.key for window in plan.windows]


@pytest.mark.parametrize("region", [(0, 0, 240, 430), (10, 20, 100, 90), (200, 380, 1, 1), (239, 0, 1, 430)])
def test_a_region_has_its_share_of_the_windows(slide, network, region):
    plan = plan_slide(slide, network, scale=2, region=Region(*region))
    assert plan.region == Region(*(2 * number for number in region))
    assert sum(plan.pixels(window) for window in plan.windows) == plan.region.height * plan.region.width
    whole = {window.key for window in plan_slide(slide, network, scale=2).windows}
    assert {window.key for window in plan.windows} <= whole


def test_mpp_and_size_lead_to_the_same_plan_as_the_scale(slide, network):
    by_mpp = plan_slide(slide, network, mpp=0.137)
    assert by_mpp.output == (round(240 * 0.5 / 0.137), round(430 * 0.5 / 0.137))
    assert by_mpp.output_mpp == pytest.approx((0.137, 0.137), rel=1e-3)
    assert plan_slide(slide, network, size=by_mpp.output).digest == by_mpp.digest


def test_the_digest_tells_jobs_apart(slide, network, tmp_path):
    other_network = ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8, bicubic_residual=True).eval()
    changed = PIXELS.copy()
    changed[-1, -1] ^= 1
    with Slide(write_slide_file(tmp_path / "b.tif", changed)) as other_slide:
        plans = [
            plan_slide(slide, network, scale=2),
            plan_slide(slide, network, scale=2.01),
            plan_slide(slide, network, scale=2, tissue_only=True),
            plan_slide(slide, network, scale=2, precision="bf16"),
            plan_slide(slide, network, scale=2, region=Region(0, 0, 9, 9)),
            plan_slide(slide, other_network, scale=2),
            plan_slide(other_slide, network, scale=2),
        ]
    assert len({plan.digest for plan in plans}) == len(plans)
    assert plan_slide(slide, network, scale=2).digest == plans[0].digest
    assert network_digest(network) != network_digest(other_network)


def test_the_digest_tells_options_apart_that_change_pixels():
    def digest(**options):
        network = ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8, bicubic_residual=True, **options)
        return network_digest(fill(network))

    assert digest() == digest()
    assert digest(training_keys="lattice") == digest(), "an option of the training alone"
    assert digest(inference_keys="all") != digest()
    assert digest(texture_corners="four") != digest()


def fill(network):
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.01)
    return network


def test_a_moved_slide_is_the_same_job(slide, network, tmp_path):
    moved = tmp_path / "elsewhere.tif"
    moved.write_bytes(slide.path.read_bytes())
    with Slide(moved) as again:
        assert plan_slide(again, network, scale=2).digest == plan_slide(slide, network, scale=2).digest


def test_impossible_plans_are_refused(slide, network):
    with pytest.raises(ScaleError, match="at most 16"):
        plan_slide(slide, network, scale=17)
    with pytest.raises(ScaleError, match="at least 1"):
        plan_slide(slide, network, scale=0.5)
    with pytest.raises(ScaleError, match=r"at most 0\.5"):
        plan_slide(slide, network, mpp=0.6)
    with pytest.raises(ShapeError, match="inside 240 x 430"):
        plan_slide(slide, network, scale=2, region=Region(210, 0, 31, 10))
