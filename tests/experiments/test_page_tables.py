"""The table of stains on pages, from files as the command ``stains`` writes them."""

import json

import pytest

from experiments.check import check_pages

HEADER = "scale,source,stain,method,tiles,original,density,error,bias,difference,correlation,delta_e\n"


def scores(factor: float) -> str:
    """The means of two methods at two scales; one source differs, and must not be taken."""
    lines = []
    for scale in (2.0, 4.0):
        for source in ("all", "a"):
            for i, stain in enumerate(("hematoxylin", "eosin")):
                for j, method in enumerate(("bicubic", "iste_light2")):
                    error = factor * (scale + 10 * i + 100 * j) if source == "all" else 0.0
                    row = (scale, source, stain, method, 3, 0.1, 0.1, error, -error, 0.01, 0.9 + i / 50 + j / 100)
                    lines.append(",".join(map(str, (*row, 0.0016 * scale))) + "\n")
    return HEADER + "".join(lines)


TABLE = """\
<!-- from a.csv b.csv: stains atlas 'GlaS and MoNuSeg' -->
| | x2 H error (bias) | H correlation | E error (bias) | E correlation | Delta E | x4 H error (bias) | H correlation | \
E error (bias) | E correlation | Delta E |
|---|---|---|---|---|---|---|---|---|---|---|
| atlas, bicubic | 2.00 % (-2.00) | 0.900 | 12.00 % (-12.00) | 0.920 | 0.003 | 4.00 % (-4.00) | 0.900 | \
14.00 % (-14.00) | 0.920 | 0.006 |
| atlas, `iste_light2` | 102.00 % (-102.00) | 0.910 | 112.00 % (-112.00) | 0.930 | 0.003 | 104.00 % (-104.00) | \
0.910 | 114.00 % (-114.00) | 0.930 | 0.006 |
| GlaS and MoNuSeg, bicubic | 1.00 % (-1.00) | 0.900 | 6.00 % (-6.00) | 0.920 | 0.003 | 2.00 % (-2.00) | 0.900 | \
7.00 % (-7.00) | 0.920 | 0.006 |
| GlaS and MoNuSeg, iste_light2 | 51.00 % (-51.00) | 0.910 | 56.00 % (-56.00) | 0.930 | 0.003 | 52.00 % (-52.00) | \
0.910 | 57.00 % (-57.00) | 0.930 | 0.006 |
"""


@pytest.fixture
def clone(tmp_path):
    """Writes a page of results, and returns the lines of its check."""
    results = tmp_path / "docs" / "results"
    results.mkdir(parents=True)
    (results / "a.csv").write_text(scores(1))
    (results / "b.csv").write_text(scores(0.5))

    def write(text):
        (results / "page.md").write_text(text)
        return check_pages(tmp_path).differences

    return write


def test_the_table_of_stains(clone):
    assert clone(TABLE) == []
    alone = TABLE.replace(" b.csv", "").replace("stains atlas 'GlaS and MoNuSeg'", "stains ''").replace("atlas, ", "")
    assert clone(alone[: alone.index("| GlaS")]) == []


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("| 114.00 % (-114.00) |", "| 114.01 % (-114.00) |", "atlas, iste_light2, E error (bias): '114.01 %"),
        ("| 102.00 % (-102.00) |", "| 102.00 % (+102.00) |", "x2 H error (bias): '102.00 % (+102.00)'"),
        ("| 0.930 | 0.006 |", "| 0.931 | 0.006 |", "E correlation: '0.931' in the page"),
        ("| 0.006 |", "| 0.007 |", "atlas, bicubic, Delta E: '0.007'"),
        ("a.csv b.csv", "b.csv a.csv", "'2.00 % (-2.00)' in the page, '1.00 % (-1.00)' from the file"),
        (" 'GlaS and MoNuSeg'", "", "scores for stains"),
        ("stains atlas", "nuclei atlas", "scores for nuclei"),
    ],
)
def test_altered_tables_of_stains_are_found(clone, before, after, named):
    assert before in TABLE
    found = clone(TABLE.replace(before, after, 1))
    assert any(named in line for line in found), found


def test_scores_that_are_undefined_are_named(clone, tmp_path):
    (tmp_path / "docs/results/a.csv").write_text(scores(1).replace(",0.9,", ",,"))
    [line] = clone(TABLE)
    assert "Expected a number in the column correlation" in line


# --- blur that is told, cleaning --------------------------------------------------------------------------------------


def test_the_table_of_what_a_told_network_gains(clone, tmp_path):
    lines = ["by,set,protocol,scale,method,group,psnr"]
    for protocol, more in (("iste-rgb", 0.5), ("bicubic-rgb", -0.25)):
        for scale in (2, 3, 4):
            for tile, extra in (("a", 0.0), ("b", 0.125)):
                lines.append(f"tile,new,{protocol},{scale},ours,{tile},{30 + scale}")
                lines.append(f"tile,new,{protocol},{scale},ours-told,{tile},{30 + scale + more + extra}")
                lines.append(f"tile,old,{protocol},{scale},ours-told,{tile},50")  # another set
    (tmp_path / "docs" / "results" / "c.csv").write_text("\n".join(lines) + "\n")
    table = """\
<!-- from c.csv: told ours new -->
| told minus not told, dB | protocol | x2 | least | x3 | least | x4 | least |
|---|---|---|---|---|---|---|---|
| new | iste-rgb | +0.56 | +0.50 | +0.56 | +0.50 | +0.56 | +0.50 |
| new | bicubic-rgb | -0.19 | -0.25 | -0.19 | -0.25 | -0.19 | -0.25 |
"""
    assert clone(table) == []
    assert len(clone(table.replace("-0.19", "+0.19"))) == 3


def test_the_table_of_cleaning(clone, tmp_path):
    row = {"weights": "ours", "scale": 1.0, "degradation": "noise 2", "psnr": [40, 41], "bicubic_psnr": [39, 40.5]}
    row |= {"gain": 0.75, "blockiness": 1.04, "bicubic_blockiness": 1.2}
    others = [row | {"scale": 2.0}, row | {"weights": "theirs"}]
    content = {"rows": [others[0], row, others[1], row | {"degradation": "JPEG 75", "gain": -0.25}]}
    (tmp_path / "docs" / "results" / "c.json").write_text(json.dumps(content))
    table = """\
<!-- from c.json: cleaning ours -->
| scan | input dB | result dB | gain | blocks, result / input |
|---|---|---|---|---|
| noise of 2 levels | 39.75 | 40.50 | +0.75 | 1.04 / 1.20 |
| JPEG 75 | 39.75 | 40.50 | -0.25 | 1.04 / 1.20 |
"""
    assert clone(table) == []
    assert clone(table.replace("40.50 | +0.75", "40.51 | +0.75")) != []


def test_the_table_of_parts(clone, tmp_path):
    lines = ["protocol,scale,part,change,change_low,change_high,difference"]
    for protocol in ("iste-rgb", "bicubic-rgb"):
        for scale in (2.0, 4.0):
            lines.append(f"{protocol},{scale},whole network,0,0,0,0")
            lines.append(f"{protocol},{scale},without STF,{-scale / 8},-0.75,-0.001,{scale / 100}")
    (tmp_path / "docs" / "results" / "c.csv").write_text("\n".join([*lines, ""]))
    table = """\
<!-- from c.csv: parts -->
| change of PSNR, dB | iste-rgb x2 | iste-rgb x4 | bicubic-rgb x2 | bicubic-rgb x4 | difference at x4, levels |
|---|---|---|---|---|---|
| without STF | -0.25 (-0.75 to +0.00) | -0.50 (-0.75 to +0.00) | -0.25 (-0.75 to +0.00) | -0.50 (-0.75 to +0.00) \
| 0.04 |
"""
    assert clone(table) == []
    assert len(clone(table.replace("-0.50", "-0.51"))) == 2


def test_the_table_of_validation_tiles(clone, tmp_path):
    rows = [
        f"sharp,{network},{protocol},{scale},{20 + scale + more}"
        for network, more in (("without", 0.0), ("with", 0.25))
        for protocol in ("bicubic-rgb", "iste-rgb")
        for scale in (4, 3, 2)
    ]
    (tmp_path / "docs" / "results" / "c.csv").write_text("\n".join(["truth,network,protocol,scale,psnr", *rows, ""]))
    table = """\
<!-- from c.csv: validation_tiles -->
| validation tiles | network | blur x2 | blur x3 | blur x4 | no blur x2 | no blur x3 | no blur x4 | mean |
|---|---|---|---|---|---|---|---|---|
| sharp | without | 22.00 | 23.00 | 24.00 | 22.00 | 23.00 | 24.00 | 23.00 |
| sharp | with | 22.25 | 23.25 | 24.25 | 22.25 | 23.25 | 24.25 | 23.25 |
"""
    assert clone(table) == []
