"""The cache keeps what was used last, within its limit."""

import pickle

import numpy as np

from monai_iste.io.byte_cache import ByteCache


def test_a_cache_removes_the_least_recently_used_item():
    cache = ByteCache(10, len)
    for key in "abc":
        cache.put(key, b"123")
    assert cache.get("a") == b"123"
    cache.put("d", b"123")
    assert [key for key in "abcd" if cache.get(key)] == ["a", "c", "d"]
    cache.put("a", b"1")
    assert cache.nbytes == 7
    cache.put("e", b"1" * 11)
    assert cache.get("e") is None
    assert cache.nbytes == 7


def test_one_large_value_is_kept_beside_the_others():
    cache = ByteCache(100, keep_large=True)
    first, second = np.zeros(300, np.uint8), np.zeros(60, np.uint8)
    cache.put("large", first)
    for number in range(50):
        cache.put(number, b"1" * 10)
    assert cache.get("large") is first
    assert [key for key in range(50) if cache.get(key)] == list(range(40, 50))
    assert cache.nbytes == 400
    cache.put("next", second)  # more than half
    assert cache.get("large") is None
    assert cache.get("next") is second
    assert cache.nbytes == 160
    cache.discard(lambda key: key in ("next", 40))
    assert cache.get("next") is cache.get(40) is None
    assert cache.nbytes == 90
    copy = pickle.loads(pickle.dumps(ByteCache(7, len, keep_large=True)))  # noqa: S301  # our own bytes
    assert (copy.limit, copy.size_of, copy.keep_large, copy.nbytes) == (7, len, True, 0)
