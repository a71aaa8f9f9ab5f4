"""Literal implementation of ISTE: the paper's equations step by step, without reuse of results or chunks.

It is the reference for the library's speed, and its results are equal: on whole images to ``inference_keys="all"``, on
coordinates to training on ``training_keys="queries"``.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import common
from monai_iste.coordinates import Neighbors, cell_size, four_corners, nearest_pixel, output_size, pixel_centers
from monai_iste.errors import ConfigError
from monai_iste.networks import ISTE

__all__ = ["NaiveISTE", "similarity_bytes"]


def similarity_bytes(queries: int, keys: int, images: int = 1) -> int:
    """Compute the memory of the similarity matrix of Eq. (4) in float32, by far the largest tensor.

    Example:
        >>> similarity_bytes(192 * 192, 192 * 192)  # 48 x 48 pixels, x4
        5435817984
    """
    return 4 * images * queries * keys


class NaiveISTE(nn.Module):
    """Literal network with the weights of an :class:`~monai_iste.networks.ISTE` that has all modules.

    * LFI: ten tokens unfolded for every pixel, each projected to query, key and value.
    * TL: amplitude, frequencies and phase fetched and computed for every query.
    * STF: one query and one key for every output pixel, the full matrix of similarities. At free coordinates, where
      there is no map of output pixels to look the corners up in, one query for each of a coordinate's four corners.
    * LPD: features, offset and cell concatenated at each of four corners, through the whole MLP; LTD: once per query,
      or at each corner where the network blends the textures of four. With ``blend="features"`` the first layer of LPD
      at each corner, and the rest of both once, on what is blended.

    Args:
        network: network with every module.
    Shape:
        as ISTE; the scale is at least 1.
    Raises:
        ConfigError: the network lacks a module.
    """

    def __init__(self, network: ISTE) -> None:
        super().__init__()
        if not hasattr(network.local_feature_interactor, "qkv"):
            raise ConfigError("a network with every module", "another", "Take a preset.")
        self.network = network

    def forward(
        self, image: Tensor, coord: Tensor | None = None, cell: Tensor | None = None, scale: float | None = None
    ) -> Tensor:
        return self.with_retrieval(image, coord, cell, scale)[0]

    def with_retrieval(
        self, image: Tensor, coord: Tensor | None = None, cell: Tensor | None = None, scale: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the result, and the index of the key that every query of STF retrieves."""
        b, size = image.shape[0], (image.shape[2], image.shape[3])
        if coord is not None and cell is not None:
            cell = cell.unsqueeze(1).expand_as(coord) if cell.ndim == 2 else cell
            return self._colors(image, coord, cell, None)
        output = output_size(size, self.network.scale if scale is None else scale)
        grid = pixel_centers(output, image.device).expand(b, -1, -1)
        rgb, index = self._colors(image, grid, cell_size(size, output, image.device).expand_as(grid), output)
        return rgb.mT.reshape(b, 3, *output), index

    def _colors(
        self, image: Tensor, coord: Tensor, cell: Tensor, output: tuple[int, int] | None
    ) -> tuple[Tensor, Tensor]:
        image = (image - 0.5) / 0.5
        size = (image.shape[2], image.shape[3])
        feat = common.without_fast_paths(self.network.encoder, image)
        query_map = self._convolution("local_feature_interactor.projection", self._lfi(feat))
        nearest, corners = nearest_pixel(coord, size), four_corners(coord, size)
        texture = self._texture(feat, nearest.pixel[:, :, 0], nearest.offset[:, :, 0], cell)

        if output is None:
            fused, index = self._stf(_at(query_map, corners.pixel.flatten(1)), texture)
            at_corners = fused.unflatten(1, (-1, 4))
        else:
            fused, index = self._stf(_at(query_map, nearest.pixel[:, :, 0]), texture)
            row, col = corners.pixel // size[1], corners.pixel % size[1]
            row, col = (2 * row + 1) * output[0] // (2 * size[0]), (2 * col + 1) * output[1] // (2 * size[1])
            at_corners = _rows(fused, (row * output[1] + col).flatten(1)).unflatten(1, (-1, 4))

        neighbors = self.network.texture_neighbors(coord, size)
        textures = [
            self._texture(feat, neighbors.pixel[:, :, t], neighbors.offset[:, :, t], cell)
            for t in range(neighbors.pixel.shape[2])
        ]
        vectors = [self._lpd_first(at_corners[:, :, t], corners.offset[:, :, t], cell) for t in range(4)]
        rgb = self._decode("local_texture_decoder.mlp", textures, neighbors)
        rgb = rgb + self._decode("local_pixel_decoder.mlp", vectors, corners)
        if self.network.bicubic_residual:
            grid = coord.flip(-1).unsqueeze(1)
            sampled = F.grid_sample(image, grid, mode="bicubic", padding_mode="border", align_corners=False)
            window = F.unfold(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3).view(len(image), 3, 9, -1)
            v = (window - image.flatten(2).unsqueeze(2)).square().mean(1).sum(1) / 8
            gate = (v / (v + (2 / 255) ** 2)).gather(1, corners.pixel.flatten(1)).view(len(image), -1, 4, 1)
            rgb = rgb * (corners.weight * gate).sum(2) + sampled[:, :, 0].mT
        return rgb * 0.5 + 0.5, index

    def _lfi(self, feat: Tensor) -> Tensor:
        b, c, h, w = feat.shape
        window = F.unfold(F.pad(feat, (1, 1, 1, 1), mode="replicate"), 3).view(b, c, 9, h * w).permute(0, 3, 2, 1)
        tokens = torch.cat([window[:, :, 4:5], window.mean(2, True), window[:, :, :4], window[:, :, 5:]], dim=2)
        weight, bias = self._layer("local_feature_interactor.qkv")
        heads = cast(int, self.network.local_feature_interactor.heads)
        projected = F.linear(tokens, weight.flatten(1), bias).view(b, h * w, 10, 3, heads, c // heads)
        query, key, value = projected.permute(3, 0, 1, 4, 2, 5).unbind()
        attention = (query[..., :1, :] @ key.mT / (c // heads) ** 0.5).softmax(-1)
        return (attention @ value).reshape(b, h * w, c).mT.reshape(b, c, h, w)

    def _texture(self, feat: Tensor, pixel: Tensor, offset: Tensor, cell: Tensor) -> Tensor:
        amp_freq = self._convolution("texture_learner.conv", feat)
        amplitude, freq_y, freq_x = (_at(part, pixel) for part in amp_freq.chunk(3, dim=1))
        phase = 2 * math.pi * torch.sigmoid(F.linear(cell, *self._layer("texture_learner.phase")))
        return amplitude * torch.sin(freq_y * offset[..., :1] + freq_x * offset[..., 1:] + phase)

    def _stf(self, query: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        similarity = F.normalize(query, dim=-1) @ F.normalize(keys, dim=-1).mT
        confidence, index = similarity.max(-1)
        retrieved = _rows(keys, index)
        aggregated = self._perceptron("self_texture_fusion.mlp", torch.cat([query, retrieved], dim=-1))
        return query + aggregated * confidence.unsqueeze(-1), index

    def _decode(self, mlp: str, vectors: list[Tensor], neighbors: Neighbors) -> Tensor:
        """Blend the colors of the neighbors, or decode their blended vectors."""

        def blend(values: list[Tensor]) -> Tensor:
            weighted = zip(neighbors.weight.unbind(2), values, strict=True)
            return torch.stack([weight * value for weight, value in weighted]).sum(0)

        if self.network.blend == "features":
            return self._perceptron(mlp, blend(vectors))
        return blend([self._perceptron(mlp, vector) for vector in vectors])

    def _lpd_first(self, feature: Tensor, offset: Tensor, cell: Tensor) -> Tensor:
        weight, bias = self._layer("local_pixel_decoder.feature_part")
        coordinate_part = self.network.get_parameter("local_pixel_decoder.coordinate_part.weight")
        first = torch.cat([weight.flatten(1), coordinate_part], dim=1)
        return F.relu(F.linear(torch.cat([feature, offset, cell], dim=-1), first, bias))

    def _perceptron(self, name: str, x: Tensor) -> Tensor:
        """Apply linear layers with ReLU between them."""
        found = {p[len(name) + 1 :].split(".")[0] for p, _ in self.network.named_parameters() if p.startswith(name)}
        for i, number in enumerate(sorted(found, key=int)):
            x = F.linear(F.relu(x) if i else x, *self._layer(f"{name}.{number}"))
        return x

    def _convolution(self, name: str, feat: Tensor) -> Tensor:
        weight, bias = self._layer(name)
        margin = weight.shape[-1] // 2
        return F.conv2d(F.pad(feat, [margin] * 4, mode="replicate"), weight, bias)

    def _layer(self, name: str) -> tuple[Tensor, Tensor]:
        return self.network.get_parameter(f"{name}.weight"), self.network.get_parameter(f"{name}.bias")


def _at(feature_map: Tensor, pixel: Tensor) -> Tensor:
    """Gather (B, C, h, w) at (B, N) pixels to (B, N, C)."""
    return _rows(feature_map.flatten(2).mT, pixel)


def _rows(table: Tensor, index: Tensor) -> Tensor:
    return table.gather(1, index.unsqueeze(-1).expand(-1, -1, table.shape[-1]))
