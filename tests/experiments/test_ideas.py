"""Ideas beyond the paper: slow literal references, their networks from the overlays, their settings."""

import pytest
import torch
import torch.nn.functional as F
from monai.bundle import ConfigParser
from reference import assert_all_learn

from experiments import quality
from experiments.ideas import HighBandFusion, InteractingEncoder, SoftTextureFusion
from experiments.methods import IDEAS, METHODS
from experiments.runs import find_config
from monai_iste.coordinates import cell_size, pixel_centers
from monai_iste.networks import ISTE, LIIF, EDSREncoder
from monai_iste.networks.self_texture_fusion import SelfTextureFusion


def built(name, config="train"):
    method = IDEAS[name]
    parser = ConfigParser()
    parser.read_config([str(find_config(part)) for part in (config, *method.network_overlays)])
    parser.update({"preset": method.preset("light")})
    torch.manual_seed(0)
    return parser.get_parsed_content("network_def").eval()


def test_soft_retrieval_is_the_weighted_mean_of_the_most_similar_keys():
    torch.manual_seed(0)
    fusion = SoftTextureFusion(6, count=3)
    query, keys = torch.randn(2, 6, 4, 5), torch.randn(2, 9, 6)
    index, retrieved, confidence = fusion.retrieve(query, keys)
    for b in range(2):
        for i, vector in enumerate(query[b].flatten(1).T):
            cosine = torch.stack([F.cosine_similarity(vector, key, dim=0) for key in keys[b]])
            chosen = sorted(range(9), key=lambda k: -float(cosine[k]))[:3]
            weights = [torch.exp(10 * cosine[k]) for k in chosen]
            mean = sum(w * keys[b, k] for w, k in zip(weights, chosen, strict=True)) / sum(weights)
            assert int(index[b, i]) == chosen[0]
            torch.testing.assert_close(retrieved[b, i], mean)
            torch.testing.assert_close(confidence[b, i], F.cosine_similarity(vector, mean, dim=0))


def test_soft_retrieval_of_one_key_is_hard_retrieval():
    torch.manual_seed(0)
    soft, hard = SoftTextureFusion(6, count=1), SelfTextureFusion(6)
    hard.load_state_dict({name: value for name, value in soft.state_dict().items() if name != "temperature"})
    query, keys = torch.randn(1, 6, 4, 5), torch.randn(1, 9, 6)
    torch.testing.assert_close(soft(query, keys), hard(query, keys))
    assert SoftTextureFusion(6, count=8)(query, keys[:, :2]).shape == query.shape  # fewer keys than the mean takes


def test_high_band_is_the_contribution_without_its_local_mean():
    torch.manual_seed(0)
    fusion = HighBandFusion(6)
    whole = SelfTextureFusion(6)
    whole.load_state_dict(fusion.state_dict())
    query, keys = torch.randn(1, 6, 7, 8), torch.randn(1, 9, 6)
    added = whole(query, keys) - query
    result = fusion(query, keys)
    for y in range(7):
        for x in range(8):
            window = [
                added[0, :, min(max(y + i, 0), 6), min(max(x + j, 0), 7)] for i in range(-2, 3) for j in range(-2, 3)
            ]
            expected = query[0, :, y, x] + added[0, :, y, x] - sum(window) / 25
            torch.testing.assert_close(result[0, :, y, x], expected, atol=1e-5, rtol=1e-4)


def test_interacting_encoder_adds_what_the_lfi_makes_of_the_features():
    torch.manual_seed(0)
    encoder = InteractingEncoder(EDSREncoder(8, 1))
    image = torch.rand(1, 3, 5, 7)
    feat = encoder.encoder(image)
    torch.testing.assert_close(encoder(image), feat + encoder.interactor(feat))
    assert encoder(image).shape == (1, 8, 5, 7)


@pytest.mark.parametrize("name", IDEAS)
def test_networks_of_the_overlays(name):
    network = built(name)
    image = torch.rand(1, 3, 12, 13)
    with torch.no_grad():
        whole = network(image, scale=2.5)
        cell = cell_size((12, 13), (30, 32))
        points = network(image, coord=pixel_centers((30, 32))[None], cell=cell.expand(1, 2))
    assert whole.shape == (1, 3, 30, 32)
    torch.testing.assert_close(whole, points.mT.reshape(1, 3, 30, 32), atol=1e-5, rtol=1e-4)
    assert {key: value.shape for key, value in built(name, "evaluate").state_dict().items()} == {
        key: value.shape for key, value in network.state_dict().items()
    }
    assert type(network) is LIIF if name.startswith("liif") else isinstance(network, ISTE)


@pytest.mark.parametrize("name", [name for name in IDEAS if not name.startswith("large_crops_without")])
def test_every_part_of_an_idea_learns(name):
    network = built(name).train()
    coord = torch.rand(2, 20, 2) * 2 - 1
    network(torch.rand(2, 3, 12, 12), coord=coord, cell=torch.full((2, 2), 0.7)).square().sum().backward()
    assert_all_learn(network)


def test_what_each_idea_changes():
    assert isinstance(built("soft_retrieval").self_texture_fusion, SoftTextureFusion)
    assert isinstance(built("high_band").self_texture_fusion, HighBandFusion)
    assert isinstance(built("lfi_in_encoder").encoder, InteractingEncoder)
    assert isinstance(built("liif_lfi_in_encoder").encoder, InteractingEncoder)
    assert built("large_crops").key_side ** 2 >= 288**2
    assert built("large_crops_without_stf").self_texture_fusion is None
    for name in IDEAS:
        if not name.startswith("liif"):
            assert built(name).texture_corners == "nearest"  # as printed


def test_keys_of_several_scales():
    network = built("soft_retrieval")
    image, cell = torch.rand(1, 3, 12, 13), torch.full((1, 2), 0.8)
    with torch.no_grad():
        amp_freq = network.texture_learner.amp_freq(network.encode_image(image))
        keys = network.keys(amp_freq, pixel_centers((24, 26))[None], cell)
        half = torch.stack(
            [amp_freq[:, :, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean((2, 3)) for y in range(6) for x in range(7)],
            dim=2,
        ).view(1, -1, 6, 7)
        expected = network.texture_learner.keys(half, cell, network.key_side)
    assert keys.shape[1] == 12 * 13 + 6 * 7 + 3 * 4
    torch.testing.assert_close(keys[:, 156 : 156 + 42], expected)


def test_all_have_as_many_pixels_and_points_a_step(bundle, root, tmp_path):
    quality.ideas(root, scales="2", output_dir=tmp_path / "out")
    trained = {folder.name: options for workflow, _, options, folder in bundle if workflow == "training"}
    assert len(trained) == len(IDEAS)
    pixels = {o["batch_size"] * o["lr_size"] ** 2 for o in trained.values()}
    assert pixels == {8 * 32**2}
    assert {o["batch_size"] * o["num_points"] for o in trained.values()} == {8 * 1024}
    assert trained["large_crops-1000-seed0"]["lr_size"] == 64
    assert trained["iste-1000-seed0"]["lr_size"] == 32
    assert (tmp_path / "out" / "ideas-differences.csv").is_file()


def test_ideas_share_the_trainings_of_table1(bundle, root, tmp_path):
    quality.table1(root, methods="liif,iste", scales="2", output_dir=tmp_path / "out")
    quality.ideas(root, ideas="iste,high_band,liif", scales="2", output_dir=tmp_path / "out")
    trained = [folder.name for workflow, _, _, folder in bundle if workflow == "training"]
    assert trained == ["liif-1000-seed0", "iste-1000-seed0", "high_band-1000-seed0"]
    assert IDEAS["iste"] is METHODS["iste"]
