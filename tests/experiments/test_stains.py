"""The command ``stains``: rows and table, interruptions, undefined scores, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from experiment_files import table, tissue
from PIL import Image
from reference import assert_teaches
from skimage.color import hed2rgb, rgb2hed

from experiments import stains as module
from experiments.downstream import Reconstructor
from experiments.nuclei import nuclei
from experiments.stain_task import color_shift, compare_densities, stain_densities
from experiments.stains import stains
from experiments.statistics import paired_bootstrap
from monai_iste import DEFAULT_PRESET
from monai_iste.errors import ConfigError, DataError, ISTEError, ScaleError
from monai_iste.io.image_reader import read_rgb

FILES = ("stains.csv", "stains.md", "stains.tex", "stains-tiles.csv")


@pytest.fixture
def tiles(tmp_path) -> Path:
    """Three tiles of two collections, and one that is background but for an eighth."""
    folder = tmp_path / "tiles"
    folder.mkdir()
    for i, name in enumerate(("a_1", "a_2", "b_1")):
        Image.fromarray(tissue(i)).save(folder / f"{name}.png")
    glass = np.full((48, 64, 3), 245, np.uint8)
    glass[:, :8] = tissue(3, (48, 8))
    Image.fromarray(glass).save(folder / "b_2.png")
    return folder


def run(tiles, out, **options):
    stains(tiles, out, **{"scale": [2.0], "device": "cpu", **options})
    return table(out / "stains-tiles.csv")


def texts(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in FILES}


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_table_and_a_second_run(tiles, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    rows = run(tiles, out, scale=[2.0, 3.0])
    printed = capsys.readouterr().out
    assert "x2, all, hematoxylin, 3 tiles:" in printed
    assert "x3, b, eosin, 1 tile:" in printed
    assert "less than 20 % tissue are left out" in printed
    assert [(r["scale"], r["method"], r["image"], r["stain"]) for r in rows] == [
        (scale, method, image, stain)
        for scale in ("2.0", "3.0")
        for method in ("bicubic", DEFAULT_PRESET)
        for image in ("a_1", "a_2", "b_1")  # b_2 has too little tissue
        for stain in ("hematoxylin", "eosin")
    ]
    for row in rows:
        high, _, again = Reconstructor(row["method"], scale=float(row["scale"]))(str(tiles / f"{row['image']}.png"))
        channel = ("hematoxylin", "eosin").index(row["stain"])
        wanted = compare_densities(*(stain_densities(image)[channel] for image in (high, again)))
        assert {key: float(row[key]) for key in wanted._fields} == pytest.approx(wanted._asdict())
        assert float(row["delta_e"]) == pytest.approx(color_shift(high, again))
    means = {(r["scale"], r["source"], r["stain"], r["method"]): r for r in table(out / "stains.csv")}
    assert len(means) == 2 * 3 * 2 * 2
    of = [r for r in rows if (r["scale"], r["method"], r["stain"]) == ("3.0", DEFAULT_PRESET, "eosin")]
    for key in ("original", "density", "error", "bias", "difference", "correlation", "delta_e"):
        found = float(means["3.0", "all", "eosin", DEFAULT_PRESET][key])
        assert found == pytest.approx(np.mean([float(r[key]) for r in of]))
    assert means["2.0", "a", "eosin", "bicubic"]["tiles"] == "2"
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["experiment"] == "stains"
    assert manifest["reconstructions"][1]["weights"]["file"] == f"{DEFAULT_PRESET}.safetensors"

    def nothing_again(*arguments):
        raise AssertionError

    monkeypatch.setattr(module, "_score", nothing_again)
    stains(tiles, out, scale=[2.0, 3.0], device="cpu")
    assert capsys.readouterr().out == printed
    with pytest.raises(ConfigError, match="reconstructions"):
        run(tiles, out, scale=[4.0])


def test_intervals_are_paired_by_tile(tiles, tmp_path):
    rows = run(tiles, tmp_path / "out")
    text = (tmp_path / "out" / "stains.md").read_text()
    panel = text[text.index("x2, a, eosin, 2 tiles") :].split("\n\n")[1].splitlines()
    cells = [cell.strip(" *") for cell in panel[-1].strip("| ").split("|")]
    assert cells[:4:3] == ["ISTE minus Bicubic", "-"]  # no interval of the bias, whose sign differs from tile to tile
    of = [r for r in rows if (r["source"], r["stain"]) == ("a", "eosin")]
    digits = {"error": 2, "difference": 4, "correlation": 4, "delta_e": 3}
    for cell, key in zip((cells[2], *cells[4:]), digits, strict=True):
        own, other = ([float(r[key]) for r in of if r["method"] == name] for name in (DEFAULT_PRESET, "bicubic"))
        mean, low, high = (f"{value:+.{digits[key]}f}" for value in paired_bootstrap(own, other))
        assert cell == f"{mean} [{low}, {high}]"


def test_a_scale_that_is_named_twice_counts_once(tiles, tmp_path):
    once, twice = run(tiles, tmp_path / "once"), run(tiles, tmp_path / "twice", scale=[2.0, 2.0])
    assert once == twice


def test_an_added_stain_is_measured(tiles, tmp_path, monkeypatch):
    """More hematoxylin in the network's place: its bias is what was added, and eosin has almost none."""

    class Stainer(Reconstructor):
        def __call__(self, image):
            high, low, again = super().__call__(image)
            again = read_rgb(image)
            if self.preset != "bicubic":
                hed = rgb2hed(again.transpose(1, 2, 0)) + np.array((0.1 / 6, 0, 0))
                again = (hed2rgb(hed) * 255).round().astype(np.uint8).transpose(2, 0, 1)
            return high, low, again

    monkeypatch.setattr(module, "Reconstructor", Stainer)
    rows = {(r["method"], r["stain"], r["image"]): r for r in run(tiles, tmp_path / "out")}
    for image in ("a_1", "a_2", "b_1"):
        h, e, same = (
            rows[key]
            for key in (
                (DEFAULT_PRESET, "hematoxylin", image),
                (DEFAULT_PRESET, "eosin", image),
                ("bicubic", "eosin", image),
            )
        )
        assert float(h["bias"]) == pytest.approx(100 * 0.1 / float(h["original"]), rel=0.05)
        assert abs(float(e["bias"])) < 2
        assert (float(same["bias"]), float(same["difference"]), float(same["delta_e"])) == (0, 0, 0)
        assert float(same["correlation"]) == pytest.approx(1)


def test_undefined_scores_are_dashes(tmp_path, capsys):
    """An even tile has no correlation; beside another one, the mean is over that one."""
    even = np.tile(np.array((231, 149, 187), np.uint8), (40, 40, 1))
    for folder, images in (("even", (even, even)), ("mixed", (even, tissue(0)))):
        (tmp_path / folder).mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / folder / f"a_{i}.png")
    rows = run(tmp_path / "even", tmp_path / "out-even")
    assert {row["correlation"] for row in rows} == {""}
    assert all(line.split("|")[6].strip() == "-" for line in capsys.readouterr().out.splitlines() if "ISTE" in line[:7])
    for name in FILES:
        assert "nan" not in (tmp_path / "out-even" / name).read_text().lower()
        assert "none" not in (tmp_path / "out-even" / name).read_text().lower()
    rows = run(tmp_path / "mixed", tmp_path / "out-mixed")
    means = {(r["method"], r["stain"]): r for r in table(tmp_path / "out-mixed" / "stains.csv")}
    for row in rows:
        if row["image"] == "a_1":
            assert means[row["method"], row["stain"]]["correlation"] == row["correlation"] != ""


# --- interruptions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_at", [1, 4, 6])
def test_an_interrupted_run_resumes(tiles, tmp_path, monkeypatch, stop_at):
    """Killed in the first, the second and the third of four reconstructions."""
    whole, out = tmp_path / "whole", tmp_path / "out"
    run(tiles, whole, scale=[2.0, 3.0])
    score, calls = module._score, []

    def interrupted(*arguments):
        calls.append(arguments[0])
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        return score(*arguments)

    monkeypatch.setattr(module, "_score", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tiles, out, scale=[2.0, 3.0])
    assert not any((out / name).exists() for name in FILES)
    finished = (stop_at - 1) // 4  # of four tiles each
    assert len(list((out / "results").iterdir())) == finished
    calls.clear()
    monkeypatch.setattr(module, "_score", lambda *arguments: calls.append(arguments[0]) or score(*arguments))
    run(tiles, out, scale=[2.0, 3.0])
    assert len(calls) == 4 * (4 - finished)
    assert texts(out) == texts(whole)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"preset": "bicubic"}, ConfigError, "'bicubic'"),
        ({"preset": "nothing"}, ConfigError, "'nothing'"),
        ({"scale": [2.0, 0.5]}, ScaleError, "0.5"),
        ({"scale": [float("nan")]}, ScaleError, "nan"),
        ({"scale": [0.0]}, ScaleError, "0.0"),
        ({"device": "abacus"}, ConfigError, "'abacus'"),
        ({"weights": Path("missing.safetensors")}, ISTEError, "missing.safetensors"),
    ],
)
def test_bad_options_leave_nothing(tiles, tmp_path, options, error, named):
    with pytest.raises(error) as caught:
        run(tiles, tmp_path / "out", **options)
    assert_teaches(caught.value, named)
    assert not (tmp_path / "out").exists()


def test_folders_without_tissue(tiles, tmp_path):
    with pytest.raises(DataError) as caught:
        run(tmp_path / "missing", tmp_path / "out")
    assert_teaches(caught.value, "missing")
    assert not (tmp_path / "out").exists()
    background = tmp_path / "background"
    background.mkdir()
    shutil.copy(tiles / "b_2.png", background)
    with pytest.raises(DataError) as caught:
        run(background, tmp_path / "out")
    assert_teaches(caught.value, "tiles with tissue", "a fifth")
    assert not list((tmp_path / "out" / "results").iterdir())


def test_the_folder_of_another_experiment(tiles, tmp_path):
    nuclei(tiles, "0.5", tmp_path / "out", scale=[2.0], device="cpu")
    with pytest.raises(ConfigError) as caught:
        run(tiles, tmp_path / "out")
    assert_teaches(caught.value, "experiment")


@pytest.mark.parametrize("distance", [0.0, -1.0, float("nan")])
def test_nuclei_are_matched_within_a_distance(tiles, tmp_path, distance):
    with pytest.raises(ConfigError) as caught:
        nuclei(tiles, "0.5", tmp_path / "out", distance=distance, device="cpu")
    assert_teaches(caught.value, str(distance))
    assert not (tmp_path / "out").exists()
