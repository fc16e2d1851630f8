"""The pages' addresses. They are all beside each other, so that links need not know where the server put them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from persona.errors import Locked, PersonaError, Refusal, UsageError
from persona.repository import Repository
from persona.ui import actions, views
from persona.ui.actions import Form
from persona.ui.chat import Chat
from persona.ui.guard import Guard, Keys
from persona.ui.jobs import Jobs
from persona.ui.pages import STATIC, page
from persona.ui.views import Asked

LARGEST_FORM = 64 * 1024
"""Bytes of a form."""
BETWEEN = 0.2
"""Seconds between two reports of progress."""
STATUS: Mapping[type[PersonaError], int] = {UsageError: 400, Refusal: 409, Locked: 423}

View = Callable[[Asked], dict[str, Any]]
Action = Callable[[Asked, Form], str]

VIEWS: Mapping[str, View] = {
    "history": views.history,
    "revision": views.revision,
    "compare": views.compare,
    "recipe": views.recipe,
    "vectors": views.vectors,
    "interference": views.interference,
    "readings": views.readings,
}
"""Every page, by its address and template."""

ACTIONS: Mapping[str, Action] = {
    "measure-interference": actions.measure_interference,
    "alpha": actions.alpha,
    "commit": actions.commit,
    "undo": actions.undo,
    "redo": actions.redo,
    "try": actions.try_strengths,
    "say": actions.say,
    "stop": actions.stop,
    "take-back": actions.take_back,
    "forget": actions.forget,
}
"""Every form: what it does, and the page to show then."""


def application(root: Path, folder: Path, keys: Keys, jobs: Jobs | None = None) -> ASGIApp:
    """The application, behind its guard; see :func:`persona.ui.serve.serve`."""
    work, chat = jobs or Jobs(), Chat()

    def asked(request: Request) -> Asked:
        return Asked(Repository(root, folder), request.query_params, work, chat)  # opened anew: it may have changed

    def viewing(name: str, view: View) -> Route:
        def answer(request: Request) -> Response:
            now = asked(request)
            return HTMLResponse(page(name, root=root.name, **view(now)))

        return Route(f"/{name}", answer, methods=["GET"])

    def acting(name: str, action: Action) -> Route:
        async def answer(request: Request) -> Response:
            form = Form(await _body(request))
            then = await run_in_threadpool(action, asked(request), form)
            return RedirectResponse(then, 303)

        return Route(f"/{name}", answer, methods=["POST"])

    async def events(request: Request) -> Response:
        number = request.query_params.get("job", "")
        job = work.numbered(int(number)) if number.isdecimal() and len(number) < 10 else None
        if job is None:
            raise HTTPException(404)

        async def told() -> AsyncIterator[str]:
            last = ""
            while last == "" or not job.ended.is_set():
                state = json.dumps(job.state)
                if state != last:
                    last = state
                    yield f"data: {state}\n\n"
                await asyncio.sleep(BETWEEN)
            yield f"event: end\ndata: {json.dumps(job.state)}\n\n"

        return StreamingResponse(told(), media_type="text/event-stream")

    async def failed(request: Request, error: Exception) -> Response:
        status, problem = _problem(error)
        return HTMLResponse(page("error", root=root.name, error=problem), status)

    routes = [
        *(viewing(name, view) for name, view in VIEWS.items()),
        *(acting(name, action) for name, action in ACTIONS.items()),
        Route("/events", events, methods=["GET"]),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    app = Starlette(
        routes=[Mount(f"/{keys.place}", routes=routes)],
        exception_handlers={PersonaError: failed, HTTPException: failed},
    )
    return Guard(app, keys)


def _problem(error: Exception) -> tuple[int, PersonaError]:
    """The status of an answer, and the error to show."""
    if isinstance(error, HTTPException):
        words = {404: "there is no such page", 405: "this address is not asked this way", 413: "the form is too long"}
        return error.status_code, PersonaError(words.get(error.status_code, error.detail))
    assert isinstance(error, PersonaError)
    return next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500), error


async def _body(request: Request) -> bytes:
    """The body of a form.

    Raises:
        HTTPException: it is too long.
    """
    parts = []
    room = LARGEST_FORM
    async for part in request.stream():
        parts.append(part)
        room -= len(part)
        if room < 0:
            raise HTTPException(413)
    return b"".join(parts)
