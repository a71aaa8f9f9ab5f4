"""Tables I and II over days: steps and seeds of single methods, further test folders, cases, killed commands."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from monai.bundle import ConfigParser
from PIL import Image
from reference import assert_teaches

from experiments import quality, runs
from experiments.methods import METHODS, VARIANTS
from experiments.runs import find_config
from monai_iste.errors import ConfigError, DataError
from monai_iste.networks import ISTE
from monai_iste.transforms import RandSampleGridd


def trained(bundle):
    return [folder.name for workflow, _, _, folder in bundle if workflow == "training"]


def test_steps_and_seeds_of_single_methods(bundle, root, tmp_path):
    options = {"methods": "bicubic,edsr,liif,iste", "scales": "2,3", "output_dir": tmp_path / "out"}
    quality.table1(root, steps="500,edsr=200", seeds="1,liif=2", **options)
    first = ["edsr-x2-200-seed0", "edsr-x3-200-seed0", "liif-500-seed0", "iste-500-seed0", "liif-500-seed1"]
    assert trained(bundle) == first
    text = (tmp_path / "out" / "table1.md").read_text()
    assert "500 steps (edsr 200) of 8 crops" in text
    assert "1 to 2 seeds" in text
    quality.table1(root, steps="500,edsr=200", seeds="3", **options)  # what is finished is used again
    assert trained(bundle) == [*first, "iste-500-seed1", "liif-500-seed2", "iste-500-seed2"]


def test_table2_takes_istes_training_from_table1(bundle, root, tmp_path):
    quality.table1(root, methods="iste", steps="500", seeds="2", output_dir=tmp_path / "out")
    quality.table2(root, ablations="iste,without_tl", steps="500", seeds="2", output_dir=tmp_path / "out")
    assert trained(bundle) == [f"{name}-500-seed{n}" for name in ("iste", "without_tl") for n in range(2)]


def test_variants_are_rows_on_request(bundle, root, tmp_path):
    methods = ",".join((*METHODS, *VARIANTS))
    quality.table1(root, methods=methods, scales="2", output_dir=tmp_path / "out")
    presets = {folder.name: options["preset"] for workflow, _, options, folder in bundle if workflow == "training"}
    assert presets["iste_light2-1000-seed0"] == "iste_light2"
    assert presets["four_corners-1000-seed0"] == "iste_light"
    text = (tmp_path / "out" / "table1.md").read_text()
    assert text.index("| ISTE | ") < text.index("| ISTE, four corners | ") < text.index("| ISTE, second generation | ")
    assert {VARIANTS["iste_light2"].preset(size) for size in ("full", "small", "light")} == {"iste_light2"}


@pytest.mark.parametrize("name", ["iste", "four_corners", "iste_light2"])
def test_one_recipe_for_all_forms_of_iste(name):
    method = {**METHODS, **VARIANTS}[name]
    parser = ConfigParser()
    parser.read_config([str(find_config(config)) for config in ("train", *method.overlays, *method.network_overlays)])
    plain = ConfigParser()
    plain.read_config(str(find_config("train")))
    changed = {key for key in parser.get() if parser[key] != plain[key]}
    assert changed <= {"network_def"}
    parser.update({"preset": method.preset("light")})
    network = parser.get_parsed_content("network_def")
    assert isinstance(network, ISTE)
    assert network.texture_corners == ("nearest" if name == "iste" else "four")


def test_the_switch_of_the_points_is_one_for_all(bundle, root, tmp_path):
    quality.table1(root, methods="edsr,liif,iste", scales="2", grid=24, output_dir=tmp_path / "out")
    asked = {folder.name: (configs, options) for workflow, configs, options, folder in bundle if workflow == "training"}
    assert asked["liif-1000-seed0"][0] == ["train", "grid_points"]
    assert asked["iste-1000-seed0"][0] == ["train", "grid_points", "nearest_corner"]
    assert asked["liif-1000-seed0"][1]["num_rows"] == asked["iste-1000-seed0"][1]["num_rows"] == 24
    assert asked["edsr-x2-1000-seed0"][0] == ["train", "fixed_scale"]  # whole crops
    assert "num_rows" not in asked["edsr-x2-1000-seed0"][1]
    assert "the points of 24 rows and 24 columns for methods of any scale" in (tmp_path / "out/table1.md").read_text()
    parser = ConfigParser()
    parser.read_config([str(find_config(config)) for config in asked["iste-1000-seed0"][0]])
    parser.update({"num_rows": 24})
    steps = parser.get_parsed_content("train#preprocessing").transforms
    (sampler,) = (step.sampler for step in steps if isinstance(step, RandSampleGridd))
    assert (sampler.num_rows, sampler.num_columns) == (24, 24)


def old_tiles(folder, cases):
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (96, 96), "pink").save(folder / f"{number}.png")
    lines = ["file,case", *(f"{number}.png,{case}" for number, case in enumerate(cases))]
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_a_further_folder_is_scored_without_training(bundle, root, tmp_path):
    options = {"methods": "bicubic,liif,iste", "scales": "2", "output_dir": tmp_path / "out"}
    quality.table1(root, **options)
    before = trained(bundle)
    old = old_tiles(tmp_path / "old", "aab")
    quality.table1(root, **options, also=[f"old={old}"])
    assert trained(bundle) == before
    evaluated = {options["dataset_dir"] for workflow, _, options, _ in bundle if workflow == "evaluating"}
    assert evaluated == {root.resolve() / "test", old.resolve()}
    out = tmp_path / "out"
    assert "over images (paired bootstrap); 3 images" in (out / "table1-differences.md").read_text()
    assert "over cases (paired bootstrap); 2 cases, 3 images" in (out / "table1-old-differences.md").read_text()
    assert not (out / "table1-cases.csv").exists()  # no table tells cases
    by_case = list(csv.DictReader((out / "table1-old-cases.csv").open()))
    liif = {row["case"]: (row["images"], float(row["psnr"])) for row in by_case if row["method"] == "liif"}
    assert liif == {"a": ("2", 30.5), "b": ("1", 32.0)}  # of 30, 31 and 32 dB
    assert json.loads((out / "table1-old-manifest.json").read_text())["cases"] == 2
    assert json.loads((out / "table1-old-manifest.json").read_text())["dataset"]["count"] == 3


def test_one_case_has_scores_and_no_interval(bundle, root, tmp_path):
    old = old_tiles(tmp_path / "old", "aaa")
    quality.table1(root, methods="liif,iste", scales="2", output_dir=tmp_path / "out", also=[f"old={old}"])
    assert (tmp_path / "out" / "table1-old-cases.csv").is_file()
    assert (tmp_path / "out" / "table1-differences.csv").is_file()
    assert not (tmp_path / "out" / "table1-old-differences.csv").exists()


def test_a_tile_that_the_table_lacks_is_found_before_any_training(bundle, root, tmp_path):
    old = old_tiles(tmp_path / "old", "ab")
    with pytest.raises(DataError, match="every tile of"):
        quality.table1(root, methods="iste", output_dir=tmp_path / "out", also=[f"old={old}"])
    assert bundle == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": "0"}, "--steps N"),
        ({"steps": "5,6"}, "--steps N"),
        ({"steps": "5,ciaosr=6"}, "'5,ciaosr=6'"),
        ({"seeds": "liif=0"}, "--seeds N"),
        ({"seeds": "two"}, "--seeds N"),
        ({"also": ["tiles"]}, "NAME=DIR"),
        ({"also": ["../x=tiles"]}, "NAME=DIR"),
        ({"also": ["old=missing"]}, "a folder of images"),
        ({"equal": "time", "methods": "liif,lte"}, "iste among the methods"),
    ],
)
def test_mistakes_are_named(options, words, bundle, root, tmp_path):
    with pytest.raises(ConfigError, match=words) as caught:
        quality.table1(root, **{"output_dir": tmp_path / "out", **options})
    assert_teaches(caught.value)
    assert bundle == []


def test_equal_time_of_short_trainings_and_of_ablations(bundle, root, tmp_path):
    quality.table1(root, methods="liif,iste", steps="6", scales="2", equal="time", output_dir=tmp_path / "out")
    assert trained(bundle)[-1] == "liif-12-seed0"  # half the time of a step, so twice the steps
    quality.table2(root, ablations="iste,without_tl", steps="6", scales="2", equal="time", output_dir=tmp_path / "out")
    assert (tmp_path / "out" / "table2-equal-time.csv").is_file()


def test_every_finished_training_is_told_with_the_time_of_the_others(bundle, root, tmp_path, capsys):
    quality.table1(root, methods="liif,iste", seeds="2", scales="2", output_dir=tmp_path / "out")
    told = [line for line in capsys.readouterr().err.splitlines() if "trainings finished" in line]
    assert told[0].startswith("0 of 4 trainings finished, 4 remain; their time is known")
    assert told[1] == "1 of 4 trainings finished, 3 remain, about 1 min"
    assert told[-1] == "4 of 4 trainings finished"


# --- killed commands --------------------------------------------------------------------------------------------------

PARENT = """
import sys
from pathlib import Path
from experiments import runs
runs._NOTED_EVERY = 0.2
runs.bundle_command = lambda workflow, configs, options: [sys.executable, "-c", sys.argv[2]]
runs.run_bundle("training", ["train"], {}, Path(sys.argv[1]))
"""

CHILD = """
import os, pathlib, time
pathlib.Path("{}").write_text(str(os.getpid()))
while True: pass
"""


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the lock of the folder tells of the other run")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_command_takes_its_training_with_it_and_keeps_the_cost(how, tmp_path):
    number = tmp_path / "pid"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(runs.__file__).parents[1])])}
    command = [sys.executable, "-c", PARENT, str(tmp_path / "run"), CHILD.format(number)]
    with subprocess.Popen(command, env=environment) as parent:
        assert wait_for(lambda: number.is_file() and number.read_text())
        child = int(number.read_text())
        file = tmp_path / "run" / "run.json"
        assert wait_for(lambda: json.loads(file.read_text())["cpu_seconds"] > 0.3)
        assert is_alive(child)
        parent.send_signal(how)
        parent.wait()
    assert wait_for(lambda: not is_alive(child))
    record = json.loads(file.read_text())
    assert record["seconds"] > 0.3
    assert not record["finished"]
