"""Measuring how vectors agree, tensor by tensor: one pass over base and vectors, on all cores.

To trim, the edges (the smallest magnitudes kept) must be found first. A tensor that fits into the memory budget is
read once and held for that; a larger one is read twice more. The edges are those of a build. Vectors of a method that
does not trim are measured with the trim of TIES.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from threading import Event
from typing import TYPE_CHECKING

import numpy as np

from persona import kernels, methods
from persona.building.acting import Active, Touch, active_vectors
from persona.building.budget import DEFAULT, Budget
from persona.building.plan import Output, Plan, Term, natural
from persona.building.streams import Stream, open_delta, tau_blocks
from persona.building.wholecut import with_cuts
from persona.checkpoints.dtypes import ARITHMETIC
from persona.ids import draw_key
from persona.methods.parts import family, rules
from persona.methods.parts.family import Thinned
from persona.methods.parts.interference import SignSums, measure
from persona.methods.parts.kinds import Family
from persona.methods.parts.parameters import DENSITY, Value
from persona.methods.parts.work import Piece, Work
from persona.progress import Progress, Task
from persona.recipe.alphas import layer_of
from persona.recipe.model import Entry, Recipe
from persona.store.nouns import Base, TensorSpec, Vector
from persona.store.packs import BLOCK
from persona.store.tensors import TensorStore
from persona.threads import Stopped, run_all

if TYPE_CHECKING:
    from persona.building.edges import Get
    from persona.methods.parts.work import Float32

Vectors = Mapping[str, Vector]
"""Vectors by their names in a recipe."""


@dataclass(frozen=True)
class Trim:
    """What "after the trim" means: the method's own sparsifier or, if ``assumed``, that of TIES at its default density."""

    kind: Family
    assumed: bool
    recipe: Recipe

    @classmethod
    def of(cls, recipe: Recipe) -> Trim:
        """The trim of a recipe's method."""
        kind = rules.family_of(methods.load(recipe.method))
        if kind is not None and kind.sparsify in ("trim", "outliers"):
            return cls(kind, False, recipe)
        return cls(Family("trim", "elect"), True, recipe)

    def settings(self, entry: Entry | None = None) -> dict[str, Value]:
        """The method's parameters, for one vector if given."""
        if self.assumed:
            return {"density": DENSITY.default}
        own = entry.parameters if entry is not None else {}
        return methods.settings(methods.load(self.recipe.method).PARAMETERS, self.recipe.parameters, own)


@dataclass(frozen=True)
class Subject:
    """A tensor to measure.

    ``output.terms`` are the vectors of the recipe, and ``once`` those that only the earlier recipe had. ``before``
    has, for each vector of the earlier recipe, its name, its alpha and the index of its τ in ``terms``.
    """

    output: Output
    once: tuple[Term, ...] = ()
    before: tuple[tuple[str, float, int], ...] = ()

    @property
    def terms(self) -> tuple[Term, ...]:
        """Every τ that is read."""
        return (*self.output.terms, *self.once)

    @property
    def base(self) -> TensorSpec:
        """W_base."""
        assert self.output.base is not None
        return self.output.base


def subjects(trim: Trim, base: Base, vectors: Vectors, before: tuple[Recipe, Vectors] | None = None) -> list[Subject]:
    """List every float tensor, from the embeddings to the head.

    Args:
        trim: The recipe with its trim.
        base: Its base.
        vectors: Its vectors.
        before: An earlier recipe to compare with, and its vectors.
    """
    active = active_vectors(trim.recipe, base, vectors)
    once = active_vectors(before[0], base, before[1]) if before is not None else []
    names = {**base.tensors, **{name: None for a in (*active, *once) for name in a.vector.names}}
    subjects = []
    for name in sorted(names, key=lambda name: (layer_of(name)[0], natural(name))):
        spec = base.spec(name)
        if spec is not None and spec.dtype in ARITHMETIC:
            terms = tuple(_terms(trim, active, name))
            subject = _with_earlier(Output(name, spec.dtype, spec.shape, spec, None, terms), once)
            subjects += [subject] if subject.terms or name in base.tensors else []
    return subjects


def _touches(active: Sequence[Active], name: str) -> Iterator[Touch]:
    for a in active:
        touch = a.touch_at(name)
        if touch is not None and all(dense.spec.dtype in ARITHMETIC for dense in touch.dense):
            yield touch


def _terms(trim: Trim, active: Sequence[Active], name: str) -> Iterator[Term]:
    for touch in _touches(active, name):
        entry = touch.active.entry
        settings = trim.settings(entry)
        yield Term(
            entry.name, touch.alpha, touch.source, draw_key(str(settings.get("seed", 0)), entry.id, name), settings
        )


def _with_earlier(output: Output, once: Sequence[Active]) -> Subject:
    """Add the vectors of the earlier recipe; a τ that both recipes have is read only once."""
    terms, places = list(output.terms), []
    for touch in _touches(once, output.name):
        place = next((k for k, term in enumerate(terms) if term.source == touch.source), len(terms))
        if place == len(terms):
            terms.append(Term(touch.active.name, touch.alpha, touch.source))
        places.append((touch.active.name, touch.alpha, place))
    return Subject(output, tuple(terms[len(output.terms) :]), tuple(places))


def measure_all(
    trim: Trim, subjects: list[Subject], store: TensorStore, progress: Progress, memory: int = DEFAULT
) -> list[SignSums]:
    """Measure every subject, in order. ``memory`` is the number of bytes of tensors to hold at once."""
    plan = Plan(tuple(s.output for s in subjects), trim.recipe.method, trim.recipe.scale, trim.settings())
    outputs = with_cuts(plan, store, progress).outputs
    subjects = [replace(subject, output=output) for subject, output in zip(subjects, outputs, strict=True)]
    stop = Event()
    with progress.task("measuring", sum(subject.base.entries for subject in subjects), "weights") as task:
        worker = _Worker(trim.kind, store, task, stop, Budget(memory), _compiled(subjects))
        largest_first = sorted(range(len(subjects)), key=lambda number: -subjects[number].base.entries)
        sums = run_all({number: partial(worker.measure, subjects[number]) for number in largest_first}, stop)
    return [sums[number] for number in range(len(subjects))]


def _compiled(subjects: list[Subject]) -> bool:
    """Whether compiled loops are worth it for this much work, available, and trusted."""
    entries = sum(subject.base.entries * (1 + 3 * len(subject.terms)) for subject in subjects)
    if not kernels.choose(entries).FUSED:
        return False
    from persona.building import fused

    return fused.trusted()


@dataclass(frozen=True)
class _Worker:
    kind: Family
    store: TensorStore
    task: Task
    stop: Event
    budget: Budget
    compiled: bool

    def measure(self, subject: Subject) -> SignSums:
        """Measure one tensor."""
        with np.errstate(all="ignore"), ExitStack() as held:
            work = self._streamed(subject)
            if self._has_edges(subject) and (rows := self._rows(subject, work, held)) is not None:
                work = replace(work, tau=partial(_parts, rows), pieces=partial(self._from_memory, subject, rows))
                if self.compiled:
                    return self._measured(subject, work, self._cuts(subject, rows))
            return self._measured(subject, work, family.prepare(self.kind, work))

    def _measured(self, subject: Subject, work: Work, thinned: list[Thinned]) -> SignSums:
        return measure(work, thinned, len(subject.terms), self._advance)

    def _advance(self, entries: int) -> None:
        if self.stop.is_set():
            raise Stopped
        self.task.advance(entries)

    def _has_edges(self, subject: Subject) -> bool:
        whole = self.kind.sparsify == "trim"
        return any(t.cut is None and not (whole and t.share.number("density") >= 1) for t in subject.output.terms)

    def _streamed(self, subject: Subject) -> Work:
        return Work(
            subject.output.name,
            subject.base.shape,
            tuple(term.share for term in subject.output.terms),
            {},
            lambda number: tau_blocks(subject.terms[number], subject.base, self.store, BLOCK),
            lambda: self._pieces(subject),
        )

    def _pieces(self, subject: Subject) -> Iterator[Piece]:
        deltas = [open_delta(term, self.store, BLOCK) for term in subject.terms]
        for start, w in self._base(subject):
            yield Piece(start, w, [delta.take(w, start, len(w)) for delta in deltas])
        for delta in deltas:
            delta.drain()

    def _base(self, subject: Subject) -> Iterator[tuple[int, Float32]]:
        before = Stream(self.store, subject.base)
        for start in range(0, subject.base.entries, BLOCK):
            yield start, before.take_fp32(min(BLOCK, subject.base.entries - start))
        before.drain()

    def _rows(self, subject: Subject, work: Work, held: ExitStack) -> Float32 | None:
        """Read every τ of the tensor into memory; None if that exceeds the budget."""
        nbytes = 4 * subject.base.entries * len(subject.terms)
        if nbytes > self.budget.nbytes:
            return None
        held.enter_context(self.budget.borrowed(nbytes))
        rows = np.empty((len(subject.terms), subject.base.entries), np.float32)
        for piece in work.pieces():
            for row, tau in zip(rows, piece.deltas, strict=True):
                row[piece.start : piece.start + len(tau)] = tau
        return rows

    def _from_memory(self, subject: Subject, rows: Float32) -> Iterator[Piece]:
        for start, w in self._base(subject):
            yield Piece(start, w, list(rows[:, start : start + len(w)]))

    def _cuts(self, subject: Subject, rows: Float32) -> list[Thinned]:
        from persona.building.edges import Magnitudes

        def look(row: Float32) -> Get:
            return lambda start, stop: (row[start:stop], row[:0])

        shares = [term.share for term in subject.output.terms]
        return [
            Thinned(Magnitudes(len(row), share.key, look(row)).cut(self.kind.sparsify, share))
            for row, share in zip(rows, shares, strict=False)
        ]


def _parts(rows: Float32, number: int) -> Iterator[Float32]:
    for start in range(0, rows.shape[1], BLOCK):
        yield rows[number, start : start + BLOCK]
