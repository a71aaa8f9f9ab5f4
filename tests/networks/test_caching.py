"""The cache keeps what was used last, within its limit."""

from monai_iste.networks.caching import ByteCache


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
