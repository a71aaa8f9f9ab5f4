"""Frechet inception distance (FID) of an evaluation, with the values of pytorch-fid.

FID is defined by one published set of Inception weights. They are not downloaded: the file is expected in
``$TORCH_HOME/hub/checkpoints``, and a file with another hash raises CheckpointError.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.utils import evenly_divisible_all_gather, string_list_all_gather
from torch import Tensor

from monai_iste.errors import CheckpointError, ConfigError, DataError, ShapeError
from monai_iste.io.files import checksum
from monai_iste.metrics.inception import InceptionFeatures


@dataclass(frozen=True)
class _Inception:
    """Weights and feature layer of the Inception network. FID uses the defaults; tests use their own."""

    sha256: str = "6726825d0af5f729"  # first 64 bits
    size: int = 95_628_359
    dims: int = 2048
    file: str = "pt_inception-2015-12-05-6726825d.pth"

    @property
    def path(self) -> Path:
        return Path(torch.hub.get_dir()) / "checkpoints" / self.file

    @property
    def remedy(self) -> str:
        return (
            f"FID needs {self.file}, the Inception weights that pytorch-fid publishes "
            f"({self.size:,} bytes, sha256 {self.sha256}...) at {self.path}; TORCH_HOME moves that folder."
        )


class FrechetInceptionDistance:
    """Compute the FID of every method at every scale and store it in ``engine.state.fid`` after a run of an evaluator.

    Every scored image (8-bit RGB after the protocol's postprocessing) is cut into adjacent patches. Their features are
    compared with those of the same patches of the ground truth. An FID of few patches is biased upwards, so only values
    of equal patch size and count are comparable; both are stored with the value.

    Reads ``pred``, ``bicubic``, ``label`` and ``scale`` of the items. With several processes every process receives all
    rows.

    Args:
        patch_size: side of the square patches.
        method: name of the network in the table.
        batch_size: patches per call of the Inception network; does not affect the result.
    Raises:
        ConfigError: the patch size is below 1.
        CheckpointError: the weights are missing or have another hash.
        ShapeError: during a run, images are smaller than a patch, or luma.
        DataError: during a run, there are fewer than two patches.
    """

    def __init__(
        self, patch_size: int = 128, method: str = "iste", batch_size: int = 32, _inception: _Inception | None = None
    ) -> None:
        if patch_size < 1:
            raise ConfigError("a patch size of at least 1 pixel", repr(patch_size), "Give a size such as 128.")
        self.patch_size, self.method, self.batch_size = patch_size, method, batch_size
        self.inception = _inception or _Inception()
        self.network = _load(self.inception)  # fails before the evaluation, not after it
        self._features: list[Tensor] = []
        self._groups: list[str] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._extract)
        engine.add_event_handler(Events.COMPLETED, self._compute)

    def _start(self, engine: Engine) -> None:
        self.network.to(engine.state.device)  # type: ignore[attr-defined]
        self._features, self._groups = [torch.empty(0, self.inception.dims)], []

    def _extract(self, engine: Engine) -> None:
        state: Any = engine.state
        for item, output in zip(state.batch, state.output, strict=True):
            for method, key in ((self.method, "pred"), ("bicubic", "bicubic"), ("", "label")):
                features = self.extract(cut_patches(output[key].to(state.device), self.patch_size))
                self._features.append(features)
                self._groups += [f"{float(item['scale'])} {method}"] * len(features)

    @torch.no_grad()
    def extract(self, patches: Tensor) -> Tensor:
        """Compute Inception features of patches, averaged over space, on the CPU.

        Shape:
            patches: (N, 3, size, size); returns (N, 2048)
        Units: [0, 1].
        """
        return torch.cat([self.network(part).mean((2, 3)).cpu() for part in patches.split(self.batch_size)])

    def _compute(self, engine: Engine) -> None:
        features: Tensor = evenly_divisible_all_gather(torch.cat(self._features), concat=True)
        groups = string_list_all_gather(self._groups)
        sets = {group: features[[other == group for other in groups]] for group in dict.fromkeys(groups)}
        scales = sorted({group.split(" ")[0] for group in sets}, key=float)
        engine.state.fid = {  # type: ignore[attr-defined]
            "weights": {"file": self.inception.file, "sha256": self.inception.sha256},
            "dims": self.inception.dims,
            "patch_size": self.patch_size,
            "rows": [
                {
                    "scale": int(float(scale)) if float(scale).is_integer() else float(scale),
                    "method": method,
                    "fid": round(frechet_distance(sets[f"{scale} {method}"], sets[f"{scale} "]), 4),
                    "patches": len(sets[f"{scale} "]),
                }
                for scale in scales
                for method in ("bicubic", self.method)
            ],
        }


def can_measure_fid() -> bool:
    """Return True if the file of the Inception weights exists in ``$TORCH_HOME/hub/checkpoints``."""
    return _Inception().path.is_file()


def cut_patches(image: Tensor, size: int) -> Tensor:
    """Cut an image into adjacent square patches from the top left corner; narrower remainders are not used.

    Shape:
        image: (3, H, W); returns ((H // size) * (W // size), 3, size, size)
    Raises:
        ShapeError: the image is smaller than a patch, or is not RGB.

    Example:
        >>> cut_patches(torch.zeros(3, 70, 40), 32).shape
        torch.Size([2, 3, 32, 32])
    """
    if image.ndim != 3 or image.shape[0] != 3:
        raise ShapeError("RGB images for FID", f"shape {tuple(image.shape)}", "Choose a protocol that scores RGB.")
    if min(image.shape[1:]) < size:
        raise ShapeError(
            f"images of at least {size} x {size} scored pixels for FID",
            f"{image.shape[2]} x {image.shape[1]}",
            "Lower --fid_patch_size.",
        )
    return image.unfold(1, size, size).unfold(2, size, size).permute(1, 2, 0, 3, 4).reshape(-1, 3, size, size)


def frechet_distance(features: Tensor, truth: Tensor) -> float:
    """Compute the squared Frechet distance of the Gaussians fitted to two sets of feature vectors.

    |m - m'|^2 + tr C + tr C' - 2 tr (C C')^(1/2). With C = A^T A and C' = B^T B the last trace is the sum of the
    singular values of A B^T. MONAI's FIDMetric and pytorch-fid take the square root of a 2048 x 2048 matrix instead,
    which is singular for fewer than 2049 vectors. The results agree to six digits, but theirs take half a minute each,
    and both call ``scipy.linalg.sqrtm(disp=)``, which newer versions of SciPy do not have.

    Shape:
        features: (N, D); truth: (M, D)
    Raises:
        DataError: a set has fewer than two vectors and therefore no covariance.

    Example:
        >>> frechet_distance(torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0], [5.0]]))
        9.0
    """
    if min(len(features), len(truth)) < 2:
        raise DataError(
            "at least two patches for FID", str(min(len(features), len(truth))), "Use more or larger images."
        )
    (mean, a), (mean_truth, b) = (_moments(vectors.double()) for vectors in (features, truth))
    overlap = torch.linalg.matrix_norm(a @ b.T, "nuc")
    return float((mean - mean_truth).square().sum() + a.square().sum() + b.square().sum() - 2 * overlap)


def _moments(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean, and a matrix A of at most D rows such that A^T A is the covariance."""
    mean = vectors.mean(0)
    centered = (vectors - mean) / (len(vectors) - 1) ** 0.5
    return mean, torch.linalg.qr(centered, mode="r").R if len(vectors) > vectors.shape[1] else centered


def format_fid(fid: dict[str, Any]) -> str:
    """Format ``engine.state.fid`` as a text table, headed by the weights and the patch size.

    Example:
        >>> row = {"scale": 2, "method": "bicubic", "fid": 41.5, "patches": 900}
        >>> weights = {"file": "weights.pth", "sha256": "6726825d0af5f729"}
        >>> print(format_fid({"weights": weights, "dims": 2048, "patch_size": 128, "rows": [row]}))
        FID, 2048-d, weights 6726825d0af5f729, patches of 128 x 128
        scale  method            FID  patches
        x2     bicubic         41.50      900
    """
    size, real = fid["patch_size"], _Inception()
    name = "FID" if (fid["weights"]["sha256"], fid["dims"]) == (real.sha256, real.dims) else "no FID: test features"
    lines = [
        f"{name}, {fid['dims']}-d, weights {fid['weights']['sha256']}, patches of {size} x {size}",
        "scale  method            FID  patches",
    ]
    lines += [f"x{row['scale']:<5} {row['method']:<12} {row['fid']:>8.2f} {row['patches']:>8}" for row in fid["rows"]]
    return "\n".join(lines)


def _load(inception: _Inception) -> InceptionFeatures:
    """Load the network with weights whose hash has been checked, unlike pytorch-fid."""
    if not inception.path.is_file():
        raise CheckpointError("the Inception weights of FID", "no such file", inception.remedy)
    sha256 = checksum(inception.path)
    if not sha256.startswith(inception.sha256):
        received = f"a file of {inception.path.stat().st_size:,} bytes and sha256 {sha256[:16]}..."
        raise CheckpointError("the Inception weights of FID", received, inception.remedy)
    network = InceptionFeatures(inception.dims)
    network.load_state_dict(torch.load(inception.path, map_location="cpu", weights_only=True))
    return network.eval()
