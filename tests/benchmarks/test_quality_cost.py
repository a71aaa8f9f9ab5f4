"""Quality against cost: the timed results are scored, networks alternate, and without weights only time is measured."""

import itertools
import json
import statistics

import pytest
from PIL import Image
from reference import assert_teaches
from safetensors.torch import save_file

from benchmarks import common, contenders
from benchmarks import quality_cost as module
from benchmarks.quality_cost import draw, quality_cost
from benchmarks.tile_scores import score, super_resolve, tile_pair
from monai_iste.data import sample_datalists
from monai_iste.errors import ConfigError, OutputError
from monai_iste.metrics import get_protocol
from monai_iste.networks import PRESETS, Bicubic, EDSREncoder, create_network, load_network
from monai_iste.networks.presets import Preset

TISSUE = sample_datalists()[0][0]["image"]


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """A preset without weights, and a file for it."""
    arguments = {"texture_channels": 6, "hidden_channels": 6, "bicubic_residual": True}
    monkeypatch.setitem(PRESETS, "toy", Preset("for tests", lambda: EDSREncoder(4, 1), arguments))
    file = tmp_path / "toy.safetensors"
    save_file(create_network("toy").state_dict(), file)
    return file


@pytest.fixture
def tiles(tmp_path):
    folder = tmp_path / "tiles"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(TISSUE[:, 60 * i : 60 * i + 90, :100].transpose(1, 2, 0)).save(folder / f"glas_{i}.png")
    return folder


def test_presets_without_weights_are_timed_and_not_scored(tiles, toy, tmp_path, capsys):
    file, figure = tmp_path / "rows.json", tmp_path / "figure.png"
    rows = {
        row["what"]: row
        for row in quality_cost([tiles], presets="toy,iste_light", crop=64, repeats=2, figure=figure, json_file=file)
    }
    assert list(rows) == ["bicubic", "toy", "iste_light"]
    assert rows["toy"]["psnr"] == []
    assert {name: len(row["seconds_per_megapixel"]) for name, row in rows.items()} == {
        "bicubic": 3,
        "toy": 2,
        "iste_light": 3,
    }
    assert all(seconds > 0 for row in rows.values() for seconds in row["seconds_per_megapixel"])
    protocol = get_protocol("iste-rgb")
    for name, network in (("bicubic", Bicubic()), ("iste_light", load_network("iste_light"))):
        pairs = [tile_pair(str(path), protocol, 4.0, 64) for path in sorted(tiles.iterdir())]
        expected = [score(super_resolve(network, pair), pair, protocol)["psnr"] for pair in pairs]
        assert rows[name]["psnr"] == pytest.approx(expected)
    assert rows["iste_light"]["parameters"] == sum(tensor.numel() for tensor in load_network("iste_light").parameters())
    assert json.loads(file.read_text())["rows"] == list(rows.values())
    printed = capsys.readouterr().out
    assert next(line for line in printed.splitlines() if line.startswith("| toy |")).endswith("| 2 | no weights |  |")
    assert Image.open(figure).size == (1050, 870)


def test_files_take_the_place_of_released_weights(tiles, toy, monkeypatch):
    monkeypatch.setattr(contenders, "published_liif", lambda path, device: Bicubic())
    rows = quality_cost([tiles], [f"toy={toy}"], liif=toy, presets="iste_light", crop=64, images=1)
    assert [row["what"] for row in rows] == ["bicubic", "iste_light", "toy", "LIIF"]
    assert all(len(row["psnr"]) == 1 for row in rows)
    assert rows[2]["weights"] != rows[1]["weights"] is not None
    assert rows[3]["psnr"] == rows[0]["psnr"]
    rows = quality_cost([tiles], [f"toy={toy}"], presets="toy", crop=64, images=1)
    assert [row["what"] for row in rows] == ["bicubic", "toy"]
    assert rows[1]["psnr"]


def test_networks_take_turns_and_seconds_are_per_output_megapixel(tiles, toy, monkeypatch):
    order, counter = [], itertools.count()
    monkeypatch.setattr(common, "clock", lambda device, threads: lambda: float(next(counter)))

    def noted(network, pair, device):
        order.append(type(network).__name__)
        return super_resolve(network, pair, device)

    monkeypatch.setattr(module, "super_resolve", noted)
    rows = quality_cost([tiles], [f"toy={toy}"], presets="toy", crop=64, images=2)
    assert order == ["Bicubic", "Bicubic", "ISTE", "ISTE", "Bicubic", "ISTE"]  # the first of a pair warms up
    assert [row["seconds_per_megapixel"] for row in rows] == [pytest.approx([1e6 / 64**2] * 2)] * 2


def test_the_figure_has_a_point_for_every_scored_network():
    rows = [
        {"what": f"n{i}", "parameters": 10**6 * i, "seconds_per_megapixel": [2.0 * i, 1.0 * i], "psnr": psnr}
        for i, psnr in enumerate(([30.0, 32.0], [31.0], [], *[[33.0]] * 8), start=1)
    ]
    figure = draw(rows, 4, "iste-rgb")
    (axes,) = figure.axes
    points = {bars.get_label(): tuple(*bars.lines[0].get_xydata()) for bars in axes.containers}
    assert set(points) == {f"n{i}, {i}.00 M parameters" for i in range(1, 12)} - {"n3, 3.00 M parameters"}
    assert points["n1, 1.00 M parameters"] == (1.5, 31.0)
    assert points["n2, 2.00 M parameters"] == (3.0, 31.0)
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == set(points)
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    assert statistics.median([2.0, 1.0]) == 1.5
    assert "x4" in axes.get_ylabel()
    assert "iste-rgb" in axes.get_ylabel()


@pytest.mark.parametrize("given", [["iste_light"], ["iste_light="], ["toy=a.pt", "toy=b.pt"], ["tyo=a.pt"], ["=a.pt"]])
def test_weights_have_a_preset_and_one_file(tiles, toy, given):
    with pytest.raises(ConfigError) as caught:
        quality_cost([tiles], given)
    assert_teaches(caught.value, given[-1])


def test_a_figure_that_cannot_be_written_is_refused_before_the_work(tiles, tmp_path):
    for name in ("figure.gif", "missing/figure.png"):
        with pytest.raises(OutputError):
            quality_cost([tiles], figure=tmp_path / name)
