"""Scores of weights: they equal the protocol's, worse and displaced ones are detected, nothing is scored twice."""

import json
import statistics

import pytest
import torch
from PIL import Image
from reference import assert_teaches
from torch import nn
from typer.testing import CliRunner

from benchmarks import contenders, tile_scores
from benchmarks import weights as module
from benchmarks.tile_scores import displacement, score, super_resolve, tile_pair
from benchmarks.weights import app, summary, weights
from monai_iste import DEFAULT_PRESET
from monai_iste.data import sample_datalists
from monai_iste.errors import CheckpointError, DataError
from monai_iste.functional import upscale_bands
from monai_iste.inferers import ArbitraryScaleInferer
from monai_iste.metrics import get_protocol
from monai_iste.networks import Bicubic, load_network, released_weights

TISSUE = sample_datalists()[0][0]["image"]


@pytest.fixture
def tiles(tmp_path):
    folder = tmp_path / "tiles"
    folder.mkdir()
    for i, name in enumerate(("glas_1", "glas_2", "monuseg_1")):
        Image.fromarray(TISSUE[:, 60 * i : 60 * i + 90, :100].transpose(1, 2, 0)).save(folder / f"{name}.png")
    return folder


class Spoilt(Bicubic):
    """Bicubic interpolation with a known fault."""

    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    def forward(self, image, scale=None):
        return self.fault(super().forward(image, scale))


@pytest.fixture
def interpolation(monkeypatch):
    """In every network's place bicubic interpolation, a.pt with noise; LIIF brighter by four levels."""
    noise = torch.randn(3, 200, 200, generator=torch.Generator().manual_seed(0)) * 0.02

    def load(preset, path, device):
        return Spoilt(lambda x: x + noise[:, : x.shape[2], : x.shape[3]] * ("a.pt" in str(path)))

    monkeypatch.setattr(contenders, "load_network", load)
    monkeypatch.setattr(contenders, "published_liif", lambda path, device: Spoilt(lambda x: x + 4 / 255))


@pytest.fixture
def files(tmp_path):
    for name in ("a.pt", "liif.pth"):
        (tmp_path / name).write_text(name)
    return str(tmp_path / "a.pt"), tmp_path / "liif.pth"


# --- scores -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["iste-rgb", "bicubic-rgb"])
@pytest.mark.parametrize("scale", [2.0, 3.7])
def test_scores_are_those_of_the_protocol(tiles, name, scale):
    protocol, network = get_protocol(name), load_network()
    pair = tile_pair(str(tiles / "glas_1.png"), protocol, scale, 64)
    item = protocol.preprocessing(64)({"image": str(tiles / "glas_1.png"), "scale": scale})
    pred = ArbitraryScaleInferer()(item["image"][None], network, scale=scale)[0]
    scored = protocol.postprocessing()({**item, "pred": pred})
    found = score(super_resolve(network, pair), pair, protocol)
    for key, (a, b) in {"psnr": ("pred", "label"), "lr_psnr": ("pred_reduced", "image")}.items():
        assert found[key] == pytest.approx(-10 * float(torch.log10((scored[a] - scored[b]).square().mean())), rel=1e-5)
    levels = pred.clamp(0, 1).mul(255).round().mean((1, 2)) - item["image"].mul(255).mean((1, 2))
    assert found["color"] == pytest.approx(float(levels.abs().max()), abs=1e-3)
    result, truth = pred.clamp(0, 1).mul(255).round(), (item["label"] * 255).round()
    assert found["shift"] == pytest.approx(displacement(result, item["image"] * 255), abs=1e-9)
    assert found["truth_shift"] == displacement(truth, item["image"] * 255) > 0
    assert found["ssim"] > 0.6
    assert super_resolve(Bicubic(), pair).equal(Bicubic()(item["image"][None], scale)[0])


@pytest.mark.parametrize("scale", [2, 4])
def test_displacement_is_measured(scale):
    image = torch.from_numpy(TISSUE[:, :80, :80].copy()).float()
    large = Bicubic()(image[None], float(scale))[0]
    assert displacement(large, image) == 0
    for axis in (1, 2):
        assert 0.5 / scale < displacement(large.roll(1, axis), image) < 1.2 / scale


# --- the command ------------------------------------------------------------------------------------------------------


def test_gains_losses_and_worst_tiles(tiles, interpolation, files, tmp_path, capsys):
    worse, liif = files
    rows = weights([tiles], weights=f"released,{worse}", liif=liif, protocols="iste-rgb", scales="2", crop=80)
    assert [row["method"] for row in rows] == ["bicubic", "LIIF", "released", worse] * 3
    equal, noisy, bright = (summary(rows, method) for method in ("released", worse, "LIIF"))
    assert equal["over"]["bicubic"]["gain"] == (0, 0, 0)
    assert equal["over"]["bicubic"]["below"] == 0
    assert noisy["over"]["bicubic"]["below"] == noisy["tiles"] == 3
    assert set(bright["over"]) == {"bicubic"}
    assert not summary(rows, "bicubic")["over"]
    assert bright["color"] == pytest.approx(4, abs=0.1)
    assert equal["largest_color"] < 0.1
    by = {(row["method"], row["image"]): row["psnr"] for row in rows}
    gains = {name: by[worse, name] - by["bicubic", name] for name in ("glas_1", "glas_2", "monuseg_1")}
    mean, low, high = noisy["over"]["bicubic"]["gain"]
    assert mean == pytest.approx(statistics.mean(gains.values()))
    assert low <= mean <= high < 0
    worst = min(gains, key=gains.get)
    assert noisy["over"]["bicubic"]["worst"] == (worst, pytest.approx(gains[worst]))
    printed = capsys.readouterr().out
    for source, count in (("all", 3), ("glas", 2), ("monuseg", 1)):
        own = [value for name, value in gains.items() if source in ("all", name.split("_")[0])]
        line = next(s for s in printed.splitlines() if f"| {source} | {count} | {count} | {worse} |" in s)
        assert f"| {statistics.mean(own):+.2f} (" in line
    assert f"| x2 | {worse} | 3 | 3 | {worst} {gains[worst]:+.2f} dB |" in printed


def test_nothing_is_scored_twice(tiles, interpolation, files, tmp_path, monkeypatch):
    file, scored = tmp_path / "scores.json", []

    def counted(pred, pair, protocol):
        scored.append(protocol.name)
        return score(pred, pair, protocol)

    monkeypatch.setattr(module, "score", counted)
    options = {"scales": "2", "crop": 64, "json_file": file}
    first = weights([tiles], protocols="iste-rgb", images=2, **options)
    assert len(scored) == 4  # two tiles, bicubic and the network
    everything = weights([tiles], protocols="iste-rgb,bicubic-rgb", **options)
    assert len(scored) == 4 + 2 + 6
    assert everything[:4] == first
    assert json.loads(file.read_text())["rows"] == everything
    again = weights([tiles], protocols="iste-rgb,bicubic-rgb", **options)
    assert (again, len(scored)) == (everything, 12)
    weights([tiles], protocols="iste-rgb", weights=files[0], **options)
    assert len(scored) == 12 + 3  # other weights; bicubic is known
    Image.fromarray(TISSUE[:, 300:390, :100].transpose(1, 2, 0)).save(tiles / "glas_1.png")
    weights([tiles], protocols="iste-rgb", **options)
    assert len(scored) == 15 + 2  # another tile under the same name


def test_told_networks_have_scores_of_their_own(tiles, tmp_path, capsys):
    options = {"scales": "2,3", "crop": 64, "images": 2, "json_file": tmp_path / "scores.json"}
    blind = weights([tiles], **options)
    rows = weights([tiles], told="released", **options)
    assert [row for row in rows if row["method"] != "released-told"] == blind
    network, told = load_network(), [row for row in rows if row["method"] == "released-told"]
    assert len(told) == len(blind) / 2 == 8
    for row in told:
        protocol, scale = get_protocol(row["protocol"]), row["scale"]
        pair = tile_pair(str(tiles / f"{row['image']}.png"), protocol, scale, 64)
        blur = (scale - 1) / (2 * scale) if row["protocol"] == "iste-rgb" else 0.0
        size = (pair["image"].shape[1] * scale, pair["image"].shape[2] * scale)
        pred = list(upscale_bands(pair["image"], network.with_input_blur(blur), tuple(int(n) for n in size)))
        assert row["psnr"] == pytest.approx(score(torch.cat(pred, 1), pair, protocol)["psnr"], abs=1e-4)
    other = {(row["protocol"], row["scale"], row["image"]): row["psnr"] for row in blind if row["method"] == "released"}
    assert all(row["psnr"] != other[row["protocol"], row["scale"], row["image"]] for row in told)
    assert "| released-told |" in capsys.readouterr().out


def test_an_interrupted_run_keeps_its_tiles(tiles, interpolation, tmp_path, monkeypatch):
    file, calls = tmp_path / "scores.json", []

    def stopping(pred, pair, protocol):
        calls.append(pred)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return score(pred, pair, protocol)

    with monkeypatch.context() as patch:
        patch.setattr(module, "score", stopping)
        with pytest.raises(KeyboardInterrupt):
            weights([tiles], protocols="iste-rgb", scales="2", crop=64, json_file=file)
    kept = json.loads(file.read_text())["rows"]
    assert [row["image"] for row in kept] == ["glas_1", "glas_1"]
    assert weights([tiles], protocols="iste-rgb", scales="2", crop=64, json_file=file)[:2] == kept


def test_the_file_of_another_command_is_left_alone(tiles, interpolation, tmp_path):
    file = tmp_path / "speed.json"
    file.write_text('{"title": "Speed", "rows": []}')
    with pytest.raises(DataError) as caught:
        weights([tiles], protocols="iste-rgb", scales="2", json_file=file)
    assert_teaches(caught.value, "speed.json", "--json")
    assert "Speed" in file.read_text()


def test_names_of_files_do_not_matter(tiles, interpolation, tmp_path, monkeypatch):
    file, copy = tmp_path / "scores.json", tmp_path / "copy.safetensors"
    copy.write_bytes(released_weights(DEFAULT_PRESET).read_bytes())
    options = {"protocols": "iste-rgb", "scales": "2", "crop": 64, "json_file": file}
    first = weights([tiles], **options)
    monkeypatch.setattr(module, "score", None)
    second = weights([tiles], weights=str(copy), **options)
    assert [row["psnr"] for row in second] == [row["psnr"] for row in first]
    assert {row["method"] for row in second} == {"bicubic", str(copy)}


def test_as_a_command(tiles, interpolation, files):
    words = [str(tiles), "--scales", "2", "--crop", "64", "--images", "1", "--protocols", "bicubic-rgb"]
    done = CliRunner().invoke(app, words, env={"LIIF_WEIGHTS": str(files[1])})
    assert done.exit_code == 0, done.output
    assert "over LIIF dB" in done.output
    assert "LIIF" not in CliRunner().invoke(app, words, env={"LIIF_WEIGHTS": None}).output


def test_weights_that_are_not_there(tiles, tmp_path):
    for options in ({"weights": str(tmp_path / "none.pt")}, {"liif": tmp_path / "none.pth"}):
        with pytest.raises(CheckpointError) as caught:
            weights([tiles], **options)
        assert_teaches(caught.value, "none.pt", "does not exist")


def test_liif_is_built_as_its_authors_did(monkeypatch):
    seen = []
    monkeypatch.setattr(tile_scores, "load_published", lambda network, path: seen.append(network) or nn.Identity())
    tile_scores.published_liif("a.pth")
    assert sum(tensor.numel() for tensor in seen[0].parameters()) == 1_567_299  # 1.57 M, as published
