"""Weights as they are named on the command line."""

import csv
import json

import pytest
from PIL import Image
from reference import assert_teaches
from safetensors.torch import save_file

from benchmarks import contenders as module
from benchmarks.contenders import WeightsSpec, add_told, contenders
from benchmarks.weights import checks, weights
from monai_iste.data import sample_datalists
from monai_iste.errors import CheckpointError, ConfigError, DataError, OutputError
from monai_iste.io.files import checksum
from monai_iste.networks import PRESETS, Bicubic, EDSREncoder, create_network
from monai_iste.networks.presets import Preset

TISSUE = sample_datalists()[0][0]["image"]


@pytest.fixture
def toys(monkeypatch, tmp_path):
    """Two presets of different size, and a file for each."""
    files = []
    for width in (4, 6):
        arguments = {"texture_channels": width, "hidden_channels": width, "bicubic_residual": True}
        monkeypatch.setitem(PRESETS, f"toy{width}", Preset("for tests", lambda: EDSREncoder(4, 1), arguments))
        files.append(tmp_path / f"toy{width}.safetensors")
        save_file(create_network(f"toy{width}").state_dict(), files[-1])
    return files


@pytest.fixture
def tiles(tmp_path):
    folder = tmp_path / "tiles"
    folder.mkdir()
    names = ("a_1", "a_2", "b_1")
    for i, name in enumerate(names):
        Image.fromarray(TISSUE[:, 60 * i : 60 * i + 90, :100].transpose(1, 2, 0)).save(folder / f"{name}.png")
    lines = "".join(f"{name}.png,case {name[0]},organ {name[0]}\n" for name in names)
    (folder / "manifest.csv").write_text("file,case,organ\n" + lines)
    return folder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("released", ("released", "iste_light", "released")),
        ("a/b.pt", ("a/b.pt", "iste_light", "a/b.pt")),
        ("new=a.pt", ("new", "iste_light", "a.pt")),
        ("iste=a.pt", ("iste", "iste", "a.pt")),
        ("new=liif_light:a.pt", ("new", "liif_light", "a.pt")),
        ("old=released", ("old", "iste_light", "released")),
        ("new=C:a.pt", ("new", "iste_light", "C:a.pt")),
    ],
)
def test_entries(text, expected):
    assert tuple(WeightsSpec.parse(text, "iste_light")) == expected


def test_the_name_of_a_file_may_have_an_equals_sign(tmp_path):
    file = tmp_path / "lr=1e-3.pt"
    file.touch()
    assert WeightsSpec.parse(str(file), "iste_light").file == str(file)


@pytest.mark.parametrize("text", ["new=", "=a.pt", "new=iste_light:"])
def test_entries_without_a_part_are_refused(text):
    with pytest.raises(ConfigError) as caught:
        WeightsSpec.parse(text, "iste_light")
    assert_teaches(caught.value, repr(text))


def test_networks_of_several_presets(toys):
    found = contenders([f"small=toy4:{toys[0]}", f"toy6={toys[1]}", "now=iste_light:released"], "toy4", None, "cpu")
    assert list(found) == ["bicubic", "small", "toy6", "now"]
    about = found["toy6"].describe()
    assert (about["preset"], about["file"], about["sha256"]) == ("toy6", "toy6.safetensors", checksum(toys[1]))
    assert about["parameters"] > found["small"].describe()["parameters"] > 0
    assert found["bicubic"].describe()["sha256"] is None


def test_a_network_of_another_preset_is_refused(toys):
    with pytest.raises(CheckpointError):
        contenders([f"a=toy4:{toys[1]}"], "toy4", None, "cpu")


@pytest.mark.parametrize("entries", [["a=x.pt", "a=y.pt"], ["bicubic=x.pt"], []])
def test_names_that_clash_and_no_weights_are_refused(entries, monkeypatch):
    monkeypatch.setattr(module, "load", lambda spec, device: None)
    with pytest.raises(ConfigError) as caught:
        contenders(entries, "iste_light", None, "cpu")
    assert_teaches(caught.value, *(["twice"] if entries else ["--weights"]))


def test_told_contenders_are_added(toys):
    found = contenders([f"small=toy4:{toys[0]}", "new=iste_light2:released"], "toy4", None, "cpu")
    told = add_told(found, ["new"])
    assert list(told) == [*found, "new-told"]
    assert told["new-told"].network is found["new"].network
    assert (told["new-told"].told, told["new"].told) == (True, False)
    assert told["new-told"].describe() == {**found["new"].describe(), "blur_told": True}
    with pytest.raises(ConfigError) as caught:
        add_told(found, ["old"])
    assert_teaches(caught.value, "--told", "'old'", "new")
    with pytest.raises(ConfigError) as caught:
        add_told(found, ["small"])
    assert_teaches(caught.value, "told the blur")


# --- in the table of weights ------------------------------------------------------------------------------------------


def test_results_by_case_and_tile_with_a_manifest(toys, tiles, tmp_path, capsys):
    table, file = tmp_path / "scores.csv", tmp_path / "scores.json"
    rows = weights(
        [f"new={tiles}"],
        weights=f"small=toy4:{toys[0]},large=toy6:{toys[1]}",
        scales="2",
        crop=64,
        protocols="iste-rgb",
        json_file=file,
        csv_file=table,
    )
    content = json.loads(file.read_text())
    assert content["measured"]["weights"]["large"]["sha256"] == checksum(toys[1])
    assert content["measured"]["tiles"]["new"]["count"] == 3
    assert str(tmp_path) not in file.read_text()
    with table.open(newline="") as lines:
        found = list(csv.DictReader(lines))
    assert {(row["by"], row["group"]) for row in found if row["by"] != "tile"} == {
        ("all", "all"),
        ("organ", "organ a"),
        ("organ", "organ b"),
        ("case", "case a"),
        ("case", "case b"),
    }
    (case,) = (row for row in found if (row["group"], row["method"]) == ("case a", "small"))
    own = [row for row in rows if row["method"] == "small" and row["case"] == "case a"]
    bicubic = [row for row in rows if row["method"] == "bicubic" and row["case"] == "case a"]
    assert float(case["psnr"]) == pytest.approx(sum(row["psnr"] for row in own) / 2)
    gain = sum(a["psnr"] - b["psnr"] for a, b in zip(own, bicubic, strict=True)) / 2
    assert float(case["psnr_over_bicubic"]) == pytest.approx(gain)
    assert case["psnr_over_bicubic_low"] == ""  # one case
    (everything,) = (row for row in found if (row["by"], row["method"]) == ("all", "large"))
    low, mean, high = (float(everything[f"psnr_over_bicubic{end}"]) for end in ("_low", "", "_high"))
    assert low <= mean <= high
    single = [row for row in found if row["by"] == "tile"]
    assert len(single) == len(rows) == 9
    assert {row["organ"] for row in single} == {"organ a", "organ b"}
    assert "| organ | organ a | 2 | 1 | small |" in capsys.readouterr().out


def rows_of(**psnr):
    """Scores of three tiles in two cases at one scale."""
    return [
        {"method": name, "image": f"t{i}", "image_sha256": str(i), "set": "new", "case": case, "scale": 2.5}
        | {"protocol": "iste-rgb", "psnr": values[i]}
        for i, case in enumerate("aab")
        for name, values in psnr.items()
    ]


def test_checks_name_what_is_below():
    lines = checks(rows_of(bicubic=(30, 30, 30), LIIF=(31, 31, 31), good=(32, 30.5, 32), bad=(29.5, 33, 29)))
    assert lines == [
        "LIIF, no tile below bicubic (3 tiles; x2.5; iste-rgb): passed",
        "good, no tile below bicubic (3 tiles; x2.5; iste-rgb): passed",
        "bad, no tile below bicubic (3 tiles; x2.5; iste-rgb): 2 of 3 below it: "
        "t2 (iste-rgb x2.5) -1.00 dB; t0 (iste-rgb x2.5) -0.50 dB",
        "good, no case below LIIF (2 cases; x2.5; iste-rgb): passed",
        "bad, no case below LIIF (2 cases; x2.5; iste-rgb): 1 of 2 below it: b (iste-rgb x2.5) -2.00 dB",
    ]


def test_a_tile_of_one_color_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "blank"
    folder.mkdir()
    Image.new("RGB", (80, 80), "white").save(folder / "blank.png")
    monkeypatch.setattr(module, "load_network", lambda preset, file, device: Bicubic())
    with pytest.raises(DataError) as caught:
        weights([folder], scales="2", json_file=tmp_path / "scores.json")
    assert_teaches(caught.value, "blank", "bicubic")


@pytest.mark.parametrize("option", ["json_file", "csv_file"])
def test_results_that_cannot_be_written_are_refused_before_the_work(tiles, tmp_path, option):
    with pytest.raises(OutputError) as caught:
        weights([tiles], **{option: tmp_path / "none" / "scores"})
    assert_teaches(caught.value, "none")
