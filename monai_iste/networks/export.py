"""Export of ISTE to ONNX, for machines without PyTorch.

TorchScript needs nothing from here: ``torch.jit.script(network)`` and MONAI's ``ckpt_export`` compile the network as it
is. PyTorch's tracing exporter is used because the newer one fixes the number of loops at the example's.
"""

from __future__ import annotations

import os
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Optional

import torch
import typer
from torch import Tensor, nn

from monai_iste import DEFAULT_PRESET
from monai_iste.coordinates import cell_size, pixel_centers
from monai_iste.errors import ConfigError, OutputError, install_advice, show_errors_as_sentences
from monai_iste.networks import ISTE, load_network

_OPSET = 17


class _Queries(nn.Module):
    """Exported form of a network: coordinates in, colors out, all queries at once."""

    def __init__(self, network: ISTE) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        return self.network.colors(self.network.encode(image, coord, cell), coord, cell)


def export_onnx(network: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a network as an ONNX program (opset 17) that takes images of any size at any scale.

    The program computes all queries at once: pass some ten thousand at a time to keep its memory small. It encodes the
    image again each time.

    Args:
        network: on the CPU, with ``inference_keys="lattice"``; it is exported in evaluation mode.
        path: the file; it appears by one rename.
    Shape:
        inputs image: (1, 3, h, w); coord: (1, Q, 2), order (y, x), see ``pixel_centers``; cell: (1, 2), see
        ``cell_size``; output rgb: (1, Q, 3). All float32; h, w and Q are free.
    Units: as :class:`~monai_iste.networks.ISTE`.
    Raises:
        ConfigError: onnx is not installed, the network is not ISTE, or its keys depend on the scale
            (``inference_keys="all"``).
        OutputError: the file cannot be written.
    """
    if find_spec("onnx") is None:
        raise ConfigError("the package onnx", "none", install_advice("export"))
    if not isinstance(network, ISTE):
        raise ConfigError("an ISTE network", type(network).__name__, "Choose one of the presets of ISTE.")
    if network.inference_keys != "lattice":
        raise ConfigError("inference_keys='lattice' for ONNX", repr(network.inference_keys), "Use TorchScript instead.")
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    size, output = (9, 11), (18, 22)
    example = (torch.rand(1, 3, *size), pixel_centers(output).unsqueeze(0), cell_size(size, output).unsqueeze(0))
    training = network.training
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of constants in the trace, and of the exporter's age
            torch.onnx.export(
                _Queries(network).eval(),
                example,
                part,
                dynamo=False,
                opset_version=_OPSET,
                input_names=["image", "coord", "cell"],
                output_names=["rgb"],
                dynamic_axes={"image": {2: "h", 3: "w"}, "coord": {1: "queries"}, "rgb": {1: "queries"}},
            )
        part.replace(path)
    except OSError as error:
        raise OutputError("a file that can be written", f"{path} ({error.strerror})", "Name another.") from error
    finally:
        network.train(training)
        part.unlink(missing_ok=True)


def main(
    output: Annotated[Path, typer.Argument(help=f"The file to write, such as {DEFAULT_PRESET}.onnx.")],
    preset: Annotated[str, typer.Option(help="Name of the network.")] = DEFAULT_PRESET,
    weights: Annotated[Optional[Path], typer.Option(help="A file of weights instead of the released ones.")] = None,
    allow_untrained: Annotated[bool, typer.Option(help="Export random weights where there are no others.")] = False,
    input_blur: Annotated[Optional[float], typer.Option(help="Blur of the images in their pixels.")] = None,
) -> None:
    """Write a preset as an ONNX program."""
    show_errors_as_sentences()
    network = load_network(preset, weights, allow_untrained=allow_untrained, input_blur=input_blur)
    export_onnx(network, output)
    print(f"wrote {output}")


if __name__ == "__main__":
    typer.run(main)
