"""Contents of files that an editor or a full disk damaged, and the check of what is said about them."""

import pytest
from reference import assert_teaches

from monai_iste.errors import DataError

# As an editor or a full disk leaves them.
CONTENTS = {
    "empty": "",
    "truncated": '{"a": [1, 2',
    "zeros": "\0" * 64,
    "a list": "[]",
    "a number": "3",
    "null": "null",
}
damaged = pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())


def refused(run, *words, error=DataError):
    with pytest.raises(error) as caught:
        run()
    assert_teaches(caught.value, *words)
    assert "restore" in str(caught.value).lower()
