"""Parameters of MONAI Label requests: checked, and converted to this library's conventions.

MONAI Label counts x before y: ``location`` and ``size`` are (x, y) and (width, height) in pixels of level 0.
:class:`InferRequest` and everything after it counts rows before columns.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from monai_iste.errors import (
    CheckpointError,
    ConfigError,
    ISTEError,
    OutputError,
    ShapeError,
    TrainingError,
    check_choice,
)
from monai_iste.inferers import Region
from monai_iste.inferers.output_size import OutputSize, Size, require_one
from monai_iste.io.image_writer import WRITABLE_SUFFIXES
from monai_iste.io.pixel_size import check_mpp
from monai_iste.networks.checks import check_input_blur
from monai_iste.networks.runtime import default_device
from monai_iste.viewer.catalog import UnknownImage

#: Scale of a request that states no size.
DEFAULT_SCALE = 2.0

#: File suffixes of results. OME-Zarr is missing, because a response is a single file.
SUFFIXES = (*WRITABLE_SUFFIXES, ".ome.tif", ".ome.tiff")

_KEYS = (
    *("scale", "mpp", "full_size", "input_mpp", "input_blur", "location", "size", "level", "result_extension"),
    "device",
)
_SERVER_KEYS = ("tile_size", "session", "session_id", "image", "label", "labels")
_MAX_COORDINATE = 10**9


class InferRequest(NamedTuple):
    """Parsed inference request, (y, x) throughout.

    Attributes:
        output_size: size of the whole upscaled image.
        input_mpp: micrometers per pixel of the image, if its file does not state them.
        region: region in image pixels; None means all of it.
        suffix: file suffix of the result.
        device: device of the network.
        input_blur: blur of the image in its pixels; None: unknown.
    """

    output_size: OutputSize
    input_mpp: float | None
    region: Region | None
    suffix: str
    device: str
    input_blur: float | None = None


def parse_request(params: Mapping[str, Any]) -> InferRequest:
    """Parse the parameters of a request; other keys of MONAI Label are ignored.

    Raises:
        ConfigError: a parameter is invalid or its name is misspelled (a suggestion is given).
        ScaleError: a pixel size is out of range.
        ShapeError: the region is empty.

    Example:
        >>> params = {"scale": 3.7, "location": [640, 480], "size": [200, 100], "result_extension": "tif"}
        >>> request = parse_request(params)
        >>> request.output_size.scale, request.region, request.suffix
        (3.7, Region(top=480, left=640, height=100, width=200), '.tif')
    """
    _check_names(params)
    scale, mpp, size = _number(params, "scale"), _mpp(params, "mpp"), _pair(params, "full_size")
    if scale is None and mpp is None and size is None:
        scale = DEFAULT_SCALE
    require_one({"scale": scale, "mpp": mpp, "full_size": size})
    if _number(params, "level"):
        raise ConfigError("level 0", f"level {params['level']!r}", "Only the full resolution is upscaled.")
    device = _first(params, "device") or default_device()
    return InferRequest(
        OutputSize(scale, None if size is None else (size[1], size[0]), mpp),
        _mpp(params, "input_mpp"),
        _region(params),
        _suffix(params),
        str(device),
        _blur(params),
    )


def check_batch(request: Mapping[str, Any]) -> None:
    """Check the settings of a batch that MONAI Label uses without a look at their type.

    Raises:
        ConfigError: one of them is of another type.
    """
    for key in ("max_workers", "max_batch_size"):
        value = request.get(key, 0)
        if type(value) is not int or not 0 <= value <= _MAX_COORDINATE:
            raise ConfigError(f"a whole number of at least 0 for {key}", repr(value)[:100], "0 is the default.")
    images = request.get("images", "all")
    if not isinstance(images, str) and not (isinstance(images, list) and all(isinstance(n, str) for n in images)):
        raise ConfigError("all, labeled, unlabeled or names of studies for images", repr(images)[:100], "Choose one.")
    check_device(request.get("device"))


def check_device(device: Any) -> Any:
    """Return the name of a device or a list of such names, or raise ConfigError."""
    names = device if isinstance(device, (list, tuple)) and device else [device or "cpu"]
    if not all(isinstance(name, str) for name in names):
        raise ConfigError("a device such as cpu or cuda:1", repr(device)[:100], "Leave it out for the default.")
    return device


def check_region(region: Region | None, size: Size, crop: bool = False) -> Region | None:
    """Return the region if it lies inside an image of ``size`` (h, w).

    Args:
        crop: crop the region to the image first.
    Raises:
        ShapeError: the region, after cropping, does not lie inside.

    Example:
        >>> check_region(Region(50, 0, 2048, 2048), (100, 120), crop=True)
        Region(top=50, left=0, height=50, width=120)
    """
    if region is None:
        return None
    top, left, height, width = region
    if crop:
        height, width = min(height, size[0] - top), min(width, size[1] - left)
    if min(top, left) < 0 or min(height, width) < 1 or top + height > size[0] or left + width > size[1]:
        raise ShapeError(
            f"a region inside the image, {size[1]} x {size[0]} pixels (width x height)",
            f"location [{left}, {top}], size [{region.width}, {region.height}]",
            "Ask for a part of it.",
        )
    return Region(top, left, height, width)


def find_image(image: Any, lookup: Callable[[str], str], uploads: Path | None = None) -> tuple[str | None, Path]:
    """Find the study or the uploaded file that a request names, and no other file.

    Args:
        image: name of a study, with or without the suffix of its file, or the path of an upload on the server.
        lookup: returns the file of a study, or an empty value if there is none.
        uploads: folder of the sessions.
    Returns:
        the name of the study (None for an upload) and the file.
    Raises:
        UnknownImage: the image is neither a study nor an upload.
    """
    name = str(image)
    for study in (name, re.sub(r"(\.ome)?\.[^.]+$", "", name)):
        if study and (file := lookup(study)):
            return study, Path(file)
    path = Path(name)
    uploaded = path.parent == Path(tempfile.gettempdir()) and re.match(r"tmp[a-z0-9_]{8}(\.|$)", path.name)
    in_session = uploads is not None and path.is_absolute() and path.resolve().is_relative_to(uploads.resolve())
    if (uploaded or in_session) and path.exists():
        return None, path
    raise unknown_study(name)


def unknown_study(name: Any) -> UnknownImage:
    """Return the error for a name that is no study's."""
    return UnknownImage("the name of a study", repr(name)[:100], "/datastore/?output=all lists them.")


def check_plain_name(what: str, value: Any) -> str:
    """Return a name that, joined to a folder, names a file in it; MONAI Label joins names to its folders.

    Raises:
        ConfigError: it is empty, too long, hidden, or has separators, control characters or white space at its ends.

    Example:
        >>> check_plain_name("label_tag", "original")
        'original'
        >>> check_plain_name("label_tag", "../")
        Traceback (most recent call last):
        ...
        monai_iste.errors.ConfigError: Expected one plain name for label_tag, got '../'. At most 200 bytes.
    """
    name = str.__str__(value) if isinstance(value, str) else ""  # not an enumeration's own
    is_plain = name == name.strip() and name.isprintable() and Path(name).name == name != ""
    if not is_plain or name.startswith(".") or "\\" in name or len(name.encode()) > 200:
        raise ConfigError(f"one plain name for {what}", repr(value)[:100], "At most 200 bytes.")
    return name


def read_json_object(what: str, content: bytes | str) -> dict[str, Any]:
    """Parse a JSON object whose numbers are finite and whose text is Unicode, so that it can be written again.

    Raises:
        ConfigError: it is something else.

    Example:
        >>> read_json_object("params", '{"scale": 2.5}')
        {'scale': 2.5}
    """
    try:
        found = json.loads(content, parse_constant=_refuse_number, parse_float=_finite)
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        reason = "one nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(f"{what} in JSON", f"something else ({reason[:100]})", 'Such as {"scale": 2.5}.') from error
    if not isinstance(found, dict):
        raise ConfigError(f"{what} as a JSON object", repr(found)[:100], 'Such as {"scale": 2.5}.')
    return found


def _refuse_number(text: str) -> None:
    raise ValueError(f"{text} is not a number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large")
    return number


def error_response(error: ISTEError, path: Path | None = None, name: str = "the image") -> tuple[int, str]:
    """Return an error's HTTP status and its sentence, with parameter names instead of options and no path.

    Args:
        path: the image's path, which is replaced by ``name``.

    Example:
        >>> error_response(ConfigError("a scale of at least 1", "0.5"))
        (400, 'Expected a scale of at least 1, got 0.5.')
    """
    status = 404 if isinstance(error, UnknownImage) else 400
    if isinstance(error, (CheckpointError, OutputError, TrainingError)):
        status = 500
    sentence = str(error).replace("--input-mpp", "input_mpp").replace("--mpp", "mpp")
    return status, sentence if path is None else sentence.replace(str(path), name)


def _check_names(params: Mapping[str, Any]) -> None:
    for key in params:
        near = difflib.get_close_matches(str(key), _KEYS, n=1, cutoff=0.75)
        if key not in (*_KEYS, *_SERVER_KEYS) and near:
            raise ConfigError("parameters that are in use", repr(key), f"Did you mean {near[0]!r}?")


def _first(params: Mapping[str, Any], key: str) -> Any:
    """Return a value, or the first of a list: clients may send back the list of choices that the server offered."""
    value = params.get(key)
    return value[0] if isinstance(value, (list, tuple)) and value else value


def _number(params: Mapping[str, Any], key: str, example: float = 2.5) -> float | None:
    value = params.get(key)
    if value is None:
        return None
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"a number for {key}", repr(value)[:100], f"Such as {example:g}.") from error


def _mpp(params: Mapping[str, Any], key: str) -> float | None:
    return check_mpp(key, _number(params, key))


def _blur(params: Mapping[str, Any]) -> float | None:
    return check_input_blur(_number(params, "input_blur", example=0.3), takes_input_blur=True)


def _pair(params: Mapping[str, Any], key: str) -> Size | None:
    """Return two whole numbers, x before y."""
    value = params.get(key)
    if value is None:
        return None
    pair = value if isinstance(value, (list, tuple)) and len(value) == 2 else ()
    if pair and all(type(n) in (int, float) and abs(n) <= _MAX_COORDINATE and n == int(n) for n in pair):
        return int(pair[0]), int(pair[1])
    raise ConfigError(f"two whole numbers for {key}, x before y", repr(value)[:100], "Such as [640, 480].")


def _region(params: Mapping[str, Any]) -> Region | None:
    """Return the region; None for the whole image, which MONAI Label may also write as size [0, 0]."""
    (left, top), size = _pair(params, "location") or (0, 0), _pair(params, "size") or (0, 0)
    if size == (0, 0) and (left, top) == (0, 0):
        return None
    if min(size) < 1:
        raise ShapeError(
            "a region of at least 1 x 1 pixels", f"size {list(size)} at location [{left}, {top}]", "Give its size."
        )
    return Region(top, left, size[1], size[0])


def _suffix(params: Mapping[str, Any]) -> str:
    value = str(_first(params, "result_extension") or SUFFIXES[0]).lower()
    suffix = value if value.startswith(".") else f".{value}"
    check_choice("a result_extension", suffix, SUFFIXES)
    return suffix
