"""Tables I and II: shared trainings, isolated failures, refused options."""

import json

import pytest
from typer.testing import CliRunner

from experiments import quality
from experiments.__main__ import app
from experiments.methods import METHODS
from monai_iste.errors import ConfigError, DataError, TrainingError


def _table(text, metric="PSNR"):
    """The lines of one panel: first cell -> the others."""
    panel = text[text.index(f"{metric}") :].split("\n\n")[1]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in panel.splitlines()[2:]]
    return {line[0]: line[1:] for line in cells}


def test_table1_has_every_method_and_dashes_beyond_x4(bundle, root, tmp_path):
    quality.table1(root, methods="bicubic,edsr,liif,iste", scales="2,6", seeds="2", output_dir=tmp_path / "out")
    rows = _table((tmp_path / "out" / "table1.md").read_text())
    assert rows["Bicubic"] == ["bicubic", "29.00", "25.00"]
    assert rows["EDSR"] == ["edsr_small", "30.00", "-"]
    assert rows["LIIF"] == ["liif_light", "31.05 ± 0.07", "27.05 ± 0.07"]  # two seeds, 0.1 dB apart
    assert rows["ISTE"] == ["iste_light", "**32.05 ± 0.07**", "**28.05 ± 0.07**"]
    trained = [options for workflow, _, options, _ in bundle if workflow == "training"]
    assert [(o["preset"], o["seed"]) for o in trained] == [
        ("edsr_small", 0),
        ("liif_light", 0),
        ("iste_light", 0),
        ("liif_light", 1),  # all first seeds come before the second ones
        ("iste_light", 1),
    ]
    assert all(o["network_def#bicubic_residual"] is True for o in trained)
    assert len({(o["batch_size"], o["lr_size"], o["num_points"], o["max_epochs"]) for o in trained}) == 1  # one budget
    differences = (tmp_path / "out" / "table1-differences.md").read_text()
    assert "+1.000" in differences
    manifest = json.loads((tmp_path / "out" / "table1-manifest.json").read_text())
    assert manifest["runs"]["liif-1000-seed1"]["parameters"] == 6
    assert manifest["budget"]["steps"] == 1000
    assert manifest["dataset"]["count"] == 2


def test_a_failing_method_leaves_the_others_standing(bundle, root, tmp_path):
    bundle.append("fail")
    with pytest.raises(TrainingError, match=r"1 that failed \(lte-1000-seed0\)"):
        quality.table1(root, methods="liif,lte,iste", scales="2", output_dir=tmp_path / "out")
    rows = _table((tmp_path / "out" / "table1.md").read_text())
    assert rows.keys() == {"LIIF", "ISTE"}
    assert "no space left" in (tmp_path / "out" / "table1-manifest.json").read_text()


def test_equal_time_gives_each_method_the_steps_that_istes_time_lasts_for(bundle, root, tmp_path):
    quality.table1(root, methods="liif,lte,iste", scales="2", equal="time", output_dir=tmp_path / "out")
    scored = {folder.parent.name for workflow, _, _, folder in bundle if workflow == "evaluating"}
    assert scored == {"liif-2000-seed0", "lte-500-seed0", "iste-1000-seed0"}  # 50, 200 and 100 s for 1000 steps
    assert (tmp_path / "out" / "table1-equal-time.csv").is_file()


def test_table2_shares_the_training_of_the_whole_network(bundle, root, tmp_path):
    quality.table2(root, output_dir=tmp_path / "out")
    trained = {folder.name: configs for workflow, configs, _, folder in bundle if workflow == "training"}
    assert trained["iste-1000-seed0"] == ["train", "nearest_corner"]
    assert trained["without_stf-1000-seed0"] == ["train", "nearest_corner", "without_stf"]
    evaluated = {folder.parent.name: configs for workflow, configs, _, folder in bundle if workflow == "evaluating"}
    assert evaluated["without_stf-1000-seed0"] == ["evaluate", "nearest_corner", "without_stf"]
    assert len(_table((tmp_path / "out" / "table2.md").read_text())) == 5


def test_choices_share_the_training_of_the_default(bundle, root, tmp_path):
    quality.choices(root, choices="iste,four_corners", scales="2", seeds="2", output_dir=tmp_path / "out")
    trained = {folder.name: configs for workflow, configs, _, folder in bundle if workflow == "training"}
    assert trained == {
        **{f"iste-1000-seed{seed}": ["train", "nearest_corner"] for seed in range(2)},
        **{f"four_corners-1000-seed{seed}": ["train", "nearest_corner", "four_corners"] for seed in range(2)},
    }
    assert _table((tmp_path / "out" / "choices.md").read_text()).keys() == {"ISTE", "texture at four corners"}
    assert "four_corners" in (tmp_path / "out" / "choices-differences.csv").read_text()


def test_ablations_on_other_data_sets_have_nothing_beside_them(bundle, root, tmp_path):
    quality.table2(root, dataset="tma", ablations="iste,without_lfi", output_dir=tmp_path / "out")
    assert "reported" not in (tmp_path / "out" / "table2.md").read_text()


def test_every_method_of_any_scale_is_compared_with_iste(bundle, root, tmp_path, monkeypatch):
    monkeypatch.setattr(quality, "METHODS", {**METHODS, "mine": METHODS["lte"]._replace(label="Mine")})
    quality.table1(root, methods="bicubic,edsr,liif,mine,iste", scales="2", output_dir=tmp_path / "out")
    compared = (tmp_path / "out" / "table1-differences.csv").read_text()
    assert {line.split(",")[2] for line in compared.splitlines()[1:]} == {"liif", "mine"}


def test_reported_numbers_stand_beside_those_of_the_same_data_set(bundle, root, tmp_path):
    quality.table1(root, dataset="histosr", methods="iste", scales="2", output_dir=tmp_path / "out")
    text = (tmp_path / "out" / "table1.md").read_text()
    assert "31.65" in text  # Table I, HistoSR, ISTE, x2
    assert "bicubic-rgb" in text
    assert bundle[0][2]["degradation"] == "bicubic"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dataset": "camelyon"}, "a data set"),
        ({"methods": "liif,ciaosr"}, "'ciaosr'"),
        ({"scales": "two"}, "scales such as"),
        ({"equal": "money"}, "steps or time"),
        ({"budget": "huge"}, "a budget"),
    ],
)
def test_mistakes_are_named(options, words, root, tmp_path):
    with pytest.raises(ConfigError, match=words):
        quality.table1(root, **{"output_dir": tmp_path / "out", **options})
    assert not (tmp_path / "out").exists()


def test_a_root_without_test_images_is_refused(root, tmp_path):
    for path in (root / "test").iterdir():
        path.unlink()
    (root / "test").rmdir()
    with pytest.raises(DataError, match="no folder test"):
        quality.table1(root, output_dir=tmp_path / "out")


def test_the_command_lists_the_tables():
    result = CliRunner().invoke(app, ["--help"])
    assert {"table1", "table2", "prepare"} <= set(result.stdout.split())


@pytest.mark.slow
def test_table1_for_real(root, tmp_path):
    options = {"methods": "bicubic,edsr,swd_net,li_unet_gan,iste", "steps": "2", "scales": "2", "crop": 96}
    options["output_dir"] = tmp_path / "out"
    quality.table1(root, **options)
    rows = _table((tmp_path / "out" / "table1.md").read_text())
    assert rows.keys() == {"Bicubic", "EDSR", "Li et al.", "SWD-Net", "ISTE"}
    before = (tmp_path / "out" / "table1.md").read_text()
    quality.table1(root, **options)
    assert (tmp_path / "out" / "table1.md").read_text() == before
