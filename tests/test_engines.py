"""Batches, rows and tables around the engines."""

import torch

from monai_iste.engines import PrepareQueries, PrepareWholeImage
from monai_iste.handlers.reports import format_table, mean_rows


def test_training_batches_reach_the_network_with_coordinates():
    batch = {k: torch.rand(2, 4) for k in ("image", "label", "coord", "cell")}
    image, label, args, kwargs = PrepareQueries()(batch, "cpu")
    assert torch.equal(image, batch["image"])
    assert torch.equal(label, batch["label"])
    assert args == ()
    assert set(kwargs) == {"coord", "cell"}
    assert torch.equal(kwargs["coord"], batch["coord"])


def test_evaluation_batches_reach_the_network_with_a_scale():
    batch = {"image": torch.rand(1, 3, 2, 2), "label": torch.rand(1, 3, 7, 7), "scale": torch.tensor([3.7])}
    image, label, args, kwargs = PrepareWholeImage()(batch, "cpu")
    assert (image.shape, label.shape, args) == ((1, 3, 2, 2), (1, 3, 7, 7), ())
    assert abs(kwargs["scale"] - 3.7) < 1e-6
    assert isinstance(kwargs["scale"], float)
    assert PrepareWholeImage()({"image": batch["image"], "scale": batch["scale"]}, "cpu")[1] is None


IMAGES = [
    {"image": name, "scale": scale, "method": method, "psnr": psnr, "ssim": psnr / 100}
    for scale in (4, 2)
    for method, gain in (("bicubic", 0), ("iste", 2))
    for name, psnr in (("a", 40 / scale + gain), ("b", 60 / scale + gain))
]


def test_rows_are_means_over_images_in_order_of_scale():
    rows = mean_rows(IMAGES)
    assert [(r["scale"], r["method"], r["psnr"], r["images"]) for r in rows] == [
        (2, "bicubic", 25.0, 2),
        (2, "iste", 27.0, 2),
        (4, "bicubic", 12.5, 2),
        (4, "iste", 14.5, 2),
    ]
    assert rows[0]["ssim"] == 0.25


def test_table_shows_the_gain_over_bicubic_at_the_same_scale():
    lines = format_table(mean_rows(IMAGES), "iste-rgb").splitlines()
    assert lines[0] == "protocol iste-rgb"
    assert lines[3].split() == ["x2", "iste", "27.00", "0.2700", "+2.00"]
    assert lines[4].split() == ["x4", "bicubic", "12.50", "0.1250", "+0.00"]
    alone = format_table([row for row in mean_rows(IMAGES) if row["method"] == "iste"], "iste-rgb").splitlines()
    assert alone[2].split() == ["x2", "iste", "27.00", "0.2700"]
