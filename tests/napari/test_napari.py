"""The plugin for napari: exact pixels, exactly in place; the panel itself where napari is installed."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from reference import assert_teaches
from skimage.data import immunohistochemistry

import monai_iste.napari
from monai_iste.errors import ScaleError, ShapeError
from monai_iste.functional import upscale
from monai_iste.napari import upscale_layer
from monai_iste.networks import ISTE, EDSREncoder

TISSUE = immunohistochemistry()[:60, :50]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8, bicubic_residual=True).eval()


def layer(data=TISSUE, **changes):
    upright = {"rgb": True, "multiscale": False, "rotate": np.eye(2), "shear": np.zeros(1), "affine": None}
    placed = {"name": "tissue", "scale": (1.0, 1.0), "translate": (0.0, 0.0)}
    return SimpleNamespace(**{"data": data, **upright, **placed, **changes})


def test_a_layer_is_upscaled_as_the_array_is(network):
    data, settings, kind = upscale_layer(layer(), 3.7, network=network)
    np.testing.assert_array_equal(data, upscale(TISSUE, 3.7, model=network))
    assert kind == "image"
    assert settings["name"] == "tissue x3.7 (inferred)"
    assert settings["metadata"]["not_for_diagnosis"]


@pytest.mark.parametrize("kind", ["uint8", "float32", "RGBA", "RGBA float32", "pyramid"])
def test_kinds_of_layers(network, kind):
    data = {
        "uint8": TISSUE,
        "float32": TISSUE.astype(np.float32) / 255,
        "RGBA": np.dstack([TISSUE, np.full(TISSUE.shape[:2], 51, np.uint8)]),
        "RGBA float32": np.dstack([TISSUE / 255, np.full(TISSUE.shape[:2], 0.2)]).astype(np.float32),
        "pyramid": [TISSUE, TISSUE[::2, ::2]],
    }[kind]
    made, _, _ = upscale_layer(layer(data, multiscale=kind == "pyramid"), 2, network=network)
    shown = TISSUE
    if kind == "RGBA":  # over white
        shown = np.round(TISSUE / 5 + 255 * 0.8).astype(np.uint8)
    elif kind == "RGBA float32":
        shown = data[..., :3] * data[..., 3:] + (1 - data[..., 3:])
    expected = upscale(data if kind == "float32" else shown, 2, model=network)
    np.testing.assert_array_equal(made, expected)


def test_a_part_has_the_values_and_the_place_of_the_whole(network):
    spacing = {"scale": (0.5, 0.25), "translate": (100.0, -7.0)}
    whole, around, _ = upscale_layer(layer(**spacing), 3.7, network=network)
    part, settings, _ = upscale_layer(layer(**spacing), 3.7, (9.6, 20.2, 31.4, 45.0), network)
    rows, columns = (
        round((b - a) / step)
        for a, b, step in zip(around["translate"], settings["translate"], settings["scale"], strict=True)
    )
    assert (rows, columns) == (37, 74)  # floor(10 * 3.7), floor(20 * 185 / 50)
    assert part.shape[:2] == (82, 97)  # to the ends of pixels 31 and 45
    np.testing.assert_array_equal(part, whole[rows : rows + 82, columns : columns + 97])
    assert settings["scale"] == pytest.approx((0.5 / 3.7, 0.25 / 3.7))
    # Half a pixel of the layer lies before the center of its first pixel, half a upscaled one before that one's.
    assert around["translate"] == pytest.approx((100 - 0.25 + 0.25 / 3.7, -7 - 0.125 + 0.125 / 3.7))


@pytest.mark.parametrize(
    ("changes", "scale", "marked", "error", "words"),
    [
        ({"rgb": False}, 2, None, ShapeError, "RGB"),
        ({"data": np.zeros((4, 60, 50, 3), np.uint8)}, 2, None, ShapeError, "(4, 60, 50, 3)"),
        ({"rotate": np.array([[0.0, -1.0], [1.0, 0.0]])}, 2, None, ShapeError, "rotation and shear"),
        ({"shear": np.array([0.1])}, 2, None, ShapeError, "rotation and shear"),
        ({}, 0.5, None, ScaleError, "0.5"),
        ({}, 1e9, None, ScaleError, "pixels"),
        ({}, 2, (70.0, 0.0, 90.0, 10.0), ShapeError, "rectangle"),
    ],
)
def test_what_cannot_be_upscaled(network, changes, scale, marked, error, words):
    with pytest.raises(error) as caught:
        upscale_layer(layer(**changes), scale, marked, network)
    assert_teaches(caught.value, words)


def test_the_manifest_names_what_there_is():
    path = monai_iste.napari.__file__.replace("__init__.py", "napari.yaml")
    with open(path) as file:
        manifest = yaml.safe_load(file)
    assert manifest["name"] == "monai_iste"  # npe2 wants the name of the package
    (command,) = manifest["contributions"]["commands"]
    module, function = command["python_name"].split(":")
    assert module == "monai_iste.napari"
    assert callable(getattr(monai_iste.napari, function))
    assert manifest["contributions"]["widgets"][0]["command"] == command["id"]


def test_in_napari(network, monkeypatch):
    """The panel as napari builds it, driven like a user would; the marked part is placed where it was marked."""
    napari = pytest.importorskip("napari")
    from qtpy.QtWidgets import QApplication

    monkeypatch.setattr(monai_iste.napari, "resolve_network", lambda *_, **__: network)
    viewer = napari.Viewer(show=False)
    try:
        viewer.add_image(TISSUE, name="tissue", scale=(0.5, 0.5))
        viewer.add_shapes([np.array([[5, 5], [5, 15], [12, 15], [12, 5]])], name="here", scale=(1.0, 1.0))
        _, panel = viewer.window.add_plugin_dock_widget("monai_iste", "Super-resolve")
        panel.scale.value, panel.rectangle.value = 2.5, viewer.layers["here"]
        panel()
        deadline = time.monotonic() + 60
        while len(viewer.layers) < 3 and time.monotonic() < deadline:
            QApplication.processEvents()
            time.sleep(0.01)
        added = viewer.layers[-1]
        whole = upscale(TISSUE, 2.5, model=network)
        top, left = (round(float(t) / 0.2 + 1.5 * 0.5) for t in added.translate)
        np.testing.assert_array_equal(
            added.data, whole[top : top + added.data.shape[0], left : left + added.data.shape[1]]
        )
        low, high = added.extent.world[0], added.extent.world[1]
        assert (np.abs(low - [5, 5]) < 0.6).all()
        assert (np.abs(high - [12, 15]) < 0.6).all()
    finally:
        viewer.close()
