"""Ideas that might pay where Self-Texture Fusion (STF) and the Local Feature Interactor (LFI) do not.

None is in the paper. Each is a network of the overlay of its name in ``experiments/configs``.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_iste.networks import ISTE, PRESETS, create_network
from monai_iste.networks.grid_sampling import batch_points
from monai_iste.networks.local_feature_interactor import LocalFeatureInteractor
from monai_iste.networks.self_texture_fusion import SelfTextureFusion

#: Factors by which the texture is reduced for keys of further scales.
REDUCTIONS = (2, 4)


class SoftTextureFusion(SelfTextureFusion):
    """Self-Texture Fusion that retrieves the mean of the most similar keys, in place of the most similar one.

    ``A = sum_k w_k key_k`` with ``w = softmax(temperature * s)`` over the keys with the highest cosine similarity s.
    The temperature is learned.

    Args:
        query_channels: width of queries, keys and the result.
        count: number of keys in the mean.
    Shape:
        query: (B, C, h, w); keys: (B, K, C); returns (B, C, h, w)

    Example:
        >>> SoftTextureFusion(16)(torch.zeros(1, 16, 5, 7), torch.zeros(1, 12, 16)).shape
        torch.Size([1, 16, 5, 7])
    """

    def __init__(self, query_channels: int = 256, count: int = 8) -> None:
        super().__init__(query_channels)
        self.count = count
        self.temperature = nn.Parameter(torch.tensor(10.0))

    def retrieve(
        self, query: Tensor, keys: Tensor, source: Tensor | None = None, matrix: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Retrieve a mean of keys for every query: the most similar key's index, the mean, and their similarity."""
        rows = query.flatten(2).mT
        similarity = F.normalize(rows, dim=-1) @ F.normalize(keys, dim=-1).mT
        best, index = similarity.topk(min(self.count, keys.shape[1]), dim=-1)
        weights = torch.softmax(self.temperature * best, dim=-1)
        retrieved = torch.zeros_like(rows)
        for k in range(index.shape[2]):  # one key at a time: all of them would fill the memory
            key = torch.gather(keys, 1, index[:, :, k : k + 1].expand(-1, -1, keys.shape[2]))
            retrieved = retrieved + weights[:, :, k : k + 1] * key
        return index[:, :, 0], retrieved, F.cosine_similarity(rows, retrieved, dim=-1)


class HighBandFusion(SelfTextureFusion):
    """Self-Texture Fusion whose contribution loses its mean over windows of 5 x 5 pixels: only the high band is added.

    Shape:
        query: (B, C, h, w), of the whole image; keys: (B, K, C); returns (B, C, h, w)

    Example:
        >>> HighBandFusion(16)(torch.zeros(1, 16, 5, 7), torch.zeros(1, 12, 16)).shape
        torch.Size([1, 16, 5, 7])
    """

    def forward(
        self, query: Tensor, keys: Tensor, source: Tensor | None = None, matrix: Tensor | None = None
    ) -> Tensor:
        added = super().forward(query, keys, source, matrix) - query
        return query + added - F.avg_pool2d(F.pad(added, (2, 2, 2, 2), mode="replicate"), 5, stride=1)


class InteractingEncoder(nn.Module):
    """Encoder whose last block is a Local Feature Interactor: both branches see its features.

    Args:
        encoder: image -> feature map, with an attribute ``out_channels``.
    Shape:
        image: (B, 3, h, w); returns (B, out_channels, h, w)
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.out_channels = cast(int, encoder.out_channels)
        self.interactor = LocalFeatureInteractor(self.out_channels, self.out_channels)

    def forward(self, image: Tensor) -> Tensor:
        feat: Tensor = self.encoder(image)
        attended: Tensor = self.interactor(feat)
        return feat + attended


class _WholeMapISTE(ISTE):
    """ISTE that always fuses the whole feature map at once. The fast paths fuse it in strips of rows."""

    def forward_grid(
        self, image: Tensor, rows: Tensor, columns: Tensor, cell: Tensor, input_blur: Tensor | None = None
    ) -> Tensor:
        coord = batch_points(rows, columns, image.shape[0])
        rgb = self.forward(image, coord, cell, input_blur=input_blur)
        return rgb.mT.reshape(image.shape[0], 3, rows.shape[-1], columns.shape[-1])


class _SeveralScalesISTE(_WholeMapISTE):
    """ISTE with keys of the reduced texture (:data:`REDUCTIONS`) beside those of the texture itself."""

    def keys(self, amp_freq: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        found = [super().keys(amp_freq, coord, cell)]
        of_image = cell if cell.ndim == 2 else cell.mean(1)
        for reduction in REDUCTIONS:
            reduced = F.avg_pool2d(amp_freq, reduction, ceil_mode=True)
            found.append(self.texture_learner.keys(reduced, of_image, self.key_side))
        return torch.cat(found, dim=1)


def soft_retrieval(preset: str, **changes: Any) -> ISTE:
    """Create ISTE whose STF retrieves the mean of several keys, of several scales of the image."""
    network = cast(ISTE, PRESETS[preset]._replace(network=_SeveralScalesISTE).create(**changes))
    network.self_texture_fusion = SoftTextureFusion(_texture_channels(network))
    return network


def high_band(preset: str, **changes: Any) -> ISTE:
    """Create ISTE whose STF contributes to the high band of the features alone."""
    network = cast(ISTE, PRESETS[preset]._replace(network=_WholeMapISTE).create(**changes))
    network.self_texture_fusion = HighBandFusion(_texture_channels(network))
    return network


def lfi_in_encoder(preset: str, **changes: Any) -> nn.Module:
    """Create the network of a preset, ISTE or another, with an LFI as the last block of its encoder."""
    network = create_network(preset, **changes)
    network.encoder = InteractingEncoder(cast(nn.Module, network.encoder))
    return network


def _texture_channels(network: ISTE) -> int:
    return network.local_feature_interactor.projection.out_channels
