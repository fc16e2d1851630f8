"""Sums of the interference report over several tensors, each with its own vectors and alphas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from persona.building.measuring import Subject

if TYPE_CHECKING:
    from persona.methods.parts.interference import Signs, SignSums


class SignTotals:
    """A sum of :class:`persona.methods.parts.interference.Signs`."""

    def __init__(self, count: int) -> None:
        self.both = np.zeros((count, count), np.int64)
        self.opposed = np.zeros((count, count), np.int64)
        self.shared = 0
        self.conflicting = 0

    def add(self, signs: Signs, place: Any) -> None:
        """Add those of a tensor; ``place`` indexes its vectors."""
        self.both[place] += np.array(signs.both, np.int64)
        self.opposed[place] += np.array(signs.opposed, np.int64)
        self.shared += signs.shared
        self.conflicting += signs.conflicting


class Total:
    """Sums over tensors, in the order in which they are added; arrays have one place for each of ``names``."""

    def __init__(
        self, names: Sequence[str], retrained: Sequence[str], scale: float, scale_before: float | None
    ) -> None:
        count = len(names)
        self._places = {name: number for number, name in enumerate(names)}
        self.scale = scale
        self.scale_before = scale_before
        self.tensors = 0
        self.entries = 0
        self.base = 0.0
        self.changed = np.zeros(count, bool)
        self.squares = np.zeros(count)
        self.dots = np.zeros((count, count))
        self.plain = SignTotals(count)
        self.trimmed = SignTotals(count)
        self.mass = np.zeros(count)
        self.elected_mass = np.zeros(count)
        self.elected = np.zeros(count, np.int64)
        self.delta = self.delta_product = self.delta_before = self.moved = 0.0
        self.retrained = {name: np.zeros(3) for name in retrained}
        """⟨τ, τ⟩, ⟨τ, τ'⟩ and ⟨τ', τ'⟩."""

    def add(self, subject: Subject, sums: SignSums) -> None:
        """Add one tensor."""
        self.tensors += 1
        self.entries += subject.base.entries
        self.base += sums.base
        if not subject.terms:
            return
        gram = np.array(sums.gram)
        if subject.output.terms:
            self._add_votes(subject, sums, gram)
        if self.scale_before is not None:
            self._add_change(subject, gram, self.scale_before)
            self._add_retrained(subject, gram)

    def _add_votes(self, subject: Subject, sums: SignSums, gram: Any) -> None:
        terms = subject.output.terms
        places = [self._places[term.vector] for term in terms]
        place = np.ix_(places, places)
        alphas = np.array([term.alpha for term in terms])
        own = gram[: len(terms), : len(terms)]
        self.changed[places] = True
        self.squares[places] += own.diagonal()
        self.dots[place] += own * np.outer(alphas, alphas)
        self.plain.add(sums.plain, place)
        self.trimmed.add(sums.trimmed, place)
        self.mass[places] += sums.mass
        self.elected_mass[places] += sums.elected_mass
        self.elected[places] += np.array(sums.elected, np.int64)

    def _add_change(self, subject: Subject, gram: Any, scale_before: float) -> None:
        """‖δ‖², ⟨δ, δ'⟩, ‖δ'‖² and ‖δ − δ'‖² from G: δ = Σ cᵢτᵢ, so that ⟨δ, δ'⟩ = cᵀ G c'."""
        now, then = np.zeros(len(gram)), np.zeros(len(gram))
        for number, term in enumerate(subject.output.terms):
            now[number] += self.scale * term.alpha
        for _, alpha, number in subject.before:
            then[number] += scale_before * alpha
        now = _together(now, subject)
        self.delta += float(now @ gram @ now)
        self.delta_product += float(now @ gram @ then)
        self.delta_before += float(then @ gram @ then)
        moved = float((now - then) @ gram @ (now - then))
        self.moved += 0.0 if moved < 0 else moved  # rounding can make it negative; a NaN stays

    def _add_retrained(self, subject: Subject, gram: Any) -> None:
        now = {term.vector: number for number, term in enumerate(subject.output.terms)}
        then = {name: number for name, _, number in subject.before}
        for name, sums in self.retrained.items():
            i, j = now.get(name), then.get(name)
            sums += [
                0 if i is None else gram[i, i],
                0 if i is None or j is None else gram[i, j],
                0 if j is None else gram[j, j],
            ]


def _together(strengths: Any, subject: Subject) -> Any:
    """Move the strengths of vectors with an identical τ to the first of them; the sum stays the same."""
    sources = [term.source for term in subject.output.terms]
    for number, source in enumerate(sources):
        first = sources.index(source)
        if first < number:
            strengths[first] += strengths[number]
            strengths[number] = 0
    return strengths
