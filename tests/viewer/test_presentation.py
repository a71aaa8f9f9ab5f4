"""The manifest of all slides: its structure, its addresses, and iiif-prezi3's own check where it is installed."""

import pytest
from PIL import Image
from slide_files import picture
from viewer_requests import pixels

from monai_iste.viewer.catalog import Catalog
from monai_iste.viewer.presentation import manifest

BASE = "http://127.0.0.1:8765"


@pytest.fixture
def slides(tmp_path):
    """Three slides, one of them larger than a thumbnail."""
    for name, size in (("b.png", (40, 60)), ("a & b.png", (700, 350)), ("\u00e4.png", (30, 20))):
        Image.fromarray(picture(*size)).save(tmp_path / name)
    return Catalog([tmp_path], input_mpp=0.5)


def nodes(value):
    """Every object of a manifest."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nodes(part)


def test_every_slide_is_a_canvas_of_its_size(slides):
    found = manifest(BASE, slides, 8)
    assert [canvas["label"]["none"] for canvas in found["items"]] == [[image.path.name] for image in slides]
    for canvas, image in zip(found["items"], slides, strict=True):
        assert (canvas["height"], canvas["width"]) == image.size
        ((annotation,),) = [page["items"] for page in canvas["items"]]
        assert annotation["target"] == canvas["id"]
        own, inferred, bicubic = annotation["body"]["items"]
        assert (own["height"], own["width"]) == image.size
        for virtual in (inferred, bicubic):
            assert (virtual["height"], virtual["width"]) == tuple(8 * n for n in image.size)
        assert "inferred" in inferred["label"]["en"][0]
        assert "inferred" not in own["label"]["en"][0] + bicubic["label"]["en"][0]
        (thumbnail,) = canvas["thumbnail"]
        assert max(thumbnail["width"], thumbnail["height"]) <= 320


def test_ids_are_addresses_and_differ(slides):
    ids = [node["id"] for node in nodes(manifest(BASE, slides, 8)) if node.get("type") in ("Canvas", "AnnotationPage")]
    assert len(set(ids)) == len(ids) == 6
    assert all(id.startswith(BASE) and "#" not in id for id in ids)


def test_what_the_manifest_names_is_there(client):
    response = client.get("/manifest.json")
    assert response.headers["content-type"] == "application/json"
    as_ld = client.get("/manifest.json", headers={"accept": "application/ld+json"}).headers["content-type"]
    assert as_ld == 'application/ld+json;profile="http://iiif.io/api/presentation/3/context.json"'
    services = images = 0
    for node in nodes(response.json()):
        if node.get("type") == "ImageService3":
            services += 1
            assert client.get(f"{node['id']}/info.json").json()["id"] == node["id"]
        if node.get("type") == "Image":
            images += 1
            info = client.get(f"{node['service'][0]['id']}/info.json").json()
            shown = pixels(client.get(node["id"]))
            assert shown.shape[0] / shown.shape[1] == pytest.approx(node["height"] / node["width"], rel=0.02)
            if "label" in node:
                assert (info["width"], info["height"]) == (node["width"], node["height"])
    assert (services, images) == (4, 4)
    (canvas,) = response.json()["items"]
    assert {"label": {"en": ["Pixel size"]}, "value": {"none": ["0.5 x 0.5 \u00b5m"]}} in canvas["metadata"]
    assert "Not for diagnosis" in response.json()["requiredStatement"]["value"]["en"][0]


def test_prezi3_accepts_it(slides):
    prezi = pytest.importorskip("iiif_prezi3", reason="iiif-prezi3 is not installed")
    found = manifest(BASE, slides, 8)
    checked = prezi.Manifest(**found)
    assert [canvas.width for canvas in checked.items] == [canvas["width"] for canvas in found["items"]]
    with pytest.raises(ValueError, match="height"):
        prezi.Manifest(**{**found, "items": [{**found["items"][0], "height": "tall"}]})
