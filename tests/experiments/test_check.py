"""Numbers of the pages against the files of scores beside them."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments import page_sources
from experiments.__main__ import app
from experiments.check import ROOT, blocks, check_pages
from monai_iste.errors import ConfigError

SCORES = "by,group,protocol,scale,method,psnr,psnr_over_LIIF,psnr_over_LIIF_low,psnr_over_LIIF_high\n" + "".join(
    f"set,new,{protocol},{scale},ours,{30 - scale},{gain},-0.2,0.3\n"
    for protocol, gain in (("iste-rgb", 0.125), ("bicubic-rgb", -0.004))
    for scale in (2, 3, 4)
)

TABLE = """\
| minus LIIF, dB (95 % over cases) | x2 | x3 | x4 |
|---|---|---|---|
| `iste-rgb` | +0.12 (-0.20 to +0.30) | +0.12 (-0.20 to +0.30) | **+0.12 (-0.20 to +0.30)** |
| `bicubic-rgb` | +0.00 (-0.20 to +0.30) | +0.00 (-0.20 to +0.30) | +0.00 (-0.20 to +0.30) |
"""

FROM = "<!-- from scores.csv: liif new ours -->"


@pytest.fixture
def clone(tmp_path):
    """Writes a page of results, and returns the lines of its check."""
    (tmp_path / "docs" / "results").mkdir(parents=True)
    (tmp_path / "docs" / "results" / "scores.csv").write_text(SCORES)

    def write(text):
        (tmp_path / "docs" / "results" / "page.md").write_text(text)
        return check_pages(tmp_path).differences

    return write


def copied(folder, *names):
    """The pages of the repository and their files of scores, and what else is named."""
    for name in ("README.md", "docs/choices.md", "docs/results", "bundles/iste/docs", *names):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, target)
    (folder / "bundles/iste/models").mkdir(parents=True)
    for card in (ROOT / "bundles/iste/models").glob("*.md"):
        shutil.copy(card, folder / "bundles/iste/models" / card.name)
    return folder


# --- the repository ---------------------------------------------------------------------------------------------------


def test_numbers_of_the_repository_are_those_of_its_files():
    found = check_pages()
    assert found.differences == []
    assert found.tables > 30


#: Numbers of the pages, altered, with what the line of the difference has.
ALTERED = [
    ("README.md", "| 25.80 / 0.6535 |", "| 25.81 / 0.6535 |", "iste_light2, x4: '25.81 / 0.6535'"),
    ("README.md", "+0.26 / +0.72 / +1.12 dB", "+0.26 / +0.72 / +1.13 dB", "'+0.26 / +0.72 / +1.12'"),
    ("README.md", "31.04 dB instead of", "31.05 dB instead of", "31.04 dB instead of 30.00"),
    ("docs/choices.md", "| 1,422 |", "| 1,423 |", "8 blocks of 48, steps: '1,423'"),
    ("docs/results/tables.md", "| 101 |", "| 102 |", "LTE, processor s: '102' in the page, '101' from the file"),
    ("docs/results/tables.md", "0.12 to 0.26 dB", "0.12 to 0.27 dB", "'0.12 to 0.26 dB'"),
    ("docs/results/weights.md", "| 4.33 % | +4.15 %", "| 4.33 % | -4.15 %", "bias: '-4.15 %' in the page"),
    ("docs/results/weights.md", "of 1,584 results", "of 1,583 results", "'of 1,584', from the file"),
    (
        "docs/results/weights.md",
        "| x6.1 | iste_light2 | 28 | 1642 |",
        "| x6.1 | iste_light2 | 28 | 1641 |",
        "patches: ",
    ),
    ("docs/results/weights.md", "| 24.4 (23-26.5) |", "| 24.4 (23-26.6) |", "LIIF, s/megapixel"),
    ("docs/results/iste_light.md", "| +3.42 |", "| +3.43 |", "1.5, gain: '+3.43'"),
    ("bundles/iste/models/iste_light.md", "| +2.98 | +3.14 |", "| +2.98 | +3.15 |", "gain dB, x3: '+3.15'"),
    ("bundles/iste/models/iste_light2.md", "0.60 dB (x2)", "0.61 dB (x2)", "'0.60 dB (x2) and 0.34 dB (x4)'"),
]


def test_every_altered_number_is_found(tmp_path):
    folder = copied(tmp_path)
    for page, before, after, _ in ALTERED:
        text = (folder / page).read_text()
        assert before in text
        (folder / page).write_text(text.replace(before, after, 1))
    found = check_pages(folder).differences
    assert len(found) == len(ALTERED)
    for page, _, _, named in ALTERED:
        assert any(line.startswith(f"{page}:") and named in line for line in found), named


def test_an_altered_score_is_found(tmp_path):
    folder = copied(tmp_path)
    file = folder / "docs/results/weights/cost.json"
    scores = json.loads(file.read_text())
    scores["rows"][-1]["psnr"][0] += 1
    file.write_text(json.dumps(scores))
    [line] = check_pages(folder).differences
    assert "LIIF, PSNR dB" in line


# --- the command ------------------------------------------------------------------------------------------------------


def test_command(clone, tmp_path):
    assert clone(f"{FROM}\n{TABLE}") == []
    done = CliRunner().invoke(app, ["check", "--folder", str(tmp_path)])
    assert done.exit_code == 0
    assert "0 differences, 1 tables compared" in done.output
    clone(f"{FROM}\n{TABLE.replace('+0.12', '+0.13', 1)}")
    done = CliRunner().invoke(app, ["check", "--folder", str(tmp_path)])
    assert done.exit_code == 1
    first, last = done.output.splitlines()
    cell = "(-0.20 to +0.30)"
    assert first == f"docs/results/page.md:2: iste-rgb, x2: '+0.13 {cell}' in the page, '+0.12 {cell}' from the file"
    assert last.startswith("1 differences")


def test_a_folder_without_pages_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="a clone of the repository"):
        check_pages(tmp_path)


# --- tables -----------------------------------------------------------------------------------------------------------


def test_tables_with_numbers_need_a_comment(clone):
    assert clone("| a | b |\n|---|---|\n| x | words 3 |\n") == []
    for cell in ("3", "+0.33", "31.2 / 0.8", "5.1 %", "**25.78 dB**", "-0.03 (-0.04 to -0.02)", "87, 120", "< 5", ".5"):
        [line] = clone(f"text\n\n| a | b |\n|---|---|\n| x | {cell} |\n")
        assert line.startswith("docs/results/page.md:3: a table with numbers names no file")
    assert clone("<!-- no source: typed by hand -->\n| a | b |\n|---|---|\n| x | 3 |\n") == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a | b\n--- | ---\nx | 3\n", 1),  # without outer bars
        ("| a |\n| :-: |\n| 3 |\n", 1),
        ("text\nmore\n| a | b |\n|---|---|\n| x | 3 |\n", 3),  # no empty line above
        ("- item\n\n  | a | b |\n  |:--|--:|\n  | x | 3 |\n", 3),
        ("<!-- From scores.csv: liif new ours -->\n| a | b |\n|---|---|\n| x | 3 |\n", 2),
        (f"{FROM}\ntext\n| a | b |\n|---|---|\n| x | 3 |\n", 3),  # the comment is not its own
    ],
)
def test_tables_are_found_wherever_they_stand(clone, text, line):
    assert f"docs/results/page.md:{line}: a table with numbers names no file. " in "\n".join(clone(text))


def test_programs_are_not_tables(clone):
    assert clone("```\n| a | b |\n|---|---|\n| x | 3 |\n```\n\n    | a | b |\n    |---|---|\n    | x | 3 |\n") == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("<!-- no source: -->\n" + TABLE, "is not understood"),
        ("<!-- from scores.csv liif new ours -->\n" + TABLE, "is not understood"),
        ("<!-- from scores.csv: liif new ours-->\n" + TABLE, "is not understood"),
        ("<!-- from scores.csv: lief new ours -->\n" + TABLE, "Expected one of quality"),
        ("<!-- from scores.csv: liif new -->\n" + TABLE, "files and words of liif"),
        ("<!-- from scores.csv: liif old ours -->\n" + TABLE, "one row with scale 2, by set, group old"),
        ("<!-- from scores.csv: evaluation ours -->\n" + TABLE, "scores for evaluation"),
        ("<!-- from scores.json: liif new ours -->\n" + TABLE, "an existing file of scores"),
        ("<!-- from ../../secrets.txt: liif new ours -->\n" + TABLE, "an existing file of scores"),
        (f"{FROM}\n\n{TABLE}", "nothing stands directly below"),
        ("<!-- no source: none -->\nA sentence.\n", "no table stands directly below"),
        (f"{FROM}\nA sentence.\n", "Expected one of over_liif"),
        (f"{FROM}\n{TABLE.rstrip().rpartition(chr(10))[0]}\n", "the line bicubic-rgb | +0.00"),
        (f"{FROM}\n{TABLE}| more | 1 | 2 | 3 |\n", "the line more | 1 | 2 | 3 is not in the file"),
        (f"{FROM}\n{TABLE.replace('| `bicubic-rgb` | +0.00 (-0.20 to +0.30)', '| `bicubic-rgb`')}", "has 3 cells"),
        (f"{FROM}\n{TABLE.replace('iste-rgb', 'other-rgb', 1)}", "'other-rgb' in the page"),
        (f"{FROM}\n{TABLE.replace('x3', 'x5', 1)}", "'x5' in the page"),
    ],
)
def test_mistakes_have_a_line(clone, text, named):
    found = clone(text)
    assert any(named in line for line in found), found
    assert all(line.startswith("docs/results/page.md:") for line in found)


@pytest.mark.parametrize("damage", ["", "by,group\n", '{"rows":', SCORES.replace("0.125", "much"), "\udcff\x00"])
@pytest.mark.parametrize("name", ["scores.csv", "scores.json"])
def test_damaged_files_have_a_line(clone, tmp_path, name, damage):
    (tmp_path / "docs/results" / name).write_bytes(damage.encode(errors="surrogateescape"))
    [line] = clone(f"{FROM.replace('scores.csv', name)}\n{TABLE}")
    assert line.startswith("docs/results/page.md:2: Expected")


# --- sentences --------------------------------------------------------------------------------------------------------


def test_phrases_may_be_anywhere_in_a_paragraph_or_list(clone):
    comment = "<!-- from scores.csv: over_liif new iste-rgb ours signed -->"
    assert clone(f"{comment}\nIt is\n+0.12 /\n**+0.12** / +0.12 dB better.\n") == []
    assert clone(f"{comment}\n- one\n- two: +0.12 / +0.12 / +0.12.\n") == []
    for wrong in ("+0.12 / +0.12", "+0.12 / +0.12 / +0.125", "1+0.12 / +0.12 / +0.12", "0.12 / 0.12 / 0.12"):
        [line] = clone(f"{comment}\nIt is {wrong} dB better.\n")
        assert line.endswith("'+0.12 / +0.12 / +0.12', from the file, is not in the paragraph")


def test_several_comments_above_one_paragraph(clone):
    protocols = ("iste-rgb", "bicubic-rgb")
    comments = "".join(f"<!-- from scores.csv: over_liif new {name} ours unsigned 2 -->\n" for name in protocols)
    assert clone(f"{comments}With blur 0.12, without 0.00 dB.\n") == []
    assert len(clone(f"{comments}With blur 0.13, without 0.01 dB.\n")) == 2


def test_blocks_know_their_lines():
    text = f"# Page\n\n{FROM}\n{TABLE}\n```\ncode\n```\ntext\nmore\n"
    found = [(block.line, len(block.lines), len(block.comments)) for block in blocks(text)]
    assert found == [(1, 1, 0), (4, 4, 1), (12, 2, 0)]


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_what_rounds_to_zero_has_no_minus():
    assert [page_sources.signed(value) for value in (-0.004, 0.004, -0.006)] == ["+0.00", "+0.00", "-0.01"]


def test_names_of_makers_are_all_used():
    pages = [*ROOT.glob("docs/**/*.md"), ROOT / "README.md", *ROOT.glob("bundles/**/*.md")]
    text = "".join(Path(page).read_text() for page in pages)
    for name in [*page_sources.TABLES, *page_sources.PHRASES]:
        assert f": {name} " in text, name
