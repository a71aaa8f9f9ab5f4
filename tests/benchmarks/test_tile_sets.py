"""Tiles with their case, organ and source; groups; intervals that draw cases."""

import numpy as np
import pytest
from PIL import Image
from reference import assert_teaches

from benchmarks.tile_sets import describe_sets, gain_over_cases, groups, tile_sets
from experiments.statistics import paired_bootstrap
from monai_iste.errors import ConfigError, DataError

TILES = {"a1": ("a", "lung"), "a2": ("a", "lung"), "b1": ("b", "skin"), "c1": ("c", "")}


def folder_of(path, names=TILES):
    path.mkdir(parents=True)
    for name in names:
        Image.new("RGB", (20, 16), "pink").save(path / f"{name}.png")
    return path


def table_of(path, folder="", case="case", rows=TILES, extra=""):
    lines = [f"file,{case},organ", *(f"{folder}{name}.png,{rows[name][0]},{rows[name][1]}" for name in rows)]
    path.write_text("\n".join([*lines, extra]).strip() + "\n")


@pytest.mark.parametrize("case", ["case", "patient"])
@pytest.mark.parametrize("above", [False, True])
def test_labels_come_from_the_table(tmp_path, above, case):
    folder = folder_of(tmp_path / "test")
    table_of((tmp_path if above else folder) / "manifest.csv", "test/" if above else "", case)
    found = tile_sets([f"atlas={folder}"])
    assert [(item["name"], item["case"], item["organ"]) for item in found] == [
        (name, *labels) for name, labels in TILES.items()
    ]
    assert {(item["set"], item["source"]) for item in found} == {("atlas", "atlas")}


def test_sources_come_from_the_table(tmp_path):
    folder = folder_of(tmp_path / "test", ["a", "b"])
    (folder / "manifest.csv").write_text("file,source,case\na.png,GlaS,p1\nb.png,MoNuSeg,p2\n")
    assert [(item["source"], item["organ"]) for item in tile_sets([folder])] == [("GlaS", ""), ("MoNuSeg", "")]


def test_without_a_table_every_tile_is_a_case(tmp_path):
    folder = folder_of(tmp_path / "old", ["glas_1", "glas_2", "monuseg_1"])
    (folder / "manifest.csv").write_text("name,size\nglas_1,5\n")  # no table of tiles
    found = tile_sets([folder], images=2)
    assert [(item["set"], item["source"], item["case"]) for item in found] == [
        ("old", "glas", "glas_1"),
        ("old", "glas", "glas_2"),
    ]


def test_several_folders(tmp_path):
    new, old = folder_of(tmp_path / "x" / "test", ["a"]), folder_of(tmp_path / "y" / "test", ["a", "b"])
    found = tile_sets([new, f"old={old}"])
    assert [(item["set"], item["name"]) for item in found] == [("test", "a"), ("old", "a"), ("old", "b")]
    about = describe_sets(found, ["iste-rgb"])
    assert {name: part["count"] for name, part in about["tiles"].items()} == {"test": 1, "old": 2}
    assert about["protocols"][0]["shave"] == 8
    assert str(tmp_path) not in repr(about)
    with pytest.raises(ConfigError) as caught:
        tile_sets([new, old])
    assert_teaches(caught.value, "'test' twice", "NAME=DIR")


@pytest.mark.parametrize(
    ("rows", "extra", "word"),
    [
        ({"a1": TILES["a1"]}, "", "a2.png"),
        (TILES, "a1.png,a,lung", "a1.png twice"),
        ({**TILES, "b1": ("", "skin")}, "", "b1.png"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path, rows, extra, word):
    folder = folder_of(tmp_path / "test")
    table_of(folder / "manifest.csv", rows=rows, extra=extra)
    with pytest.raises(DataError) as caught:
        tile_sets([folder])
    assert_teaches(caught.value, word)


def test_a_table_that_is_no_text_is_refused(tmp_path):
    folder = folder_of(tmp_path / "test")
    (folder / "manifest.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError) as caught:
        tile_sets([folder])
    assert_teaches(caught.value, "manifest.csv")


def test_groups_that_say_nothing_new_are_left_out():
    tiles = [
        {"set": "new", "source": "new", "organ": "lung", "case": "1"},
        {"set": "new", "source": "new", "organ": "", "case": "1"},
        {"set": "old", "source": "glas", "organ": "colon", "case": "2"},
        {"set": "old", "source": "glas", "organ": "colon", "case": "3"},
    ]
    assert [(group.by, group.name, group.members) for group in groups(tiles)] == [
        ("all", "all", [0, 1, 2, 3]),
        ("set", "new", [0, 1]),
        ("set", "old", [2, 3]),
        ("source", "glas", [2, 3]),
        ("source", "new", [0, 1]),
        ("organ", "colon", [2, 3]),
        ("organ", "lung", [0]),
        ("case", "1", [0, 1]),
        ("case", "2", [2]),
        ("case", "3", [3]),
    ]
    same = [{**tile, "source": tile["set"]} for tile in tiles]
    assert "source" not in {group.by for group in groups(same)}


# --- intervals over cases ---------------------------------------------------------------------------------------------


def test_whole_cases_are_drawn():
    """Percentiles of means of drawn cases, by loops; the interval corrects them for bias by little."""
    rng = np.random.default_rng(0)
    cases = np.repeat(np.arange(12), [1, 2, 3, 4] * 3)
    values = rng.normal(1, 0.5, 12)[cases] + rng.normal(0, 0.1, len(cases))
    means = []
    for _ in range(4000):
        drawn = [values[cases == case] for case in rng.integers(0, 12, 12)]
        means.append(sum(part.sum() for part in drawn) / sum(len(part) for part in drawn))
    gain = gain_over_cases(values.tolist(), [str(case) for case in cases])
    assert gain.mean == pytest.approx(values.mean())
    assert (gain.low, gain.high) == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.06)
    tiles = paired_bootstrap(values, np.zeros(len(values)))
    assert gain.high - gain.low > 1.3 * (tiles.high - tiles.low)


def test_cases_of_one_image_are_images():
    values = [0.3, 0.1, 0.7, 0.2]
    assert tuple(gain_over_cases(values, list("abcd"))) == tuple(paired_bootstrap(values, [0.0] * 4))


def test_one_case_has_no_interval():
    gain = gain_over_cases([0.1, 0.5], ["a", "a"])
    assert tuple(gain) == (pytest.approx(0.3), None, None)
    assert "one case" in str(gain)
    with pytest.raises(DataError) as caught:
        paired_bootstrap([0.1, 0.5], [0.0, 0.0], cases=["a", "a"])
    assert_teaches(caught.value, "two cases")
    with pytest.raises(DataError) as caught:
        paired_bootstrap([0.1, 0.5], [0.0, 0.0], cases=["a"])
    assert_teaches(caught.value, "1 for 2")
