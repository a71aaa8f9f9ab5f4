"""Views: the same bytes for every number of threads."""

import numpy as np
import pytest
from PIL import Image
from slide_files import picture
from thread_counts import COUNTS, torch_threads

from monai_iste.inferers import Region, Tiler
from monai_iste.networks import load_network
from monai_iste.viewer.catalog import CatalogImage
from monai_iste.viewer.rendering import Renderer


@pytest.mark.parametrize("method", ["sr", "bicubic"])
def test_views_are_identical(weights, tmp_path, method):
    file = tmp_path / "view.png"
    Image.fromarray(picture(90, 110)).save(file)
    image, network = CatalogImage("view", file), load_network("tiny", weights)
    views = {}
    for count in COUNTS:
        renderer = Renderer(lambda: network, tiler=Tiler(window=16, overlap=8, halo=12))  # with an empty cache
        with torch_threads(count):
            views[count] = renderer.upscale_region(image, (303, 371), Region(20, 31, 230, 300), method)
    for count in COUNTS:
        np.testing.assert_array_equal(views[count], views[1], f"{count} threads")


def test_the_pool_of_the_network_has_the_threads_that_were_asked_for(viewer):
    import torch

    from monai_iste.viewer.responses import ResponseBuilder

    for asked, expected in ((3, 3), (None, 2)):
        with torch_threads(2):
            built = ResponseBuilder(viewer.renderer, viewer.network_info, threads=asked)
            found = [
                pool.submit(lambda task: torch.get_num_threads()).future.result(10)
                for pool in (built.network_pool, built.slide_pool)
            ]
            built.close()
        assert found == [expected, 1]
