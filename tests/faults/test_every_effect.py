"""For each command, an ``OSError`` and a ``SIGKILL`` at every one of its file effects.

After each: the repository opens, is whole, stands where it stood before or where it should stand after, a reader who
came in between saw the one or the other, and the same command then succeeds. What ``gc`` must not delete and what
``fsck --repair-from`` must not make worse is looked at in the same way.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import persona
from persona.building.models import check_own
from persona.ids import FisherId
from persona.maintenance.check import check
from persona.readout import read_pairs
from persona.readout.folder import read_readout
from persona.store.fishers import Fisher
from persona.verbs.fsck import open_damaged
from persona.verbs.stash import stashes
from persona.workspace.readouts import load_readout
from tests.faults.conftest import Zygote
from tests.faults.starts import EDIT, EMPTY, SWEEP, TUNE, Starts
from tests.models import TinyModels
from tests.readout.handmade import CONCEPTS


@dataclass(frozen=True)
class Case:
    """A command line; ``{run}``, ``{a}``, ``{base}`` are replaced by folders. ``out`` is what it makes beside the repository.

    ``moves`` says whether it moves a ref. ``whole`` is what must hold of the folder at any moment (given where it began),
    and ``done`` what must hold when the command has succeeded after all (given where it ends without a fault). One that is
    ``slow`` is tried with ``--every`` alone. With ``calls``, it fails at calls of other libraries, too (see ``zygote``).
    """

    argv: tuple[str, ...]
    start: str = "plain"
    out: str | None = None
    moves: bool = False
    split: int = 0
    whole: Callable[[Path, Path], None] = field(default=lambda root, start: check_whole(root))
    done: Callable[[Path, Path], None] = field(default=lambda root, end: check_whole(root))
    slow: bool = False
    calls: bool = False


State = tuple[dict[str, str], str | None]


def state(root: Path) -> State:
    """Refs by what they mean (commits by recipe, for their ids hold the time), and the recipe file."""
    repo = persona.Repository(root)
    named = {}
    for ref, value in repo.refs().items():
        commit = None if value.startswith("ref: ") else persona.log(repo, value[:20])[0].commit
        named[ref] = f"{repo.recipe(commit)} {repo.commit(commit).graph}" if commit else value
    return named, repo.recipe_text()


def check_whole(root: Path) -> None:
    """Everything that any ref leads to can be read, and every weight is what its id says."""
    repo = persona.open(root)
    assert not repo.is_edited()
    check_readable(repo)


def check_readable(repo: persona.Repository) -> None:
    with repo.exclusive("check"):  # finishes what was interrupted; what is read before is the same
        assert repo.log.pending() is None
    for ref in repo.refs():
        for one in persona.log(repo, ref):
            recipe = repo.recipe(one.commit)
            base = repo.base(recipe.base_id)
            for spec in base.tensors.values():
                repo.tensors.read(spec.id)
            for entry in persona.vectors(repo, one.commit[:20]):
                for spec in repo.vector(entry.id).tensors.values():
                    repo.tensors.read(spec.id)
            for named in filter(None, (entry.fisher for entry in recipe.vectors)):
                for spec in Fisher.get(repo.objects, FisherId(named)).tensors.values():
                    repo.tensors.read(spec.id)
            for measure in recipe.readouts:
                load_readout(repo, measure.id)


def check_edits(root: Path, start: Path) -> None:
    """Someone's edits are in ``persona.toml``, or kept beside it; and the repository is whole."""
    repo = persona.open(root)
    check_readable(repo)
    edited = repo.head_text() + EDIT
    kept = [path.read_text() for path in root.glob("persona.toml.orig*")]
    assert edited in (repo.recipe_text(), *kept)
    assert {repo.recipe_text(), *kept} <= {edited, repo.head_text()}


def check_stashed(root: Path, start: Path) -> None:
    """Someone's edits are in ``persona.toml``, or stashed; and the repository is whole."""
    repo = persona.open(root)
    check_readable(repo)
    stashed = [repo.text(one.commit) for one in stashes(repo)]
    assert repo.head_text() + EDIT in (repo.recipe_text(), *stashed)
    assert repo.recipe_text() in (repo.head_text(), repo.head_text() + EDIT)


def check_merge(root: Path, start: Path) -> None:
    """Everything can be read, and ``persona.toml`` is as it was, or as it was committed."""
    repo = persona.open(root)
    check_readable(repo)
    assert repo.recipe_bytes() in ((start / "persona.toml").read_bytes(), repo.head_text().encode())


def check_offer(root: Path, start: Path) -> None:
    """Everything can be read, and ``persona.toml`` is as it was, or has the best alpha: never a part of either."""
    repo = persona.open(root)
    check_readable(repo)
    ends = start, root.with_name("done")
    assert repo.recipe_bytes() in [(one / "persona.toml").read_bytes() for one in ends]


def check_taken(root: Path, end: Path) -> None:
    """The best alpha is written, and not committed."""
    check_offer(root, end)
    repo = persona.open(root)
    assert repo.is_edited()
    assert repo.recipe_bytes() == (end / "persona.toml").read_bytes()


def check_no_worse(root: Path, start: Path) -> None:
    """A repair that broke off has lost nothing that was whole before; it may have learnt what else had been lost."""
    before = check(open_damaged(start).on_disk())
    lost = {str(loss.id) for loss in persona.fsck(open_damaged(root)).lost}
    assert not lost & {*before.weights.good(), *before.catalog.known}


def check_healed(root: Path, end: Path) -> None:
    """Nothing is lost, nothing is left over."""
    check_whole(root)
    found = persona.fsck(persona.open(root))
    assert found.ok
    assert found.outside == persona.fsck(persona.open(end)).outside
    assert not [text for text in found.notes if "unfinished" in text or "set aside" in text]


def check_collected(root: Path, end: Path) -> None:
    """The very files that a collection without a fault leaves."""
    assert persona.fsck(persona.open(root)).ok
    assert files_of(root) == files_of(end)


def files_of(root: Path) -> dict[str, bytes]:
    folder = root / ".persona"
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


def check_export(root: Path, start: Path) -> None:
    """The configuration is there only with its models, and they are those of the repository, and whole."""
    check_whole(root)
    if (root / "out.yml").exists():
        assert (root / "out").exists()
    if (root / "out").exists():
        check_own(root / "out")
        other = root.with_name("other")
        shutil.rmtree(other, ignore_errors=True)
        persona.init(other, root / "out" / "base", author="Test")
        made = persona.commit(persona.open(other), root / "out" / "vectors" / "a", name="a", author="Test")
        assert made.vector == persona.vectors(persona.open(root))[0].id


def check_given(root: Path, start: Path) -> None:
    """The folder is the earlier export or the new one, and whole."""
    check_whole(root)
    names = sorted(path.name for path in (root / "given").iterdir()) if (root / "given").exists() else []
    if names != ["manifest.json", "vectors.safetensors"]:
        assert names == ["calm.gguf", "doubt.gguf", "warmth.gguf"]
        assert all((root / "given" / one).read_bytes() == (start / "given" / one).read_bytes() for one in names)
    else:
        assert read_readout(root / "given").concepts == CONCEPTS


def check_pairs(root: Path, start: Path) -> None:
    """The labelled texts are those of before or all of the new ones; never a part of either."""
    check_whole(root)
    examples = len(read_pairs(root / "pairs.jsonl"))
    assert examples == 4 or (root / "pairs.jsonl").read_bytes() == (start / "pairs.jsonl").read_bytes()


def check_all_pairs(root: Path, end: Path) -> None:
    """The labelled texts are the new ones."""
    check_whole(root)
    assert len(read_pairs(root / "pairs.jsonl")) == 4


REPAIR = ("fsck", "--repair-from", "{base}")
TRAIN = ("train", "--data", "data.jsonl", "--set", "max_steps=1", "--set", "rank=2")
PAIRS = ("readout", "pairs", "--min-content-chars", "1", "--min-examples", "1", "--replace")
CASES = {
    "init": Case(("init", "--base", "{base}"), EMPTY),
    "init --link": Case(("init", "--base", "{base}", "--link"), EMPTY),
    "init --reference": Case(("init", "--base", "{base}", "--reference"), EMPTY),
    "commit": Case(("commit", "{run}", "--as", "b"), moves=True),
    "commit, split": Case(("commit", "{run}", "--as", "b"), moves=True, split=3000),
    "alpha": Case(("alpha", "a=0.5"), moves=True),
    "negate": Case(("negate", "a"), moves=True),
    "rm": Case(("rm", "a"), moves=True),
    "graph import": Case(("graph", "import", "notes"), "noted", moves=True),
    "graph link": Case(("graph", "link", "one", "a"), "noted", moves=True),
    "checkout": Case(("checkout", "HEAD~1"), moves=True),
    "branch": Case(("branch", "warmer"), moves=True),
    "rename": Case(("branch", "-m", "trunk"), moves=True),
    "tag": Case(("tag", "v1"), moves=True),
    "switch": Case(("switch", "side"), "parted", moves=True),
    "merge": Case(("merge", "side", "--no-report"), "parted", moves=True),
    "commit, a merge": Case(("commit",), "settled", moves=True, whole=check_merge),
    "merge --abort": Case(("merge", "--abort"), "clashing", moves=True, whole=check_merge),
    "revert": Case(("revert", "HEAD"), moves=True),
    "bisect good": Case(("bisect", "good"), "searching", moves=True),
    "bisect reset": Case(("bisect", "reset"), "searching", moves=True),
    "undo": Case(("undo",), moves=True),
    "redo": Case(("redo",), "undone", moves=True),
    "restore": Case(("restore",), "edited", whole=check_edits),
    "stash": Case(("stash",), "edited", moves=True, whole=check_stashed),
    "mv": Case(("mv", "a", "b"), moves=True),
    "build": Case(("build", "-o", "out"), out="out"),
    "adapter": Case(("build", "-o", "out", "--as-adapter", "--rank", "2"), out="out"),
    "export": Case(("export", "--to", "out.yml"), whole=check_export, done=check_export),
    "import": Case(("import", "recipe.yml"), "exported", moves=True),
    "import-adapter": Case(("import-adapter", "adapters"), "adapters", moves=True),
    "bake": Case(("bake", "a", "--as", "b"), moves=True),
    "derive": Case(("derive", "b", "2 * a"), moves=True),
    "replace": Case(("build", "-o", "old", "--replace"), out="old"),
    "commit --readout": Case(("commit", "--readout", "again", "--as", "mood"), "measured", moves=True),
    "commit --readout, first": Case(("commit", "--readout", "again"), "measured", moves=True),
    "rm, a readout": Case(("rm", "mood"), "measured", moves=True),
    "build, a readout": Case(("build", "-o", "out"), "measured", out="out"),
    "replace, a readout": Case(("build", "-o", "old", "--replace"), "measured", out="old"),
    "readout export": Case(
        ("readout", "export", "again", "-o", "given", "--format", "vllm", "--replace"),
        "measured",
        whole=check_given,
        done=lambda root, end: check_given(root, end),
    ),
    "readout pairs": Case((*PAIRS, "notes", "-o", "pairs.jsonl"), "journal", whole=check_pairs, done=check_all_pairs),
    "sweep --write": Case((*SWEEP, "--write"), "weighed", whole=check_offer, done=check_taken),
    "tune --write": Case((*TUNE, "--write"), "weighed", whole=check_offer, done=check_taken, slow=True),
    "train, what was learnt": Case(TRAIN, "learnt", moves=True, slow=True),
    "train": Case(TRAIN, "taught", moves=True, slow=True),
    "fisher": Case(("fisher", "a", "--data", "data.jsonl"), "skilled", moves=True, slow=True),
    "gc": Case(("gc", "--grace", "0"), "littered", done=check_collected),
    "repair": Case(REPAIR, "damaged", whole=check_no_worse, done=check_healed),
    "remake": Case(("fsck", "--repair-from", "{a}"), "unmade", whole=check_no_worse, done=check_healed),
    "refer": Case(REPAIR, "moved", whole=check_no_worse, done=check_healed),
}

SHARE, LARGER_SHARE = 18, 9
"""One point in so many is tried without and with ``--slow``, from a beginning that the case's name decides."""


@pytest.fixture(scope="module")
def starts(models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Starts:
    return Starts(models, tmp_path_factory.mktemp("faults"))


@dataclass
class Trials:
    """Everything that it takes to let a command fail, again and again."""

    starts: Starts
    zygote: Zygote
    folder: Path
    record: Callable[[str, object], None]

    def at_effects(self, step: int, name: str, fault: str) -> None:
        """Fail at every ``step``-th effect, and see what is left."""
        trial = Trial(name, CASES[name], self)
        effects = trial.run_whole()
        seen, tried, at = set(), 0, 1 + len(name + fault) % step
        while True:
            code = trial.run(at, fault)
            if code == 0:  # a run has a few effects more or less: folders of objects are made as ids fall
                break
            assert code == (-9 if fault == "kill" else 74), f"effect {at}"
            seen.add(trial.check())
            tried, at = tried + 1, at + step
        assert at > 0.8 * effects
        if trial.case.moves and step == 1:
            assert seen == {False, True}, "the commit point lies between the first effect and the last"
        self.record("fault points", tried)


@pytest.fixture
def trials(starts: Starts, zygote: Zygote, tmp_path: Path, record_property: Callable[[str, object], None]) -> Trials:
    return Trials(starts, zygote, tmp_path, record_property)


class Trial:
    """One command line in a folder that it is to break."""

    def __init__(self, name: str, case: Case, trials: Trials) -> None:
        models = trials.starts.models
        self.case = case
        self.trials = trials
        self.argv = [part.format(run=models.run(2), a=models.run(1), base=models.base()) for part in case.argv]
        self.start = trials.starts.root(case.start)
        self.root = trials.folder / "work"
        self.end = trials.folder / "done"

    def run_whole(self) -> int:
        """Let it succeed, to know what that looks like; the number of effects."""
        self.trials.starts.copy(self.case.start, self.end)
        code, effects = self.trials.zygote.run(self.end, self.argv, split=self.case.split, calls=self.case.calls)
        assert code == 0
        assert effects >= 5
        self.case.done(self.end, self.end)
        return effects

    def run(self, at: int, fault: str) -> int:
        """Let it fail in a fresh copy."""
        self.trials.starts.copy(self.case.start, self.root)
        return self.trials.zygote.run(self.root, self.argv, at, fault, self.case.split, calls=self.case.calls)[0]

    def again(self) -> None:
        """The same command, undisturbed."""
        assert self.trials.zygote.run(self.root, self.argv, split=self.case.split)[0] == 0
        assert state(self.root) == state(self.end)
        self.case.done(self.root, self.end)

    def check(self) -> bool:
        """What must hold after a fault; whether the command had happened all the same."""
        if self.case.start == EMPTY:
            return self._check_init()
        before, after = state_or_none(self.start), state(self.end)
        seen = state_or_none(self.root)  # as a reader sees it, before anything is tidied up
        happened = self.case.moves and refs(seen) != refs(before)
        assert refs(seen) == refs(after if happened else before) or not self.case.moves
        self.case.whole(self.root, self.start)
        if self.case.moves:
            assert state(self.root) == (after if happened else before)
        if self.case.out is not None:
            check_build(self.root / self.case.out, self.start / self.case.out)
        if happened:
            return True
        if self.case.out is None or not same_build(self.root / self.case.out, self.root):
            self.again()
        if self.case.out is not None:
            assert persona.verify(self.root / self.case.out).ok
        return False

    def _check_init(self) -> bool:
        """There is a whole repository, or none and no trace of one."""
        happened = (self.root / ".persona").exists()
        if happened:
            check_whole(self.root)
            assert state(self.root) == state(self.end)
        else:
            self.again()
        return happened


def refs(seen: State | None) -> dict[str, str] | None:
    return None if seen is None else seen[0]


def state_or_none(root: Path) -> State | None:
    """None where the repository is too damaged to tell."""
    try:
        return state(root)
    except persona.PersonaError:
        return None


def check_build(folder: Path, old: Path) -> None:
    """The folder is the old one or the new one, and whole; never half of either."""
    if folder.exists():
        assert persona.verify(folder).ok
    else:
        assert not old.exists() or any(folder.parent.glob(f".{folder.name}.tmp-*.replaced"))


def same_build(folder: Path, root: Path) -> bool:
    """Whether the folder is already a build of the commit that we stand on."""
    return folder.exists() and persona.verify(folder).commit == persona.open(root).head()


@pytest.mark.parametrize("fault", ["error", "kill"])
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.every if case.slow else pytest.mark.slow) for name, case in CASES.items()],
)
def test_at_every_effect(name: str, fault: str, trials: Trials, request: pytest.FixtureRequest) -> None:
    trials.at_effects(1 if request.config.getoption("--every") else LARGER_SHARE, name, fault)


@pytest.mark.parametrize("fault", ["error", "kill"])
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.slow])
def test_at_some_effects(name: str, fault: str, trials: Trials) -> None:
    trials.at_effects(SHARE, name, fault)


def test_a_users_own_files_are_as_they_were(models: TinyModels, trials: Trials) -> None:
    """A linked and a referred base after all those kills: the same bytes, and no name of ours left on them."""

    def own() -> dict[str, tuple[bytes, int]]:
        return {path.name: (path.read_bytes(), path.stat().st_nlink) for path in models.base().iterdir()}

    before = own()
    for name in ("init --link", "init --reference", "refer"):
        trials.at_effects(SHARE, name, "kill")
        shutil.rmtree(trials.folder / "work")
        shutil.rmtree(trials.folder / "done")
    assert own() == before
