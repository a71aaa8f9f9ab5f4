"""Command ``monai-iste view``: serve slides to a browser on this machine."""

from __future__ import annotations

import logging
import os
import signal
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from monai_iste import DEFAULT_PRESET
from monai_iste.cli.options import InputBlurOption, ThreadsOption, log
from monai_iste.errors import EXIT_TERMINATED, ConfigError, check_choice, require_extra
from monai_iste.viewer.access import ANY, HostNames, check_origin
from monai_iste.viewer.sockets import is_loopback, listen, url_host


@contextmanager
def _end_at_sigterm() -> Iterator[None]:
    """End the program at once at SIGTERM: it has nothing to finish, and its threads may be in the middle of a view."""
    previous = signal.signal(signal.SIGTERM, _end_or(None))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _end_or(handle: Callable[..., None] | None) -> Callable[..., None]:
    """Return a signal handler that ends the program at SIGTERM and otherwise calls another handler."""

    def handler(number: int, frame: Any) -> None:
        if number == signal.SIGTERM or handle is None:
            os._exit(EXIT_TERMINATED)
        handle(number, frame)

    return handler


@_end_at_sigterm()
def view(
    sources: Annotated[list[Path], typer.Argument(metavar="SLIDE...", help="Slides, images, or folders of them.")],
    host: Annotated[str, typer.Option("--host", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen at; 0: a free one.")] = 8765,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open a browser.")] = False,
    input_mpp: Annotated[
        Optional[float], typer.Option("--input-mpp", help="Micrometers per pixel, if the files do not state them.")
    ] = None,
    input_blur: InputBlurOption = None,
    preset: Annotated[str, typer.Option("--preset", help="Network, see: monai-iste presets.")] = DEFAULT_PRESET,
    weights: Annotated[
        Optional[Path],
        typer.Option("--weights", help="Weights of the preset, .safetensors or .pt, instead of the released."),
    ] = None,
    device: Annotated[
        Optional[str], typer.Option("--device", help="cpu, cuda, cuda:1; default: the GPU if any.")
    ] = None,
    precision: Annotated[str, typer.Option("--precision", help="fp32 or bf16.")] = "fp32",
    threads: ThreadsOption = None,
    allow_untrained: Annotated[
        bool, typer.Option("--allow-untrained", help="Random weights where none are released.")
    ] = False,
    allow_origin: Annotated[
        Optional[list[str]],
        typer.Option(
            "--allow-origin", metavar="URL", help="Site that may read /iiif and the manifest; repeatable; *: all."
        ),
    ] = None,
    allow_host: Annotated[
        Optional[list[str]],
        typer.Option("--allow-host", metavar="NAME", help="Further name of this server; repeatable."),
    ] = None,
) -> None:
    """Show slides in the browser, super-resolved at exactly the screen's scale beyond their last level.

    Listens on this machine only, unless --host is given. Serves the named files and no others. Pages of other sites
    have no access, unless --allow-origin names them. Ctrl-C ends it.
    """
    uvicorn = require_extra("uvicorn", "viewer")
    require_extra("fastapi", "viewer")
    log("starting: PyTorch and the readers of slides are loaded first")
    from monai_iste.networks.runtime import default_device, emulates_bf16, known_device

    origins, hosts = [check_origin(text) for text in allow_origin or ()], HostNames(host, allow_host or ())
    device = device or default_device()
    known_device(device)
    _check_network(preset, weights, precision, allow_untrained, input_blur)
    if precision == "bf16" and emulates_bf16(device):
        log("warning: this processor only emulates bfloat16, at a fraction of fp32's speed")
    if not is_loopback(host):
        log(f"warning: anyone who reaches {host} can see these slides; there is no password")
    if ANY in origins:
        log("warning: every web page that is opened on a machine with access can read these slides")
    from monai_iste.networks.presets import learned_range
    from monai_iste.slides.provenance import network_provenance
    from monai_iste.viewer.catalog import Catalog
    from monai_iste.viewer.rendering import Renderer, network_loader
    from monai_iste.viewer.server import Viewer, create_app

    catalog = Catalog(sources, input_mpp, log)
    network_info = {**network_provenance(preset, weights, precision, input_blur), "device": device}
    renderer = Renderer(network_loader(preset, weights, device, precision, allow_untrained, input_blur))
    viewer = Viewer(catalog, renderer, network_info, threads=threads, learned=learned_range(preset, weights))
    app = create_app(viewer, hosts, origins)
    with listen(host, port) as listener:
        address = f"http://{url_host(host)}:{listener.getsockname()[1]}/"
        _log_to_terminal()
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        server.handle_exit = _end_or(server.handle_exit)
        _when_started(server, lambda: _print_address(address, len(list(catalog)), not no_browser))
        with suppress(KeyboardInterrupt):  # uvicorn shuts down by itself and then re-raises the signal
            server.run(sockets=[listener])


def _check_network(
    preset: str, weights: Path | None, precision: str, allow_untrained: bool, input_blur: float | None
) -> None:
    """Raise now what loading the network would raise at the first upscaled view."""
    from monai_iste.networks.checks import check_input_blur
    from monai_iste.networks.grid_sampling import takes_input_blur
    from monai_iste.networks.presets import PRESETS, create_network, released_weights, require_weights
    from monai_iste.networks.runtime import check_learned_blur

    check_choice("a preset", preset, PRESETS)
    check_choice("a precision", precision, ("fp32", "bf16"))
    if input_blur is not None:
        check_input_blur(input_blur, takes_input_blur(create_network(preset)))
        check_learned_blur(preset, weights, input_blur)
    if weights is not None:
        if not weights.is_file():
            raise ConfigError("a file of weights", f"{weights}, which does not exist", "Train first, or name another.")
    elif not allow_untrained:
        require_weights(preset)
    elif released_weights(preset) is None:
        log("warning: the weights are random; the result shows nothing about the method")


def _when_started(server: Any, then: Callable[[], None]) -> None:
    """Call ``then`` once the server has started."""

    def wait() -> None:
        while not server.started and not server.should_exit:
            stop.wait(0.05)
        if server.started:
            then()

    stop = threading.Event()
    threading.Thread(target=wait, daemon=True).start()


def _print_address(address: str, count: int, browser: bool) -> None:
    typer.echo(f"{count} {'image' if count == 1 else 'images'} at {address} (Ctrl-C ends it)")
    if browser:
        webbrowser.open(address)


def _log_to_terminal() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("monai_iste.viewer")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    logger.propagate = False
