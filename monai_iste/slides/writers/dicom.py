"""Writer of DICOM whole-slide images: a folder with one instance per level, converted from OME-TIFF by wsidicomizer."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from monai_iste.errors import ConfigError, DataError, require_extra
from monai_iste.slides.writers.ome_tiff import write_ome_tiff
from monai_iste.slides.writers.pyramid import Pyramid, SlideMetadata


def check_dicom(metadata: SlideMetadata) -> None:
    """Check what DICOM needs: a pixel size, packages, and a library.

    Raises:
        DataError: the pixel size is unknown.
        ConfigError: a package, or the library that it needs, is missing.
    """
    if metadata.mpp is None:
        raise DataError("a known pixel size for DICOM", "a slide of unknown pixel size", "Give it by --input-mpp.")
    require_extra("wsidicomizer", "dicom")
    from opentile.jpeg.jpeg import find_turbojpeg_path

    try:
        find_turbojpeg_path()
    except OSError as error:
        raise ConfigError(
            "the library libturbojpeg, which no Python package brings",
            "none",
            "Install it (Debian: apt install libturbojpeg0), or set TURBOJPEG to its path.",
        ) from error


def write_dicom(
    folder: Path, pyramid: Pyramid, metadata: SlideMetadata, compression: str, work_dir: str | os.PathLike[str] | None
) -> None:
    """Write all levels as DICOM instances, by way of a temporary OME-TIFF.

    Args:
        folder: an existing, empty folder.
        compression: "jpeg", copied tile by tile, or "lossless", which is JPEG 2000 here.
        work_dir: an existing folder for the OME-TIFF.
    """
    with tempfile.TemporaryDirectory(prefix="pyramid-", dir=work_dir) as work:
        source = Path(work) / "slide.ome.tif"
        with open(source, "wb") as file:
            write_ome_tiff(file, pyramid, metadata, compression)
        convert(source, folder, metadata, compression)


def convert(source: Path, folder: Path, metadata: SlideMetadata, compression: str) -> None:
    """Convert an OME-TIFF to DICOM instances that are marked as derived.

    Patient, study and specimen stay empty or "Unknown"; the slide begins a study of its own. Without a color profile,
    which DICOM demands, wsidicomizer states sRGB.
    """
    from wsidicom.codec import Jpeg2kSettings
    from wsidicom.metadata import Equipment, Image, OpticalPath
    from wsidicom.metadata import Pyramid as Levels
    from wsidicomizer import WsiDicomizer
    from wsidicomizer.metadata import WsiDicomizerMetadata

    software = metadata.provenance.get("software", "monai_iste")
    stated = WsiDicomizerMetadata(
        equipment=Equipment("monai_iste", "super-resolution", "none", [_ascii(software)[:64]]),
        pyramid=Levels(Image(), [] if metadata.icc is None else [OpticalPath(icc_profile=metadata.icc)]),
    )
    with WsiDicomizer.open(
        source,
        metadata=stated,
        metadata_post_processor=lambda dataset, _: _describe(dataset, metadata),
        encoding=None if compression == "jpeg" else Jpeg2kSettings(levels=0),
    ) as slide:
        for level in slide.pyramids[0]:
            for instance in level.instances.values():
                _mark_derived(instance.dataset)
        slide.save(folder)


def _describe(dataset: Any, metadata: SlideMetadata) -> Any:
    text = "; ".join(f"{key}: {value}" for key, value in metadata.provenance.items())
    dataset.DerivationDescription = _ascii(text)[:1024]
    return dataset


def _ascii(text: str) -> str:
    """Convert text to ASCII, without the backslash, which separates values in DICOM."""
    return text.encode("ascii", "replace").decode().replace("\\", "/")


def _mark_derived(dataset: Any) -> None:
    """Mark level 0 as derived, which wsidicomizer takes for the scanner's own."""
    dataset.ImageType = ["DERIVED", *dataset.ImageType[1:]]
    frames = dataset.SharedFunctionalGroupsSequence[0].WholeSlideMicroscopyImageFrameTypeSequence[0]
    frames.FrameType = dataset.ImageType
