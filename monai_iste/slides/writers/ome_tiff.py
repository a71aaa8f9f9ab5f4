"""Writer of OME-TIFF pyramids whose levels every reader finds.

OME-TIFF keeps the lower levels in SubIFDs, where Bio-Formats (QuPath) and tifffile look for them; OpenSlide (and with
it MONAI) looks for them in the chain of main directories. Both are written: the directories of the SubIFDs are repeated
at the end of the file and chained to the first one. They are some hundred bytes each, and point to the same tiles.
"""

from __future__ import annotations

import math
import re
import struct
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import tifffile

from monai_iste.slides.writers.pyramid import TILE, Pyramid, Size, SlideMetadata, Tile

_OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_JPEG_QUALITY = 90

# What DICOM calls YBR_FULL_422. Full color resolution would be better still, but Bio-Formats 7.3 converts it to RGB
# once too often (green and yellow tissue turns violet), and OpenSlide refuses it in DICOM.
_JPEG_SUBSAMPLING = (2, 1)

Encoder = Callable[[Tile, np.ndarray], bytes]


def write_ome_tiff(file: BinaryIO, pyramid: Pyramid, metadata: SlideMetadata, compression: str) -> None:
    """Write all levels in tiles: JPEG of quality 90 with half the color resolution along x, or lossless deflate.

    Args:
        file: a new file on the disk, open for writing.
        compression: "jpeg" or "lossless".
    """
    encode, tags = _CODECS[compression]
    with tifffile.TiffWriter(file, bigtiff=_may_pass_4_gb(pyramid.sizes), byteorder="<", ome=False) as tiff:
        for level, size in enumerate(pyramid.sizes):
            tiff.write(
                pyramid.tiles(level, encode),
                shape=(*size, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                iccprofile=metadata.icc,
                metadata=None,
                **tags,
                **_resolution(metadata, 2**level),
                **(_first(pyramid.sizes, metadata) if level == 0 else {"subfiletype": 1, "software": False}),
            )
    _chain_levels(file)


def _may_pass_4_gb(sizes: list[Size]) -> bool:
    """Decide on BigTIFF, with a margin for incompressible tiles and for directories."""
    tiles = sum(math.prod(-(-n // TILE) for n in size) for size in sizes)
    return 3.3 * TILE**2 * tiles > 2**32


def _first(sizes: list[Size], metadata: SlideMetadata) -> dict[str, Any]:
    return {
        "subifds": len(sizes) - 1,
        "description": ome_xml(sizes[0], metadata),
        "software": _xml_text(metadata.provenance.get("software", "monai_iste")).encode("ascii", "replace").decode(),
    }


def _resolution(metadata: SlideMetadata, factor: int) -> dict[str, Any]:
    if metadata.mpp is None:
        return {}
    y, x = metadata.mpp
    return {"resolution": (1e4 / (x * factor), 1e4 / (y * factor)), "resolutionunit": "CENTIMETER"}


# --- tiles ------------------------------------------------------------------------------------------------------------


def _padded(pixels: np.ndarray) -> np.ndarray:
    """Pad a tile to full size by repeating its edge; a black margin would be visible in JPEG."""
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, TILE - height), (0, TILE - width), (0, 0)), mode="edge")


def _jpeg(tile: Tile, pixels: np.ndarray) -> bytes:
    import imagecodecs

    stream = imagecodecs.jpeg8_encode(
        _padded(pixels), level=_JPEG_QUALITY, colorspace="RGB", outcolorspace="YCBCR", subsampling=_JPEG_SUBSAMPLING
    )
    return bytes(stream)


def _deflate(tile: Tile, pixels: np.ndarray) -> bytes:
    import imagecodecs

    differences = imagecodecs.delta_encode(_padded(pixels), axis=1)
    return bytes(imagecodecs.deflate_encode(differences.tobytes(), level=6, raw=False))


_CODECS: dict[str, tuple[Encoder, dict[str, Any]]] = {
    "jpeg": (_jpeg, {"compression": "jpeg", "photometric": "ycbcr", "subsampling": _JPEG_SUBSAMPLING}),
    "lossless": (_deflate, {"compression": "adobe_deflate", "photometric": "rgb", "predictor": 2}),
}

# --- description ------------------------------------------------------------------------------------------------------


def ome_xml(size: Size, metadata: SlideMetadata) -> bytes:
    """Build the OME-XML of one RGB image of (H, W), with its pixel size, if known, and its provenance.

    Example:
        >>> xml = ome_xml((20, 30), SlideMetadata((0.25, 0.25), None, {"scale": "2.5"})).decode()
        >>> 'SizeX="30"' in xml, 'PhysicalSizeX="0.25"' in xml, '<M K="scale">2.5</M>' in xml
        (True, True, True)
    """
    root = ET.Element("OME", {"xmlns": _OME, "Creator": "monai_iste"})
    image = ET.SubElement(root, "Image", {"ID": "Image:0"})
    sizes = {"SizeX": size[1], "SizeY": size[0], "SizeC": 3, "SizeZ": 1, "SizeT": 1}
    attributes = {"ID": "Pixels:0", "DimensionOrder": "XYCZT", "Type": "uint8", "Interleaved": "true"}
    attributes |= {key: str(value) for key, value in sizes.items()}
    if metadata.mpp is not None:
        for axis, value in zip("YX", metadata.mpp, strict=True):
            attributes |= {f"PhysicalSize{axis}": f"{value:.9g}", f"PhysicalSize{axis}Unit": "\N{MICRO SIGN}m"}
    pixels = ET.SubElement(image, "Pixels", attributes)
    ET.SubElement(pixels, "Channel", {"ID": "Channel:0:0", "SamplesPerPixel": "3"})
    ET.SubElement(pixels, "TiffData", {"IFD": "0", "PlaneCount": "1"})
    if metadata.provenance:
        ET.SubElement(image, "AnnotationRef", {"ID": "Annotation:0"})
        notes = ET.SubElement(root, "StructuredAnnotations")
        note = ET.SubElement(notes, "MapAnnotation", {"ID": "Annotation:0", "Namespace": "monai_iste/provenance"})
        values = ET.SubElement(note, "Value")
        for key, text in metadata.provenance.items():
            ET.SubElement(values, "M", {"K": _xml_text(key)}).text = _xml_text(text)
    return b'<?xml version="1.0" encoding="UTF-8"?>' + ET.tostring(root, encoding="utf-8", xml_declaration=False)


def _xml_text(text: str) -> str:
    """Replace control characters, which XML and TIFF's text do not allow."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)


# --- chain of directories ---------------------------------------------------------------------------------------------


def _chain_levels(file: BinaryIO) -> None:
    """Repeat the directories of the SubIFDs at the end of the file, chained to the first directory."""
    file.flush()
    with open(file.name, "rb") as source:  # the file itself may be open for writing only
        with tifffile.TiffFile(source) as tiff:
            first, levels, big = tiff.pages.first.offset, tiff.pages.first.subifds or (), tiff.is_bigtiff
        count_format, entry, offset_format = ("<Q", 20, "<Q") if big else ("<H", 12, "<I")

        def entries(directory: int) -> bytes:
            """Read a directory without the pointer to the next one."""
            source.seek(directory)
            count = source.read(struct.calcsize(count_format))
            return count + source.read(entry * struct.unpack(count_format, count)[0])

        pointer = first + len(entries(first))
        for level in levels:
            record = entries(level)
            end = file.seek(0, 2)
            end += file.write(bytes(-end % 8))  # directories begin on even bytes
            file.write(record + bytes(struct.calcsize(offset_format)))
            file.seek(pointer)
            file.write(struct.pack(offset_format, end))
            pointer = end + len(record)
