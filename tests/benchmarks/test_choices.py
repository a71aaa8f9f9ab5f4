"""The benchmark of choices: differences between keys and between tilings, and seams that it sees."""

import json

import torch
from PIL import Image

from benchmarks import choices, common


def test_choices(toy, tmp_path, monkeypatch):
    tile = common.sample_tissue(96, 80)[0].permute(1, 2, 0).numpy()
    Image.fromarray(tile).save(tmp_path / "tile.png")
    monkeypatch.setattr(choices, "TILINGS", [(8, 8, 4), (64, 16, 16)])
    rows = choices.choices(tmp_path, presets=toy, scales="2", crop=64, json_file=tmp_path / "choices.json")
    keys, tilings = ([row for row in rows if ("psnr" in row) == scored] for scored in (True, False))
    assert [row["choice"] for row in keys] == list(choices.KEYS)
    by_name = {row["choice"]: row for row in keys}
    assert by_name["lattice, 48^2 keys"]["mean_difference"] == 0  # the toy's own
    assert by_name["lattice, 8^2 keys"]["mean_difference"] > 0
    small, one = tilings
    assert one["max_difference"] < 0.01  # one window holds the whole tile
    assert one["border_steps"] is None
    assert small["max_difference"] > one["max_difference"]
    assert 0.9 < small["border_steps"] < 1.1
    assert json.loads((tmp_path / "choices.json").read_text())["rows"] == rows


def test_a_seam_is_seen():
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)) / 100
    assert list(choices._border_steps(image, image, 16, 32)) == [1]
    broken = image.clone()
    broken[:, 32:] += 0.5
    assert max(choices._border_steps(broken, image, 16, 32)) > 5
