"""`persona ui`."""

from __future__ import annotations

import contextlib
import os
import sys

import click

from persona.cli.app import App, json_option


@click.command("ui")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, metavar="N", help="Port to listen on; by default any free one."
)
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@json_option
@click.pass_obj
def command(app: App, port: int, no_browser: bool) -> None:
    """Open the repository in a browser

    Shows the history, revisions side by side, what each vector does, and how vectors interfere. Sets alphas and the scale, undoes
    that, and lets you talk to the model as they are set. Every change is a command of this program, which the page shows.

    The server answers only this computer, and only who has the address, which is a secret. Ctrl-C ends it. Needs
    pip install 'persona-vcs[ui]'.

    \b
    persona ui
    persona ui --port 8123 --no-browser
    """
    from persona.ui.serve import address_of, listen, serve

    repo = app.repository()
    listening = listen(port)
    address = address_of(listening)
    app.show("ui", address, lambda console: console.print(f"{address.url}\nCtrl-C ends it.", soft_wrap=True))
    if not no_browser and not app.json and _has_a_screen():
        _open(listening.address_for_once)
    with contextlib.suppress(KeyboardInterrupt):
        serve(repo.root, repo.folder, listening)


def _has_a_screen() -> bool:
    """Whether a browser with windows can be opened; one in the terminal would be in the way."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _open(address: str) -> None:
    import webbrowser

    with contextlib.suppress(webbrowser.Error):
        webbrowser.open(address)
