"""The fused retrieval, run by Triton's interpreter on the CPU, equals the PyTorch version."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton: pip install triton")

PROGRAM = """
import torch
from monai_iste.networks.retrieval_triton import most_similar_fused
from monai_iste.networks.self_texture_fusion import most_similar

generator = torch.Generator().manual_seed(0)
for b, n, k, c in ((2, 130, 70, 65), (1, 5, 300, 16), (1, 64, 64, 256), (1, 1, 1, 3)):
    # Small whole numbers: every sum is exact, in any order, and ties are ties. Half of the keys are there twice.
    query, keys = (torch.randint(-3, 4, (b, m, c), generator=generator).float() for m in (n, k))
    keys[:, k // 2 :] = keys[:, : k - k // 2]
    similarity = query.double() @ keys.double().mT
    lowest = (similarity == similarity.amax(-1, keepdim=True)).int().argmax(-1)
    assert torch.equal(most_similar_fused(query, keys), lowest), (b, n, k, c)

    query, keys = (torch.randn(b, m, c, generator=generator) for m in (n, k))
    keys = torch.nn.functional.normalize(keys, dim=-1)
    found, expected = most_similar_fused(query, keys), most_similar(query, keys)
    similarity = query.double() @ keys.double().mT
    loss = (similarity.gather(-1, expected[..., None]) - similarity.gather(-1, found[..., None])).abs()
    assert loss.max() < 1e-5, (b, n, k, c)  # equal, but for what is a tie to rounding
    assert (found == expected).float().mean() > 0.98, (b, n, k, c)
print("equal")
"""


def test_equals_the_reference():
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert done.stdout == "equal\n", done.stderr
