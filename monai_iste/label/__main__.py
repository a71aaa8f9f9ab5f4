"""The command ``python -m monai_iste.label``: a MONAI Label server for a folder of studies, on this machine."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from monai_iste.errors import DataError, require_extra, show_errors_as_sentences
from monai_iste.io.files import make_folder, writing
from monai_iste.viewer.sockets import is_loopback, listen, url_host

_MAIN = "from monai_iste.label import MyApp as MyApp\n"


def serve(
    studies: Annotated[Path, typer.Argument(metavar="STUDIES", help="A folder of images and slides.")],
    host: Annotated[str, typer.Option("--host", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen at.")] = 8000,
    folder: Annotated[
        Path, typer.Option("--app", help="The app's folder, for logs and trained weights; made if it is absent.")
    ] = Path("iste_label"),
) -> None:
    """Serve a folder of images and slides through MONAI Label, magnified by any factor. Ctrl-C ends it.

    Listens on this machine alone unless --host says otherwise.
    """
    show_errors_as_sentences()
    require_extra("monailabel", "label")
    if not studies.is_dir():
        raise DataError("a folder of studies", f"{studies}, which is none", "Name the folder that holds the images.")
    with listen(host, port):  # whether it can be had, before anything is loaded for it
        pass
    if not is_loopback(host):
        typer.echo(f"warning: whoever reaches {host} can read, add and remove these studies", err=True)
    prepare(folder)
    main = require_extra("monailabel.main", "label").Main()
    typer.echo(f"{studies} at http://{url_host(host)}:{port}/ (Ctrl-C ends it)")
    with suppress(KeyboardInterrupt):  # uvicorn has shut down by itself, and hands the signal on
        main.action_start_server(main.args_parser().parse_args(arguments(folder, studies, host, port)))


def prepare(folder: Path) -> None:
    """Make an app's folder, as MONAI Label wants it; one that is there stays as it is.

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
        with writing(main):
            main.write_text(_MAIN)


def arguments(folder: Path, studies: Path, host: str, port: int) -> list[str]:
    """What MONAI Label's own command is given.

    Example:
        >>> arguments(Path("app"), Path("tiles"), "127.0.0.1", 8000)[:5]
        ['start_server', '--app', 'app', '--studies', 'tiles']
    """
    server = f"monai_iste.label.web:{'loopback' if is_loopback(host) else 'app'}"
    words = ["start_server", "--app", folder, "--studies", studies, "--host", host, "--port", port]
    return [*map(str, words), "--uvicorn_app", server]


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(serve)
    app(prog_name="python -m monai_iste.label")
