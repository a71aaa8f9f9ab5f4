import numpy as np
import pytest
import reference
import torch
import torch.nn.functional as F
from reference import SIZES, LargestTensor, assert_all_learn, assert_close, assert_teaches, random, randomise, weights

from monai_iste.errors import ShapeError
from monai_iste.networks import tuning
from monai_iste.networks.self_texture_fusion import SelfTextureFusion, most_similar


@pytest.mark.parametrize("count", [1, 7, 40])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("size", SIZES)
def test_equals_the_equations(size, batch, count):
    module = randomise(SelfTextureFusion(5))
    query, keys = random(batch, 5, *size, seed=1), random(batch, count, 5, seed=2)
    # Long keys must not win because they are long.
    keys = keys * torch.linspace(0.1, 10, count).view(1, -1, 1)
    state = weights(module)
    actual = module(query, keys)
    assert actual.shape == query.shape
    for b in range(batch):
        assert_close(actual[b], reference.stf(state, query[b].double().numpy(), list(keys[b].double().numpy())))


@pytest.mark.parametrize("seed", range(3))
def test_confidence_is_the_maximum_of_the_full_similarity(seed):
    # An MLP that always returns 1 leaves the confidence: fused = query + 1 * S.
    module = SelfTextureFusion(6)
    with torch.no_grad():
        module.mlp[-1].weight.zero_()
        module.mlp[-1].bias.fill_(1.0)
        query, keys = random(2, 6, 5, 4, seed=seed) * 3, random(2, 33, 6, seed=seed + 10) * 0.2
        confidence = module(query, keys) - query
    rows = query.flatten(2).mT
    full = F.cosine_similarity(rows.unsqueeze(2), keys.unsqueeze(1), dim=-1)
    expected = full.amax(-1).view(2, 1, 5, 4).expand(2, 6, 5, 4)
    assert_close(confidence, expected.numpy())
    assert torch.equal(most_similar(rows, keys), full.argmax(-1))


def test_by_hand():
    # Query (3, 4); keys (10, 0), (1, 1), (-3, -4): cosines 0.6, 7 / (5 sqrt 2) = 0.99, -1. The second wins, although
    # its product with the query, 7, is less than the first one's 30. The MLP hands on what was retrieved.
    module = SelfTextureFusion(2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        module.mlp[0].weight[:, 2:] = torch.eye(2)
        module.mlp[2].weight.copy_(torch.eye(2))
    query = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    keys = torch.tensor([[[10.0, 0.0], [1.0, 1.0], [-3.0, -4.0]]])
    cosine = 7 / (5 * 2**0.5)
    assert_close(module(query, keys).flatten(), [3 + cosine, 4 + cosine])


@pytest.mark.parametrize("low_rank", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_retrieved_keys_and_confidence(size, low_rank):
    matrix, source, keys = random(5, 4), random(2, 3, *size, seed=1), random(2, 30, 5, seed=2)
    query = torch.einsum("cs,bshw->bchw", matrix[:, :3], source) + matrix[:, 3:, None]
    given = (source, matrix) if low_rank else ()
    index, retrieved, confidence = SelfTextureFusion(5).retrieve(query, keys, *given)
    for b in range(2):
        rows = list(query[b].flatten(1).T.double().numpy())
        similarity = reference.similarity(rows, list(keys[b].double().numpy()))
        assert index[b].tolist() == similarity.argmax(1).tolist()
        assert_close(confidence[b], similarity.max(1))
        assert torch.equal(retrieved[b], keys[b][index[b]])


@pytest.mark.parametrize("queries", [1, 3, 20, 64])
@pytest.mark.parametrize("chunk", [1, 3, 7, 16, 64])
def test_chunks_change_nothing(chunk, queries, monkeypatch):
    query, keys = random(2, 20, 8, seed=1), random(2, 50, 8, seed=2)
    whole = most_similar(query, keys)
    monkeypatch.setattr(tuning, "KEY_CHUNK", chunk)
    monkeypatch.setattr(tuning, "QUERY_CHUNK", queries)
    assert torch.equal(most_similar(query, keys), whole)
    for b in range(2):
        expected = reference.similarity(list(query[b].double().numpy()), list(keys[b].double().numpy())).argmax(1)
        assert whole[b].tolist() == expected.tolist()


@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 5, 2048])
def test_the_lowest_index_wins_ties(chunk, monkeypatch):
    monkeypatch.setattr(tuning, "KEY_CHUNK", chunk)
    axes = torch.eye(4)
    keys = axes[[1, 0, 2, 2, 0, 1, 2, 0, 1, 0]].unsqueeze(0)  # the first of axis 0 is at 1, of axis 2 at 2
    assert most_similar(axes[[0, 1, 2]].unsqueeze(0), keys).tolist() == [[1, 0, 2]]
    assert most_similar(axes[[3]].unsqueeze(0), keys).tolist() == [[0]]  # at right angles to all of them
    assert most_similar(torch.zeros(1, 2, 4), keys).tolist() == [[0, 0]]
    assert most_similar(torch.ones(1, 1, 4), torch.ones(1, 9, 4)).tolist() == [[0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_retrieval_is_float32_under_autocast(dtype):
    # The two keys differ by an angle of 0.001, which half precision cannot see: it would call it a tie.
    query = torch.tensor([[[1.0, 0.0]]], dtype=dtype)
    keys = torch.tensor([[[1.0, 0.03], [1.0, 0.029]]])
    with torch.autocast("cpu", torch.bfloat16):
        assert most_similar(query, keys).tolist() == [[1]]


@pytest.mark.parametrize(("queries", "keys_at_once"), [(2048, 16), (16, 2048), (16, 16)])
def test_no_matrix_of_all_queries_by_all_keys(queries, keys_at_once, monkeypatch):
    monkeypatch.setattr(tuning, "KEY_CHUNK", keys_at_once)
    monkeypatch.setattr(tuning, "QUERY_CHUNK", queries)
    module = SelfTextureFusion(4)
    query, keys = random(1, 4, 16, 16), random(1, 4096, 4)  # the full similarity: 256 * 4096 = 1,048,576
    with torch.no_grad(), LargestTensor() as largest:
        module(query, keys)
    assert 4096 * 4 <= largest.elements <= max(4096 * 4, min(queries, 256) * keys_at_once)


def test_gradients_are_those_of_the_equations():
    # Through A and through S; the choice itself has none.
    module = randomise(SelfTextureFusion(3)).double()
    query, keys = random(1, 3, 2, 2).double().requires_grad_(), random(1, 5, 3, seed=1).double().requires_grad_()
    assert torch.autograd.gradcheck(module, (query, keys))


def test_gradients_reach_every_parameter_the_queries_and_the_retrieved_keys():
    module = randomise(SelfTextureFusion(4))
    query, keys = random(1, 4, 3, 3).requires_grad_(), random(1, 20, 4, seed=1).requires_grad_()
    module(query, keys).square().sum().backward()
    assert_all_learn(module)
    assert (query.grad.abs().sum(1) > 0).all()
    retrieved = np.unique(most_similar(query.detach().flatten(2).mT, keys.detach()).numpy())
    assert np.flatnonzero(keys.grad[0].abs().sum(1).numpy()).tolist() == retrieved.tolist()


def test_zero_features_are_finite():
    module = randomise(SelfTextureFusion(4))
    query, keys = torch.zeros(1, 4, 2, 2, requires_grad=True), torch.zeros(1, 3, 4, requires_grad=True)
    result = module(query, keys)
    result.sum().backward()
    assert result.isfinite().all()
    assert query.grad.isfinite().all()
    assert keys.grad.isfinite().all()


@pytest.mark.parametrize("shape", [(7, 8), (2, 7, 9), (1, 7, 8), (2, 8, 7, 1)])
def test_refuses_keys(shape):
    with pytest.raises(ShapeError) as caught:
        SelfTextureFusion(8)(torch.zeros(2, 8, 3, 3), torch.zeros(shape))
    assert_teaches(caught.value, "(2, K, 8)", str(shape))
