"""Deprecated calls of this library are found for every stacklevel; those of other libraries are not."""

import warnings

import pytest
from deprecations import ours

LIBRARY = "import warnings\ndef old():\n    warnings.warn('old', DeprecationWarning, stacklevel={})\n"


def module(name: str, code: str, **names) -> dict:
    """The names of a module that is made of code."""
    scope = {"__name__": name, **names}
    exec(compile(code, f"{name}.py", "exec"), scope)
    return scope


@pytest.fixture
def found(monkeypatch):
    places = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", lambda *arguments: places.append(ours()))
        yield places


@pytest.mark.parametrize("stacklevel", [1, 2, 3])
def test_a_call_of_the_library_is_found(found, stacklevel):
    library = module("zarr.api", LIBRARY.format(stacklevel))
    module("monai_iste.pretended", "\nold()", old=library["old"])
    assert found == ["monai_iste.pretended.py:2"]


def test_a_warning_of_the_library_is_found(found):
    module("monai_iste.pretended", LIBRARY.format(1))["old"]()
    assert found == ["monai_iste.pretended.py:3"]


def test_a_call_between_libraries_is_theirs(found):
    library = module("torch.api", LIBRARY.format(2))
    monai = module("monai.api", "def new():\n    old()", old=library["old"])
    module("monai_iste.pretended", "new()", new=monai["new"])
    module("a_test", "old()", old=library["old"])
    assert found == [None, None]
