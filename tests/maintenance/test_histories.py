"""Whatever the history: after ``gc`` what can be reached reads back, verified, and what cannot is gone.

The oracle is a walk of its own over the same objects, written from docs/format.md with nothing of ``keeping``.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import persona
from persona.errors import Refusal, UsageError
from persona.ids import TensorId
from persona.repository import Repository
from persona.store.tensors import TensorStore
from tests.models import TinyModels
from tests.verbs.test_fsck import fsck

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.integers(1, 4)),
        st.tuples(st.just("alpha"), st.integers(2, 5)),
        st.tuples(st.just("rm"), st.just(0)),
        st.tuples(st.just("branch"), st.integers(0, 2)),
        st.tuples(st.just("back"), st.integers(1, 3)),
        st.tuples(st.just("main"), st.just(0)),
        st.tuples(st.just("drop"), st.just(0)),
        st.tuples(st.just("gc"), st.just(0)),
    ),
    min_size=3,
    max_size=9,
)


def step(repo: Repository, models: TinyModels, what: str, number: int, count: int) -> None:
    entries = repo.recipe(repo.head()).vectors
    if what == "commit":
        persona.commit(repo, models.run(number), name=f"v{number}", alpha=count + 1.0)
    elif what == "alpha" and entries:
        persona.alpha(repo, {entries[0].name: number / 7 + count})
    elif what == "rm" and entries:
        persona.rm(repo, [entries[-1].name])
    elif what == "branch":
        persona.checkout(repo, "HEAD", branch=f"b{number}")
    elif what == "back":
        persona.checkout(repo, f"HEAD~{number}")
    elif what == "main":
        persona.checkout(repo, "main")
    elif what == "drop":
        _drop(repo)
    elif what == "gc":
        persona.gc(repo, grace=0)


def _drop(repo: Repository) -> None:
    here = repo.refs()["HEAD"].removeprefix("ref: ")
    for name in repo.refs():
        if name.startswith("refs/heads/b") and name != here:
            with repo.transaction("drop") as change:
                change.set_ref(name, None)
            return


def reachable(repo: Repository) -> tuple[set[str], set[str], set[str]]:
    """Objects, tensors and blobs that refs and recipe lead to, by the format's own words."""
    objects, tensors, blobs = set(), set(), set()
    queue = [value for value in repo.refs().values() if not value.startswith("ref: ")]
    while queue:
        name = queue.pop()
        if name in objects:
            continue
        objects.add(name)
        fields = json.loads((repo.folder / "objects" / name[:2] / name[2:]).read_bytes())
        kind = fields["kind"]
        if kind == "commit":
            queue += [fields["recipe"], fields["text"], *fields["parents"]]
        if kind == "recipe":
            queue += [fields["base"], *(entry["id"] for entry in fields["vectors"])]
        if kind == "vector":
            queue.append(fields["base"])
        if kind in ("vector", "base"):
            tensors |= {spec[0] for spec in fields["tensors"].values()}
            blobs |= set(fields["files"].values())
    return objects, tensors, blobs


def stored_objects(repo: Repository) -> dict[str, str]:
    paths = [path for path in (repo.folder / "objects").rglob("*") if path.is_file()]
    return {path.parent.name + path.name: json.loads(path.read_bytes())["kind"] for path in paths}


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_whatever_the_history(models: TinyModels, steps: list[tuple[str, int]]) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        persona.init(folder / "work", models.base())
        repo = persona.open(folder / "work")
        for count, (what, number) in enumerate(steps):
            try:
                step(repo, models, what, number, count)
            except (UsageError, Refusal):
                continue
        check(repo)
    finally:
        shutil.rmtree(folder)


def check(repo: Repository) -> None:
    objects, tensors, blobs = reachable(repo)
    before = {name: repo.tensors.read(TensorId(name)).tobytes() for name in tensors}
    persona.gc(repo, grace=0)
    left = stored_objects(repo)
    assert {name for name, kind in left.items() if kind != "operation"} == objects
    store = TensorStore(repo.folder / "packs", repo.folder / "tmp")
    for name, data in before.items():
        assert np.array_equal(store.read(TensorId(name)).view("u1"), np.frombuffer(data, "u1"))
    bases = {tensor.base for volume in store.volumes() for tensor in volume.tensors.values()} - {None}
    for volume in store.volumes():
        live = {*volume.tensors, *volume.blobs} & (tensors | blobs | bases)
        size = sum(volume.tensors[n].stored for n in live if n in volume.tensors)
        assert live, "no file without anything live"
        if volume.path.suffix == ".pack" and not volume.blobs:
            assert 2 * size >= sum(tensor.stored for tensor in volume.tensors.values())
    found = fsck(repo)
    assert found.ok
    assert not any(re.search("unreferenced object", text) for text in found.notes)
    assert persona.gc(repo, grace=0).freed == 0
