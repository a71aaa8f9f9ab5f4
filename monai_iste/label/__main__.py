"""Command ``python -m monai_iste.label``: serve a folder of studies through MONAI Label on this machine."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Optional

import typer

from monai_iste.cli.options import ThreadsOption
from monai_iste.errors import DataError, require_extra, show_errors_as_sentences
from monai_iste.io.files import make_folder, report_write_errors
from monai_iste.processors import sleep_while_waiting, use_threads
from monai_iste.viewer.access import HostNames
from monai_iste.viewer.sockets import is_loopback, listen, url_host

_MAIN = "from monai_iste.label import MyApp as MyApp\n"


def serve(
    studies: Annotated[Path, typer.Argument(metavar="STUDIES", help="A folder of images and slides.")],
    host: Annotated[str, typer.Option("--host", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen at.")] = 8000,
    folder: Annotated[
        Path, typer.Option("--app", help="Folder of the app, for logs and trained weights; created if missing.")
    ] = Path("iste_label"),
    threads: ThreadsOption = None,
    allow_host: Annotated[
        Optional[list[str]],
        typer.Option("--allow-host", metavar="NAME", help="Further name of this server; repeatable."),
    ] = None,
    unpack: Annotated[bool, typer.Option("--unpack", help="Unpack archives that clients send.")] = False,
) -> None:
    """Serve a folder of images and slides through MONAI Label, super-resolved by any factor. Ctrl-C ends it.

    Listens on this machine only, unless --host is given. Pages of other web sites have no access.
    """
    show_errors_as_sentences()
    sleep_while_waiting()
    use_threads(threads)  # also of the trainings that it starts
    require_extra("monailabel", "label")
    if not studies.is_dir():
        raise DataError("a folder of studies", f"{studies}, which is not a folder", "Name the folder of the images.")
    hosts = HostNames(host, allow_host or ())
    with listen(host, port):  # fails early if the port is taken
        pass
    if not is_loopback(host):
        typer.echo(f"warning: anyone who reaches {host} can read, add and remove these studies", err=True)
    prepare(folder)
    main = require_extra("monailabel.main", "label").Main()
    parsed = main.args_parser().parse_args(arguments(folder, studies, host, port))
    parsed.uvicorn_app = require_extra("monai_iste.label.web", "label").create_app(hosts, unpack)
    typer.echo(f"{studies} at http://{url_host(host)}:{port}/ (Ctrl-C ends it)")
    with suppress(KeyboardInterrupt):  # uvicorn shuts down by itself and then re-raises the signal
        main.action_start_server(parsed)


def prepare(folder: Path) -> None:
    """Create the app folder that MONAI Label expects; an existing one is left unchanged.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "app"
        >>> prepare(folder)
        >>> (folder / "main.py").read_text()
        'from monai_iste.label import MyApp as MyApp\\n'
    """
    make_folder(folder)
    main = folder / "main.py"
    if not main.exists():
        with report_write_errors(main):
            main.write_text(_MAIN)


def arguments(folder: Path, studies: Path, host: str, port: int) -> list[str]:
    """Return the arguments for MONAI Label's own command.

    Example:
        >>> arguments(Path("app"), Path("tiles"), "127.0.0.1", 8000)[:5]
        ['start_server', '--app', 'app', '--studies', 'tiles']
    """
    words = ["start_server", "--app", folder, "--studies", studies, "--host", host, "--port", port]
    return list(map(str, words))


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(serve)
    app(prog_name="python -m monai_iste.label")
