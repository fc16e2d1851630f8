"""The server: it listens on this computer alone, until it is interrupted."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from pathlib import Path

from persona.errors import UsageError
from persona.ui.guard import Keys

HOST = "127.0.0.1"
PATIENCE = 5.0
"""Seconds that work gets to end when the server does."""


@dataclass(frozen=True)
class UiAddress:
    """Where the page is. The address lets its holder in, so it is a secret."""

    url: str
    port: int


@dataclass(frozen=True)
class Listening:
    """A socket that listens, and the keys of the server to come."""

    socket: socket.socket
    keys: Keys

    @property
    def address_for_once(self) -> str:
        """The address to start a browser with: it works once."""
        return self.keys.address(self.keys.once)


def address_of(listening: Listening) -> UiAddress:
    """The address to print."""
    return UiAddress(listening.keys.address(listening.keys.token), listening.keys.port)


def listen(port: int = 0) -> Listening:
    """Listen on a port of this computer; 0 is any free one.

    Raises:
        UsageError: the extra is not installed, or the port is in use.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"the page needs starlette and uvicorn, which cannot be imported: {error}",
            "Install them: pip install 'persona-vcs[ui]'",
        ) from None
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((HOST, port))
        sock.listen(64)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise UsageError(f"port {port} is in use", "Choose another with --port, or leave it out.") from None
        if error.errno == errno.EACCES:
            raise UsageError(f"port {port} may not be used", "Choose one above 1023, or leave --port out.") from None
        raise
    return Listening(sock, Keys(sock.getsockname()[1]))


def serve(root: Path, folder: Path, listening: Listening) -> None:
    """Serve the page of a repository until SIGINT or SIGTERM.

    Args:
        root: The folder with ``persona.toml``.
        folder: Its ``.persona``.
        listening: What :func:`listen` returned.
    """
    import uvicorn

    from persona.ui.jobs import Jobs
    from persona.ui.site import application

    jobs = Jobs()
    app = application(root, folder, listening.keys, jobs)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    with listening.socket:
        try:
            uvicorn.Server(config).run(sockets=[listening.socket])
        finally:
            jobs.stop(PATIENCE)
