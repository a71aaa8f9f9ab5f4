"""Views that cannot be shown are refused."""

import pytest
from reference import assert_teaches

from monai_iste.errors import ScaleError, ShapeError
from monai_iste.viewer.viewport import snap_viewport


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ((0, 0, 0, 10, 5, 5), ShapeError),
        ((0, 0, float("nan"), 10, 5, 5), ShapeError),
        ((float("inf"), 0, 10, 10, 5, 5), ShapeError),
        ((0, 0, 10, 10, 0, 5), ShapeError),
        ((0, 0, 10, 10, 4097, 5), ShapeError),
        ((0, 0, 1e6, 1e6, 4000, 4000), ShapeError),
        ((0, 0, 10, 10, 161, 160), ScaleError),
        ((0, 0, 1e-30, 1e-30, 10, 10), ScaleError),
        ((1e300, 0, 10, 10, 5, 5), ShapeError),
    ],
)
def test_views_that_are_refused(arguments, kind):
    with pytest.raises(kind) as caught:
        snap_viewport((1000, 1000), *arguments)
    assert_teaches(caught.value)
