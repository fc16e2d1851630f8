"""How fast the store decodes and encodes, on all cores.

    python -m tests.bench.decode DIR [--size 374M] [--rounds 5]

Writes checkpoints into DIR (3 GB for 374M) unless they are there, and a repository of them. Throughput is in GB/s of
plain bytes: those of the tensors as a checkpoint has them. *verified* is how the store reads: each block decoded, and
hashed as it goes by. *decoded* leaves the hash out. *encoded* is the difference to the base, block by block, without
writing it anywhere. Files are in the page cache.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

import persona
from persona import kernels
from persona.checkpoints.dtypes import as_bits
from persona.checkpoints.folder import Checkpoint, open_checkpoint
from persona.ids import TensorId
from persona.store import codecs
from persona.store.nouns import Base, TensorSpec
from persona.store.packs import BLOCK
from persona.store.tensors import TensorStore
from persona.threads import cores, run_all
from tests.bench import checkpoints

RUNS = ("ft0", "ft1", "ft2")


def main() -> None:
    """Print a table."""
    args = _arguments()
    models = args.folder / args.size
    checkpoints.make(models, args.size)
    repo = _repository(args.folder / "decode", models)
    base = repo.base(repo.recipe(repo.head()).base_id)
    largest = sum(spec.entries for spec in base.tensors.values())
    loops = kernels.choose(max(largest, args.loops_for))
    print(f"{cores()} cores, {loops.name()}, median of {args.rounds}, GB/s of plain bytes\n")
    print("| | plain | verified | decoded | encoded |\n|---|---|---|---|---|")
    _row("base (kept as it came)", list(base.tensors.values()), repo.tensors, args.rounds, None)
    for entry in repo.recipe(repo.head()).vectors:
        specs = [spec for one in persona.vectors(repo) if one.name == entry.name for spec in _stored(repo, one.id)]
        encode = partial(_encode_all, open_checkpoint(models / entry.name), base, repo.tensors)
        _row(entry.name, specs, repo.tensors, args.rounds, encode)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=checkpoints.SIZES, default="374M")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--loops-for", type=int, default=0, metavar="N", help="use the loops that a job of N entries would get"
    )
    args = parser.parse_args()
    args.folder = args.folder.absolute()
    return args


def _repository(root: Path, models: Path) -> persona.Repository:
    shutil.rmtree(root, ignore_errors=True)
    persona.init(root, models / "base", keep="reference", author="bench")
    for name in RUNS:
        persona.commit(persona.open(root), models / name, name=name, author="bench")
    return persona.open(root)


def _stored(repo: persona.Repository, name: persona.VectorId) -> Iterable[TensorSpec]:
    return repo.vector(name).tensors.values()


def _row(name: str, specs: list[TensorSpec], store: TensorStore, rounds: int, encode: Callable[[], int] | None) -> None:
    names = [spec.id for spec in sorted(specs, key=lambda spec: -spec.entries)]
    verified, nbytes = _timed(lambda: _on_all_cores(partial(_verify, store), names), rounds)
    decoded, _ = _timed(lambda: _on_all_cores(partial(_decode, store), names), rounds)
    encoded = f"{nbytes / _timed(encode, rounds)[0] / 1e9:.2f}" if encode else ""
    print(
        f"| {name} | {nbytes / 1e6:.0f} MB | {nbytes / verified / 1e9:.2f} | {nbytes / decoded / 1e9:.2f} | {encoded} |"
    )


def _timed(work: Callable[[], int], rounds: int) -> tuple[float, int]:
    """The median of ``rounds`` after one that is not counted, and what the work gave."""
    given, took = work(), []
    for _ in range(rounds):
        start = time.perf_counter()
        assert work() == given
        took.append(time.perf_counter() - start)
    return median(took), given


def _on_all_cores(read: Callable[[TensorId], int], names: list[TensorId]) -> int:
    return sum(run_all({name: partial(read, name) for name in names}).values())


class _Room:
    """Memory that is used again for every block, as a build has it."""

    def __init__(self) -> None:
        self._bytes = np.empty(8 * BLOCK, np.uint8)

    def __call__(self, count: int, width: int) -> np.ndarray:
        return self._bytes[: count * width].view(f"<u{width}")


def _verify(store: TensorStore, name: TensorId) -> int:
    return sum(block.nbytes for block in store.blocks(name, BLOCK, _Room()))


def _decode(store: TensorStore, name: TensorId) -> int:
    stored, _, entries = store.source(name)
    return sum(entries(at, min(at + stored.block, stored.units)).nbytes for at in range(0, stored.units, stored.block))


def _encode_all(checkpoint: Checkpoint, base: Base, store: TensorStore) -> int:
    """Bytes of the payloads."""
    changed = {
        name: info
        for name, info in checkpoint.tensors.items()
        if name in base.tensors and base.tensors[name].shape == info.shape
    }
    jobs = {name: partial(_encode, checkpoint, name, base.tensors[name].id, store) for name in changed}
    return sum(run_all(jobs).values())


def _encode(checkpoint: Checkpoint, name: str, before: TensorId, store: TensorStore) -> int:
    file = checkpoint.owner[name]
    bits = as_bits(file.data(file.tensors[name]), file.tensors[name].dtype)
    theirs, encode, total = store.source(before)[2](0, len(bits)), codecs.load("delta").encode, 0
    for at in range(0, len(bits), BLOCK):
        total += len(encode(bits[at : at + BLOCK].copy(), theirs[at : at + BLOCK]))
    return total


if __name__ == "__main__":
    main()
