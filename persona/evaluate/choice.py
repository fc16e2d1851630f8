"""Which of several trials is the one to take.

A trial has a value for each objective, the lower the better. It *dominates* another if it is no worse in any and better in one; what
nothing dominates is the Pareto front. Trial 0 is where the recipe stands.
"""

from __future__ import annotations

from collections.abc import Sequence

Values = tuple[float, ...] | None
"""Of a trial; None of one that has failed or breaks a limit, and is never chosen."""


def dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether ``one`` is no worse in any value, and better in one."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and one != other


def front(trials: Sequence[Values]) -> tuple[int, ...]:
    """The numbers of those that nothing dominates; equals are all there."""
    sound = [(at, one) for at, one in enumerate(trials) if one is not None]
    return tuple(at for at, one in sound if not any(dominates(other, one) for _, other in sound))


def recommended(trials: Sequence[Values]) -> int | None:
    """The best in the first objective (of equals in the next, then the earliest) among those no worse than trial 0 in any.

    0 where nothing is better, None where there is no sound trial. It is always on the front: what dominated it would be no
    worse than trial 0 either, and come first. Where trial 0 has no values, all the others are asked.
    """
    start = trials[0]
    good = [
        (one, at)
        for at, one in enumerate(trials)
        if one is not None and (start is None or one == start or dominates(one, start))
    ]
    return min(good)[1] if good else None
