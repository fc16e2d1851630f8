"""Forgeries: each makes the files of another repository from those of a valid one, with right hashes up to HEAD."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from persona.ids import object_digest

STORE = ".persona/"
_ID = re.compile(rb"[0-9a-f]{64}")
_QUOTED = re.compile(rb"\"([0-9a-f]{12})\"|'([0-9a-f]{12})'")

GONE = object()
"""The field is left out."""

DEEP = "deeply nested"
"""Stands for a list in a list, ten thousand times."""


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    to: str


@dataclass(frozen=True)
class Special:
    """Something that is no file: "fifo", "folder" or "closed", a file that its owner may not read."""

    kind: str
    data: bytes = b""


Thing = bytes | Link | Special
Tree = dict[str, Thing]


@dataclass(frozen=True)
class Forgery:
    """A name that says what was done, the files of the repository by their relative paths, and the lines to run; empty for any."""

    name: str
    make: Callable[[], Tree]
    lines: tuple[str, ...] = ()


WRONG: Mapping[str, Any] = {
    "gone": GONE,
    "null": None,
    "true": True,
    "minus one": -1,
    "zero": 0,
    "2^70": 2**70,
    "1.5": 1.5,
    "1e308": 1e308,
    "infinity": float("inf"),
    "nan": float("nan"),
    "empty": "",
    "outside": "../../neighbour.txt",
    "absolute": "/etc/passwd",
    "code": "sitecustomize.py",
    "null character": "a\0b",
    "escape": "\x1b]0;x\x07\u202e",
    "surrogate": "\ud800",
    "long": "x" * 100_000,
    "list": [],
    "table": {},
    "deep": DEEP,
    "missing id": "0" * 64,
}
"""What a value is replaced by. More values depend on the one that was there: see ``instead``."""

KEYS = (
    "",
    "../../neighbour.txt",
    "/etc/passwd",
    "sitecustomize.py",
    "a\0b",
    "\x1b]0;x\x07",
    "\ud800",
    "x" * 5000,
    "config.json/x",
    "kind",
)
"""What the name of an entry is replaced by."""


class Store:
    """The objects of a repository, and all its other files."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        prefix = f"{STORE}objects/"
        self.objects = {
            path.removeprefix(prefix).replace("/", ""): data for path, data in files.items() if path.startswith(prefix)
        }
        short = {name[:12].encode(): name for name in self.objects}
        self.fields = {name: json.loads(data) for name, data in self.objects.items()}
        self._needs = {name: self._named(data, short) - {name} for name, data in self.objects.items()}
        self.order = self._sorted()

    def _named(self, data: bytes, short: Mapping[bytes, str]) -> set[str]:
        ids = {match.decode() for match in _ID.findall(data)} & self.objects.keys()
        return ids | {short[at] for pair in _QUOTED.findall(data.replace(b"\\", b"")) for at in pair if at in short}

    def _sorted(self) -> list[str]:
        """The ids, so that each comes after all that it names."""
        done: dict[str, None] = {}
        waiting = sorted(self.objects)
        while waiting:
            ready = [name for name in waiting if self._needs[name] <= done.keys()]
            assert ready
            done |= dict.fromkeys(ready)
            waiting = [name for name in waiting if name not in done]
        return list(done)

    def kind(self, name: str) -> str:
        return str(self.fields[name]["kind"])

    def of_kind(self, kind: str) -> list[str]:
        """Ids of objects of one kind; those that are made of the most others come first."""
        return [name for name in reversed(self.order) if self.kind(name) == kind]

    def with_object(self, name: str, data: bytes) -> Tree:
        """All files after an object's content became ``data``: whatever names it, up to HEAD, names the new one."""
        renamed = {name: object_digest(data)}
        tree: Tree = dict(self.files)
        changed = {name: data}
        for other in self.order[self.order.index(name) + 1 :]:
            old = self._needs[other] & renamed.keys()
            if old:
                text = self.objects[other]
                for one in old:
                    text = _renamed(text, one, renamed[one])
                renamed[other], changed[other] = object_digest(text), text
        for old_name, text in changed.items():
            del tree[_path(old_name)]
            tree[_path(renamed[old_name])] = text
        for path, text in self.files.items():
            if not path.startswith((f"{STORE}objects/", f"{STORE}packs/", "evals/")):
                for one, new in renamed.items():
                    text = _renamed(text, one, new)
                tree[path] = text
        return tree


def _path(name: str) -> str:
    return f"{STORE}objects/{name[:2]}/{name[2:]}"


def _renamed(text: bytes, old: str, new: str) -> bytes:
    return text.replace(old.encode(), new.encode()).replace(old[:12].encode(), new[:12].encode())


def encoded(value: Any) -> bytes:
    """Canonical JSON as far as there is one: not for lone surrogates, NaN, or lists in lists without end."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    try:
        data = text.encode()
    except UnicodeEncodeError:
        data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return data.replace(json.dumps(DEEP).encode(), b"[" * 10_000 + b"]" * 10_000)


Path = tuple[str | int, ...]


def places(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value in a value: only the first two entries of a list or table, unless a table has few."""
    if path:
        yield path, value
    if isinstance(value, dict):
        keys = sorted(value) if len(path) < 1 or len(value) < 14 else sorted(value)[:1]
        for key in keys:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for number in range(min(2, len(value))):
            yield from places(value[number], (*path, number))


FREE = {
    ("base", "tensors"), ("base", "files"), ("base", "tied"), ("vector", "tensors"), ("vector", "low_rank"),
    ("vector", "files"), ("vector", "config"), ("fisher", "tensors"), ("readout", "tensors"), ("graph", "nodes"),
    ("graph", "links"), ("node", "tags"), ("operation", "refs"), ("recipe", "parameters"), ("evaluation", "made"), ("recipe", "files"),
}  # fmt: skip
"""Tables whose entries have names of their own: one entry stands for all."""


def _shape(kind: str, path: Path) -> tuple[str, ...]:
    """The kind of place that a path is."""
    words = ["#" if isinstance(part, int) else part for part in path]
    if len(words) > 1 and (kind, words[0]) in FREE:
        words[1] = "*"
    return (kind, *words)


def changed(value: Any, path: Path, new: Any) -> Any:
    """A copy with another value at ``path``."""
    first, *rest = path
    copy = value.copy()
    if rest:
        copy[first] = changed(copy[first], tuple(rest), new)
    elif new is GONE:
        del copy[first]
    else:
        copy[first] = new
    return copy


def instead(value: Any, others: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """What a value may be replaced by, each with a name."""
    yield from WRONG.items()
    yield "in a list", [value]
    yield "in a table", {"x": value}
    if isinstance(value, str) and _ID.fullmatch(value.encode()):
        yield from ((f"id of a {kind}", name) for kind, name in others.items() if name != value)
        yield "upper case", value.upper()
        yield "short", value[:12]
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield "as text", str(value)
        yield "as another number", float(value) if isinstance(value, int) else int(value)
    if isinstance(value, list) and value:
        yield "twice", value + value
        yield "one less", value[1:]
        yield "one more", [*value, None]
    if isinstance(value, dict):
        yield "another entry", {**value, "more": 1}


def objects(store: Store) -> Iterator[Forgery]:
    """Every kind of place in objects of every kind, with every wrong value."""
    firsts = {kind: store.of_kind(kind)[-1] for kind in sorted({store.kind(name) for name in store.order})}
    seen = set[tuple[str, ...]]()
    for kind in firsts:
        for name in _best_first(store, kind):
            for path, value in places(store.fields[name]):
                shape = _shape(kind, path)
                if shape in seen or path in (("kind",), ("version",)):
                    continue
                seen.add(shape)
                place = " ".join(shape)
                # an object cannot name itself or what names it, as its own id would depend on that
                known = {k: other for k, other in firsts.items() if store.order.index(other) < store.order.index(name)}
                for what, new in instead(value, known):
                    if what == "gone" and not isinstance(path[-1], str):
                        continue
                    yield _object(store, f"{place}: {what}", name, path, new)
                if isinstance(value, dict) and value:
                    yield from _keys(store, place, name, path, value)
        yield from _whole(store, kind)


def _best_first(store: Store, kind: str) -> list[str]:
    """The objects of a kind, those that HEAD's recipe and its vectors use most directly first."""
    return store.of_kind(kind)


def _object(store: Store, label: str, name: str, path: Path, new: Any) -> Forgery:
    return Forgery(label, lambda: store.with_object(name, encoded(changed(store.fields[name], path, new))))


def _keys(store: Store, place: str, name: str, path: Path, table: Mapping[str, Any]) -> Iterator[Forgery]:
    first, *rest = sorted(table)
    for key in KEYS:
        new = {key: table[first]} | {other: table[other] for other in rest}
        yield _object(store, f"{place}: key {key[:20]!r}", name, path, new)


def _whole(store: Store, kind: str) -> Iterator[Forgery]:
    """Another object, or none, in the place of a whole one."""
    name = store.of_kind(kind)[0]
    fields = store.fields[name]
    texts: dict[str, bytes] = {
        "no JSON": b"\xff\x00nonsense",
        "empty": b"",
        "a number": b"1",
        "null": b"null",
        "a list": b"[]",
        "an empty table": b"{}",
        "deep": b"[" * 100_000,
        "huge number": b'{"kind":"' + kind.encode() + b'","version":' + b"9" * 5000 + b"}",
        "two values": encoded(fields) + b"{}",
        "indented": json.dumps(fields, indent=2).encode(),
        "no kind": encoded({key: value for key, value in fields.items() if key != "kind"}),
        "kind as a list": encoded({**fields, "kind": [kind]}),
        "another kind": encoded({**fields, "kind": "text" if kind != "text" else "commit"}),
        "unknown kind": encoded({**fields, "kind": "potion"}),
        "kind and version alone": encoded({"kind": kind, "version": 1}),
        "a key twice": encoded(fields)[:-1] + b',"kind":"' + kind.encode() + b'"}',
        "another field": encoded({**fields, "more": 1}),
    }
    texts |= {
        f"version {value!r}": encoded({**fields, "version": value})
        for value in (None, 0, -1, 2, 2**70, 1.5, True, "1", [])
    }
    for what, data in texts.items():
        yield Forgery(f"{kind}: {what}", lambda data=data: store.with_object(name, data))  # type: ignore[misc]


LINES: Mapping[str, bytes] = {
    "empty": b"",
    "blank": b"\n",
    "nonsense": b"nonsense\n",
    "no text": b"\xff\xfe\x00",
    "null characters": b"\0" * 65,
    "missing id": b"0" * 64 + b"\n",
    "upper case": b"A" * 64 + b"\n",
    "short id": b"0123456789ab\n",
    "a branch outside": b"ref: refs/heads/../../../neighbour.txt\n",
    "a branch that is none": b"ref: refs/heads/none\n",
    "HEAD": b"ref: HEAD\n",
    "no branch": b"ref: refs/tags/v1\n",
    "a file": b"ref: /etc/passwd\n",
    "escape": b"ref: refs/heads/\x1b]0;x\x07\n",
    "long": b"x" * 2_000_000,
    "many lines": b"a\n" * 1000,
}
"""What the content of a ref, or of another file with one line, is replaced by."""

REFS = (
    "HEAD", "refs/heads/main", "refs/heads/side", "refs/heads/weighed", "refs/heads/a/b/c", "refs/tags/v1", "refs/tags/deep/down",
    "refs/merge/1", "refs/merge/2", "refs/bisect/from", "refs/bisect/bad", "refs/bisect/good/x", "refs/bisect/skip/x",
    "refs/remotes/origin/main", "refs/evil", "refs/heads/\x1b]0;x\x07", "refs/heads/a b", "refs/heads/HEAD", "op/head", "op/applied",
    "format", "lock", "objects/ab/cd", "objects/x", "packs/x.pack", "packs/x.json", "packs/x.safetensors", "tmp/x.tmp-1",
)  # fmt: skip

CONFIGS: Mapping[str, bytes] = {
    "no TOML": b"[[[",
    "no text": b"\xff\xff",
    "a pager": b'[ui]\npager = "touch ../neighbour.txt #"\neditor = "touch x"\nhints = "x"\n[core]\npager = "x"\n',
    "user is a list": b"user = []\n",
    "name is a number": b"[user]\nname = 1\nemail = []\n",
    "escape": b'[user]\nname = "\\u001b]0;x\\u0007"\n',
    "deep": b"a = " + b"[" * 5000 + b"]" * 5000,
    "many keys": b".".join([b"a"] * 5000) + b" = 1\n",
    "safe": b'[safe]\ndirectory = ["*"]\n',
    "shared": b'[core]\nshared = "everybody"\nfsmonitor = "touch x"\n',
}

RECIPES: Mapping[str, bytes] = {
    "empty": b"",
    "no text": b"\xff\xff",
    "no TOML": b"[base",
    "base is a list": b"base = []\n",
    "no base": b"[vectors]\n",
    "deep": b"a = " + b"[" * 5000 + b"]" * 5000,
    "many parts": b".".join([b"a"] * 50_000) + b" = 1\n",
    "many tables": b"[" + b".".join([b"a"] * 5_000) + b"]\n",
    "long": b"#" * 20_000_000,
    "null characters": b"\0" * 100,
}


def loose_files(store: Store, kinds: Mapping[str, str]) -> Iterator[Forgery]:
    """Every file that is no object, with wrong lines and with things that are no files; ``kinds`` are ids by their kind."""
    evaluated = [path.removeprefix(STORE) for path in store.files if path.startswith(f"{STORE}evaluations/")][:1]
    lines = dict(LINES) | {f"id of a {kind}": name.encode() + b"\n" for kind, name in kinds.items()}
    for ref in (*REFS, *evaluated):
        for what, line in lines.items():
            yield Forgery(f"{ref!a}: {what}", lambda ref=ref, line=line: _with(store, {f"{STORE}{ref}": line}))  # type: ignore[misc]
    for path, texts in ((f"{STORE}config.toml", CONFIGS), ("persona.toml", RECIPES), ("evals/calm.toml", RECIPES)):
        for what, text in texts.items():
            yield Forgery(f"{path}: {what}", lambda path=path, text=text: _with(store, {path: text}))  # type: ignore[misc]


SPECIAL: Mapping[str, Thing] = {
    "link outside": Link("../../../neighbour.txt"),
    "link to a folder": Link("/etc"),
    "dangling link": Link("../../../nothing.txt"),
    "link to itself": Link("persona.toml"),
    "endless": Link("/dev/zero"),
    "fifo": Special("fifo"),
    "folder": Special("folder"),
}

STANDING = (
    "format", "config.toml", "HEAD", "refs", "refs/heads", "refs/heads/main", "refs/tags/v1", "refs/heads/new", "op", "op/head",
    "op/applied", "objects", "packs", "lock", "tmp", "evaluations",
)  # fmt: skip


def specials(store: Store) -> Iterator[Forgery]:
    """Links, folders and pipes where files should be, and the reverse."""
    known = sorted(store.files)
    one = {
        kind: next(path for path in known if path.startswith(f"{STORE}{kind}/"))
        for kind in ("objects", "packs", "evaluations")
    }
    packs = [path for path in known if path.startswith(f"{STORE}packs/")]
    targets = [
        *(f"{STORE}{name}" for name in STANDING),
        *one.values(),
        *packs,
        "persona.toml",
        "evals",
        "evals/calm.toml",
        "evals/answers.jsonl",
    ]
    for path in dict.fromkeys((*targets, one["objects"].rpartition("/")[0])):
        label = path.replace(one["objects"][len(f"{STORE}objects/") :], "OBJECT")
        label = label if "packs/" not in label else f"packs/{packs.index(path)}.{path.rpartition('.')[2]}"
        label = "evaluations/…" if "evaluations/" in label else label
        for what, thing in SPECIAL.items():
            yield Forgery(f"{label}: {what}", lambda path=path, thing=thing: _with(store, {path: thing}))  # type: ignore[misc]


def _with(store: Store, things: Mapping[str, Thing]) -> Tree:
    """All files, with others in the place of those of the same names, and of those below or above them."""
    tree: Tree = {
        path: data
        for path, data in store.files.items()
        if not any(path.startswith(f"{new}/") or new.startswith(f"{path}/") for new in things)
    }
    return tree | things
