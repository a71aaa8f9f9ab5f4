"""MONAI Label app: inference, batches and training.

MONAI Label returns status 500 for exceptions it does not know. Errors are therefore raised as FastAPI's
``HTTPException``.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from fastapi import HTTPException
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.batch_infer import BatchInferTask
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.utils.others.generic import name_to_device

import monai_iste
from monai_iste.errors import ConfigError, ISTEError, check_choice, show_errors_as_sentences
from monai_iste.inferers import Region
from monai_iste.io.files import make_folder, report_write_errors
from monai_iste.label.annotation import result_annotation
from monai_iste.label.request import (
    DEFAULT_SCALE,
    SUFFIXES,
    check_batch,
    check_device,
    check_plain_name,
    check_region,
    error_response,
    find_image,
    parse_request,
)
from monai_iste.label.studies import Studies
from monai_iste.label.training import DEFAULTS, Training
from monai_iste.label.upscaler import LabelUpscaler
from monai_iste.networks.runtime import default_device

#: Name of the model in addresses: /infer/iste, /train/iste.
MODEL = "iste"


class InferISTE(InferTask):
    """Inference task that super-resolves an image or a region (:class:`~monai_iste.label.upscaler.LabelUpscaler`)."""

    def __init__(self, upscaler: LabelUpscaler) -> None:
        super().__init__(
            InferType.OTHERS,
            labels=[],
            dimension=2,
            description="Super-resolves H&E images and regions of slides by any factor. Not for diagnosis.",
            config={"scale": DEFAULT_SCALE, "result_extension": SUFFIXES[0]},
        )
        self.upscaler = upscaler

    def is_valid(self) -> bool:
        return True

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        device = check_device(request.get("device"))
        parsed = parse_request({**request, "device": name_to_device(device) if device else None})
        file, record = self.upscaler.upscale(
            Path(request["image"]), parsed, request["name"], crop=request.get("crop", False)
        )
        return str(file), record


class TrainISTE(TrainTask):
    """Training task on the studies (:class:`~monai_iste.label.training.Training`); needs no labels."""

    def __init__(self, folder: Path) -> None:
        super().__init__("Fine-tunes the released weights on the studies; inference then uses the result.")
        self.training = Training(folder, log=lambda line: print(line, flush=True))

    def config(self) -> dict[str, Any]:
        return dict(DEFAULTS)

    def stats(self) -> dict[str, Any]:
        return self.training.scores()

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        studies = [Path(datastore.get_image_uri(study)) for study in sorted(datastore.list_images())]
        device = check_device(request.get("device"))
        self.training.run(studies, {**request, "device": name_to_device(device) if device else None})
        return self.training.scores()


class _Batch(BatchInferTask):
    """Batch inference that works without a GPU and continues after an image that fails; MONAI Label's own does not."""

    def __call__(self, request: dict[str, Any], datastore: Datastore, infer: Any) -> dict[str, Any]:
        def infer_one(request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
            try:
                return infer(request, datastore)
            except ISTEError as error:
                return {"error": error_response(error)[1]}
            except HTTPException as error:
                return {"error": error.detail}

        request = {**request, "multi_gpu": request.get("multi_gpu", True) and torch.cuda.is_available()}
        return super().__call__(request, datastore, infer_one)


class MyApp(MONAILabelApp):
    """App class, created once in the server and once in every background task."""

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        self.folder = Path(app_dir) / "model" / MODEL
        self.results = Path(app_dir) / "results"
        super().__init__(
            app_dir,
            studies,
            conf,
            name="monai_iste",
            description="Arbitrary-scale super-resolution of H&E histopathology. Pixels are inferred, not measured.",
            version=monai_iste.__version__,
        )

    def init_datastore(self) -> Studies:
        """Open the folder of studies, with every readable file format."""
        if "://" in self.studies:
            raise ConfigError("a folder of studies", self.studies, "Regions are read from files.")
        return Studies(self.studies)

    def init_infers(self) -> dict[str, InferTask]:
        upscaler = LabelUpscaler(self.folder)
        upscaler.network(default_device())  # load now: the first request need not wait, and bad weights fail early
        return {MODEL: InferISTE(upscaler)}

    def init_trainers(self) -> dict[str, TrainTask]:
        return {MODEL: TrainISTE(self.folder)}

    def init_batch_infer(self) -> BatchInferTask:
        return _Batch()

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Run inference on a study or an upload. MONAI Label's own method would open any path that a client names."""
        with self._http_errors():
            task = self._task(self._infers, request)
            datastore = datastore or self.datastore()
            sessions = self.sessions()  # falsy while empty, hence the comparison with None
            uploads = None if sessions is None else Path(sessions.store_path)
            study, path = find_image(request.get("image"), datastore.get_image_uri, uploads)
            tag = check_plain_name("label_tag", request.get("label_tag", DefaultLabelTag.ORIGINAL))
        name = study or path.name
        with self._http_errors(path, name):
            file, record = task({**request, "image": str(path), "name": study or "image"})
        result = {"label": file, "tag": DefaultLabelTag.ORIGINAL, "file": file, "params": {"image": name, **record}}
        if study and request.get("save_label"):
            saved = datastore.save_label(study, file, tag, {"model": MODEL, "params": result["params"]})
            result |= {"label": saved, "tag": tag}
        return result

    def infer_wsi(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Return the super-resolved region for /infer/wsi, where MONAI Label's own method returns annotations of tiles.

        Clients request 2048 x 2048 pixels by default, so the region is cropped to the image. QuPath's extension can
        show annotations only (``output=asap``): the image is then kept in :attr:`results`, and the response is one
        annotation of the region, whose name says where.
        """
        output = request.get("output")
        with self._http_errors():
            if output == "dsa":
                raise ConfigError("output json or asap, or none", "dsa", "An upscaled image has no annotations.")
        result = self.infer({**request, "crop": True}, datastore)
        if output != "asap":
            return result
        with self._http_errors():
            width, height = result["params"]["image_size"]
            region = check_region(parse_request({**request, "device": "cpu"}).region, (height, width), crop=True)
            make_folder(self.results)
            kept = self.results / Path(result["file"]).name
            with report_write_errors(kept):
                shutil.move(result["file"], kept)
            file = result_annotation(kept, region or Region(0, 0, height, width), result["params"])
        return {**result, "file": str(file), "label": str(file), "params": {**result["params"], "file": str(kept)}}

    def batch_infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> Any:
        with self._http_errors():
            self._task(self._infers, request)
            check_batch(request)
        return super().batch_infer(request, datastore)

    def train(self, request: dict[str, Any]) -> Any:
        with self._http_errors():
            self._task(self._trainers, request)
            return super().train(request)

    def _task(self, tasks: dict[str, Any], request: dict[str, Any]) -> Any:
        model = str(request.get("model"))
        check_choice("a model", model, tasks)
        return tasks[model]

    @contextmanager
    def _http_errors(self, path: Path | None = None, name: str = "") -> Iterator[None]:
        """Convert errors of the family to HTTPException; in a background task, print only their sentence."""
        try:
            yield
        except ISTEError as error:
            if not self._server_mode:
                show_errors_as_sentences()
                raise
            status, sentence = error_response(error, path, name)
            logging.getLogger(__name__).warning("refused: %s", error)
            raise HTTPException(status, sentence) from error
