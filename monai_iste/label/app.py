"""The app as MONAI Label sees it: inference, batches, slides and training under its own addresses.

MONAI Label answers what it does not know with status 500, so that refusals are raised as FastAPI's ``HTTPException``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from fastapi import HTTPException
from monailabel.config import settings
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.batch_infer import BatchInferTask
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.utils.others.generic import name_to_device

import monai_iste
from monai_iste.errors import ConfigError, ISTEError, show_errors_as_sentences
from monai_iste.io.image_reader import IMAGE_SUFFIXES
from monai_iste.label.magnifier import Magnifier
from monai_iste.label.request import DEFAULT_SCALE, SUFFIXES, find_image, parse, refusal
from monai_iste.label.training import DEFAULTS, Training
from monai_iste.networks.runtime import default_device
from monai_iste.slides.backends import SLIDE_ENDINGS

#: The name of the model in addresses: /infer/iste, /train/iste.
MODEL = "iste"

# The longest last: MONAI Label takes the last that fits for a file's ending.
_ENDINGS = (*IMAGE_SUFFIXES, *SLIDE_ENDINGS, ".ome.tif", ".ome.tiff")


class InferISTE(InferTask):
    """Magnify an image or a region of a slide (:class:`~monai_iste.label.magnifier.Magnifier`)."""

    def __init__(self, magnifier: Magnifier) -> None:
        super().__init__(
            InferType.OTHERS,
            labels=[],
            dimension=2,
            description="Magnifies H&E images and regions of slides by any factor. Not for diagnosis.",
            config={"scale": DEFAULT_SCALE, "result_extension": SUFFIXES[0]},
        )
        self.magnifier = magnifier

    def is_valid(self) -> bool:
        return True

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        device = request.get("device")
        parsed = parse({**request, "device": name_to_device(device) if device else None})
        file, record = self.magnifier.magnify(
            Path(request["image"]), parsed, request["name"], cut=request.get("cut", False)
        )
        return str(file), record


class TrainISTE(TrainTask):
    """Train on the studies (:class:`~monai_iste.label.training.Training`); images are enough."""

    def __init__(self, folder: Path) -> None:
        super().__init__("Goes on from the released weights on the studies; inference then uses the result.")
        self.training = Training(folder, tell=lambda line: print(line, flush=True))

    def config(self) -> dict[str, Any]:
        return dict(DEFAULTS)

    def stats(self) -> dict[str, Any]:
        return self.training.scores()

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        studies = [Path(datastore.get_image_uri(study)) for study in sorted(datastore.list_images())]
        device = request.get("device")
        self.training.run(studies, {**request, "device": name_to_device(device) if device else None})
        return self.training.scores()


class _Batch(BatchInferTask):
    """MONAI Label's batches, which on machines without a GPU divide by zero, and end with the first bad image."""

    def __call__(self, request: dict[str, Any], datastore: Datastore, infer: Any) -> dict[str, Any]:
        def one(request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
            try:
                return infer(request, datastore)
            except ISTEError as error:
                return {"error": refusal(error)[1]}
            except HTTPException as error:
                return {"error": error.detail}

        request = {**request, "multi_gpu": request.get("multi_gpu", True) and torch.cuda.is_available()}
        return super().__call__(request, datastore, one)


class MyApp(MONAILabelApp):
    """The app; MONAI Label makes it once in the server and once in every background task."""

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        self.folder = Path(app_dir) / "model" / MODEL
        super().__init__(
            app_dir,
            studies,
            conf,
            name="monai_iste",
            description="Arbitrary-scale super-resolution of H&E histopathology. Pixels are inferred, not measured.",
            version=monai_iste.__version__,
        )

    def init_datastore(self) -> LocalDatastore:
        """The folder of studies, with every kind of file that can be read."""
        if "://" in self.studies:
            raise ConfigError("a folder of studies", self.studies, "Regions are read from files.")
        return LocalDatastore(
            self.studies,
            extensions=[f"*{form}" for ending in _ENDINGS for form in (ending, ending.upper())],
            auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )

    def init_infers(self) -> dict[str, InferTask]:
        magnifier = Magnifier(self.folder)
        magnifier.network(default_device())  # whoever asks first need not wait, and weights that do not fit show now
        return {MODEL: InferISTE(magnifier)}

    def init_trainers(self) -> dict[str, TrainTask]:
        return {MODEL: TrainISTE(self.folder)}

    def init_batch_infer(self) -> BatchInferTask:
        return _Batch()

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Answer a request: MONAI Label's own would open any path that a client names."""
        with self._refusals():
            task = self._task(self._infers, request)
            datastore = datastore or self.datastore()
            sessions = self.sessions()  # a dictionary, which is false while it is empty
            sent = None if sessions is None else Path(sessions.store_path)
            study, path = find_image(request.get("image"), datastore.get_image_uri, sent)
        name = study or path.name
        with self._refusals(path, name):
            file, record = task({**request, "image": str(path), "name": study or "image"})
        result = {"label": file, "tag": DefaultLabelTag.ORIGINAL, "file": file, "params": {"image": name, **record}}
        if study and request.get("save_label"):
            tag = request.get("label_tag", DefaultLabelTag.ORIGINAL)
            saved = datastore.save_label(study, file, tag, {"model": MODEL, "params": result["params"]})
            result |= {"label": saved, "tag": tag}
        return result

    def infer_wsi(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Answer /infer/wsi with the magnified region, where MONAI Label's own makes annotations of tiles.

        That address asks for 2048 x 2048 pixels unless told otherwise; here regions are cut to the image.
        """
        with self._refusals():
            if request.get("output") in ("asap", "dsa"):
                raise ConfigError("output json, or none", request["output"], "A magnified image has no annotations.")
        return self.infer({**request, "cut": True}, datastore)

    def train(self, request: dict[str, Any]) -> Any:
        with self._refusals():
            self._task(self._trainers, request)
            return super().train(request)

    def _task(self, tasks: dict[str, Any], request: dict[str, Any]) -> Any:
        model = request.get("model")
        if model not in tasks:
            raise ConfigError(f"a model: {', '.join(tasks)}", repr(model)[:100], "Choose one of these.")
        return tasks[model]

    @contextmanager
    def _refusals(self, path: Path | None = None, name: str = "") -> Iterator[None]:
        """Errors of the family as answers with one sentence; in a background task, as the last line of its output."""
        try:
            yield
        except ISTEError as error:
            if not self._server_mode:
                show_errors_as_sentences()
                raise
            status, sentence = refusal(error, path, name)
            logging.getLogger(__name__).warning("refused: %s", error)
            raise HTTPException(status, sentence) from error
