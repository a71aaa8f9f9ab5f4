"""Common parts of the figures: positions of panels, views and scale bars, reproducible files, the command."""

from fractions import Fraction

import numpy as np
import pytest
import torch
import typer
from figure_panels import CROP, TILE, network
from PIL import Image
from reference import assert_teaches, randomise
from typer.testing import CliRunner

from experiments import figures
from experiments.figures.drawing import add_scale_bar, covering_region
from experiments.figures.inputs import choose_view, parse_crop
from experiments.figures.style import FigureGrid, style
from monai_iste import DEFAULT_PRESET
from monai_iste.errors import CheckpointError, ConfigError, OutputError, ShapeError
from monai_iste.inferers import Region
from monai_iste.networks import create_iste
from monai_iste.networks.baselines import EDSR

pytest.importorskip("matplotlib")


# --- places -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(9, 7), (10, 20), (37, 74)])
@pytest.mark.parametrize("view", [Region(0, 0, 10, 20), Region(3, 5, 4, 9), Region(9, 19, 1, 1)])
def test_a_view_is_covered_by_the_pixels_that_touch_it(size, view):
    """Pixel i of n covers [i, i + 1] * field / n, in exact fractions."""
    region, extent = covering_region(size, (10, 20), view)
    for first, count, n, length, start, span, low, high in (
        (region.top, region.height, size[0], 10, view.top, view.height, extent[3], extent[2]),
        (region.left, region.width, size[1], 20, view.left, view.width, extent[0], extent[1]),
    ):
        unit = Fraction(length, n)
        touching = [i for i in range(n) if (i + 1) * unit > start and i * unit < start + span]
        assert list(range(first, first + count)) == touching
        assert low == pytest.approx(float(touching[0] * unit))
        assert high == pytest.approx(float((touching[-1] + 1) * unit))


def test_panels_share_a_width_and_do_not_overlap():
    with style():
        grid, rows = FigureGrid.with_rows((0.5, 2.0), 3, 7.0, (1, 1), (0, 1), left=0.2, right=0.4)
    boxes = [[grid.box(axes) for axes in row] for row in rows]
    side = (7.0 - 0.6 - 2 * 0.05) / 3
    for row, aspect in zip(boxes, (0.5, 2.0), strict=True):
        assert [box[2:] for box in row] == [pytest.approx((side, aspect * side))] * 3
        assert row[0][0] == pytest.approx(0.2)
        assert row[2][0] + side == pytest.approx(7.0 - 0.4)
    assert boxes[1][0][1] > boxes[0][0][1] + boxes[0][0][3]
    assert boxes[1][0][1] + boxes[1][0][3] < grid.height


def test_text_that_is_too_wide_becomes_smaller_alike():
    with style():
        grid, rows = FigureGrid.with_rows((1.0,), 4, 3.5, (1,), (1,))
        rows[0][0].set_title("a title that is too wide")
        rows[0][1].set_title("b")
        rows[0][1].set_xlabel("c")
        grid.finish()
    sizes = [axes.title.get_fontsize() for axes in rows[0]]
    assert 5 <= sizes[0] < 7
    assert sizes[1] == sizes[0]
    assert rows[0][1].xaxis.label.get_fontsize() == 7


@pytest.mark.parametrize(("side", "mpp", "length"), [(40, 0.25, 2), (40, 0.5, 5), (100, 0.62, 10), (48, 1.5, 20)])
def test_scale_bar(side, mpp, length):
    """The largest of 1, 2, 5, 10, ... um that takes at most 30 % of the view."""
    with style():
        axes = FigureGrid(3.5, 3.5).panel(0, 0, 3.5, 3.5)
        assert add_scale_bar(axes, Region(7, 9, side, side), mpp) == pytest.approx(length)
    (line,) = axes.lines
    assert np.ptp(line.get_xdata()) * mpp == pytest.approx(length)
    assert np.ptp(line.get_xdata()) <= 0.3 * side
    assert axes.texts[0].get_text() == f"{length} µm"


def test_views():
    image = torch.full((3, 40, 60), 0.5)
    image[:, 24:40, 32:48] = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert choose_view(image, None, 16) == (24, 32, 16, 16)
    assert choose_view(image, None, None) == (0, 0, 40, 60)
    assert choose_view(image, Region(1, 2, 3, 3), 16) == (1, 2, 3, 3)
    with pytest.raises(ShapeError) as caught:
        choose_view(image, Region(30, 0, 20, 20), 16)
    assert_teaches(caught.value, "40 x 60")
    assert parse_crop(None) is None
    assert parse_crop("1,2,3") == (1, 2, 3, 3)
    for text in ("1,2", "1,2,0", "1, 2,3", "-1,2,3", "a,b,c"):
        with pytest.raises(ConfigError) as caught:
            parse_crop(text)
        assert_teaches(caught.value, text)


# --- files and the command --------------------------------------------------------------------------------------------


@pytest.fixture
def tile(tmp_path):
    path = tmp_path / "tile.png"
    Image.fromarray(TILE[:, :40, :48].transpose(1, 2, 0)).save(path)
    return path


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "network=1.pt"  # what follows the first = is the file
    torch.save(randomise(create_iste(DEFAULT_PRESET)).state_dict(), path)
    return path


def run(*arguments):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(figures.figure)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_the_same_figure_gives_the_same_file(suffix, tmp_path):
    import matplotlib

    net = network()
    files = []
    for i in range(2):
        with matplotlib.rc_context({"font.size": 20 + i, "figure.dpi": 50}):  # the user's settings do not matter
            figures.save_figure(figures.draw_decoders(TILE, net, 2.0, CROP, width=3.5), tmp_path / f"{i}.{suffix}")
        files.append((tmp_path / f"{i}.{suffix}").read_bytes())
    assert files[0] == files[1]
    if suffix == "png":
        with Image.open(tmp_path / "0.png") as picture:
            assert picture.width == 1050  # 3.5 inches of 300 dots
            assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_files_that_are_refused(tmp_path):
    figure = figures.draw_decoders(TILE, network(), 2.0, CROP)
    (tmp_path / "there.png").write_bytes(b"kept")
    for name in ("a.jpg", "a", "absent/a.png", "there.png"):
        with pytest.raises(OutputError) as caught:
            figures.save_figure(figure, tmp_path / name)
        assert_teaches(caught.value, name.partition("/")[0])
    assert (tmp_path / "there.png").read_bytes() == b"kept"
    figures.save_figure(figure, tmp_path / "there.png", overwrite=True)
    with Image.open(tmp_path / "there.png") as picture:
        assert picture.width == 2100


@pytest.mark.parametrize("number", range(5, 11))
def test_command(number, tile, weights, tmp_path):
    Image.fromarray(np.ones((40, 48), np.uint8)).save(tmp_path / "mask.png")
    more = {
        5: ["--method", "bicubic", "--method", f"{DEFAULT_PRESET}={weights}", "--crop", "10,12,20"],
        6: ["--mpp", 0.5, "--crop", "20,30,9"],
        10: ["--masks", f"truth={tmp_path / 'mask.png'}"],
    }.get(number, [])
    out = tmp_path / "out.png"
    options = ["--image", tile, "--weights", weights, "--scale", 2, "--out", out, "--width", 3.5]
    result = run(number, *options, *more)
    assert result.exit_code == 0, result.output
    assert result.output == f"wrote {out}\n"
    with Image.open(out) as picture:
        assert picture.width == 1050


def test_command_refuses_before_the_work(tile, weights, tmp_path, monkeypatch):
    def error_of(*arguments):
        result = run(*arguments, "--image", tile)
        assert result.exit_code != 0
        assert list(tmp_path.glob("*.png")) == [tile]
        return result.exception

    out = ("--out", tmp_path / "a.png")
    cases = [
        (error_of(4, *out), "5 to 10"),
        (error_of(5, "--out", tmp_path / "a.gif"), "a.gif"),
        (error_of(5, "--crop", "1,2", *out), "1,2"),
        (error_of(10, "--masks", "truth", *out), "truth"),
        (error_of(5, "--preset", "absent", *out), "absent"),
        (error_of(7, "--channels", 0, "--weights", weights, *out), "0"),
        (error_of(8, "--arrows", 0, "--weights", weights, *out), "0"),
        (error_of(9, "--width", 1, "--weights", weights, *out), "1"),
    ]
    for error, word in cases:
        assert_teaches(error, word)
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    assert_teaches(error_of(5, *out), "experiments")


def test_methods_have_the_tables_names(weights, tmp_path):
    torch.save(EDSR(4, 48, 8, bicubic_residual=True).state_dict(), tmp_path / "edsr.pt")
    texts = [
        f"{DEFAULT_PRESET}={weights}",
        "bicubic",
        f"edsr_small={tmp_path / 'edsr.pt'}",
        f"{DEFAULT_PRESET}={weights}",
    ]
    methods = figures.load_methods(texts, 4.0)
    assert list(methods) == ["ISTE", "Bicubic", "EDSR", DEFAULT_PRESET]
    assert methods["EDSR"].scale == 4
    assert not any(method.training for method in methods.values())
    assert methods["ISTE"].bicubic_residual


def test_the_bicubic_residual_is_chosen_for_weights_that_do_not_state_it(weights, tmp_path):
    with pytest.raises(CheckpointError, match="trained with bicubic_residual=True"):
        figures.load_methods([f"{DEFAULT_PRESET}={weights}"], 4.0, bicubic_residual=False)
    torch.save(dict(torch.load(weights, weights_only=True)), tmp_path / "silent.pt")
    for chosen, expected in ((None, True), (True, True), (False, False)):
        methods = figures.load_methods([f"{DEFAULT_PRESET}={tmp_path / 'silent.pt'}"], 4.0, bicubic_residual=chosen)
        assert methods["ISTE"].bicubic_residual is expected
