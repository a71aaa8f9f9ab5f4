"""Triton kernel of Eq. (4): similarities are compared where they are computed and never written to memory.

:func:`monai_iste.networks.self_texture_fusion.most_similar` uses it where Triton is installed, as it is with PyTorch
for CUDA. The PyTorch version there is the reference and the fallback. Importing this module needs Triton.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_QUERIES, _KEYS, _CHANNELS = 64, 64, 32  # one tile of similarities, and the slice of the channels that is in flight


@triton.jit
def _kernel(
    query,
    keys,
    index,
    queries,
    key_count,
    channels,
    TILE_QUERIES: tl.constexpr,
    TILE_KEYS: tl.constexpr,
    TILE_CHANNELS: tl.constexpr,
):
    """One program: TILE_QUERIES queries of one image against all its keys; everything is contiguous float32."""
    image = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * TILE_QUERIES + tl.arange(0, TILE_QUERIES)
    query += image * queries * channels
    keys += image * key_count * channels
    best = tl.full((TILE_QUERIES,), float("-inf"), tl.float32)
    chosen = tl.zeros((TILE_QUERIES,), tl.int64)
    for start in range(0, key_count, TILE_KEYS):
        columns = start + tl.arange(0, TILE_KEYS)
        similarity = tl.zeros((TILE_QUERIES, TILE_KEYS), tl.float32)
        for first in range(0, channels, TILE_CHANNELS):
            c = first + tl.arange(0, TILE_CHANNELS)
            q = tl.load(
                query + rows[:, None].to(tl.int64) * channels + c[None, :],
                mask=(rows[:, None] < queries) & (c[None, :] < channels),
                other=0.0,
            )
            k = tl.load(
                keys + columns[None, :].to(tl.int64) * channels + c[:, None],
                mask=(columns[None, :] < key_count) & (c[:, None] < channels),
                other=0.0,
            )
            similarity = tl.dot(q, k, similarity, input_precision="ieee")  # TF32 would flip near ties
        similarity = tl.where(columns[None, :] < key_count, similarity, float("-inf"))
        highest, place = tl.max(similarity, axis=1, return_indices=True)  # the lowest index on ties
        better = highest > best
        best = tl.where(better, highest, best)
        chosen = tl.where(better, start + place, chosen)
    tl.store(index + image * queries + rows, chosen, mask=rows < queries)


def most_similar_fused(query: Tensor, keys: Tensor) -> Tensor:
    """Index of the key with the largest scalar product with each query, the lowest on ties.

    Shape:
        query: (B, N, C); keys: (B, K, C), both float32; returns (B, N), int64
    """
    b, n, c = query.shape
    index = torch.zeros(b, n, dtype=torch.long, device=query.device)
    grid = (triton.cdiv(n, _QUERIES), b)
    _kernel[grid](query.contiguous(), keys.contiguous(), index, n, keys.shape[1], c, _QUERIES, _KEYS, _CHANNELS)
    return index
