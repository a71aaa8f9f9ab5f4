"""Folder of studies as MONAI Label's datastore, which stays inside this folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.config import settings
from monailabel.datastore.local import LocalDatastore

from monai_iste.errors import DataError, ISTEError
from monai_iste.io.pixels import IMAGE_SUFFIXES, SLIDE_ENDINGS
from monai_iste.label.request import check_plain_name, error_response, unknown_study
from monai_iste.viewer.catalog import UnknownImage

# Longest last: of the suffixes that match a file name, MONAI Label uses the last.
_ENDINGS = (*IMAGE_SUFFIXES, *SLIDE_ENDINGS, ".ome.tif", ".ome.tiff")


class Studies(LocalDatastore):
    """Datastore that writes and removes files of its folder only, under plain names.

    MONAI Label's own joins what a client sends to the path of the folder. It also follows links, and would replace or
    remove an original that somebody linked into the folder.

    Args:
        folder: the studies.
    """

    def __init__(self, folder: str) -> None:
        super().__init__(
            folder,
            extensions=[f"*{form}" for ending in _ENDINGS for form in (ending, ending.upper())],
            auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        with _http_errors():
            found, ending = self._to_id(Path(image_filename).name)
            name = check_plain_name("image", image_id or found)
            if not ending.lower().endswith(_ENDINGS):
                raise DataError("an image or slide by its ending", repr(ending), "Such as .png, .tif or .svs.")
            self._check_inside(Path(self._datastore.image_path()) / f"{name}{ending}")
        return str(super().add_image(image_id, image_filename, image_info))

    def remove_image(self, image_id: str) -> None:
        with _http_errors():
            self._check_inside(self._file(self.get_image_uri(image_id), image_id))
        super().remove_image(image_id)

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        with _http_errors():
            self._file(self.get_image_uri(image_id), image_id)
            _, ending = self._to_id(Path(label_filename).name)
            folder = Path(self._datastore.label_path(check_plain_name("label_tag", label_tag)))
            self._check_inside(folder / check_plain_name("label", f"{image_id}{ending}"))
        return str(super().save_label(image_id, label_filename, label_tag, label_info))

    def remove_label(self, label_id: str, label_tag: str) -> None:
        with _http_errors():
            self._check_inside(self._file(self.get_label_uri(label_id, label_tag), label_id))
        super().remove_label(label_id, label_tag)

    def get_dataset_archive(self, limit_cases: int | None) -> str:
        with _http_errors():
            if not self.datalist():
                raise UnknownImage("labels to download", "none", "Run a batch first.")
        return str(super().get_dataset_archive(limit_cases))

    def _file(self, path: str, name: str) -> Path:
        if not path:
            raise unknown_study(name)
        return Path(path)

    def _check_inside(self, path: Path) -> None:
        """Raise DataError unless a file lies in the folder of the studies, links followed."""
        if not path.resolve().is_relative_to(Path(self._datastore_path).resolve()):
            raise DataError(
                "a file in the folder of the studies", f"a link, {path.name[:100]!r}", "Change the original."
            )


@contextmanager
def _http_errors() -> Iterator[None]:
    """Convert errors of the family to the exception that MONAI Label's server knows."""
    try:
        yield
    except ISTEError as error:
        raise HTTPException(*error_response(error)) from error
