"""Forms of the page: each calls one verb, with the command line that does the same, and names the page to show then."""

from __future__ import annotations

from urllib.parse import parse_qs, urlencode

from persona.errors import UsageError
from persona.progress import Progress
from persona.ui.views import Asked, interference_key


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


def measure_interference(asked: Asked, form: Form) -> str:
    """Start ``persona.interference`` for a revision."""
    from persona.verbs.interference import interference

    repo, rev = asked.repo, form.get("rev")
    key = interference_key(repo, rev)

    def work(progress: Progress) -> object:
        return interference(repo, rev or None, progress=progress)

    asked.jobs.start(key, work)
    return f"interference?{urlencode({'rev': rev})}"
