"""Benchmarks: consistency of their numbers; times themselves are not asserted."""

import itertools
import json
import statistics
import sys
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from reference import assert_close, assert_teaches, randomise
from typer.testing import CliRunner

from benchmarks import choices, common, memory, search, speed, training
from benchmarks.common import Measurement
from benchmarks.naive import NaiveISTE
from benchmarks.peers import AuthorsNetwork
from monai_iste.errors import ConfigError
from monai_iste.networks import ISTE, PRESETS, EDSREncoder, SwinIREncoder, create_iste
from monai_iste.networks.presets import Preset


@pytest.fixture
def toy(monkeypatch):
    """A preset that computes in milliseconds."""
    arguments = {"texture_channels": 6, "hidden_channels": 6}
    monkeypatch.setitem(PRESETS, "toy", Preset("for tests", lambda: EDSREncoder(4, 1), arguments))
    return "toy"


def ticks():
    """A clock that advances by one second at every reading."""
    counter = itertools.count()
    return lambda: float(next(counter))


def image_of(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


# --- the literal network ----------------------------------------------------------------------------------------------

NETWORKS = {
    "as printed": {},
    "options": {"heads": 2, "query_kernel": 3, "bicubic_residual": True},
    "four corners": {"texture_corners": "four"},
    "swinir": {"encoder": lambda: SwinIREncoder(4, dim=6, depths=(2,), heads=2, window=4, drop_path=0.0)},
}


def pair_of(name="as printed", seed=0):
    options = {"encoder": lambda: EDSREncoder(4, 1), **NETWORKS[name]}
    net = ISTE(options.pop("encoder")(), texture_channels=6, hidden_channels=7, inference_keys="all", **options)
    randomise(net, seed)
    return net.eval(), NaiveISTE(net).eval()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("scale", [1, 1.3, 2, 2.5, 3, 3.7, 8])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (7, 5)])
def test_the_literal_network_equals_the_library(size, scale, name):
    fast, literal = pair_of(name)
    image = image_of(2, 3, *size)
    with torch.no_grad():
        assert_close(fast(image, scale=scale), literal(image, scale=scale).numpy())
    expected, found = speed.retrievals(fast, literal, image, scale)
    assert torch.equal(expected, found)
    assert (size, name) != ((7, 5), "as printed") or expected.unique().numel() > 1  # there is something to compare


@pytest.mark.parametrize("per_query", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_literal_network_learns_as_the_library_does(name, per_query):
    fast, literal = (net.train() for net in pair_of(name))
    image, coord = image_of(2, 3, 5, 4), image_of(2, 30, 2) * 2 - 1
    cell = torch.tensor([[0.5, 0.7], [1.0, 0.9]])
    cell = cell.unsqueeze(1).expand_as(coord) if per_query else cell
    results = [net(image, coord=coord, cell=cell) for net in (fast, literal)]
    assert_close(results[0], results[1].detach().numpy())
    gradients = [torch.autograd.grad(result.square().sum(), list(fast.parameters())) for result in results]
    for ours, theirs in zip(*gradients, strict=True):
        assert_close(ours, theirs.numpy(), 1e-3)


def test_changed_retrievals_are_seen():
    expected, found = speed.retrievals(pair_of(seed=1)[0], pair_of(seed=0)[1], image_of(1, 3, 7, 5), 2)
    assert expected.shape == found.shape == (1, 14 * 10)
    assert not torch.equal(expected, found)


def test_the_literal_network_refuses_what_it_is_not():
    with pytest.raises(ConfigError) as error:
        NaiveISTE(ISTE(EDSREncoder(4, 1), texture_channels=6, hidden_channels=7, use_lfi=False))
    assert_teaches(error.value)


# --- measuring --------------------------------------------------------------------------------------------------------


def test_calls_alternate_after_one_round_to_warm_up():
    order = []
    measured = common.time_alternating({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, ticks(), 3)
    assert order == ["a", "b"] * 4
    assert measured["a"].seconds == measured["b"].seconds == (1, 1, 1)


def test_what_takes_long_runs_once():
    now, order = iter([0, 1, 1, 31, 40, 42, 50, 52]), []
    calls = {"quick": lambda: order.append("quick"), "slow": lambda: order.append("slow")}
    measured = common.time_alternating(calls, lambda: float(next(now)), 2, patience=20)
    assert order == ["quick", "slow", "quick", "quick"]
    assert measured["slow"].seconds == (30,)
    assert measured["quick"].seconds == (2, 2)
    assert common.ratios(measured["slow"], measured["quick"]) == [15, 15]


def test_ratios_are_taken_run_by_run():
    slow, fast = Measurement((4.0, 9.0), 0, None), Measurement((2.0, 3.0), 0, None)
    assert common.ratios(slow, fast) == [2, 3]
    assert slow.median == 6.5


def test_operations_are_counted():
    def attention():
        x = torch.rand(1, 2, 8, 4, requires_grad=True)
        F.scaled_dot_product_attention(x, x, x, attn_mask=torch.zeros(1, 2, 8, 8)).sum().backward()

    calls = {"product": lambda: torch.ones(3, 5) @ torch.ones(5, 7), "attention": attention}
    measured = common.time_alternating(calls, ticks(), 1)
    assert measured["product"].macs == 3 * 5 * 7
    assert measured["attention"].macs >= 2 * (2 * 8 * 8 * 4) * 3  # two products forward, at least four backward


def test_modules_are_timed_each_for_itself():
    net = pair_of()[0]
    with torch.no_grad():
        before = net(image_of(1, 3, 5, 4), scale=2)
        with speed._timed_modules(net, ticks()) as seconds:
            after = net(image_of(1, 3, 5, 4), scale=2)
    assert torch.equal(before, after)
    assert seconds.keys() == speed.MODULES.keys()
    assert all(value > 0 for value in seconds.values())
    assert not any(name in vars(module) for module in net.modules() for name in speed._methods(module))


def test_a_module_called_by_another_counts_once():
    net = pair_of()[0]
    inner, counter = net.local_feature_interactor.forward, itertools.count()
    net.encoder.forward = lambda x: inner(x)  # one module inside another
    with torch.no_grad(), speed._timed_modules(net, lambda: float(next(counter))) as seconds:
        net.encoder(torch.zeros(1, 4, 3, 3))
    # The clock was looked at first and last by the encoder; all between adds up to that.
    assert sum(seconds.values()) == next(counter) - 1


@pytest.mark.parametrize("size", [(4, 6), (330, 7), (5, 1100)])
def test_tissue_of_any_size(size):
    image = common.sample_tissue(*size)
    assert image.shape == (1, 3, *size)
    assert image.dtype == torch.uint8
    assert image.float().std() > 1


# --- the tables -------------------------------------------------------------------------------------------------------


def table_rows(text, title):
    """The cells of one table in the output of a command."""
    lines = text.partition(title + "\n")[2].splitlines()
    lines = list(itertools.takewhile(bool, lines[2:]))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def test_speed(toy, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(common, "peak_macs", partial(common.peak_macs, side=32))  # emulated bf16 is slow
    file = tmp_path / "speed.json"
    options = {"sizes": "8,12", "scales": "2,2.5", "precision": "fp32,bf16", "repeats": 2, "json_file": file}
    rows = speed.speed(toy, naive_gb=4 * 24**4 / 1e9, **options)
    assert len(rows) == 2 * 2 * 2 * 7
    for row in rows:
        if "seconds" not in row:
            left_out = {speed.NAIVE: "fp32 only"}
            if row["precision"] == "fp32":
                left_out = {speed.NAIVE: "would need 0.00324 GB", speed.ALL_KEYS: "run where the literal network is"}
            assert row["note"] == left_out[row["what"]]
            continue
        pixels = round(row["lr"] * row["scale"]) ** 2
        assert len(row["seconds"]) == len(row["times_iste"]) == 2
        assert row["seconds_per_megapixel"] == pytest.approx(statistics.median(row["seconds"]) / pixels * 1e6)
        rate = row["macs"] / statistics.median(row["seconds"])
        assert row["share_of_peak"] == pytest.approx(rate / row["peak_macs_per_second"])
        assert (row["macs"] > 0) == (row["what"] != "bicubic")
        assert row["what"] != "ISTE" or row["times_iste"] == [1, 1]
    literal = [row for row in rows if row["what"] == speed.NAIVE and "seconds" in row]
    assert {(row["lr"], row["scale"]) for row in literal} == {(8, 2), (8, 2.5), (12, 2)}
    for row in literal:
        assert row["max_difference"] < 1e-5
        assert row["changed_retrievals"] == 0
    products = {(row["lr"], row["scale"], row["what"]): row.get("macs") for row in rows if row["precision"] == "fp32"}
    assert products[12, 2, speed.OTHER_CORNERS] > products[12, 2, "ISTE"]
    for row in (row for row in rows if "modules" in row):
        *parts, total = row["modules"].values()
        assert sum(parts) == pytest.approx(total)

    printed = capsys.readouterr().out
    assert len(table_rows(printed, "Speed")) == len(rows)
    assert len(table_rows(printed, "Modules of ISTE")) == 8
    assert f"{torch.get_num_threads()} thread(s)" in printed
    written = json.loads(file.read_text())
    assert len(written["rows"]) == len(rows)
    assert written["environment"]["hardware"]["threads"] == 1


def test_speed_as_a_command(toy):
    done = CliRunner().invoke(
        speed.app, ["--presets", toy, "--sizes", "6", "--scales", "2", "--repeats", "1", "--no-baselines"]
    )
    assert done.exit_code == 0, done.output
    assert [row["what"] for row in table_rows(done.output, "Speed")] == [
        "ISTE",
        speed.OTHER_CORNERS,
        speed.ALL_KEYS,
        speed.NAIVE,
    ]


def test_what_a_command_refuses_is_a_sentence(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["speed", "--presets", "iste_huge"])
    with pytest.raises(SystemExit) as done:
        common.run(speed.app)
    assert done.value.code == ConfigError.exit_code
    assert capsys.readouterr().err.startswith("error: Expected a preset")


def test_training(toy, tmp_path, capsys):
    file = tmp_path / "training.json"
    rows = training.training(toy, batch=2, lr_size=6, points=20, repeats=2, json_file=file)
    assert [row["what"] for row in rows] == ["ISTE", training.NAIVE, "LIIF", "LTE"]
    assert rows[0]["first_loss"] == pytest.approx(rows[1]["first_loss"], abs=1e-6)
    for row, shown in zip(rows, table_rows(capsys.readouterr().out, "Training step"), strict=True):
        assert len(row["seconds"]) == 2
        assert row["times_iste"] == [a / b for a, b in zip(row["seconds"], rows[0]["seconds"], strict=True)]
        assert row["macs"] > 0
        assert shown["seconds a step"].startswith(f"{statistics.median(row['seconds']):.3g} (")
    assert len(json.loads(file.read_text())["rows"]) == 4


def test_training_leaves_out_what_would_not_fit(toy):
    rows = training.training(toy, batch=1, lr_size=4, points=10, repeats=1, naive_gb=0.0, baselines=False)
    assert [row["what"] for row in rows] == ["ISTE", training.NAIVE]
    assert "GB" in rows[1]["note"]


def test_memory_in_processes_of_their_own(capsys):
    rows = memory.memory("iste_light", sizes="24", scale=2, modes="windowed", repeats=1)
    assert [(row["height"], row["width"]) for row in rows] == [(24, 24), (24, 48)]
    for row in rows:
        assert row["peak_mib"] >= row["idle_mib"] > 50
        assert row["above_idle_mib"] == pytest.approx(row["peak_mib"] - row["idle_mib"])
        assert row["maxrss_mib"] > 50
        assert row["output_megapixels"] == pytest.approx(4 * row["height"] * row["width"] / 1e6)
    assert rows[1]["time_ratio"] == pytest.approx(
        statistics.median(rows[1]["seconds"]) / statistics.median(rows[0]["seconds"])
    )
    assert rows[1]["memory_ratio"] == pytest.approx(rows[1]["above_idle_mib"] / rows[0]["above_idle_mib"])
    assert [row["LR"] for row in table_rows(capsys.readouterr().out, "Memory")] == ["24x24", "24x48"]


def test_memory_sees_a_large_result():
    """In processes of their own, as the command runs them: this one may hold freed memory that the result fits into."""
    case = {"preset": "iste_light", "mode": "whole", "width": 64, "scale": 4.0, "threads": 1}
    small, large = (common.run_isolated("memory", {**case, "height": height}) for height in (16, 256))
    assert large["above_idle_mib"] >= 3 * 4 * large["output_megapixels"] * 1e6 / 2**20  # float32 RGB
    assert large["above_idle_mib"] > small["above_idle_mib"]


def test_memory_refuses_an_unknown_mode(toy):
    with pytest.raises(ConfigError) as error:
        memory.memory(toy, modes="whole,tiled")
    assert_teaches(error.value, "tiled", "windowed")


# --- other people's programs ------------------------------------------------------------------------------------------

MODELS = """
import timm.models.layers
import tensorboardX
import utils

models = {}

def register(name):
    def keep(cls):
        models[name] = cls
        return cls
    return keep

def make(spec, args=None):
    return models[spec["name"]](**spec["args"], **(args or {}))

from models import KIND
"""

HEAD = """
import torch
from models import make, register

@register("mlp")
class Layers(torch.nn.Linear):
    def __init__(self, in_dim, out_dim, hidden_list):
        super().__init__(in_dim, out_dim)
        self.hidden_list = hidden_list

@register("KIND")
class Head(torch.nn.Module):
    def __init__(self, encoder_spec, imnet_spec):
        super().__init__()
        self.encoder, self.imnet = make(encoder_spec), make(imnet_spec, {"in_dim": 2})

    def gen_feat(self, image):
        self.mean = self.encoder(image).mean().cuda()

    def query_rgb(self, coord, cell):
        assert coord.shape == cell.shape
        return 2 * torch.stack([coord[..., 0], coord[..., 1], cell[..., 1] / 2], dim=-1) - 1
"""


def repository_of(folder, kind):
    """The skeleton of such a repository: a head that returns its queries."""
    package = folder / "models"
    package.mkdir(parents=True)
    (folder / "utils.py").write_text(f"KIND = {kind!r}\n")
    (package / "__init__.py").write_text(MODELS.replace("KIND", kind))
    (package / f"{kind}.py").write_text(HEAD.replace("KIND", kind))
    return folder


def test_authors_programs_are_called_like_this_librarys(tmp_path, monkeypatch):
    monkeypatch.setattr(AuthorsNetwork, "batch", 7)
    before = dict(sys.modules), list(sys.path), torch.Tensor.cuda
    for kind, depth in (("liif", 4), ("lte", 3)):
        theirs = AuthorsNetwork(repository_of(tmp_path / kind, kind), EDSREncoder(4, 1))
        assert theirs.title == f"{kind.upper()}, the authors' code, our encoder"
        assert theirs.network.imnet.hidden_list == [256] * depth
        with torch.no_grad():
            result = theirs(torch.rand(2, 3, 4, 5), scale=2.5)
        assert result.shape == (2, 3, 10, 12)
        assert_close(result[1, 0, :, 0], [(2 * i + 1) / 10 - 1 for i in range(10)])
        assert_close(result[0, 1, 0], [(2 * i + 1) / 12 - 1 for i in range(12)])
        assert_close(result[0, 2], torch.full((10, 12), 1 / 12).numpy())  # half the cell of 2 / W
    assert {name for name in sys.modules if name.split(".")[0] in ("models", "utils", "timm")} == {
        name for name in before[0] if name.split(".")[0] in ("models", "utils", "timm")
    }
    assert sys.path == before[1]
    assert torch.Tensor.cuda is before[2]


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError) as error:
        AuthorsNetwork(tmp_path, EDSREncoder(4, 1))
    assert_teaches(error.value, "models/liif.py")


# --- choices ----------------------------------------------------------------------------------------------------------


def test_choices(toy, tmp_path, monkeypatch):
    tile = common.sample_tissue(96, 80)[0].permute(1, 2, 0).numpy()
    Image.fromarray(tile).save(tmp_path / "tile.png")
    monkeypatch.setattr(choices, "TILINGS", [(8, 8, 4), (64, 16, 16)])
    rows = choices.choices(tmp_path, presets=toy, scales="2", crop=64, json_file=tmp_path / "choices.json")
    keys, tilings = ([row for row in rows if ("psnr" in row) == scored] for scored in (True, False))
    assert [row["choice"] for row in keys] == list(choices.KEYS)
    by_name = {row["choice"]: row for row in keys}
    assert by_name["lattice, 48^2 keys"]["mean_difference"] == 0  # the toy's own
    assert by_name["lattice, 8^2 keys"]["mean_difference"] > 0
    small, one = tilings
    assert one["max_difference"] < 0.01  # one window holds the whole tile
    assert one["border_steps"] is None
    assert small["max_difference"] > one["max_difference"]
    assert 0.9 < small["border_steps"] < 1.1
    assert json.loads((tmp_path / "choices.json").read_text())["rows"] == rows


def test_a_seam_is_seen():
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)) / 100
    assert list(choices._border_steps(image, image, 16, 32)) == [1]
    broken = image.clone()
    broken[:, 32:] += 0.5
    assert max(choices._border_steps(broken, image, 16, 32)) > 5


# --- search -----------------------------------------------------------------------------------------------------------


def test_search_trains_each_variant_once(tmp_path, capsys):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        Image.fromarray(common.sample_tissue(64, 64)[0].permute(1, 2, 0).numpy()).save(tmp_path / split / "tile.png")
    options = "--batch_size 1 --lr_size 8 --num_points 9 --val_crop 32 --scales [2] --num_workers 0"
    arguments = {"names": "preset, encoder 4 blocks of 64", "steps": 1, "options": options, "repeats": 1}
    paths = {"output_dir": tmp_path / "out", "plot": tmp_path / "plot.png"}
    rows = search.search(tmp_path, **arguments, **paths)
    assert [row["variant"] for row in rows] == ["preset", "encoder 4 blocks of 64"]
    assert rows[0]["parameters"] != rows[1]["parameters"]
    assert rows[0]["macs"] > 0
    assert Image.open(tmp_path / "plot.png").size == (860, 520)
    assert "| encoder 4 blocks of 64 |" in capsys.readouterr().out
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/*/metrics.json")}
    assert len(written) == 2
    again = search.search(tmp_path, **arguments, output_dir=tmp_path / "out")
    assert [row["psnr"] for row in again] == [row["psnr"] for row in rows]
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_search_refuses_unknown_variants(tmp_path):
    with pytest.raises(ConfigError) as caught:
        search.search(tmp_path, names="wide")
    assert_teaches(caught.value, "branches 64 wide", "'wide'")


@pytest.mark.parametrize("name", search.VARIANTS)
def test_variants_can_be_built(name):
    assert create_iste("iste_light", **search._build_changes(search.VARIANTS[name])).encoder.out_channels
