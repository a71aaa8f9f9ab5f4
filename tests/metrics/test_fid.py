"""FID from images to distance against pytorch-fid's own, with weights that both read from one file."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.metrics import FIDMetric
from PIL import Image

from monai_iste.data import evaluation_datalist, sample_datalists
from monai_iste.engines import PrepareWholeImage
from monai_iste.errors import CheckpointError, ConfigError, DataError, ShapeError, find_error
from monai_iste.io.files import checksum
from monai_iste.metrics import get_protocol
from monai_iste.metrics.fid import (
    FrechetInceptionDistance,
    _Inception,
    cut_patches,
    format_fid,
    frechet_distance,
)
from monai_iste.metrics.inception import FEATURE_CHANNELS, InceptionFeatures
from monai_iste.networks import create_iste
from monai_iste.networks.baselines import Bicubic


def gaussians(mean: list[float], deviations: list[float]) -> torch.Tensor:
    """Vectors with exactly this mean and standard deviation per axis, and no correlation."""
    dims = len(mean)
    corners = torch.cat([torch.eye(dims), -torch.eye(dims)]).double() * ((2 * dims - 1) / 2) ** 0.5
    return corners * torch.tensor(deviations).double() + torch.tensor(mean).double()


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (([0, 0, 0], [1, 2, 3]), ([0, 0, 0], [1, 2, 3]), 0),
        (([3, 0, 4], [1, 1, 1]), ([0, 0, 0], [1, 1, 1]), 25),
        (([0, 0, 0], [1, 2, 3]), ([0, 0, 0], [3, 3, 3]), 4 + 1),
        (([1, 2, 3], [0, 1, 5]), ([2, 2, 1], [2, 1, 0]), 1 + 4 + 4 + 25),  # both covariances are singular
    ],
)
def test_distance_of_uncorrelated_gaussians(a, b, expected):
    """|m - m'|^2 + |s - s'|^2 over the standard deviations s."""
    assert frechet_distance(gaussians(*a), gaussians(*b)) == pytest.approx(expected, abs=1e-9)


def test_distance_of_rotated_gaussians():
    """C = R C' R^T for a quarter turn in 2-D: the square root of C C' is the geometric mean of the two variances."""
    turned = gaussians([0, 0], [1, 4]) @ torch.tensor([[0, 1], [-1, 0]]).double()
    assert frechet_distance(turned, gaussians([0, 0], [1, 4])) == pytest.approx(2 * 17 - 2 * 8, abs=1e-9)


def vectors(n: int, m: int) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Two sets of correlated vectors of 48 features, and the accuracy of a matrix square root for their distance."""
    random = torch.Generator().manual_seed(0)
    mixing = torch.randn(48, 48, generator=random, dtype=torch.float64)
    a, b = (torch.randn(count, 48, generator=random, dtype=torch.float64) for count in (n, m))
    # Where a covariance is singular, it is the matrix square root that has lost the digits.
    return a @ mixing + 0.3, b, 1e-10 if min(n, m) > 48 else 1e-6


@pytest.fixture
def with_disp(monkeypatch):
    """``scipy.linalg.sqrtm`` with the argument ``disp`` that MONAI and pytorch-fid give it, in every SciPy."""
    square_root = scipy.linalg.sqrtm

    def sqrtm(matrix, disp=True, blocksize=64):
        root = square_root(matrix)
        return root if disp else (root, 0.0)

    monkeypatch.setattr(scipy.linalg, "sqrtm", sqrtm)


@pytest.mark.parametrize(("n", "m"), [(400, 300), (20, 300), (20, 30)])
def test_distance_is_that_of_the_formula(n, m):
    """|m - m'|^2 + tr (C + C' - 2 (C C')^(1/2)), literally."""
    a, b, tolerance = vectors(n, m)
    root = scipy.linalg.sqrtm(torch.cov(a.T).numpy() @ torch.cov(b.T).numpy())
    expected = (a.mean(0) - b.mean(0)).square().sum() + torch.cov(a.T).trace() + torch.cov(b.T).trace()
    assert frechet_distance(a, b) == pytest.approx(float(expected) - 2 * np.trace(root).real, rel=tolerance)


@pytest.mark.parametrize(("n", "m"), [(400, 300), (20, 300), (20, 30)])
def test_distance_is_that_of_monai(n, m, with_disp):
    a, b, tolerance = vectors(n, m)
    assert frechet_distance(a, b) == pytest.approx(FIDMetric()(a, b).item(), rel=tolerance)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-10)


def test_distance_needs_nothing_of_scipy(monkeypatch):
    monkeypatch.delattr(scipy.linalg, "sqrtm")
    a, b, _ = vectors(400, 300)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, b) > 1


def test_one_vector_has_no_covariance():
    with pytest.raises(DataError, match="at least two patches for FID, got 1"):
        frechet_distance(torch.zeros(1, 8), torch.zeros(5, 8))


def test_patches_lie_edge_to_edge():
    image = torch.arange(3 * 7 * 9).view(3, 7, 9).float()
    patches = cut_patches(image, 3)
    assert patches.shape == (6, 3, 3, 3)
    assert torch.equal(patches[0], image[:, :3, :3])
    assert torch.equal(patches[5], image[:, 3:6, 6:9])
    with pytest.raises(ShapeError, match="at least 8 x 8 scored pixels for FID, got 9 x 7"):
        cut_patches(image, 8)
    with pytest.raises(ShapeError, match="Choose a protocol that scores RGB"):
        cut_patches(image[:1], 3)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """An empty folder in place of the downloaded weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def architecture(with_disp):
    """pytorch-fid's module, on which the tests against it depend.

    It imports torchvision, for the architecture alone. A torchvision built for CUDA cannot be imported beside a torch
    for the CPU: two of its operators are missing there. Inception needs neither, so declaring them is enough.
    """
    for module in ("pytorch_fid", "torchvision"):
        if not any((Path(folder) / module).is_dir() for folder in sys.path):
            pytest.skip(f"{module} is not installed")
    try:
        return importlib.import_module("pytorch_fid.inception")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error) or _operators:
            raise
    _operators.append(torch.library.Library("torchvision", "DEF"))
    for name in ("nms", "qnms"):
        _operators[0].define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return importlib.import_module("pytorch_fid.inception")


_operators: list[torch.library.Library] = []  # an operator lives as long as its library


def test_neither_pytorch_fid_nor_torchvision_is_imported():
    program = "import sys, monai_iste.metrics.fid; print({'torchvision', 'pytorch_fid'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert found.splitlines()[-1] == "set()"


def test_parameters_fill_the_published_file():
    """The file holds them, their names and nothing else."""
    nbytes = sum(tensor.numel() * tensor.element_size() for tensor in InceptionFeatures().state_dict().values())
    assert 0 < _Inception().size - nbytes < 100_000


@pytest.mark.parametrize("channels", FEATURE_CHANNELS)
def test_features_are_those_of_pytorch_fid(channels, inception, architecture):
    theirs = architecture.InceptionV3([architecture.InceptionV3.BLOCK_INDEX_BY_DIM[channels]]).eval()
    ours = InceptionFeatures(channels).eval()
    ours.load_state_dict(torch.load(inception(channels).path, weights_only=True))
    image = torch.rand(2, 3, 50, 70, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs(image)[0].mean((2, 3))
        torch.testing.assert_close(ours(image).mean((2, 3)), expected, rtol=1e-5, atol=1e-5)
    assert expected.std() > 0.01


def test_only_features_of_four_stages_are_offered():
    with pytest.raises(ValueError, match=r"one of \(64, 192, 768, 2048\), not 100"):
        InceptionFeatures(100)


def test_without_the_weights_the_error_names_their_folder(hub):
    with pytest.raises(CheckpointError) as caught:
        FrechetInceptionDistance()
    for words in ("got no such file", _Inception().file, "95,628,359 bytes", "6726825d0af5f729", str(hub)):
        assert words in str(caught.value)


def test_other_weights_of_that_name_are_refused(hub):
    (hub / _Inception().file).write_bytes(b"abc")
    with pytest.raises(CheckpointError, match=r"got a file of 3 bytes and sha256 ba7816bf8f01cfea\.\.\."):
        FrechetInceptionDistance()


def test_a_patch_has_a_size(hub):
    with pytest.raises(ConfigError, match="at least 1 pixel, got 0"):
        FrechetInceptionDistance(patch_size=0)


@pytest.fixture
def inception(hub):
    """Random weights under the real ones' name, where pytorch-fid finds them too."""
    torch.manual_seed(0)
    network = InceptionFeatures()
    for parameter in network.parameters():
        if parameter.ndim == 4:
            torch.nn.init.kaiming_normal_(parameter)  # keeps the signal alive through 48 layers
    path = hub / _Inception().file
    torch.save(network.state_dict(), path)
    return lambda dims: _Inception(sha256=checksum(path), size=path.stat().st_size, dims=dims)


def evaluate(fid: FrechetInceptionDistance, scales: list[float], folder: Path) -> tuple[dict, dict[str, Path]]:
    """Run a protocol with bicubic as the network, blurred a little; its scored patches also as PNG files."""
    protocol = get_protocol("iste-rgb")
    items = evaluation_datalist(sample_datalists()[1], scales)
    # From one process: a worker would not see the patches.
    loader = DataLoader(Dataset(items, protocol.preprocessing(150)), batch_size=1, num_workers=0)
    evaluator = SupervisedEvaluator(
        "cpu",
        loader,
        Bicubic(),
        inferer=lambda image, network, scale: torch.nn.functional.avg_pool2d(network(image, scale), 3, 1, 1),
        prepare_batch=PrepareWholeImage(),
        postprocessing=protocol.postprocessing(),
        val_handlers=[fid],
    )
    size, folders = fid.patch_size, {}

    def keep(engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            for key in ("pred", "bicubic", "label"):
                path = folders.setdefault(f"{key}{float(item['scale']):g}", folder / f"{key}{float(item['scale']):g}")
                path.mkdir(parents=True, exist_ok=True)
                pixels = np.rint(output[key].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
                for top in range(0, pixels.shape[0] - size + 1, size):
                    for left in range(0, pixels.shape[1] - size + 1, size):
                        Image.fromarray(pixels[top : top + size, left : left + size]).save(path / f"{top}_{left}.png")

    evaluator.add_event_handler(Events.ITERATION_COMPLETED, keep)
    evaluator.run()
    return evaluator.state.fid, folders


def check_pipeline(
    inception, dims: int, scales: list[float], patch_size: int, tmp_path: Path, tolerance: float
) -> None:
    from pytorch_fid.fid_score import calculate_fid_given_paths

    handler = FrechetInceptionDistance(patch_size, batch_size=3, _inception=inception(dims))
    fid, folders = evaluate(handler, scales, tmp_path)
    assert [(row["scale"], row["method"]) for row in fid["rows"]] == [
        (scale, method) for scale in scales for method in ("bicubic", "iste")
    ]
    for row in fid["rows"]:
        paths = [folders[f"{key}{row['scale']}"] for key in ("pred" if row["method"] == "iste" else "bicubic", "label")]
        assert row["patches"] == len(list(paths[0].iterdir())) == len(list(paths[1].iterdir())) > 1
        expected = calculate_fid_given_paths([str(path) for path in paths], 4, "cpu", dims, num_workers=0)
        assert expected > 0.01
        assert row["fid"] == pytest.approx(expected, rel=tolerance, abs=1e-4)  # rows are rounded to four digits
    assert fid["patch_size"] == patch_size
    assert fid["weights"]["sha256"] != _Inception().sha256
    assert json.loads(json.dumps(fid)) == fid
    assert f"no FID: test features, {dims}-d, weights" in format_fid(fid)


def test_from_images_to_distance_as_pytorch_fid(inception, architecture, tmp_path):
    check_pipeline(inception, 64, [2, 3.7], 48, tmp_path, 1e-4)


@pytest.mark.slow
def test_from_images_to_distance_as_pytorch_fid_at_2048_dimensions(inception, architecture, tmp_path):
    check_pipeline(inception, 2048, [3], 40, tmp_path, 1e-3)


def test_a_second_run_starts_anew_and_batches_do_not_matter(inception, tmp_path):
    handler = FrechetInceptionDistance(60, batch_size=2, _inception=inception(64))
    first, second = (evaluate(handler, [2], tmp_path)[0]["rows"] for _ in range(2))
    assert first == second
    handler = FrechetInceptionDistance(60, batch_size=32, _inception=inception(64))
    other = evaluate(handler, [2], tmp_path)[0]["rows"]
    assert [row["fid"] for row in other] == pytest.approx([row["fid"] for row in first], rel=1e-3)


CONFIG = Path(__file__).parents[2] / "bundles" / "iste" / "configs" / "evaluate.json"


def bundle(tmp_path: Path, **changes) -> ConfigWorkflow:
    torch.save(create_iste("iste_light").state_dict(), tmp_path / "model.pt")
    changes = {"checkpoint": str(tmp_path / "model.pt"), "output_dir": str(tmp_path), "crop": 100, **changes}
    flow = ConfigWorkflow(str(CONFIG), workflow_type="infer", logging_file=False, **changes)
    flow.initialize()
    return flow


def test_the_bundle_refuses_before_it_evaluates(hub, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        bundle(tmp_path, fid=True).run()
    assert f"FID needs {_Inception().file}" in str(find_error(caught.value))
    assert not (tmp_path / "metrics.json").exists()


def test_the_bundle_reports_it_beside_the_other_scores(inception, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("monai_iste.metrics.fid._Inception", lambda: inception(64))
    bundle(tmp_path, fid=True, fid_patch_size=40, scales=[2]).run()
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert [(row["method"], row["patches"]) for row in report["fid"]["rows"]] == [("bicubic", 4), ("iste", 4)]
    assert len(report["rows"]) == 2
    assert "patches of 40 x 40\nscale  method            FID  patches\nx2     bicubic" in capsys.readouterr().out
