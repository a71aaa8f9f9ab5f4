"""Advice that installs, license files, and what a source distribution and an editable installation hold."""

import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path

import pytest

from monai_iste import errors
from monai_iste.errors import ConfigError, install_advice, require_extra
from monai_iste.networks import PRESETS

ROOT = Path(__file__).parents[1]
LICENSES = {"LICENSE", "NOTICE", "iste_light2.md", "LICENSE.txt"}
EXPRESSION = "Apache-2.0 AND BSD-3-Clause"


def run_setup(*words: str) -> None:
    pytest.importorskip("setuptools")
    subprocess.run([sys.executable, "setup.py", "-q", *words], cwd=ROOT, check=True, capture_output=True)


def test_advice_in_a_clone(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert install_advice("slides") == 'Install it: pip install -e ".[slides]".'
    monkeypatch.chdir(tmp_path)
    assert install_advice("slides") == f'Install it: pip install -e "{ROOT.as_posix()}[slides]".'
    with pytest.raises(ConfigError, match=r"pip install -e .*\[viewer\]"):
        require_extra("no_such_package_of_the_viewer", "viewer")


REQUIREMENTS = [
    "torch>=2.8",
    'zarr>=3.0.8; extra == "slides"',
    'fastapi>=0.140; extra == "viewer"',
    "napari[pyqt6]; extra == 'napari'",
]


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("slides", "pip install 'zarr>=3.0.8'."),
        ("napari", "pip install 'napari[pyqt6]'."),
        ("none", "clone of the rep"),
    ],
)
def test_advice_elsewhere_installs_the_packages_of_the_extra(extra, words, tmp_path, monkeypatch):
    """The package is on no index: a name in brackets would be looked for there."""
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "site-packages" / "monai_iste" / "errors.py"))
    monkeypatch.setattr(errors, "requires", lambda name: REQUIREMENTS)
    assert words in install_advice(extra)
    assert "monai_iste[" not in install_advice(extra)

    def missing(name):
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(errors, "requires", missing)
    assert 'pip install -e ".[slides]"' in install_advice("slides")


def test_no_page_or_message_names_the_package_on_an_index():
    files = [path for kind in ("py", "md", "groovy", "js", "html") for path in ROOT.rglob(f"*.{kind}")]
    folders = ("monai_iste", "docs", "bundles", "tutorials", "experiments", "benchmarks", "scripts")
    files = [path for path in files if path.relative_to(ROOT).parts[0] in (*folders, "README.md", "CONTRIBUTING.md")]
    assert len(files) > 100
    assert [
        str(path) for path in files if "install monai_iste" in path.read_text().replace('"', "").replace("'", "")
    ] == []


def test_metadata_name_the_licenses(tmp_path):
    run_setup("egg_info", "--egg-base", str(tmp_path))
    (folder,) = tmp_path.glob("*.egg-info")
    stated = metadata.PathDistribution(folder).metadata
    assert stated["License-Expression"] == EXPRESSION
    files = [Path(name) for name in stated.get_all("License-File")]
    assert {path.name for path in files} == LICENSES
    assert all((ROOT / path).is_file() for path in files)
    sources = set((folder / "SOURCES.txt").read_text().splitlines())
    bundle = {path for path in (ROOT / "bundles" / "iste").rglob("*") if path.is_file()}
    kept = {str(path.relative_to(ROOT)) for path in bundle if path.relative_to(ROOT).parts[2] != "eval"}
    research = {name for name in kept if Path(name).stem in PRESETS and not PRESETS[Path(name).stem].is_packaged}
    assert {Path(name).suffix for name in research} == {".md", ".safetensors"}
    assert {name for name in kept if not name.endswith(("model.ts", ".pyc"))} - research <= sources
    assert not research & sources


def test_an_editable_installation_is_a_path():
    """Type checkers and editors follow a path, and not the import hook that is written otherwise."""
    pytest.importorskip("setuptools")
    from setuptools import find_packages
    from setuptools.command.editable_wheel import _simple_layout

    packages = find_packages(str(ROOT), include=["monai_iste", "monai_iste.*"])
    assert _simple_layout(packages, {"": "."}, ROOT)
    assert 'package_dir={"": "."}' in (ROOT / "setup.py").read_text()
    assert (ROOT / "monai_iste" / "py.typed").is_file()


@pytest.mark.slow
def test_a_source_distribution_builds(tmp_path):
    run_setup("sdist", "--dist-dir", str(tmp_path))
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
        assert not [member.name for member in file.getmembers() if member.issym()]
    assert {"bundles/iste/train.json", "bundles/iste/models/iste_light2.md", "monai_iste/configs/train.json"} <= names
