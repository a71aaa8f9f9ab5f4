"""Slides: the same stored bytes for every number of threads, and in every process of a cluster."""

import numpy as np
import pytest
from slide_windows import finished
from thread_counts import COUNTS, torch_threads

from monai_iste.inferers import Region
from monai_iste.slides.cluster import cluster_client, compute_windows_on
from monai_iste.slides.plan import plan_slide
from monai_iste.slides.tissue import TissueMask
from monai_iste.slides.window_store import WindowStore

pytest.importorskip("zarr")


@pytest.mark.parametrize("with_mask", [False, True])
def test_stored_pixels_are_identical(slide, network, tmp_path, with_mask):
    samples = np.zeros((1, 5), np.uint8)
    samples[0, :2] = 255
    mask = TissueMask(samples, slide.size) if with_mask else None
    plan, assembled = plan_slide(slide, network, scale=2.3), {}
    for count in COUNTS:
        with torch_threads(count):
            store = finished(plan, tmp_path / str(count), slide, network, mask=mask)
        assert sorted(store.done) == sorted(window.key for window in plan.windows)
        assembled[count] = store.assemble(Region(0, 0, *plan.output))
    for count in COUNTS:
        np.testing.assert_array_equal(assembled[count], assembled[1], f"{count} threads")


def test_processes_with_several_threads_compute_the_same(slide, network, tmp_path):
    pytest.importorskip("distributed")
    plan = plan_slide(slide, network, scale=2.3)
    expected = finished(plan, tmp_path / "here", slide, network).assemble(Region(0, 0, *plan.output))
    store = WindowStore(tmp_path / "there", plan, slide.source)
    store.begin()
    with cluster_client(workers=1, threads=3) as client:
        compute_windows_on(client, "cpu", store, plan.windows, slide, network, None, lambda window: None)
    np.testing.assert_array_equal(store.assemble(Region(0, 0, *plan.output)), expected)
