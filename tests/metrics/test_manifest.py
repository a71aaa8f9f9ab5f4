"""The manifest: all conditions of a measurement, without the locations of files."""

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np
import pytest
import torch
from PIL import Image

import monai_iste
from monai_iste.data import image_datalist
from monai_iste.errors import ConfigError, DataError
from monai_iste.io.files import checksum
from monai_iste.metrics.manifest import fingerprint, manifest


def folder_of_images(folder, sizes) -> list[dict]:
    folder.mkdir()
    for name, (height, width) in sizes.items():
        Image.new("RGB", (width, height)).save(folder / f"{name}.png")
    return image_datalist(folder)


def test_versions_and_hardware_are_those_of_this_process():
    report = manifest("iste-rgb", device="cpu")
    assert report["versions"]["monai_iste"] == monai_iste.__version__
    assert report["versions"]["python"] == platform.python_version()
    for package in ("monai", "pillow", "scikit-image", "numpy"):
        assert report["versions"][package] == version(package)
    assert report["versions"]["torch"] == torch.__version__
    assert report["hardware"]["cpu"]
    assert report["hardware"]["cores"] == os.cpu_count()
    assert report["hardware"]["threads"] == torch.get_num_threads()
    assert (report["hardware"]["device"], report["hardware"]["cuda"]) == ("cpu", None)
    age = datetime.now(UTC) - datetime.fromisoformat(report["date"])
    assert 0 <= age.total_seconds() < 10


def test_the_build_of_torch_is_named(monkeypatch):
    """The metadata of a wheel from a package index leaves out the build that torch itself states."""
    monkeypatch.setattr("monai_iste.metrics.manifest.version", lambda package: "9.8.7")
    monkeypatch.setattr(torch, "__version__", "9.8.7+cu130")
    versions = manifest("iste-rgb")["versions"]
    assert (versions["torch"], versions["numpy"]) == ("9.8.7+cu130", "9.8.7")
    assert json.loads(json.dumps(versions)) == versions


def test_a_missing_package_does_not_fail(monkeypatch):
    monkeypatch.setattr("monai_iste.metrics.manifest._PACKAGES", ("torch", "no-such-package"))
    assert manifest("iste-rgb")["versions"]["no-such-package"] is None


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("iste-rgb", ("blur_bicubic", 8, "rgb")),
        ("bicubic-rgb", ("bicubic", 8, "rgb")),
        ("y-shave-s", ("bicubic", "scale", "y")),
    ],
)
def test_the_protocol_is_spelt_out(name, parts):
    protocol = manifest(name)["protocol"]
    assert (protocol["name"], protocol["degradation"], protocol["shave"], protocol["channels"]) == (name, *parts)


def test_weights_are_named_and_hashed(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"abc")
    report = manifest("iste-rgb", tmp_path / "model.pt", seed=7, precision="bfloat16")
    # The test vector of FIPS 180.
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert report["checkpoint"] == {"file": "model.pt", "sha256": sha256}
    assert checksum(tmp_path / "model.pt") == sha256
    assert (report["seed"], report["precision"]) == (7, "bfloat16")
    assert manifest("iste-rgb")["checkpoint"] is None


def test_a_dataset_is_its_names_and_sizes_wherever_it_lies(tmp_path):
    sizes = {"a": (20, 30), "b": (40, 10)}
    here = folder_of_images(tmp_path / "here", sizes)
    report = manifest("iste-rgb", dataset=here)
    assert report["dataset"]["count"] == 2
    assert str(tmp_path) not in json.dumps(report)
    assert fingerprint(folder_of_images(tmp_path / "there", sizes)[::-1]) == report["dataset"]
    arrays = [{"image": np.zeros((3, *size), np.uint8), "name": name} for name, size in sizes.items()]
    assert fingerprint(arrays) == report["dataset"]
    assert manifest("iste-rgb", dataset=report["dataset"])["dataset"] == report["dataset"]
    for i, other in enumerate(({"a": (20, 30)}, {"a": (30, 20), "b": (40, 10)}, {"a": (20, 30), "c": (40, 10)})):
        assert fingerprint(folder_of_images(tmp_path / str(i), other)) != report["dataset"]


def test_bad_input_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match="a protocol"):
        manifest("psnr")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"broken\.png"):
        fingerprint(image_datalist(tmp_path))
