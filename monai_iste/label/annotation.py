"""Annotation that tells viewers which show annotations only where an upscaled image was written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from monai_iste.inferers import Region

_COLOR = "#ffb000"  # amber, as the viewer's mark of inferred pixels


def result_annotation(image: Path, region: Region, record: Mapping[str, Any]) -> Path:
    """Write an ASAP annotation of a region to a new temporary file.

    QuPath's extension reads the elements ``Annotation``: ``Name`` becomes the class, the ``Coordinate`` elements the
    corners.

    Args:
        image: the upscaled image, which the name of the annotation states.
        region: what was upscaled, in pixels of level 0.
        record: record of the result; its scale is part of the name.
    Returns:
        the file, which the caller removes.

    Example:
        >>> file = result_annotation(Path("/results/a.png"), Region(10, 20, 30, 40), {"scale": [2.0, 2.0]})
        >>> next(ElementTree.parse(file).iter("Annotation")).get("Name")
        '/results/a.png (x2, inferred, not measured)'
        >>> file.unlink()
    """
    top, left, height, width = region
    root = ElementTree.Element("ASAP_Annotations")
    name = f"{image} (x{max(record['scale']):.4g}, inferred, not measured)"
    group = ElementTree.SubElement(root, "Annotations", Name="monai_iste")
    annotation = ElementTree.SubElement(group, "Annotation", Name=name, Type="Polygon", PartOfGroup=name, Color=_COLOR)
    coordinates = ElementTree.SubElement(annotation, "Coordinates")
    corners = ((left, top), (left + width, top), (left + width, top + height), (left, top + height))
    for order, (x, y) in enumerate(corners):
        ElementTree.SubElement(coordinates, "Coordinate", Order=str(order), X=str(x), Y=str(y))
    groups = ElementTree.SubElement(root, "AnnotationGroups")
    ElementTree.SubElement(groups, "Group", Name=name, PartOfGroup="None", Color=_COLOR)
    handle, file = tempfile.mkstemp(".xml", "annotation_")
    with os.fdopen(handle, "wb") as stream:
        ElementTree.ElementTree(root).write(stream, "utf-8", xml_declaration=True)
    return Path(file)
