"""Methods, ablations, choices and budgets: their presets, sizes and overlays."""

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from experiments.methods import ABLATIONS, BUDGETS, CHOICES, METHODS, get_budget
from experiments.runs import find_config
from monai_iste.errors import ConfigError
from monai_iste.networks import BASELINES, PRESETS, create_network
from monai_iste.networks.local_feature_interactor import QueryProjection
from monai_iste.networks.texture_learner import ConvTexture

EVERY = {**METHODS, **ABLATIONS, **CHOICES}


@pytest.mark.parametrize("method", EVERY.values(), ids=EVERY)
@pytest.mark.parametrize("size", ["full", "small", "light"])
def test_every_method_has_a_preset_of_every_size(method, size):
    assert method.preset(size) in {**PRESETS, **BASELINES}
    assert method.preset("full") == method.family


def test_sizes():
    assert METHODS["liif"].preset("light") == "liif_light"
    assert METHODS["edsr"].preset("light") == METHODS["edsr"].preset("small") == "edsr_small"
    assert METHODS["bicubic"].preset("small") == "bicubic"


def test_methods_of_any_scale_share_encoder_and_residual_at_every_size():
    for size in ("full", "small", "light"):
        nets = [create_network(METHODS[name].preset(size)) for name in ("liif", "lte", "iste")]
        shapes = [[tuple(p.shape) for p in net.encoder.parameters()] for net in nets]
        assert shapes[0] == shapes[1] == shapes[2]
    assert all(create_network(METHODS[name].preset("light")).bicubic_residual for name in ("liif", "lte", "iste"))


def test_scales_of_fixed_networks_end_at_four():
    assert METHODS["edsr"].scales((2.0, 3.0, 4.0, 6.0)) == (2.0, 3.0, 4.0)
    assert METHODS["iste"].scales((2.0, 6.0)) == (2.0, 6.0)


def built(method):
    parser = ConfigParser()
    parser.read_config([str(find_config(c)) for c in ("train", *method.network_overlays)])
    parser.update({"preset": method.preset("light")})
    return parser.get_parsed_content("network_def")


def test_choices_decide_one_thing_the_other_way():
    def decisions(net):
        kernel = net.local_feature_interactor.projection.weight.shape[-1]
        return {"corners": net.texture_axis, "kernel": kernel, "keys": net.training_keys}

    plain = decisions(built(METHODS["iste"]))
    changed = {name: dict(decisions(built(method)).items() - plain.items()) for name, method in CHOICES.items()}
    corners = create_network("iste_light", texture_corners="four").texture_axis
    assert changed == {
        "iste": {},
        "four_corners": {"corners": corners},
        "query_3x3": {"kernel": 3},
        "lattice_keys": {"keys": "lattice"},
    }


def test_ablations_take_one_module_away():
    full = create_network("iste_light")
    for name, method in ABLATIONS.items():
        net = built(method)
        missing = {
            "lfi": type(net.local_feature_interactor) is QueryProjection,
            "tl": type(net.texture_learner) is ConvTexture,
            "stf": net.self_texture_fusion is None,
            "ltd": net.local_texture_decoder is None,
        }
        assert {f"without_{module}" for module, gone in missing.items() if gone} == {name} - {"iste"}
    assert full.self_texture_fusion is not None


def test_fixed_scale_overlay_builds_and_crops_for_its_scale():
    parser = ConfigParser()
    parser.read_config([str(find_config(name)) for name in ("train", "fixed_scale")])
    parser.update({"preset": "edsr_small", "scale": 3})
    net = parser.get_parsed_content("network_def")
    steps = parser.get_parsed_content("train#preprocessing").transforms
    assert net(torch.rand(1, 3, 4, 5)).shape == (1, 3, 12, 15)
    assert parser.get_parsed_content("scales") == [3]
    data = {"image": np.random.default_rng(0).integers(0, 255, (3, 120, 120), np.uint8)}
    for step in steps[1:]:
        data = step(data)
    assert data["image"].shape == (3, 32, 32)
    assert data["label"].shape == (3, 96, 96)  # whole crops: no coordinates are drawn


def test_budgets():
    assert get_budget("light", 7) == BUDGETS["light"]._replace(steps=7)
    with pytest.raises(ConfigError, match="budget"):
        get_budget("huge")
