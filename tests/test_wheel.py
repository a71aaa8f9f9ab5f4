"""Contents of a wheel; nothing in it needs a clone of the repository."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from monai_iste.networks import PRESETS

ROOT = Path(__file__).parents[1]
MODELS = "bundles/iste/models"

# Run where nothing but the wheel's own files can be imported as monai_iste.
START_TRAINING = """
import ast, json, sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
import monai_iste.label.training
from monai.bundle import ConfigWorkflow
from monai_iste.bundle import bundle_command

files = ast.literal_eval(bundle_command("training", ["train"], {})[6])
flow = ConfigWorkflow(files, workflow_type="train", output_dir=str(Path("out").absolute()), device="cpu")
flow.initialize()
network = flow.parser.get_parsed_content("network")
names = ("experiments", "scripts", "benchmarks")
print(json.dumps({
    "package": monai_iste.__file__,
    "config": files[0],
    "bundle_root": flow.parser.get_parsed_content("bundle_root"),
    "network": type(network).__name__,
    "beside": [name for name in names if Path(sys.argv[1], name).exists()],
}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The files that a wheel installs, as its build puts them together."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    build = ["setup.py", "-q", "build", "--build-base", str(folder / "base"), "--build-lib", str(folder / "lib")]
    subprocess.run([sys.executable, *build], cwd=ROOT, check=True, capture_output=True)
    return folder / "lib"


def is_for_research(path: Path) -> bool:
    return path.stem in PRESETS and not PRESETS[path.stem].is_packaged


def test_wheel_holds_the_library_alone(wheel):
    assert {path.name for path in wheel.iterdir()} == {"monai_iste"}
    for folder in ("bundles/iste/configs", MODELS, "monai_iste/viewer/static"):
        inside = {"bundles/iste/configs": "configs", MODELS: "weights"}.get(folder, "viewer/static")
        expected = {path.name for path in (ROOT / folder).iterdir()} - {"model.pt"}
        expected -= {path.name for path in (ROOT / MODELS).iterdir() if path.suffix == ".md" or is_for_research(path)}
        assert {path.name for path in (wheel / "monai_iste" / inside).iterdir()} == expected
    assert not any(path.is_symlink() for path in wheel.rglob("*"))


def test_wheel_can_start_a_training_without_a_clone(wheel, tmp_path):
    done = subprocess.run(
        [sys.executable, "-I", "-c", START_TRAINING, str(wheel)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert Path(report["package"]).is_relative_to(wheel)
    assert Path(report["config"]).is_relative_to(wheel)
    assert report["bundle_root"] == str(tmp_path)  # nothing is written beside the installed package
    assert report["network"] == "ISTE"
    assert report["beside"] == []
    assert (tmp_path / "out").is_dir()
