"""Parts switched off at inference: each change does what its name says, and the whole network is untouched."""

import csv
import json

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from reference import assert_teaches, randomise
from typer.testing import CliRunner

from benchmarks import parts as module
from benchmarks.parts import PARTS, WHOLE, app, parts
from benchmarks.tile_scores import tile_pair
from monai_iste.data import sample_datalists
from monai_iste.errors import ConfigError
from monai_iste.metrics import get_protocol
from monai_iste.networks import ISTE, PRESETS, EDSREncoder, presets
from monai_iste.networks.local_decoders import LocalPixelDecoder

TISSUE = sample_datalists()[0][0]["image"]
NARROW = {"texture_channels": 8, "hidden_channels": 8, "bicubic_residual": True}


def network(**changes):
    return randomise(ISTE(EDSREncoder(8, 1), **{**NARROW, **changes})).eval()


def changed(part, net):
    return module._changed(net, PARTS[part])


@pytest.fixture
def tiles(tmp_path):
    for i, name in enumerate(("a", "b")):
        Image.fromarray(TISSUE[:, 60 * i : 60 * i + 90, :100].transpose(1, 2, 0)).save(tmp_path / f"{name}.png")
    return tmp_path


@pytest.fixture
def toy(monkeypatch, tmp_path):
    monkeypatch.setitem(PRESETS, "toy", presets.Preset("for tests", lambda: EDSREncoder(8, 1), NARROW))
    torch.save(network().state_dict(), tmp_path / "toy.pt")
    return f"toy={tmp_path / 'toy.pt'}"


@torch.no_grad()
def test_parts_are_switched_off():
    net, image = network(), torch.rand(1, 3, 9, 11)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    whole = net(image, scale=2)
    results = {part: changed(part, net)(image, scale=2) for part in PARTS}
    assert torch.equal(results.pop(WHOLE), whole)
    assert all((result - whole).abs().max() > 1e-4 for result in results.values())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    # The colors of the two branches add up: without either, what remains is the bicubic interpolation.
    without_pixels = changed("without the colors of the pixel branch", net)
    remains = changed("without the colors of the texture branch", without_pixels)(image, scale=2)
    assert torch.allclose(remains, F.interpolate(image, scale_factor=2, mode="bicubic"), atol=1e-5)
    pixel, texture = (results[f"without the colors of the {branch} branch"] for branch in ("texture", "pixel"))
    assert torch.allclose(pixel + texture - remains, whole, atol=1e-5)


@torch.no_grad()
def test_stf_without_its_choice_keeps_its_layers():
    net, image = network(), torch.rand(1, 3, 9, 11)
    random = changed("STF retrieves a random texture", net)
    feat = random.encoder((image - 0.5) / 0.5)
    query = random.local_feature_interactor(feat)
    keys = random.texture_learner.keys(random.texture_learner.amp_freq(feat), torch.ones(1, 2), 48)
    fusion, original = random.self_texture_fusion, net.self_texture_fusion
    index, retrieved, confidence = fusion.retrieve(query, keys)
    best, _, highest = original.retrieve(query, keys)
    assert index.unique().numel() > 20
    assert (index == best).float().mean() < 0.2
    assert (confidence <= highest + 1e-6).all()
    rows = query.flatten(2).mT
    assert torch.allclose(retrieved[0], keys[0, index[0]])
    expected = rows + original.mlp(torch.cat([rows, retrieved], -1)) * confidence.unsqueeze(-1)
    assert torch.allclose(fusion(query, keys).flatten(2).mT, expected, atol=1e-6)


def test_the_table(tiles, toy, tmp_path, capsys):
    file, table = tmp_path / "a.json", tmp_path / "a.csv"
    rows = parts(
        [f"set={tiles}"], weights=toy, protocols="iste-rgb", scales="2,3", crop=60, json_file=file, csv_file=table
    )
    assert [row["part"] for row in rows] == list(PARTS) * 4
    assert all((row["difference"] == 0) == (row["part"] == WHOLE) for row in rows)
    pair = tile_pair(str(tiles / "a.png"), get_protocol("iste-rgb"), 2.0, 60)
    with torch.no_grad():
        pred = network()(pair["image"][None], scale=2)[0]
    scored = get_protocol("iste-rgb").postprocessing()({**pair, "pred": pred})
    psnr = -10 * float(torch.log10((scored["pred"] - scored["label"]).square().mean()))
    assert rows[0]["psnr"] == pytest.approx(psnr, abs=1e-3)
    assert json.loads(file.read_text())["rows"] == rows
    found = list(csv.DictReader(table.open()))
    assert len(found) == 2 * len(PARTS)
    of = {row["part"]: row for row in found if row["scale"] == "2.0"}
    without = [row["psnr"] for row in rows if row["part"] == "without STF" and row["scale"] == 2]
    whole = [row["psnr"] for row in rows if row["part"] == WHOLE and row["scale"] == 2]
    change = (sum(without) - sum(whole)) / 2
    assert float(of["without STF"]["change"]) == pytest.approx(change)
    assert "| without STF |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("part", "lacking"),
    [("without STF", {"use_stf": False}), ("STF retrieves a random texture", {"use_stf": False}),
     ("without the colors of the texture branch", {"use_ltd": False})],
)  # fmt: skip
def test_a_network_without_the_part_is_refused(part, lacking):
    with pytest.raises(ConfigError) as caught:
        changed(part, network(**lacking))
    assert_teaches(caught.value, "a network with", "Choose another preset")


def test_as_a_command(tiles, toy):
    words = [str(tiles), "--weights", toy, "--scales", "2", "--crop", "40", "--images", "1", "--protocols", "iste-rgb"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert isinstance(network().local_pixel_decoder, LocalPixelDecoder)
    refused = CliRunner().invoke(app, [*words[:2], "liif_light=none.pt"])
    assert refused.exit_code != 0
