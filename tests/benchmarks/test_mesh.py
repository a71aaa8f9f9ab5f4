"""Energy above the input's Nyquist frequency in smooth regions: the equations, and zero for what the input holds."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from reference import assert_teaches

from benchmarks import contenders
from benchmarks import mesh as module
from benchmarks.mesh import added_energy, mesh, smooth_patches, spread, summaries
from monai_iste.data import sample_datalists
from monai_iste.errors import ConfigError, DataError, OutputError
from monai_iste.networks import Bicubic

TISSUE = sample_datalists()[0][0]["image"]


def energy_by_loops(image, lr_size, top, left, side):
    """The equation of added_energy, written out for one patch."""
    channels, height, width = image.shape
    h, w = lr_size
    n, k = round(side * height / h), round(side * width / w)
    y0, x0 = round(top * height / h), round(left * width / w)
    window = [[math.sin(math.pi * (y + 0.5) / n) ** 2 * math.sin(math.pi * (x + 0.5) / k) ** 2 for x in range(k)]
              for y in range(n)]  # fmt: skip
    total = 0.0
    for c in range(channels):
        patch = [[float(image[c, y0 + y, x0 + x]) for x in range(k)] for y in range(n)]
        area = sum(map(sum, window))
        mean = sum(window[y][x] * patch[y][x] for y in range(n) for x in range(k)) / area
        for a in range(-(n // 2), n - n // 2):
            for b in range(-(k // 2), k - k // 2):
                if abs(a) <= n * h / (2 * height) + 2 and abs(b) <= k * w / (2 * width) + 2:
                    continue
                z = sum(
                    window[y][x] * (patch[y][x] - mean) * np.exp(-2j * math.pi * (a * y / n + b * x / k))
                    for y in range(n)
                    for x in range(k)
                )
                total += abs(z) ** 2
    return total / (n * k * sum(v * v for row in window for v in row)) / channels


@pytest.mark.parametrize(("size", "lr"), [((15, 20), (6, 6)), ((14, 13), (4, 5))])
def test_the_energy_equals_the_equation(size, lr, monkeypatch):
    monkeypatch.setattr(module, "SIDE", 4)
    image = torch.rand(2, *size, generator=torch.Generator().manual_seed(0)) * 255
    tops, lefts = [0, lr[0] - 4], [lr[1] - 4, 0]
    expected = [energy_by_loops(image, lr, top, left, 4) for top, left in zip(tops, lefts, strict=True)]
    assert added_energy(image, lr, tops, lefts).tolist() == pytest.approx(expected, rel=1e-6)


def test_the_spread_equals_the_equation():
    image = np.random.default_rng(0).random((3, 24, 16)) * 255
    window = [math.sin(math.pi * (i + 0.5) / 16) ** 2 for i in range(16)]
    expected = []
    for top in (0, 8):
        variance = 0.0
        for c in range(3):
            weights = [(window[y] * window[x] / sum(window) ** 2, image[c, top + y, x]) for y in range(16)
                       for x in range(16)]  # fmt: skip
            mean = sum(weight * value for weight, value in weights)
            variance += sum(weight * (value - mean) ** 2 for weight, value in weights) / 3
        expected.append([math.sqrt(variance)])
    assert spread(torch.from_numpy(image)).numpy() == pytest.approx(np.array(expected))


@pytest.mark.parametrize("scale", [2, 4.9, 6.1])
def test_waves_that_the_input_holds_do_not_count_and_a_mesh_does(scale):
    """A wave of amplitude 1 has a mean square of one half; a grid along both axes twice that."""
    few = 32
    many = round(few * scale)
    x = (torch.arange(many, dtype=torch.float64) + 0.5) * few / many  # in input pixels
    ones = torch.ones(many, dtype=torch.float64)

    def energy(image):
        return float(added_energy(image.expand(3, -1, -1), (few, few), [8], [8]))

    for cycles in (1, 4, 8, 12, 16):  # per 32 input pixels; 16 is the input's Nyquist frequency
        assert energy(torch.outer(ones, torch.cos(2 * math.pi * cycles * x / few))) < 1e-3
    grid = torch.cos(2 * math.pi * x)  # the period of the input's pixels
    if scale > 2:
        assert energy(torch.outer(ones, grid)) == pytest.approx(0.5, rel=0.02)
        assert energy(torch.outer(ones, grid) + torch.outer(grid, ones)) == pytest.approx(1, rel=0.02)
    assert energy(torch.outer(ones, x)) < 1e-3  # a ramp


def test_smooth_patches_are_tissue_without_texture():
    image = torch.full((3, 32, 96), 235.0)
    image[1, :, 32:] = 180  # a stain
    image[:, :, 64:] += 20 * torch.randn(1, 32, 32, generator=torch.Generator().manual_seed(0))
    found = smooth_patches(image, 6.0)
    assert found[:, 4:7].all()
    assert not found[:, :4].any()  # glass, and its border
    assert not found[:, 8:].any()


# --- the command ------------------------------------------------------------------------------------------------------


class Meshed(Bicubic):
    """Bicubic interpolation with a grid of the input's pixels."""

    def __init__(self, amplitude):
        super().__init__()
        self.amplitude = amplitude

    def forward(self, image, scale=None):
        large = super().forward(image, scale)
        grid = torch.cos(2 * math.pi * (torch.arange(large.shape[3]) + 0.5) * image.shape[3] / large.shape[3])
        return large + self.amplitude / 255 * grid


@pytest.fixture
def tiles(tmp_path, monkeypatch):
    """Stained, smooth and textured; networks that add a grid of an amplitude that their file names."""
    folder = tmp_path / "tiles"
    folder.mkdir()
    y, x = np.mgrid[:64, :80]
    stain = np.stack([200 + 4 * np.sin(x / 9), 140 + 4 * np.sin(y / 7), 190 + 0 * x])
    stain[:, :, :12] = 244  # glass
    for name in ("a_1", "a_2", "b_1"):
        Image.fromarray(stain.round().astype(np.uint8).transpose(1, 2, 0)).save(folder / f"{name}.png")
    Image.fromarray(TISSUE[:, :64, :64].transpose(1, 2, 0)).save(folder / "b_textured.png")
    monkeypatch.setattr(contenders, "load_network", lambda preset, file, device: Meshed(float(file.stem)))
    for name in ("0", "2"):
        (tmp_path / f"{name}.pt").touch()
    return folder


def test_a_mesh_is_measured_beside_bicubic(tiles, tmp_path, capsys):
    file, table, pictures = tmp_path / "mesh.json", tmp_path / "mesh.csv", tmp_path / "pictures"
    entries = f"none={tmp_path / '0.pt'},grid={tmp_path / '2.pt'}"
    options = {"weights": entries, "scales": "4.9,6.1", "crop": 48, "pictures": pictures}
    rows = mesh([tiles], **options, json_file=file, csv_file=table)
    assert {row["image"] for row in rows} == {"a_1", "a_2", "b_1"}  # nothing is smooth in the textured tile
    found = {(row["scale"], row["method"]): row for row in summaries(rows) if row["by"] == "all"}
    for scale in (4.9, 6.1):
        bicubic, none, grid = (found[scale, method] for method in ("bicubic", "none", "grid"))
        assert bicubic["ratio"] == none["ratio"] == 1
        assert grid["added"] == pytest.approx(2, rel=0.05)  # half the square of the amplitude
        assert grid["rms"] == pytest.approx(math.sqrt(grid["added"] + bicubic["rms"] ** 2))
        assert grid["ratio"] > 10
    content = json.loads(file.read_text())
    assert content["rows"] == rows
    assert content["measured"]["tiles_without_smooth_patches"] == 1
    with table.open(newline="") as lines:
        groups = {(row["by"], row["group"]) for row in csv.DictReader(lines)}
    assert {("all", "all"), ("source", "a"), ("tile", "b_1")} <= groups
    assert "| x4.9 | grid | 3 |" in capsys.readouterr().out
    with Image.open(pictures / "mesh-x4.9.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    side = 2 * round(32 * 4.9)
    assert pixels.shape[1] > 6 * side  # input, bicubic, two networks, two differences
    last = pixels[100 : 100 + side // 2, -side:-20]
    assert np.ptp(last[..., 0].astype(int)) == pytest.approx(2 * 2 * 8, abs=4)  # the grid, amplified by 8
    with pytest.raises(OutputError, match=r"mesh-x4\.9\.png, which exists"):
        mesh([tiles], **options)


def test_the_part_with_most_smooth_patches_is_taken(tiles):
    part = module._part({"image": str(tiles / "a_1.png"), "name": "a_1"}, 32, 6.0)
    assert part.image.shape == (3, 32, 32)
    assert len(part.tops) == 9
    assert int(part.image.min()) < 150
    assert int((part.image[1] > 240).sum()) == 0  # no glass


def test_nothing_smooth_is_an_error(tmp_path, tiles):
    for file in tiles.glob("*_[12].png"):
        file.unlink()
    with pytest.raises(DataError) as caught:
        mesh([tiles], weights=f"a={tmp_path / '0.pt'}")
    assert_teaches(caught.value, "6 levels", "--smooth")


@pytest.mark.parametrize("options", [{"scales": "1"}, {"scales": ""}, {"smooth": 0}, {"smooth": math.nan}])
def test_scales_and_limits_are_checked(tiles, options):
    with pytest.raises(ConfigError) as caught:
        mesh([tiles], **options)
    assert_teaches(caught.value, "--smooth")


def test_a_tile_smaller_than_a_patch_is_refused(tiles, tmp_path):
    Image.new("RGB", (40, 12), "pink").save(tiles / "a_0.png")
    with pytest.raises(DataError) as caught:
        mesh([tiles], weights=f"a={tmp_path / '0.pt'}")
    assert_teaches(caught.value, "a_0.png of 40 x 12")
