"""Tables I and II: trainings and scores, no repetition of finished work, and isolated failures."""

import json
import sys

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image
from typer.testing import CliRunner

from experiments import quality, runs, study
from experiments.__main__ import app
from experiments.methods import ABLATIONS, BUDGETS, CHOICES, METHODS, get_budget
from experiments.runs import find_config, is_finished, run_bundle
from experiments.study import Run, Study
from monai_iste.bundle import bundle_command
from monai_iste.errors import ConfigError, DataError, TrainingError
from monai_iste.networks import BASELINES, PRESETS, create_network
from monai_iste.networks.local_feature_interactor import QueryProjection
from monai_iste.networks.texture_learner import ConvTexture


@pytest.fixture
def root(tmp_path):
    """Two tiles for each part."""
    random = np.random.default_rng(0)
    for part in ("train", "val", "test"):
        (tmp_path / "data" / part).mkdir(parents=True)
        for i in range(2):
            pixels = random.integers(0, 255, (8, 8, 3), np.uint8)
            image = Image.fromarray(pixels).resize((160, 160), Image.Resampling.BICUBIC)
            image.save(tmp_path / "data" / part / f"{i}.png")
    return tmp_path / "data"


# --- methods and budgets ----------------------------------------------------------------------------------------------


EVERY = {**METHODS, **ABLATIONS, **CHOICES}


@pytest.mark.parametrize("method", EVERY.values(), ids=EVERY)
@pytest.mark.parametrize("size", ["full", "small", "light"])
def test_every_method_has_a_preset_of_every_size(method, size):
    assert method.preset(size) in {**PRESETS, **BASELINES}
    assert method.preset("full") == method.family


def test_sizes():
    assert METHODS["liif"].preset("light") == "liif_light"
    assert METHODS["edsr"].preset("light") == METHODS["edsr"].preset("small") == "edsr_small"
    assert METHODS["bicubic"].preset("small") == "bicubic"


def test_methods_of_any_scale_share_encoder_and_residual_at_every_size():
    for size in ("full", "small", "light"):
        nets = [create_network(METHODS[name].preset(size)) for name in ("liif", "lte", "iste")]
        shapes = [[tuple(p.shape) for p in net.encoder.parameters()] for net in nets]
        assert shapes[0] == shapes[1] == shapes[2]
    assert all(create_network(METHODS[name].preset("light")).bicubic_residual for name in ("liif", "lte", "iste"))


def test_scales_of_fixed_networks_end_at_four():
    assert METHODS["edsr"].scales((2.0, 3.0, 4.0, 6.0)) == (2.0, 3.0, 4.0)
    assert METHODS["iste"].scales((2.0, 6.0)) == (2.0, 6.0)


def built(method):
    parser = ConfigParser()
    parser.read_config([str(find_config(c)) for c in ("train", *method.network_overlays)])
    return parser.get_parsed_content("network_def")


def test_choices_decide_one_thing_the_other_way():
    def decisions(net):
        kernel = net.local_feature_interactor.projection.weight.shape[-1]
        return {"corners": net.texture_axis, "kernel": kernel, "keys": net.training_keys}

    plain = decisions(built(METHODS["iste"]))
    changed = {name: dict(decisions(built(method)).items() - plain.items()) for name, method in CHOICES.items()}
    corners = create_network("iste_light", texture_corners="four").texture_axis
    assert changed == {
        "iste": {},
        "four_corners": {"corners": corners},
        "query_3x3": {"kernel": 3},
        "lattice_keys": {"keys": "lattice"},
    }


def test_ablations_take_one_module_away():
    full = create_network("iste_light")
    for name, method in ABLATIONS.items():
        net = built(method)
        missing = {
            "lfi": type(net.local_feature_interactor) is QueryProjection,
            "tl": type(net.texture_learner) is ConvTexture,
            "stf": net.self_texture_fusion is None,
            "ltd": net.local_texture_decoder is None,
        }
        assert {f"without_{module}" for module, gone in missing.items() if gone} == {name} - {"iste"}
    assert full.self_texture_fusion is not None


def test_fixed_scale_overlay_builds_and_crops_for_its_scale():
    parser = ConfigParser()
    parser.read_config([str(find_config(name)) for name in ("train", "fixed_scale")])
    parser.update({"preset": "edsr_small", "scale": 3})
    net = parser.get_parsed_content("network_def")
    steps = parser.get_parsed_content("train#preprocessing").transforms
    assert net(torch.rand(1, 3, 4, 5)).shape == (1, 3, 12, 15)
    assert parser.get_parsed_content("scales") == [3]
    data = {"image": np.random.default_rng(0).integers(0, 255, (3, 120, 120), np.uint8)}
    for step in steps[1:]:
        data = step(data)
    assert data["image"].shape == (3, 32, 32)
    assert data["label"].shape == (3, 96, 96)  # whole crops: no coordinates are drawn


def test_budgets():
    assert get_budget("light", 7) == BUDGETS["light"]._replace(steps=7)
    with pytest.raises(ConfigError, match="budget"):
        get_budget("huge")


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def script(monkeypatch):
    """Replace the bundle's command by a Python program; returns its path."""
    programs = {"text": "print('fine')"}
    command = lambda workflow, configs, options: [  # noqa: E731
        sys.executable,
        "-c",
        programs["text"],
        workflow,
        str(options["output_dir"]),
    ]
    monkeypatch.setattr(runs, "bundle_command", command)
    return programs


def test_command_names_workflow_files_and_options():
    overlay = find_config("without_lfi")
    command = bundle_command("training", ["train", overlay], {"seed": 3, "network_def#scale": 2})
    assert command[1:5] == ["-m", "monai.bundle", "run", "training"]
    assert command[6].endswith("configs/without_lfi.json']")
    assert command[7:] == ["--seed", "3", "--network_def#scale", "2"]


def test_command_of_no_configuration_is_refused():
    with pytest.raises(ConfigError, match=r"evaluate, .*train, .*'nothing'"):
        bundle_command("training", ["nothing"], {})


def test_a_run_is_done_once(script, tmp_path):
    script["text"] = "import sys; open(sys.argv[2] + '/times', 'a').write('x')"
    for _ in range(2):
        record = run_bundle("training", ["train"], {"seed": 0}, tmp_path / "run")
    assert (tmp_path / "run" / "times").read_text() == "x"
    assert record["finished"]
    assert is_finished(tmp_path / "run")
    assert not is_finished(tmp_path / "other")
    assert record["seconds"] > 0
    assert record["cpu_seconds"] > 0


def test_other_settings_in_the_same_folder_are_refused(script, tmp_path):
    run_bundle("training", ["train"], {"seed": 0, "lr_size": 8}, tmp_path / "run")
    with pytest.raises(ConfigError, match="seed 0 there, 1 now"):
        run_bundle("training", ["train"], {"seed": 1, "lr_size": 8}, tmp_path / "run")


def test_a_failed_run_quotes_its_last_line_and_resumes_later(script, tmp_path):
    busy = "import time\nwhile time.process_time() < 0.3: pass\n"
    script["text"] = busy + "raise SystemExit('no space left')"
    with pytest.raises(TrainingError, match="no space left"):
        run_bundle("training", ["train"], {}, tmp_path / "run")
    first = json.loads((tmp_path / "run" / "run.json").read_text())
    assert not first["finished"]
    script["text"] = "print('fine')"
    record = run_bundle("training", ["train"], {}, tmp_path / "run")
    assert record["finished"]
    assert record["cpu_seconds"] >= first["cpu_seconds"] > 0.2  # both parts count


# --- tables -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def bundle(monkeypatch):
    """Substitute for trainings and evaluations: PSNR by method, with a list of the requests."""
    asked, gains = [], {"edsr": 1.0, "liif": 2.0, "lte": 2.5, "iste": 3.0}

    def run(workflow, configs, options, folder):
        asked.append((workflow, configs, options, folder))
        family = options["preset"].split("_")[0]
        folder.mkdir(parents=True, exist_ok=True)
        if options["preset"] == "lte_light" and "fail" in asked[0]:
            raise TrainingError("training to end well", "no space left", "See the log.")
        if workflow == "training":
            torch.save({"w": torch.zeros(options["seed"] + 5)}, folder / "model.pt")
            return {"cpu_seconds": {"liif": 50.0, "lte": 200.0}.get(family, 100.0), "seconds": 1.0}
        seed = int(folder.parent.name[-1])
        images = [
            {
                "image": str(i),
                "scale": scale,
                "method": method,
                "psnr": 30.0 - scale + i + gain + seed / 10,
                "ssim": 0.9,
            }
            for method, gain in (("bicubic", 0.0), ("iste", gains.get(family, 0.0)))
            for i in range(3)
            for scale in options["scales"]
        ]
        (folder / "metrics.json").write_text(json.dumps({"images": images, "rows": []}))
        return {}

    monkeypatch.setattr(study, "run_bundle", run)
    return asked


def _table(text, metric="PSNR"):
    """The lines of one panel: first cell -> the others."""
    panel = text[text.index(f"{metric}") :].split("\n\n")[1]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in panel.splitlines()[2:]]
    return {line[0]: line[1:] for line in cells}


def test_table1_has_every_method_and_dashes_beyond_x4(bundle, root, tmp_path):
    quality.table1(root, methods="bicubic,edsr,liif,iste", scales="2,6", seeds=2, output_dir=tmp_path / "out")
    rows = _table((tmp_path / "out" / "table1.md").read_text())
    assert rows["Bicubic"] == ["bicubic", "29.00", "25.00"]
    assert rows["EDSR"] == ["edsr_small", "30.00", "-"]
    assert rows["LIIF"] == ["liif_light", "31.05 ± 0.07", "27.05 ± 0.07"]  # two seeds, 0.1 dB apart
    assert rows["ISTE"] == ["iste_light", "**32.05 ± 0.07**", "**28.05 ± 0.07**"]
    trained = [options for workflow, _, options, _ in bundle if workflow == "training"]
    assert [(o["preset"], o["seed"]) for o in trained] == [
        ("edsr_small", 0),
        ("liif_light", 0),
        ("liif_light", 1),
        ("iste_light", 0),
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
    quality.choices(root, choices="iste,four_corners", scales="2", seeds=2, output_dir=tmp_path / "out")
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


def test_fixed_networks_are_trained_and_scored_at_their_scale(bundle, root, tmp_path):
    work = Study(METHODS, root, get_budget("light", 120), "iste-rgb", tmp_path / "out")
    assert [run.name for run in work.plan_runs("edsr", (2.0, 3.0, 8.0), 3)] == [
        "edsr-x2-120-seed0",
        "edsr-x3-120-seed0",
    ]
    work.score_images(Run("edsr", 3, 0, 120), (2.0, 3.0))
    (_, configs, training, _), (_, _, evaluation, _) = bundle
    assert configs == ["train", "fixed_scale"]
    assert training["scale"] == 3
    assert training["steps_per_epoch"] * training["max_epochs"] == 120
    assert evaluation["network_def#scale"] == 3
    assert evaluation["scales"] == [3]


def test_bicubic_needs_no_training(bundle, root, tmp_path):
    work = Study(METHODS, root, get_budget("light"), "iste-rgb", tmp_path / "out")
    rows = work.score_images(Run("bicubic", None, 0, 0), (2.0,))
    assert [workflow for workflow, *_ in bundle] == ["evaluating"]
    assert "checkpoint" not in bundle[0][2]
    assert {row["method"] for row in rows} == {"bicubic"}


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
    quality.table1(
        root, methods="bicubic,edsr,swd_net,li_unet_gan,iste", steps=2, scales="2", crop=96, output_dir=tmp_path / "out"
    )
    rows = _table((tmp_path / "out" / "table1.md").read_text())
    assert rows.keys() == {"Bicubic", "EDSR", "Li et al.", "SWD-Net", "ISTE"}
    before = (tmp_path / "out" / "table1.md").read_text()
    quality.table1(
        root, methods="bicubic,edsr,swd_net,li_unet_gan,iste", steps=2, scales="2", crop=96, output_dir=tmp_path / "out"
    )
    assert (tmp_path / "out" / "table1.md").read_text() == before
