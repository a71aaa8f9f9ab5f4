"""Tables of tiles and files behind the pages that were edited or truncated."""

import pytest
from damaged import CONTENTS
from reference import assert_teaches

from experiments.check import check_pages
from experiments.page_sources import PHRASES, TABLES
from experiments.tiles import TABLE, label_tiles
from monai_iste.errors import DataError
from monai_iste.io.json_files import write_json

# --- tables of tiles --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"\0" * 64,
        b"case,file\n1,a.png\n2",
        b"file,case\na.png,1\n\0\0\0\0",
        b'file,case\na.png,"1',
        b"file,case\na.png,\xff",
        b"file,case\na.png,",
        b"file,case\na.pn",
    ],
    ids=repr,
)
def test_a_damaged_table_of_tiles(content, tmp_path):
    """It must not count as no table: every tile would silently be a case of its own."""
    (tmp_path / TABLE).write_bytes(content)
    with pytest.raises(DataError) as caught:
        label_tiles([{"image": str(tmp_path / "a.png"), "name": "a"}], tmp_path)
    assert_teaches(caught.value, TABLE)


def test_a_foreign_file_of_that_name_is_no_table(tmp_path):
    (tmp_path / TABLE).write_text("key,value\nx,1\n")
    (found,) = label_tiles([{"image": str(tmp_path / "a.png"), "name": "a"}], tmp_path)
    assert found["case"] == "a"


# --- the check of the pages -------------------------------------------------------------------------------------------

PAGE = """<!-- from {} -->
| at x4 | bicubic |
|---|---|
| PSNR | 23.51 dB |
"""


@pytest.fixture
def clone(tmp_path):
    (tmp_path / "docs" / "results").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("content", [*CONTENTS.values(), '{"rows": {}}', '[{"by": "tile"}]', '{"rows": [3]}'])
@pytest.mark.parametrize("maker", ["quality atlas iste-rgb bicubic iste_light2", "gains atlas"])
@pytest.mark.parametrize("name", ["a.json", "a.csv"])
def test_damaged_files_of_scores_are_differences(maker, content, name, clone):
    (clone / "README.md").write_text(PAGE.format(f"{name} {name} {name}: {maker}"))
    (clone / "docs" / "results" / name).write_text(content)
    found = check_pages(clone).differences
    assert found
    assert all(line.startswith("README.md:2: ") for line in found)


@pytest.mark.parametrize("cell", [None, 3, ["a"]])
@pytest.mark.parametrize("makers", [TABLES, PHRASES], ids=["table", "phrases"])
def test_a_cell_that_is_no_text_is_a_difference(makers, cell, clone, monkeypatch):
    """A truncated CSV file has rows without their last columns, an edited JSON file has anything."""
    monkeypatch.setitem(makers, "labels", lambda rows: [["at x4", cell]] if makers is TABLES else [cell, "PSNR"])
    page = PAGE if makers is TABLES else "<!-- from {} -->\nPSNR is higher.\n"
    (clone / "README.md").write_text(page.format("a.json: labels"))
    write_json(clone / "docs" / "results" / "a.json", [])
    (line,) = check_pages(clone).differences
    assert line.startswith("README.md:2: Expected scores for labels, got a.json")
    assert line.endswith("Correct the comment, or measure again.")


@pytest.mark.parametrize("comment", ['a.csv: quality "atlas', "'a.csv: quality atlas", 'a.csv: ""', "a.csv:  "])
def test_comments_with_broken_quotation_marks(comment, clone):
    (clone / "README.md").write_text(PAGE.format(comment))
    (line,) = check_pages(clone).differences
    assert line.startswith("README.md:2: ")


def test_a_page_that_is_no_text(clone):
    (clone / "README.md").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError) as caught:
        check_pages(clone)
    assert_teaches(caught.value, "text in UTF-8", "README.md", "Restore the page.")
