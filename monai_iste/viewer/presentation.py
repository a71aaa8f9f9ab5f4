"""IIIF Presentation 3.0 manifest of all slides, with which Mirador and similar programs open a folder.

Every slide is a canvas of its own size. On it lies a choice of three images: the slide itself, which is shown first,
and its two virtual images, eight times as large, which are super-resolved or interpolated. Labels say which is which.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from monai_iste.viewer.catalog import CatalogImage

CONTEXT = "http://iiif.io/api/presentation/3/context.json"

_THUMBNAIL = 320  # longest side in pixels
_CHOICES = (
    ("", "The slide's own pixels"),
    ("-sr", "Super-resolved: inferred, not for diagnosis"),
    ("-bicubic", "Bicubic interpolation"),
)
_NOTICE = "Not for diagnosis. Super-resolved pixels are inferred by a network, not measured."


def manifest(base: str, images: Iterable[CatalogImage], factor: int) -> dict[str, Any]:
    """Return the manifest.

    Args:
        base: address of the server, without a slash at the end.
        images: the slides, in the order of the canvases.
        factor: width of a virtual image divided by that of its slide.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> file = Path(tempfile.mkdtemp()) / "Tissue A.png"
        >>> Image.new("RGB", (60, 40)).save(file)
        >>> (canvas,) = manifest("http://localhost", [CatalogImage("tissue-a", file)], 8)["items"]
        >>> canvas["label"], canvas["width"], canvas["height"]
        ({'none': ['Tissue A.png']}, 60, 40)
    """
    return {
        "@context": CONTEXT,
        "id": f"{base}/manifest.json",
        "type": "Manifest",
        "label": {"en": ["Slides"]},
        "requiredStatement": {"label": {"en": ["Notice"]}, "value": {"en": [_NOTICE]}},
        "behavior": ["individuals"],
        "items": [_canvas(base, image, factor) for image in images],
    }


def _canvas(base: str, image: CatalogImage, factor: int) -> dict[str, Any]:
    height, width = image.size
    uri = f"{base}/iiif/{image.id}"
    painting = {
        "id": f"{uri}/canvas/annotation",
        "type": "Annotation",
        "motivation": "painting",
        "target": f"{uri}/canvas",
        "body": {
            "type": "Choice",
            "items": [
                _image(uri + suffix, label, width * (factor if suffix else 1), height * (factor if suffix else 1))
                for suffix, label in _CHOICES
            ],
        },
    }
    ratio = min(1.0, _THUMBNAIL / max(width, height))
    thumbnail = max(1, round(width * ratio)), max(1, round(height * ratio))
    return {
        "id": f"{uri}/canvas",
        "type": "Canvas",
        "label": {"none": [image.path.name]},
        "width": width,
        "height": height,
        "metadata": [_entry("Pixels", f"{width} x {height}"), _entry("Pixel size", _pixel_size(image))],
        "thumbnail": [
            {
                "id": f"{uri}/full/{thumbnail[0]},{thumbnail[1]}/0/default.jpg",
                "type": "Image",
                "format": "image/jpeg",
                "width": thumbnail[0],
                "height": thumbnail[1],
                "service": [_service(uri)],
            }
        ],
        "items": [{"id": f"{uri}/canvas/page", "type": "AnnotationPage", "items": [painting]}],
    }


def _image(uri: str, label: str, width: int, height: int) -> dict[str, Any]:
    return {
        "id": f"{uri}/full/max/0/default.jpg",
        "type": "Image",
        "format": "image/jpeg",
        "label": {"en": [label]},
        "width": width,
        "height": height,
        "service": [_service(uri)],
    }


def _service(uri: str) -> dict[str, str]:
    return {"id": uri, "type": "ImageService3", "profile": "level2"}


def _entry(label: str, value: str) -> dict[str, Any]:
    return {"label": {"en": [label]}, "value": {"none": [value]}}


def _pixel_size(image: CatalogImage) -> str:
    return "unknown" if image.mpp is None else f"{image.mpp[1]:.4g} x {image.mpp[0]:.4g} µm"
