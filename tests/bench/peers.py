"""``commit`` and ``build`` against the peers, turn by turn in one run.

    python -m tests.bench.peers DIR [--size 374M] [--rounds 3] [--only methods] [--mergekit PATH] [--dvc PATH] [--git-lfs PATH]

Writes checkpoints into DIR (3 GB for 374M) unless they are there. Peers are left out where no program is given or, for
git-lfs, found: ``pip install mergekit`` and ``pip install dvc``, each in an environment of its own. The last table has methods of
persona's own beside ``linear``; Fisher diagonals are made up, 4 bytes for each weight that a vector changes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

import persona
from persona.ids import VectorId
from persona.recipe.edit import set_fisher
from persona.recipe.model import Entry, Recipe
from persona.store.fishers import Fisher, keep_fisher
from tests.bench import checkpoints
from tests.bench.measure import HEAD, Took, middle, row, run

RUNS = ("ft0", "ft1", "ft2")
ALPHA = 0.5
METHODS: dict[str, dict[str, object]] = {
    "linear": {},
    "dare_linear": {"density": 0.5},
    "ties": {"density": 0.2},
    "fisher": {},
}


def main() -> None:
    """Print tables of medians and ratios."""
    args = _arguments()
    models = args.folder / args.size
    checkpoints.make(models, args.size)
    bench = _Bench(models, args.folder / "work", args)
    peers = args.only != "methods"
    if peers:
        _table("commit of a full fine-tune (ft0)", bench.commits(), args.rounds)
    bench.repository()
    if peers:
        _table("build, linear, of three vectors", bench.builds("linear", "task_arithmetic"), args.rounds)
        _table("build, TIES at density 0.2, of three vectors", bench.builds("ties", "ties", density=0.2), args.rounds)
    bench.weigh()
    _table("build of the same by several methods", bench.methods(), args.rounds)
    bench.kept()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=checkpoints.SIZES, default="374M")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["methods"], help="leave the peers out")
    parser.add_argument("--mergekit", type=Path, help="the program mergekit-yaml")
    parser.add_argument("--dvc", type=Path, help="the program dvc")
    parser.add_argument(
        "--git-lfs", type=Path, default=shutil.which("git-lfs"), help="the program git-lfs, if not on PATH"
    )
    args = parser.parse_args()
    args.folder = args.folder.absolute()
    return args


Contestants = dict[str, tuple[Callable[[], None], Callable[[], Took]]]
"""Name → (preparation, not timed; the run itself)."""


def _table(title: str, contestants: Contestants, rounds: int) -> None:
    """One uncounted turn each, then ``rounds`` turns, A B A B …; the first contestant is what others are divided by."""
    took: dict[str, list[Took]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, (prepare, go) in contestants.items():
            prepare()
            os.sync()
            one = go()
            if turn:
                took[name].append(one)
    print(f"\n**{title}**, median of {rounds}\n\n{HEAD}")
    for name, runs in took.items():
        print(row(name, middle(runs)))
    first, *others = took
    for other in others:
        for what, called in (("wall", "wall"), ("cpu", "CPU")):
            pairs = zip(took[first], took[other], strict=True)
            ratios = sorted(getattr(b, what) / getattr(a, what) for a, b in pairs)
            said = f"{median(ratios):.1f} × the {called} time of {first} ({ratios[0]:.1f} to {ratios[-1]:.1f})"
            print(f"\n{other} takes {said}")
    sys.stdout.flush()


class _Bench:
    def __init__(self, models: Path, work: Path, args: argparse.Namespace) -> None:
        self.models = models
        self.work = work
        self.args = args
        self.persona = shutil.which("persona", path=str(Path(sys.executable).parent)) or "persona"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)

    def _fresh(self, name: str) -> Path:
        shutil.rmtree(self.work / name, ignore_errors=True)
        (self.work / name).mkdir()
        return self.work / name

    def commits(self) -> Contestants:
        """``persona commit`` into a repository with the base; ``git add`` and ``dvc add`` where the base was before."""
        found: Contestants = {"persona commit": (self._prepare_commit, self._commit)}
        if self.args.git_lfs:
            found["git add, with git-lfs"] = (self._prepare_lfs, self._lfs)
        if self.args.dvc:
            found["dvc add"] = (self._prepare_dvc, self._dvc)
        found["cp -r"] = (lambda: None, lambda: run(["cp", "-r", self.models / "ft0", self._fresh("cp") / "ft0"]))
        return found

    def _prepare_commit(self) -> None:
        run([self.persona, "init", "--base", self.models / "base"], self._fresh("repo"))

    def _commit(self) -> Took:
        return run([self.persona, "commit", self.models / "ft0", "--as", "ft0"], self.work / "repo")

    def _prepare_lfs(self) -> None:
        folder = self._fresh("lfs")
        program = f"'{self.args.git_lfs}'"
        for command in (
            ["init", "-q"],
            ["config", "filter.lfs.clean", f"{program} clean -- %f"],
            ["config", "filter.lfs.smudge", f"{program} smudge -- %f"],
            ["config", "filter.lfs.process", f"{program} filter-process"],
            ["config", "filter.lfs.required", "true"],
        ):
            subprocess.run(["git", *command], cwd=folder, check=True)
        (folder / ".gitattributes").write_text("*.safetensors filter=lfs diff=lfs merge=lfs -text\n")
        _copy(self.models / "base", folder / "model")
        subprocess.run(["git", "add", "."], cwd=folder, check=True)
        author = ["-c", "user.name=bench", "-c", "user.email=bench@example.org"]
        subprocess.run(["git", *author, "commit", "-q", "-m", "base"], cwd=folder, check=True)
        shutil.rmtree(folder / "model")
        _copy(self.models / "ft0", folder / "model")

    def _lfs(self) -> Took:
        took = run(["git", "add", "model"], self.work / "lfs")
        kept = sum(path.stat().st_size for path in (self.work / "lfs/.git/lfs/objects").rglob("*") if path.is_file())
        assert kept > sum(path.stat().st_size for path in (self.models / "ft0").glob("*.safetensors")), "lfs took it"
        return took

    def _prepare_dvc(self) -> None:
        folder = self._fresh("dvc")
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
        subprocess.run([self.args.dvc, "init", "-q"], cwd=folder, check=True)
        _copy(self.models / "base", folder / "model")
        subprocess.run([self.args.dvc, "add", "-q", "model"], cwd=folder, check=True)
        shutil.rmtree(folder / "model")
        _copy(self.models / "ft0", folder / "model")

    def _dvc(self) -> Took:
        return run([self.args.dvc, "add", "-q", "model"], self.work / "dvc")

    def repository(self) -> None:
        """A repository with the base and three vectors at 0.5, for all builds."""
        repo = self._fresh("build")
        run([self.persona, "init", "--base", self.models / "base"], repo)
        for name in RUNS:
            run([self.persona, "commit", self.models / name, "--as", name, "--alpha", str(ALPHA)], repo)

    def builds(self, method: str, peers_name: str, **parameters: object) -> Contestants:
        """``persona build`` of base + three vectors at 0.5; mergekit's method of the same name; and the least work:
        reading what a build reads and writing what it writes."""
        repo = self.work / "build"
        self._set_method(repo, method, parameters)
        found: Contestants = {f"persona build, {method}": (lambda: self._clear("out"), lambda: self._build(repo))}
        if self.args.mergekit:
            (self.work / "merge.yml").write_text(self._yaml(peers_name, parameters))
            found[f"mergekit {peers_name}"] = (lambda: self._clear("mergekit"), self._mergekit)
        found["cat of its inputs, cp of its output"] = (lambda: self._clear("floor"), self._floor)
        return found

    def methods(self) -> Contestants:
        """``persona build`` of the same by each of METHODS."""
        repo = self.work / "build"

        def prepare(method: str, parameters: Mapping[str, object]) -> None:
            self._set_method(repo, method, parameters)
            self._clear("out")

        return {
            f"persona build, {name}": (partial(prepare, name, said), lambda: self._build(repo))
            for name, said in METHODS.items()
        }

    def weigh(self) -> None:
        """A Fisher diagonal for each vector: squares of normal numbers, as large as their tensors."""
        repo = persona.open(self.work / "build")
        recipe, text = repo.recipe(repo.head()), repo.head_text()
        for seed, entry in enumerate(recipe.vectors):
            shapes = {name: one.shape for name, one in repo.vector(VectorId(entry.id)).tensors.items()}
            rng = np.random.default_rng(seed)
            found = {name: 1e-8 * np.square(rng.standard_normal(shape, np.float32)) for name, shape in shapes.items()}
            trace, norm = (
                float(sum(np.sum(one**power, dtype=np.float64) for one in found.values())) for power in (1, 2)
            )
            alone = Recipe(recipe.base, recipe.base_name, (Entry(entry.name, entry.id),)).put(repo.objects)
            kept = keep_fisher(found, repo.tensors)
            of = Fisher(recipe.base_id, ("0" * 64,), 1, 1, seed, kept, alone, trace, norm**0.5)
            text = set_fisher(text, entry.name, of.put(repo.objects))
        repo.recipe_path.write_text(text)

    def _set_method(self, repo: Path, method: str, parameters: Mapping[str, object]) -> None:
        recipe = repo / "persona.toml"
        lines = [f'method = "{method}"', *(f"{key} = {value}" for key, value in parameters.items())]
        recipe.write_text(recipe.read_text().split("\n[merge]")[0] + "\n".join(["", "[merge]", *lines, ""]))

    def _clear(self, name: str) -> None:
        shutil.rmtree(self.work / name, ignore_errors=True)

    def _build(self, repo: Path) -> Took:
        return run([self.persona, "build", "-o", self.work / "out"], repo)

    def _floor(self) -> Took:
        read = f"cat '{self.work}'/build/.persona/packs/*.pack '{self.work}'/build/.persona/packs/*.safetensors"
        return run(["sh", "-c", f"{read} > /dev/null && cp -r '{self.work}/out' '{self.work}/floor'"])

    def _mergekit(self) -> Took:
        program = [self.args.mergekit, self.work / "merge.yml", self.work / "mergekit", "--no-copy-tokenizer"]
        return run(program, self.work)

    def _yaml(self, method: str, parameters: Mapping[str, object]) -> str:
        lines = [f"merge_method: {method}", f"base_model: {self.models / 'base'}", "dtype: bfloat16"]
        lines += [f"parameters: {{normalize: {str(method == 'ties').lower()}}}", "models:"]
        own = "".join(f", {key}: {value}" for key, value in parameters.items())
        for name in RUNS:
            lines += [f"  - model: {self.models / name}", f"    parameters: {{weight: {ALPHA}{own}}}"]
        return "\n".join(lines) + "\n"

    def kept(self) -> None:
        """Bytes that the store keeps for each run."""
        whole = sum(path.stat().st_size for path in (self.models / "ft0").glob("*.safetensors"))
        print(f"\n**kept on disk** of {whole / 1e6:.0f} MB\n\n| run | kept | share |\n|---|---|---|")
        for one in persona.vectors(persona.open(self.work / "build")):
            print(f"| {one.name} | {one.kept_bytes / 1e6:.0f} MB | {one.kept_bytes / whole:.3f} |")


def _copy(source: Path, target: Path) -> None:
    """With new times: git takes two files of one size and one second for the same."""
    shutil.copytree(source, target, copy_function=shutil.copy)


if __name__ == "__main__":
    main()
