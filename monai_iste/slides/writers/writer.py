"""Writing of slides as OME-TIFF, OME-Zarr or DICOM; they appear only when complete."""

from __future__ import annotations

import os
from pathlib import Path

from monai_iste.errors import OutputError, ShapeError, check_choice, require_extra
from monai_iste.inferers.tiling import Read
from monai_iste.io.files import check_writable, open_output, open_output_folder, report_write_errors
from monai_iste.io.image_writer import SLIDE_SUFFIXES, slide_suffix
from monai_iste.io.seal import Fields
from monai_iste.slides.writers.dicom import check_dicom, write_dicom
from monai_iste.slides.writers.ome_tiff import write_ome_tiff
from monai_iste.slides.writers.ome_zarr import write_ome_zarr
from monai_iste.slides.writers.pyramid import Progress, Pyramid, Size, SlideMetadata

# Packages that a format needs besides imagecodecs, and their extras.
_PACKAGES = {".ome.zarr": (("zarr", "slides"),)}

#: "jpeg" is quality 90 with half the color resolution along x, which every reader decodes right.
COMPRESSIONS = ("jpeg", "lossless")


def write_slide(
    path: str | os.PathLike[str],
    read: Read,
    size: Size,
    metadata: SlideMetadata,
    work_dir: str | os.PathLike[str],
    *,
    compression: str = "jpeg",
    overwrite: bool = False,
    progress: Progress | None = None,
    seal: Fields | None = None,
) -> None:
    """Write a slide with all its levels, in memory that does not grow with the slide.

    The levels are those of :class:`~monai_iste.slides.writers.Pyramid`, each half of the one before, in tiles of
    512 x 512. Only the given metadata is written.

    Args:
        path: file or folder of the slide; its ending, one of :data:`~monai_iste.io.image_writer.SLIDE_SUFFIXES`,
            selects the format.
        read: reads a region of level 0, (height, width, 3) uint8. It is called once per tile, in row-major order, by
            several threads.
        size: (H, W) of level 0.
        work_dir: an existing folder for temporary files: up to ``H * W`` bytes, and for DICOM an OME-TIFF besides.
        compression: one of :data:`COMPRESSIONS`. OME-Zarr is always lossless.
        overwrite: whether an existing slide is replaced.
        progress: called with a number of pixels of level 0 when they have been written.
        seal: fields by which the slide is recognized later (:mod:`monai_iste.io.seal`).
    Raises:
        OutputError, ConfigError: see :func:`check_slide_output`, or writing failed; the path is as it was before.
        ShapeError: ``read`` returned another shape or type.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> folder = Path(tempfile.mkdtemp())
        >>> pixels = np.zeros((600, 700, 3), np.uint8)
        >>> write_slide(
        ...     folder / "a.ome.tif",
        ...     lambda region: pixels[region.slices],
        ...     (600, 700),
        ...     SlideMetadata(mpp=(0.25, 0.25), icc=None, provenance={"scale": "2.5"}),
        ...     work_dir=folder,
        ... )
        >>> from openslide import OpenSlide
        >>> OpenSlide(folder / "a.ome.tif").level_dimensions
        ((700, 600), (350, 300))
    """
    path = Path(path)
    check_choice("a compression", compression, COMPRESSIONS)
    check_slide_output(path, size, metadata, overwrite)
    levels = (read, size, work_dir, progress)
    name = path.name.lower()
    # The pyramid is the inner context: its threads have ended when the output is renamed or removed.
    with report_write_errors(path):
        if name.endswith(".ome.zarr"):
            with open_output_folder(path, overwrite, seal) as folder, Pyramid(*levels) as pyramid:
                write_ome_zarr(folder, pyramid, metadata)
        elif name.endswith(".dcm"):
            with open_output_folder(path, overwrite, seal) as folder, Pyramid(*levels) as pyramid:
                write_dicom(folder, pyramid, metadata, compression, work_dir)
        else:
            with open_output(path, overwrite, seal) as file, Pyramid(*levels) as pyramid:
                write_ome_tiff(file, pyramid, metadata, compression)


def check_slide_output(
    path: str | os.PathLike[str], size: Size, metadata: SlideMetadata, overwrite: bool = False
) -> None:
    """Check name, folder, packages and pixel size of an output before any work.

    Args:
        size: (H, W) of level 0.
    Raises:
        OutputError: the output cannot be written; the message names the obstacle.
        ConfigError: a package is missing.
        ShapeError: the size is empty.
        DataError: the pixel size is unknown, which DICOM needs.

    Example:
        >>> check_slide_output("slide.svs", (20, 30), SlideMetadata(None, None, {}))
        Traceback (most recent call last):
        ...
        monai_iste.errors.OutputError: Expected a slide that ends in .ome.tif, .ome.tiff, .ome.zarr, .dcm, got slide.svs. OME-TIFF is what most programs read.
    """  # noqa: E501
    path = Path(path)
    suffix = slide_suffix(path)
    if not suffix:
        raise OutputError(
            f"a slide that ends in {', '.join(SLIDE_SUFFIXES)}", str(path), "OME-TIFF is what most programs read."
        )
    if min(size) < 1:
        raise ShapeError("a slide (H, W) of at least 1 x 1 pixels", f"{size[0]} x {size[1]}", "Ask for a larger scale.")
    for package, extra in (("imagecodecs", "slides"), *_PACKAGES.get(suffix, ())):
        require_extra(package, extra)
    if suffix == ".dcm":
        check_dicom(metadata)
    if not os.path.isdir(path.parent):
        raise OutputError("an existing folder for the output", str(path.parent), "Make it first.")
    is_folder = suffix in (".ome.zarr", ".dcm")
    if os.path.lexists(path) and os.path.isdir(path) != is_folder:
        there, wanted = ("file", "folder") if is_folder else ("folder", "file")
        raise OutputError(f"the name of a {wanted} to write", f"the {there} {path}", "Choose another name.")
    if os.path.lexists(path) and not overwrite:
        raise OutputError("the name of a new slide", f"{path}, which exists", "Choose another, or add --overwrite.")
    check_writable(path, is_folder)
