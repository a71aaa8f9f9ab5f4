"""Self-Texture Fusion (STF): every feature retrieves the most similar texture of the image and is fused with it.

Implements Sec. III-D, Eq. (4)-(5) of Duan et al., arXiv:2401.15613: stage 1, the enhancement in the feature domain.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_iste.errors import ShapeError
from monai_iste.networks import tuning
from monai_iste.networks.checks import shape_of
from monai_iste.networks.grid_sampling import gather
from monai_iste.networks.layers import Linear


def most_similar(query: Tensor, keys: Tensor, matrix: Optional[Tensor] = None) -> Tensor:
    """Index of the key with the highest cosine similarity to each query, the lowest index on ties (Eq. 4).

    The keys are normalized once; the norm of the query cannot change the order and is left out. Always float32: the
    argmax must not depend on the surrounding precision.

    With ``matrix`` the queries are ``matrix @ [query, 1]``, and the keys are multiplied by it instead: for the paper's
    widths a similarity then takes 65 products instead of 256.

    Shape:
        query: (B, N, C); keys: (B, K, C); returns (B, N), int64; with matrix (C, c + 1) query: (B, N, c)
    """
    with torch.no_grad():
        if torch.jit.is_scripting():  # a program of its own, to be run without autocast
            return _most_similar(query.float(), F.normalize(keys.float(), dim=-1))
        return _most_similar_eager(query, keys, matrix)


@torch.jit.unused
def _most_similar_eager(query: Tensor, keys: Tensor, matrix: Optional[Tensor]) -> Tensor:
    """:func:`most_similar` outside TorchScript: without autocast, on a GPU in one kernel."""
    with torch.autocast(query.device.type, enabled=False):
        query, keys = query.float(), keys.float()
        if matrix is None:
            keys = F.normalize(keys, dim=-1)
        else:
            norm = torch.linalg.vector_norm(keys, dim=-1, keepdim=True).clamp_min(1e-12)
            query, keys = F.pad(query, (0, 1), value=1.0), keys @ matrix.float() / norm
        if query.is_cuda and tuning.FAST_PATHS and find_spec("triton") is not None:
            from monai_iste.networks.retrieval_triton import most_similar_fused

            return most_similar_fused(query, keys)
        return _most_similar(query, keys)


@torch.jit.script_if_tracing  # the number of blocks is the image's, not the traced example's
def _most_similar(query: Tensor, keys: Tensor) -> Tensor:
    return torch.cat([_best(part, keys) for part in query.split(tuning.QUERY_CHUNK, dim=1)], dim=1)


def _best(query: Tensor, keys: Tensor) -> Tensor:
    best = torch.full(query.shape[:2], -torch.inf, device=query.device)
    index = torch.zeros(query.shape[:2], dtype=torch.long, device=query.device)
    for start in range(0, keys.shape[1], tuning.KEY_CHUNK):
        similarity, candidate = (query @ keys[:, start : start + tuning.KEY_CHUNK].transpose(1, 2)).max(-1)
        better = similarity > best
        best = torch.where(better, similarity, best)
        index = torch.where(better, candidate + start, index)
    return index


class SelfTextureFusion(nn.Module):
    """``fused = query + MLP(concat(query, A)) * S``: hard retrieval A, soft confidence S.

    A is the key most similar to the query, S their cosine similarity; gradients reach query and keys through both.
    One query per low-resolution pixel and one key set per image, so the result is a low-resolution map and no matrix
    of output pixels by output pixels is ever formed.

    Differs from the paper: queries are low-resolution pixels instead of output pixels, which gives the same values
    wherever the query feature is the same (the nearest pixel's). Not specified in the paper; our choice: one hidden
    layer in the MLP.

    Args:
        query_channels: width of queries, keys and the result; the cosine needs one width.
    Shape:
        query: (B, C, h, w); keys: (B, K, C); returns (B, C, h, w);
        if query is ``matrix @ [source, 1]``, source: (B, c, h, w) and matrix: (C, c + 1) make the retrieval faster
    Raises:
        ShapeError: queries and keys differ in width or batch.

    Example:
        >>> SelfTextureFusion(16)(torch.zeros(1, 16, 5, 7), torch.zeros(1, 12, 16)).shape
        torch.Size([1, 16, 5, 7])
    """

    def __init__(self, query_channels: int = 256) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            Linear(2 * query_channels, query_channels), nn.ReLU(), Linear(query_channels, query_channels)
        )

    def forward(
        self, query: Tensor, keys: Tensor, source: Optional[Tensor] = None, matrix: Optional[Tensor] = None
    ) -> Tensor:
        b, c, h, w = query.shape
        _, retrieved, confidence = self.retrieve(query, keys, source, matrix)
        rows = query.permute(0, 2, 3, 1).reshape(b, h * w, c)  # of three axes, for which torch fuses linear layers
        fused = rows + self.mlp(torch.cat([rows, retrieved], dim=-1)) * confidence.unsqueeze(-1)
        return fused.view(b, h, w, c).permute(0, 3, 1, 2)

    def retrieve(
        self, query: Tensor, keys: Tensor, source: Optional[Tensor] = None, matrix: Optional[Tensor] = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Retrieve a key for every query: its index, the key (A), and their cosine similarity (S); Eq. (4).

        Shape:
            as above; returns (B, h * w), int64, (B, h * w, C) and (B, h * w)
        """
        b, c, h, w = query.shape
        if keys.ndim != 3 or keys.shape[0] != b or keys.shape[2] != c:
            raise ShapeError(f"keys of shape ({b}, K, {c})", shape_of(keys), "Queries and keys have the same width.")
        rows = query.permute(0, 2, 3, 1).reshape(b, h * w, c)
        if source is not None and matrix is not None:
            index = most_similar(source.permute(0, 2, 3, 1).reshape(b, h * w, matrix.shape[1] - 1), keys, matrix)
        else:
            index = most_similar(rows, keys)
        retrieved = gather(keys.transpose(1, 2).unsqueeze(2), index.unsqueeze(2)).squeeze(2)
        return index, retrieved, F.cosine_similarity(rows, retrieved, dim=-1)
