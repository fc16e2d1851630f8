"""Forms of the page: each calls one verb, with the command line that does the same, and names the page to show then."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode

from persona.errors import Refusal, UsageError
from persona.recipe.parse import LARGEST
from persona.ui.chat import Strengths
from persona.ui.pages import exact
from persona.ui.views import Asked, interference_key

if TYPE_CHECKING:
    from persona.history.operations import Named
    from persona.repository import Repository
    from persona.ui.jobs import Job


class Form:
    """What was sent with a form."""

    def __init__(self, body: bytes) -> None:
        try:
            fields = parse_qs(body.decode("ascii"), keep_blank_values=True, max_num_fields=2000, errors="strict")
        except ValueError:
            raise UsageError("the form cannot be read", "Load the page again.") from None
        self._fields = {name: values[0].replace("\r\n", "\n") for name, values in fields.items()}

    def get(self, name: str) -> str:
        """The value of a field; empty if it was not sent."""
        return self._fields.get(name, "")

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def number(self, name: str, what: str) -> float | None:
        """The number in a field; None if it was not sent."""
        text = self._fields.get(name)
        if text is None:
            return None
        try:
            return float(text)
        except ValueError:
            raise UsageError(f"the {what} is not a number: '{text}'", "Such as 0.8.") from None

    @property
    def message(self) -> str | None:
        """The message of a commit; None if it is empty."""
        return self.get("message").strip() or None


def alpha(asked: Asked, form: Form) -> str:
    """Set the alphas and the scale that differ from the recipe's, by ``persona.alpha``."""
    from persona.verbs.alpha import alpha as set_alphas

    repo = asked.repo
    _check_head(repo, form)
    recipe = repo.recipe(repo.head())
    values = {
        entry.name: value
        for entry in recipe.vectors
        if (value := form.number(f"alpha.{entry.name}", f"alpha of '{entry.name}'")) not in (None, entry.alpha)
    }
    scale = form.number("scale", "scale")
    scale = None if scale == recipe.scale else scale
    message = form.message
    words = ["alpha", *(f"{name}={exact(value)}" for name, value in values.items())]
    words += [] if scale is None else ["--scale", exact(scale)]
    set_alphas(repo, values, scale=scale, message=message, command=_line(words, message))
    return "recipe"


def commit(asked: Asked, form: Form) -> str:
    """Commit the edits in ``persona.toml``, by ``persona.commit``."""
    from persona.verbs.commit import commit as record

    _check_head(asked.repo, form)
    record(asked.repo, message=form.message, command=_line(["commit"], form.message))
    return "recipe"


def undo(asked: Asked, form: Form) -> str:
    """Undo the operation that the page showed, by ``persona.undo``."""
    from persona.verbs.undo import undo as take_back

    _check_next(asked.repo.log.to_undo(), form)
    take_back(asked.repo)
    return "recipe"


def redo(asked: Asked, form: Form) -> str:
    """Redo the operation that the page showed, by ``persona.redo``."""
    from persona.verbs.redo import redo as make_again

    _check_next(asked.repo.log.to_redo(), form)
    make_again(asked.repo)
    return "recipe"


def try_strengths(asked: Asked, form: Form) -> str:
    """Let the chat answer with other strengths; nothing is committed."""
    _check_head(asked.repo, form)
    asked.chat.check_idle()
    asked.chat.tried = _strengths(asked, form)
    return "recipe#chat"


def say(asked: Asked, form: Form) -> str:
    """Say something to the model, under the strengths of the sliders if they were sent."""
    _check_head(asked.repo, form)
    asked.chat.check_idle()
    if "scale" in form:
        asked.chat.tried = _strengths(asked, form)
    asked.chat.say(asked.repo, asked.jobs, form.get("prompt").strip())
    return "recipe#chat"


def stop(asked: Asked, form: Form) -> str:
    """End the reply that is being made; what was said until then stays."""
    if asked.chat.job is not None:
        asked.chat.job.stopped.set()
        asked.chat.job.ended.wait(5)
    return "recipe#chat"


def take_back(asked: Asked, form: Form) -> str:
    """Forget the last turn of the chat."""
    asked.chat.take_back()
    return "recipe#chat"


def forget(asked: Asked, form: Form) -> str:
    """Forget the chat, and free the model."""
    asked.chat.forget()
    return "recipe#chat"


def _strengths(asked: Asked, form: Form) -> Strengths:
    """The strengths of the sliders.

    Raises:
        UsageError: one is not a finite number.
    """
    head = asked.repo.head()
    names = [entry.name for entry in asked.repo.recipe(head).vectors]
    values = {name: form.number(f"alpha.{name}", f"alpha of '{name}'") for name in names}
    alphas = {name: value for name, value in values.items() if value is not None}
    scale = form.number("scale", "scale")
    for what, value in {**{f"alpha of '{name}'": one for name, one in alphas.items()}, "scale": scale or 0.0}.items():
        if not abs(value) <= LARGEST:
            raise UsageError(f"the {what} is not a finite number of at most {LARGEST:.0e}", "Such as 0.8.")
    return Strengths(head, alphas, scale)


def _line(words: Sequence[str], message: str | None) -> str:
    """The command line that does the same."""
    return shlex.join([*words, *(["-m", message] if message else [])])


def _check_head(repo: Repository, form: Form) -> None:
    """Raise Refusal if another commit is current than the page showed."""
    if form.get("head") != repo.head():
        raise _moved()


def _check_next(found: Named | None, form: Form) -> None:
    """Raise Refusal if another operation is next than the page showed."""
    if found is None or form.get("operation") != found[0]:
        raise _moved()


def _moved() -> Refusal:
    return Refusal("the repository has changed since this page was loaded", "Go to the recipe, and look at it again.")


def measure_interference(asked: Asked, form: Form) -> str:
    """Start ``persona.interference`` for a revision."""
    from persona.verbs.interference import interference

    repo, rev = asked.repo, form.get("rev")
    key = interference_key(repo, rev)

    def work(job: Job) -> object:
        return interference(repo, rev or None, progress=job.progress)

    asked.jobs.start(key, work)
    return f"interference?{urlencode({'rev': rev})}"
