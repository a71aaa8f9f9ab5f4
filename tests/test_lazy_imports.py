"""Lazy imports: PyTorch and MONAI only when needed; short names once MONAI is loaded."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

LOADED = "print([name for name in ('torch', 'monai') if name in sys.modules])"


def last_line(program, *arguments):
    """The last line that a fresh process prints."""
    command = [sys.executable, "-c", f"import sys\n{program}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def command(*arguments):
    """Modules that are loaded when a command has ended."""
    program = f"""
from monai_iste.cli.main import app
try:
    app(sys.argv[1:], prog_name="monai-iste")
except SystemExit as ended:
    assert ended.code == 0, ended.code
{LOADED}
"""
    return last_line(program, *arguments)


def test_the_package_itself_loads_nothing():
    assert last_line(f"import monai_iste; monai_iste.__version__\n{LOADED}") == "[]"
    assert last_line(f"from monai_iste.errors import ISTEError\n{LOADED}") == "[]"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["upscale", "--help"], ["view", "--help"]])
def test_help_loads_neither_pytorch_nor_monai(arguments):
    assert command(*arguments) == "[]"


def test_images_are_upscaled_without_monai(tmp_path):
    Image.fromarray(np.full((20, 30, 3), 200, np.uint8)).save(tmp_path / "a.png")
    assert command("upscale", tmp_path / "a.png", tmp_path / "b.png", "--scale", 2, "--device", "cpu") == "['torch']"
    assert Image.open(tmp_path / "b.png").size == (60, 40)
    program = "import numpy, monai_iste; monai_iste.upscale(numpy.zeros((9, 9, 3)), 2, device='cpu')"
    assert last_line(f"{program}\n{LOADED}") == "['torch']"


@pytest.mark.parametrize(
    "package",
    [
        *("networks", "io", "inferers.tiling", "inferers.output_size", "functional", "coordinates", "losses"),
        *("slides", "viewer.rendering", "viewer.server"),
    ],
)
def test_what_does_without_monai(package):
    assert last_line(f"import monai_iste.{package}\n{LOADED}") in ("['torch']", "[]")


NAMES = [
    *("ISTE", "EDSR", "LoadRGBd", "SuperResolved", "EMAWeights", "ArbitraryScaleInferer", "EvaluationReport"),
    "SuperResolvedWSIReader",
]

RESOLVE = """
from monai.bundle import ConfigParser
config = {"imports": sys.argv[1].split(";")}
config |= {name: {"_target_": name, "_mode_": "callable"} for name in sys.argv[2:]}
parser = ConfigParser(config)
parser.get_parsed_content("imports")
print([parser.get_parsed_content(name).__module__.split(".")[0] for name in sys.argv[2:]])
"""


@pytest.mark.parametrize("program", ["import monai, monai_iste", "import monai", ""])
def test_configurations_that_import_the_package_find_every_name(program):
    assert last_line(program + RESOLVE, "$import monai_iste", *NAMES) == str(["monai_iste"] * len(NAMES))


def test_configurations_may_name_the_subpackages():
    imports = "$import monai_iste.networks;$import monai_iste.transforms;$import monai_iste.handlers"
    program = f"import monai_iste{RESOLVE}"  # loaded before MONAI, when there was nothing to register
    names = [name for name in NAMES if name not in ("ArbitraryScaleInferer", "SuperResolvedWSIReader")]
    assert last_line(program, imports, *names) == str(["monai_iste"] * len(names))


CREATE_TRAINER = """
from monai.bundle import ConfigWorkflow
config = "{config}"
flow = ConfigWorkflow(config, workflow_type="train", logging_file=False, output_dir="out", max_epochs=1)
print([type(flow.parser.get_parsed_content(name)).__name__ for name in ("loss", "train#trainer", "network")])
"""


def test_the_bundle_finds_every_name_where_the_package_was_imported_before_monai(tmp_path, monkeypatch):
    from monai_iste.bundle import config_file

    monkeypatch.chdir(tmp_path)
    program = "import monai_iste" + CREATE_TRAINER.format(config=config_file("train"))
    assert last_line(program) == str(["L1Loss", "SupervisedTrainer", "ISTE"])


def test_unknown_attributes_are_refused():
    import monai_iste

    with pytest.raises(AttributeError, match="has no attribute 'lod'"):
        _ = monai_iste.lod
