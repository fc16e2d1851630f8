"""``trim = "model"``: one edge for a whole vector, as in the TIES authors' code.

Histograms of magnitudes add up across tensors. One pass over all tensors finds the bin of the whole vector's k-th
largest magnitude, a second one its value within the bin. Only counts are held in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from persona.building.plan import Output, Plan, Term
from persona.building.streams import tau_blocks
from persona.methods.parts.share import Cut
from persona.progress import Progress
from persona.store.tensors import TensorStore
from persona.threads import run_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from persona.methods.parts.order import Magnitudes

    Counter = Callable[[Term, Iterable[Magnitudes]], Any]

BLOCK = 1 << 18


def with_cuts(plan: Plan, store: TensorStore, progress: Progress) -> Plan:
    """Fill in the edges of whole vectors, if the method's ``trim`` parameter asks for them."""
    if plan.parameters.get("trim") != "model" or plan.is_cut:
        return plan
    sizes = _sizes(plan)
    if not sizes:
        return plan
    with progress.task("finding the edges", 2 * sum(sizes.values()), "weights") as task:
        cuts = _cuts(plan, store, sizes, task.advance)
    outputs = tuple(
        replace(o, terms=tuple(replace(t, cut=cuts.get(t.vector)) for t in o.terms)) if o.terms else o
        for o in plan.outputs
    )
    return replace(plan, outputs=outputs, is_cut=True)


def _sizes(plan: Plan) -> dict[str, int]:
    """Number of entries of each trimmed vector, over all tensors that it changes."""
    sizes: dict[str, int] = {}
    for output, term in _trimmed(plan):
        assert output.base is not None
        sizes[term.vector] = sizes.get(term.vector, 0) + output.base.entries
    return sizes


def _trimmed(plan: Plan) -> Iterator[tuple[Output, Term]]:
    for output in plan.outputs:
        for term in output.terms:
            if term.source is not None and float(term.parameters["density"]) < 1:
                yield output, term


def _cuts(plan: Plan, store: TensorStore, sizes: Mapping[str, int], advance: Any) -> dict[str, Cut]:
    from persona.methods.parts import order

    ks = {
        term.vector: order.kept_of(float(term.parameters["density"]), sizes[term.vector]) for _, term in _trimmed(plan)
    }
    upper = _summed(plan, store, lambda term, blocks: order.histogram(blocks), advance)
    places = {name: order.place(counts, ks[name]) for name, counts in upper.items()}
    lower = _summed(plan, store, lambda term, blocks: order.within(blocks, places[term.vector][0]), advance)
    ranked = {name: order.join(*places[name], counts, ks[name]) for name, counts in lower.items()}
    return {name: Cut(order.share_of(*three, ks[name])) for name, three in ranked.items()}


def _summed(plan: Plan, store: TensorStore, count: Counter, advance: Any) -> dict[str, Any]:
    """Sum the counts of every vector over its tensors. They are integers, so the order does not matter."""
    pairs = sorted(_trimmed(plan), key=lambda pair: -pair[0].entries)
    jobs = {number: partial(_count_one, *pair, store, count, advance) for number, pair in enumerate(pairs)}
    totals: dict[str, Any] = {}
    for number, counts in run_all(jobs).items():
        name = pairs[number][1].vector
        totals[name] = totals[name] + counts if name in totals else counts
    return totals


def _count_one(output: Output, term: Term, store: TensorStore, count: Counter, advance: Any) -> Any:
    from persona.methods.parts import order

    assert output.base is not None
    counts = count(term, order.blocks_of(tau_blocks(term, output.base, store, BLOCK, BLOCK)))
    advance(output.base.entries)
    return counts
