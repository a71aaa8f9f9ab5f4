"""Benchmark of other degradations: scores equal the protocols', and blockiness measures block borders."""

import json
import statistics

import numpy as np
import pytest
import torch
from PIL import Image
from reference import assert_teaches
from typer.testing import CliRunner

import monai_iste
from benchmarks import contenders
from benchmarks import robustness as module
from benchmarks.robustness import CASES, app, block_steps, blockiness, pixel_steps, robustness
from monai_iste import DEFAULT_PRESET
from monai_iste.data import sample_datalists
from monai_iste.errors import CheckpointError, OutputError, ShapeError
from monai_iste.metrics import get_protocol
from monai_iste.networks import released_weights
from monai_iste.networks.baselines import Bicubic
from monai_iste.transforms.random_degradation import DegradationSpec, degrade_with

TISSUE = sample_datalists()[0][0]["image"]


@pytest.fixture
def tiles(tmp_path):
    folder = tmp_path / "tiles"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(TISSUE[:, 60 * i : 60 * i + 90, :100].transpose(1, 2, 0)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def interpolation(monkeypatch):
    """Bicubic interpolation in the network's place: nothing may be gained or lost."""
    asked = []

    def load(preset, weights, device):
        asked.append((preset, str(weights)))
        return Bicubic()

    monkeypatch.setattr(contenders, "load_network", load)
    return asked


def steps_by_loops(image, size):
    """Every step between two pixels beside a border of low-resolution pixels, sorted by whether blocks meet there."""
    channels, height, width = image.shape
    on, off = [], []
    for few, count, other, look in (
        (size[0], height, width, lambda c, e, k: abs(image[c, e, k] - image[c, e - 1, k])),
        (size[1], width, height, lambda c, e, k: abs(image[c, k, e] - image[c, k, e - 1])),
    ):
        for j in range(1, few):
            e = round(j * count / few)
            mean = sum(look(c, e, k) for c in range(channels) for k in range(other)) / (channels * other)
            (on if j % 8 == 0 else off).append(mean)
    return sum(on) / len(on), sum(off) / len(off)


@pytest.mark.parametrize(("size", "lr"), [((40, 36), (20, 18)), ((37, 48), (10, 13)), ((20, 33), (20, 33))])
def test_steps_equal_the_formula(size, lr):
    image = np.random.default_rng(0).random((3, *size))
    assert block_steps(torch.from_numpy(image), lr) == pytest.approx(steps_by_loops(image, lr))


def test_an_image_without_blocks_has_none_and_blocks_are_counted_where_they_are():
    y, x = np.mgrid[:96, :96]
    ramp = np.stack([2.0 * y + x] * 3)
    assert blockiness([block_steps(torch.from_numpy(ramp), (48, 48))]) == pytest.approx(1)
    blocks = ramp + 5 * (x // 16) + 5 * (y // 16)  # blocks of 8 low-resolution pixels at x2
    on, off = block_steps(torch.from_numpy(blocks), (48, 48))
    assert (on - off) == pytest.approx(5)
    elsewhere = ramp + 5 * ((x + 8) // 16)
    assert blockiness([block_steps(torch.from_numpy(elsewhere), (48, 48))]) < 1


def test_sharpening_makes_blocks_stronger():
    """What the number is there for: the same JPEG, interpolated, and interpolated from a sharpened copy."""
    low = degrade_with(TISSUE[:, :256, :256], (64, 64), DegradationSpec(quality=30)).double()
    found = []
    for amount in (0, 1):
        smooth = torch.nn.functional.avg_pool2d(low, 3, 1, 1, count_include_pad=False)
        large = Bicubic()((low + amount * (low - smooth))[None], scale=4.0)[0]
        found.append(blockiness([block_steps(large, (64, 64))]))
    assert 1.1 < found[0] < found[1] - 0.1


@pytest.mark.parametrize("scale", [2, 2.5, 4])
def test_steps_at_the_borders_of_pixels(scale):
    """By loops, and for an image whose steps are all there."""
    few = 12
    many = round(few * scale)
    borders = [round(j * many / few) for j in range(1, few)]
    image = torch.rand(3, many, many, generator=torch.Generator().manual_seed(0))
    on, off = [], []
    for e in range(1, many):
        for near, before in ((image[:, e], image[:, e - 1]), (image[:, :, e], image[:, :, e - 1])):
            (on if e in borders else off).append(float((near - before).abs().mean()))
    assert pixel_steps(image, (few, few)) == pytest.approx((statistics.mean(on), statistics.mean(off)))
    owner = torch.bucketize(torch.arange(many), torch.tensor(borders), right=True)
    nearest = torch.rand(3, few, few, generator=torch.Generator().manual_seed(1))[:, owner][:, :, owner]
    assert pixel_steps(nearest, (few, few))[0] > 0.1
    assert pixel_steps(nearest, (few, few))[1] == 0


def test_there_must_be_a_border():
    with pytest.raises(ShapeError) as caught:
        block_steps(torch.zeros(3, 16, 16), (8, 8))
    assert_teaches(caught.value, "(8, 8)", "--crop")


def test_interpolation_gains_nothing_and_jpeg_costs(tiles, interpolation, tmp_path, capsys):
    file, other = tmp_path / "rows.json", tmp_path / "a.pt"
    other.write_text("weights")
    rows = robustness([tiles], weights=f"released,a.pt={other}", scales="2,2.5", crop=80, images=2, json_file=file)
    assert interpolation == [(DEFAULT_PRESET, str(released_weights(DEFAULT_PRESET))), (DEFAULT_PRESET, str(other))]
    assert [(row["scale"], row["degradation"], row["weights"]) for row in rows] == [
        (scale, case, name) for scale in (2, 2.5) for case in CASES for name in ("released", "a.pt")
    ]
    for row in rows:
        assert row["psnr"] == row["bicubic_psnr"]
        assert len(row["psnr"]) == 2
        assert row["gain"] == 0
        assert row["blockiness"] == row["bicubic_blockiness"]
    first = {row["degradation"]: row for row in rows if row["scale"] == 2 and row["weights"] == "released"}
    falling = [statistics.mean(first[f"JPEG {quality}"]["psnr"]) for quality in (90, 75, 50, 30)]
    assert falling == sorted(falling, reverse=True)
    assert first["JPEG 30"]["blockiness"] > first["blur_bicubic"]["blockiness"]
    assert len({row["truth_blockiness"] for row in first.values()}) == 1
    assert json.loads(file.read_text())["rows"] == rows
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("| released |", "| a.pt |"))]
    assert len(printed) == len(rows)


@pytest.mark.parametrize("name", ["iste-rgb", "bicubic-rgb"])
def test_the_protocols_are_among_the_cases(name, tiles, interpolation):
    protocol = get_protocol(name)
    assert protocol.degradation in CASES
    (row,) = (row for row in robustness([tiles], scales="2.5", crop=80) if row["degradation"] == protocol.degradation)
    expected = []
    for path in sorted(tiles.iterdir()):
        item = protocol.preprocessing(80)({"image": str(path), "scale": 2.5})
        scored = protocol.postprocessing()({**item, "pred": Bicubic()(item["image"][None], 2.5)[0]})
        expected.append(-10 * float(torch.log10((scored["pred"] - scored["label"]).square().mean())))
    assert row["psnr"] == pytest.approx(expected)


@pytest.mark.parametrize("lower", [1.5, 2])
def test_tiles_of_a_weaker_objective_are_tiles_reduced_before(tiles, lower, tmp_path, interpolation):
    """Reduced by hand and saved, then scored as they are."""
    reduced = tmp_path / "reduced"
    reduced.mkdir()
    for file in tiles.iterdir():
        picture = Image.open(file)
        size = [round(n / lower) for n in picture.size]
        picture.resize(size, Image.Resampling.BICUBIC).save(reduced / file.name)
    options = {"scales": "2", "crop": 40, "images": 2}
    expected, found = robustness([reduced], **options), robustness([tiles], lower=lower, **options)
    assert [{**row, "lower": 1} for row in found] == expected
    assert found[0]["psnr"] != robustness([tiles], **options)[0]["psnr"]


def test_scale_one_scores_cleaning_alone(tiles, interpolation, tmp_path, capsys):
    rows = robustness([tiles], scales="1", crop=64, json_file=tmp_path / "a.json", csv_file=tmp_path / "a.csv")
    assert [row["degradation"] for row in rows] == [
        "noise 2",
        *(f"JPEG {q}" for q in (90, 75, 50, 30)),
        "noise 2, JPEG 75",
    ]
    for row in rows:  # in the network's place stands interpolation, which at scale 1 is the input itself
        assert (row["gain"], row["grid"], row["bicubic_grid"]) == (0, None, None)
        assert 20 < statistics.mean(row["bicubic_psnr"]) < 50
    tile = TISSUE[:, :64, 18:82]
    noisy = degrade_with(torch.from_numpy(tile[:, :, :90].copy()), (64, 64), CASES["noise 2"])
    error = (noisy.double() - torch.from_numpy(tile.copy()).double())[:, 8:-8, 8:-8].square().mean() / 255**2
    assert -10 * float(torch.log10(error)) == pytest.approx(42.1, abs=0.3)  # of noise with a deviation of 2 levels
    assert rows[0]["bicubic_psnr"][0] == pytest.approx(42.1, abs=0.3)
    assert "| x1 | noise 2 |" in capsys.readouterr().out


def test_gains_are_differences(tiles):
    """With the released weights; how much they have to gain is asked in test_released.py."""
    rows = robustness([tiles], scales="2", crop=64, images=1)
    for row in rows:
        assert row["gain"] == pytest.approx(row["psnr"][0] - row["bicubic_psnr"][0])
    protocol = get_protocol("iste-rgb")
    item = protocol.preprocessing(64)({"image": str(tiles / "0.png"), "scale": 2})
    with torch.no_grad():
        pred = monai_iste.load()(item["image"][None], scale=2.0)[0]
    scored = protocol.postprocessing()({**item, "pred": pred})
    errors = [(scored[key] - scored["label"]).square().mean() for key in ("bicubic", "pred")]
    expected = float(10 * torch.log10(errors[0] / errors[1]))
    assert expected > 0
    assert next(row["gain"] for row in rows if row["degradation"] == "blur_bicubic") == pytest.approx(
        expected, abs=1e-3
    )


def test_the_figure_shows_where_least_is_gained(tiles, tmp_path, monkeypatch):
    drawn, comparison = [], module.comparison
    monkeypatch.setattr(module, "comparison", lambda items: drawn.extend(items) or comparison(items))
    file = tmp_path / "failures.png"
    rows = robustness([tiles], scales="2,4", crop=80, figure=file)
    least = sorted(rows, key=lambda row: row["gain"])[:3]
    assert [item["name"] for item in drawn] == [f"x{row['scale']:g}, {row['degradation']}" for row in least]
    for item, row in zip(drawn, least, strict=True):
        for method, key in (("pred", "psnr"), ("bicubic", "bicubic_psnr")):
            error = (item[method] - item["label"])[:, 8:-8, 8:-8].square().mean()
            worst = min(range(3), key=lambda i: row["psnr"][i] - row["bicubic_psnr"][i])
            assert -10 * float(torch.log10(error)) == pytest.approx(row[key][worst], abs=1e-3)
    with Image.open(file) as picture:
        assert picture.format == "PNG"
        assert picture.width > 5 * 2 * 80
    with pytest.raises(OutputError, match="which exists"):
        robustness([tiles], scales="2", crop=64, images=1, figure=file)


def test_as_a_command(tiles, interpolation):
    done = CliRunner().invoke(app, [str(tiles), "--scales", "2", "--crop", "64", "--images", "1"])
    assert done.exit_code == 0, done.output
    lines = [line for line in done.output.splitlines() if line.startswith("| released")]
    assert [line.split("|")[3].strip() for line in lines] == list(CASES)
    assert all(line.split("|")[6].strip() == "+0.00" for line in lines)


def test_weights_that_are_not_there(tiles):
    with pytest.raises(CheckpointError, match=r"missing\.pt, which does not exist"):
        robustness([tiles], weights="missing.pt")
