"""The table of stains on pages, from files as the command ``stains`` writes them."""

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
