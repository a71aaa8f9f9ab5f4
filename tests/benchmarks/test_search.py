"""The search of variants: each is trained once."""

import pytest
from PIL import Image
from reference import assert_teaches

from benchmarks import common, search
from monai_iste.errors import ConfigError
from monai_iste.networks import create_iste


def test_search_trains_each_variant_once(tmp_path, capsys):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        Image.fromarray(common.sample_tissue(64, 64)[0].permute(1, 2, 0).numpy()).save(tmp_path / split / "tile.png")
    options = "--batch_size 1 --lr_size 8 --num_points 9 --val_crop 32 --scales [2] --num_workers 0"
    arguments = {"names": "preset, encoder 4 blocks of 64", "steps": 1, "options": options, "repeats": 1}
    paths = {"output_dir": tmp_path / "out", "plot": tmp_path / "plot.png"}
    rows = search.search(tmp_path, **arguments, **paths)
    assert [row["variant"] for row in rows] == ["preset", "encoder 4 blocks of 64"]
    assert rows[0]["parameters"] != rows[1]["parameters"]
    assert rows[0]["macs"] > 0
    assert Image.open(tmp_path / "plot.png").size == (860, 520)
    assert "| encoder 4 blocks of 64 |" in capsys.readouterr().out
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/*/metrics.json")}
    assert len(written) == 2
    again = search.search(tmp_path, **arguments, output_dir=tmp_path / "out")
    assert [row["psnr"] for row in again] == [row["psnr"] for row in rows]
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_search_refuses_unknown_variants(tmp_path):
    with pytest.raises(ConfigError) as caught:
        search.search(tmp_path, names="wide")
    assert_teaches(caught.value, "branches 64 wide", "'wide'")


@pytest.mark.parametrize("name", search.VARIANTS)
def test_variants_can_be_built(name):
    assert create_iste("iste_light", **search._build_changes(search.VARIANTS[name])).encoder.out_channels
