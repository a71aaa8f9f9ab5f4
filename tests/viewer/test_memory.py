"""Memory of the viewer: one cache with one limit, whose size is reported as it is."""

import numpy as np
import pytest
from PIL import Image
from slide_files import picture, tiff

from monai_iste.inferers import Region
from monai_iste.viewer import rendering
from monai_iste.viewer.catalog import Catalog
from monai_iste.viewer.rendering import Renderer, network_loader
from monai_iste.viewer.server import Viewer
from monai_iste.viewer.viewport import Viewport

SIZE = (120, 140)


@pytest.fixture
def pictures(tmp_path):
    """Six images, decoded as a whole or tile by tile."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number, suffix in enumerate(("png", "jpg", "bmp", "tif", "webp", "tiff")):
        pixels, file = np.roll(picture(*SIZE), number, 0), folder / f"{number}.{suffix}"
        tiff(file, pixels) if suffix.startswith("tif") else Image.fromarray(pixels).save(file)
    return folder


def serve(weights, folder, cache_bytes):
    about = {"preset": "tiny", "weights": "sha256 0", "precision": "fp32", "device": "cpu"}
    renderer = Renderer(network_loader("tiny", weights, "cpu", "fp32"), cache_bytes)
    return Viewer(Catalog([folder]), renderer, about)


def test_decoded_images_features_and_pixels_share_one_limit(weights, pictures):
    one, limit = 3 * SIZE[0] * SIZE[1], 2_000_000
    viewer, most = serve(weights, pictures, limit), 0
    cache, seen = viewer.renderer.cache, []
    for image in viewer.catalog:
        seen.append(image.read(Region(0, 0, *SIZE)))
        for method in ("sr", "bicubic"):
            viewer.renderer.render(image, Viewport((240, 280), 0, 0, 100, 100), method)
        most = max(most, cache.nbytes)
        assert cache.nbytes <= limit
    assert most > 4 * one  # it is used
    for image, pixels in zip(viewer.catalog, seen, strict=True):  # decoded again where it was dropped
        np.testing.assert_array_equal(image.read(Region(0, 0, *SIZE)), pixels)
    viewer.close()


def test_the_reported_size_counts_what_is_decoded(weights, pictures):
    viewer = serve(weights, pictures, 10**8)
    cache = viewer.renderer.cache
    assert cache.nbytes == 0
    for number, image in enumerate(viewer.catalog, 1):
        image.read(Region(5, 5, 9, 9))
        if image.path.suffix not in (".tif", ".tiff"):
            assert cache.nbytes >= 3 * SIZE[0] * SIZE[1]
        assert cache.nbytes <= 3 * 256 * 256 * number
    before = cache.nbytes
    assert before > 4 * 3 * SIZE[0] * SIZE[1]
    image = next(iter(viewer.catalog))
    viewer.renderer.render(image, Viewport((240, 280), 0, 0, 100, 100), "sr")
    features = 8 * 4 * SIZE[0] * SIZE[1]
    assert cache.nbytes >= before + 3 * 128 * 128 + features
    full = cache.nbytes
    viewer.close()
    assert cache.nbytes <= full - 4 * 3 * SIZE[0] * SIZE[1]  # closed images are dropped


def test_an_image_larger_than_the_limit_is_decoded_once_while_it_is_looked_at(weights, pictures, monkeypatch):
    monkeypatch.setattr(rendering, "_BLOCK", 16)
    viewer = serve(weights, pictures, 30_000)  # less than any of the images
    images = [image for image in viewer.catalog if image.path.suffix in (".png", ".bmp")]
    decoded, load = [], Image.open
    monkeypatch.setattr(Image, "open", lambda path, *args, **kw: decoded.append(path) or load(path, *args, **kw))
    for image in images:
        for top in range(0, 100, 20):
            viewer.renderer.render(image, Viewport((240, 280), top, 0, 20, 200), "bicubic")
        assert viewer.renderer.cache.nbytes <= 30_000 + 3 * SIZE[0] * SIZE[1]
    assert len(decoded) == len(images)
    viewer.close()
