"""Inverses through transforms that change the size, lazy pipelines, and pending transforms."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureTyped, Flip, Flipd, Invertd, Rotate90d, SpatialPad, SpatialPadd
from reference import assert_teaches

from monai_iste.errors import ShapeError, find_error
from monai_iste.networks import ISTE, Bicubic, EDSREncoder
from monai_iste.transforms import (
    BlurDegradationd,
    RandJPEGd,
    RandLowerMagnificationd,
    RandStainJitterd,
    RandTruthCropd,
    SuperResolve,
    SuperResolved,
    SuperResolveToMpp,
    SuperResolveToMppd,
)


class Smooth(Bicubic):
    """An upscaling whose inverse is known where the image is smooth."""


def smooth(height: int = 20, width: int = 24) -> MetaTensor:
    y, x = torch.meshgrid(torch.linspace(0.1, 0.9, height), torch.linspace(0.2, 0.8, width), indexing="ij")
    affine = torch.tensor([[0.5, 0, 0, 3], [0, 0.5, 0, 4], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float64)
    return MetaTensor(torch.stack([y, x, y * x]), affine, {"mpp": 0.5})


STEPS = {
    "super-resolved": lambda: SuperResolved("image", 2.0, model=Smooth()),
    "to another pixel size": lambda: SuperResolveToMppd("image", 0.2, model=Smooth()),
    "reduced": lambda: SuperResolveToMppd("image", 0.75, model=Smooth()),
    "one axis each": lambda: SuperResolveToMppd("image", (0.25, 0.8), model=Smooth()),
    "unchanged": lambda: SuperResolveToMppd("image", 0.5, model=Smooth()),
}


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("after", [[], [Flipd("image", 1)]], ids=["last", "flipped"])
@pytest.mark.parametrize("step", STEPS)
def test_inverse_returns_to_the_place(step, after, lazy):
    image = smooth()
    pad = SpatialPadd("image", (40, 50), method="end", mode="edge")
    pipeline = Compose([pad, Rotate90d("image"), STEPS[step](), *after], lazy=lazy)
    result = pipeline({"image": image})
    back = pipeline.inverse(result)["image"]
    assert back.shape == image.shape
    inner = np.s_[:, 3:-3, 3:-3]  # the kernels reach over the border
    torch.testing.assert_close(back.as_tensor()[inner], image.as_tensor()[inner], atol=0.02, rtol=0)
    size = image.affine.shape[0] if back.affine.shape == image.affine.shape else 3
    found, expected = (affine[:2, [0, 1, -1]] for affine in (back.affine, image.affine))
    assert size
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert back.applied_operations == []


def test_array_versions_too():
    image = smooth()
    for transform in (SuperResolve(3.0, model=Smooth()), SuperResolveToMpp(0.2, model=Smooth())):
        back = transform.inverse(transform(image))
        assert back.shape == image.shape
        torch.testing.assert_close(back.affine, image.affine)
        torch.testing.assert_close(back.as_tensor()[:, 2:-2, 2:-2], image.as_tensor()[:, 2:-2, 2:-2], atol=0.01, rtol=0)


def test_labels_are_inverted_by_invertd():
    """A map of classes at the result's size, as a network on it makes, has whole numbers after the inverse."""
    image, step = smooth(), SuperResolved("image", 2.0, model=Smooth())
    pipeline = Compose([SpatialPadd("image", (30, 30)), step])
    result = pipeline({"image": image})
    classes = torch.zeros(1, *result["image"].shape[1:])
    classes[:, 10 + 10 : 10 + 20, 6 + 12 : 6 + 22] = 7  # rows 5 to 10 and columns 6 to 11 of the image
    result["pred"] = MetaTensor(classes)
    inverse = Invertd("pred", pipeline, "image", nearest_interp=True, to_tensor=True)
    found = inverse(result)["pred"]
    expected = torch.zeros(1, 20, 24)
    expected[:, 5:10, 6:11] = 7
    assert torch.equal(torch.as_tensor(found), expected)


def test_what_has_no_record_is_refused():
    step = SuperResolve(2.0, model=Smooth())
    with pytest.raises(ShapeError) as caught:
        step.inverse(step(smooth().as_tensor()))
    assert_teaches(caught.value, "MetaTensor", "Tensor")


def test_pending_transforms_come_first():
    image = smooth()
    network = ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8).eval()
    for transform in (SuperResolve(2.0, model=network), SuperResolveToMpp(0.25, model=network)):
        lazy = transform(SpatialPad((30, 30))(Flip(0)(image, lazy=True), lazy=True))
        eager = transform(SpatialPad((30, 30))(Flip(0)(image)))
        assert torch.equal(lazy.as_tensor(), eager.as_tensor())
        assert not lazy.has_pending_operations
        torch.testing.assert_close(lazy.affine[:2, [0, 1, -1]], eager.affine[:2, [0, 1, -1]])


@pytest.mark.parametrize(
    "step",
    [
        BlurDegradationd("image", preset="bicubic"),
        RandStainJitterd("image", prob=1.0),
        RandJPEGd("image", prob=1.0),
        RandLowerMagnificationd("image", prob=1.0),
        RandTruthCropd("image", lr_size=8, scale_range=(1.0, 2.0)),
    ],
    ids=lambda step: type(step).__name__,
)
def test_8_bit_images_of_a_lazy_pipeline_are_refused_with_the_reason(step):
    """MONAI's lazy resampling returns floating point, whose range the transforms cannot know."""
    pixels = torch.randint(0, 255, (3, 40, 48), dtype=torch.uint8)
    before = [EnsureTyped("image", dtype=torch.uint8), Flipd("image", 0)]
    with pytest.raises(RuntimeError) as caught:
        Compose([*before, step], lazy=True)({"image": pixels, "scale": 2.0})
    assert_teaches(find_error(caught.value), "uint8", "float32", "leave lazy out")
