"""Scores of a training whose file was edited or truncated: the server goes on without them and says so."""

import pytest

from monai_iste.io.json_files import write_json
from monai_iste.label.training import Training


@pytest.mark.parametrize("content", ["", '{"protocol": "iste-rgb", "rows": [', "[]", '{"rows": []}', '{"protocol": 3}'])
def test_damaged_scores_are_logged(content, tmp_path):
    (tmp_path / "metrics.json").write_text(content)
    lines = []
    assert Training(tmp_path, lines.append).scores() == {}
    (line,) = lines
    assert line.startswith("note: Expected ")
    assert line.endswith("Train again.")


def test_whole_scores(tmp_path):
    write_json(tmp_path / "metrics.json", {"protocol": "iste-rgb", "rows": [], "images": []})
    assert Training(tmp_path, pytest.fail).scores() == {"protocol": "iste-rgb", "rows": []}
