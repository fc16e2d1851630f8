"""What is measured is what a build would be; results are kept by what was built; a vector that was planted to be bad is found."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import persona
from persona import MeasureOptions
from persona.errors import UsageError
from persona.evaluate import evaluator as evaluating
from persona.inference.load import from_folder
from persona.recipe.model import Entry, Recipe
from persona.verbs.sweep import grid
from persona.workspace.record import worktree_recipe
from persona.workspace.workbench import Workbench
from tests.evaluate import small
from tests.models import same_bits

pytestmark = pytest.mark.usefixtures("one_thread")  # small models run fastest on one

GOOD, BAD = ("one", "two", "three", "four"), "planted"


@pytest.fixture(scope="module")
def folders(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, four fine-tunes that learn the suite's answers, and one that learns others."""
    folder = tmp_path_factory.mktemp("tuned")
    base = small.base_folder(folder / "base")
    for seed, name in enumerate(GOOD):
        small.trained_folder(folder / name, base, small.dialogues(20, 10 + seed), rate=3e-4)
    wrong = [{"prompt": row["prompt"], "completion": " w30 w31 w32 w33 w34 w35"} for row in small.dialogues(20, 50)]
    small.trained_folder(folder / BAD, base, wrong, rate=1e-3, ends=False)
    return folder


@pytest.fixture(scope="module")
def made(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of five vectors, the bad one in the middle."""
    root = tmp_path_factory.mktemp("repo") / "work"
    persona.init(root, folders / "base", author="Test")
    repo = persona.open(root)
    for name in (*GOOD[:2], BAD, *GOOD[2:]):
        persona.commit(repo, folders / name, name=name, alpha=0.8 if name == BAD else 0.4, author="Test")
    small.suite(root)
    return root


@pytest.fixture
def work(made: Path, tmp_path: Path) -> persona.Repository:
    """A copy of it."""
    return persona.open(Path(shutil.copytree(made, tmp_path / "work")))


def scores(done: Any, at: int = 0) -> dict[tuple[str, str], Any]:
    (suite,) = done.builds[at].suites
    return {(one.measure, one.name): one for one in suite.scores}


@torch.inference_mode()
def loss_of(folder: Path, rows: list[dict[str, Any]]) -> float:
    """By transformers alone, one answer after the other."""
    model, words = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    total = count = 0.0
    for row in rows:
        asked, answer = (
            words(row["prompt"])["input_ids"],
            words(row["completion"], add_special_tokens=False)["input_ids"],
        )
        tokens = torch.tensor([[*asked, *answer, words.eos_token_id]])
        labels = tokens.clone()
        labels[0, : len(asked)] = -100
        total += float(model(input_ids=tokens, labels=labels).loss) * (len(answer) + 1)
        count += len(answer) + 1
    return total / count


def test_what_is_measured_is_what_a_build_would_be(work: persona.Repository, tmp_path: Path) -> None:
    done = persona.eval(work, ["HEAD", "HEAD~2"])
    for at, rev in enumerate(("HEAD", "HEAD~2")):
        persona.build(work, tmp_path / rev, rev)
        found = scores(done, at)["answers", "loss"]
        assert found.value == pytest.approx(loss_of(tmp_path / rev, small.dialogues(12, 1)), rel=1e-5)
        assert found.low < found.value < found.high
        assert (found.examples, found.better, found.unit) == (12, "lower", "nats/token")
    assert (done.measured, done.notes) == (3, ())  # the base, and both
    assert [build.commit for build in done.builds] == [work.head(), work.resolve("HEAD~2")]
    assert done.builds[0].suites[0].suite == "calm"


def test_changes_are_from_the_base_and_from_the_commit_before(work: persona.Repository) -> None:
    base = scores(persona.eval(work, "HEAD~5"))["answers", "loss"]
    assert (base.from_base, base.from_before) == (None, None)
    persona.eval(work, "HEAD~3")
    found = scores(persona.eval(work, "HEAD~2"))["answers", "loss"]  # the planted one
    assert found.from_base.value == pytest.approx(found.value - base.value, abs=1e-6)
    assert found.from_before.verdict == "worse"
    assert 0 < found.from_before.low < found.from_before.value < found.from_before.high
    assert scores(persona.eval(work, "HEAD~3"))["answers", "loss"].from_base.verdict == "better"


def test_what_was_measured_is_looked_up(work: persona.Repository) -> None:
    first = persona.eval(work)
    assert first.measured == 2
    again = persona.eval(work)
    assert again.measured == 0
    assert scores(again)["answers", "loss"].value == pytest.approx(scores(first)["answers", "loss"].value, rel=1e-8)
    path = work.recipe_path
    path.write_text(f"# a remark\n{path.read_text()}")
    assert persona.eval(work).measured == 0
    assert persona.eval(work, options=MeasureOptions(seed=1)).measured == 2
    assert persona.eval(work, options=MeasureOptions(limit=3)).measured == 2
    assert persona.eval(work, options=MeasureOptions(dtype="bf16")).measured == 2
    assert persona.eval(work, options=MeasureOptions(dtype="bfloat16")).measured == 0
    assert persona.eval(work, options=MeasureOptions(batch_size=3)).measured == 0
    persona.restore(work)
    persona.alpha(work, {"one": 0.3})
    assert persona.eval(work).measured == 1  # the base is known
    persona.undo(work)
    assert persona.eval(work).measured == 0
    suite = work.root / "evals" / "calm.toml"
    suite.write_text(suite.read_text().replace("tokens = 12", "tokens = 5"))
    assert persona.eval(work).measured == 2


def test_a_vector_is_measured_alone(work: persona.Repository, folders: Path) -> None:
    found = scores(persona.eval(work, ["two"]))["answers", "loss"]
    assert found.value == pytest.approx(loss_of(folders / "two", small.dialogues(12, 1)), rel=1e-5)


def test_log_show_and_diff_have_it(work: persona.Repository) -> None:
    assert persona.log(work)[0].measured == ()
    assert persona.show(work).measured == ()
    assert persona.diff(work, "HEAD~3", "HEAD~2").measured == ()
    done = persona.eval(work, ["HEAD~3", "HEAD~2"])
    (reading,) = persona.log(work, "HEAD~2")[0].measured
    assert (reading.suite, reading.text) == ("calm", f"answers loss {scores(done, 1)['answers', 'loss'].value:.4g}")
    assert [(one.measure, one.name) for one in persona.show(work, "HEAD~2").measured] == list(scores(done))
    moved = {(one.measure, one.name): one for one in persona.diff(work, "HEAD~3", "HEAD~2").measured}
    loss, after = moved["answers", "loss"], scores(done, 1)["answers", "loss"]
    assert (loss.after, loss.verdict) == (pytest.approx(after.value), "worse")
    assert loss.after - loss.before == pytest.approx(after.from_before.value, abs=1e-6)


def test_results_survive_gc_and_are_known_to_fsck(work: persona.Repository) -> None:
    persona.eval(work)
    assert persona.fsck(work).ok
    assert not [text for text in persona.fsck(work).notes if "newer persona" in text or "nothing refers" in text]
    assert persona.gc(work, grace=0).objects == 0
    assert persona.eval(work).measured == 0
    names = [path for path in (work.folder / "evaluations").rglob("*") if path.is_file()]
    for path in names:
        path.unlink()
    assert persona.gc(work, grace=0).objects == len(names) == 2
    assert persona.eval(work).measured == 2


def test_a_damaged_result_is_named_and_healed_by_measuring_again(work: persona.Repository) -> None:
    persona.eval(work)
    (path, *_) = [path for path in (work.folder / "evaluations").rglob("*") if path.is_file()]
    name = path.read_text().strip()
    (work.folder / "objects" / name[:2] / name[2:]).write_bytes(b"{}")
    found = persona.fsck(work)
    assert [(loss.kind, str(loss.id)) for loss in found.lost] == [("evaluation", name)]
    assert "measure again" in found.lost[0].why
    assert persona.eval(work).measured == 1
    path.write_text("nothing\n")
    assert "delete it, and measure again" in persona.fsck(work).problems[0]
    assert persona.eval(work).measured == 1
    assert persona.fsck(work).problems == () or persona.fsck(work).ok


def test_a_repository_that_is_locked_costs_no_result(work: persona.Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persona.repository.LOCK_PATIENCE", 0.0)
    with work.exclusive("someone else"):
        done = persona.eval(persona.open(work.root))
    assert scores(done)["answers", "loss"].value > 0
    assert "were not saved" in done.notes[0]
    assert persona.eval(work).measured == 2


METHODS: list[dict[str, Any]] = [
    {},
    {"method": "ties", "parameters": {"density": 0.3}},
    {"method": "ties", "parameters": {"density": 0.3, "trim": "model"}},
    {"method": "dare_ties", "scale": 0.7},
    {"method": "karcher"},
    {"method": "tsv_m"},
    {"method": "model_stock"},
]


@pytest.mark.parametrize("said", METHODS, ids=lambda said: "-".join(map(str, said.values())) or "linear")
def test_a_model_that_was_changed_in_place_is_the_one_that_a_build_loads_as(
    work: persona.Repository, tmp_path: Path, said: dict[str, Any]
) -> None:
    """From recipe to recipe (all, one alpha, one less, only some tensors, the base, noise and back): the same bits as if loaded."""
    head = work.recipe(work.head())
    whole = Recipe(head.base, head.base_name, head.vectors, **said)
    one, *rest = whole.vectors
    turned = Recipe(head.base, head.base_name, (Entry(one.name, one.id, 0.9), *rest), **said)
    narrow = Recipe(head.base, head.base_name, (Entry(one.name, one.id, 0.9, only=("*mlp*",)), *rest), **said)
    without = Recipe(head.base, head.base_name, tuple(rest), **said)
    bench = Workbench(work)
    first = bench.become(whole, "whole").model
    bench.become_noise(turned, "noise", 1)
    for recipe in (turned, narrow, without, Recipe(head.base, head.base_name), whole):
        ours = bench.become(recipe, "now").model
        assert ours is first, "it is changed in place, and not loaded again"
        theirs = Workbench(work).become(recipe, "fresh").model
        for name, weight in theirs.state_dict().items():
            assert same_bits(ours.state_dict()[name], weight), name


def test_only_tensors_that_come_out_otherwise_are_built(
    work: persona.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []
    inner = evaluating.Workbench._change.__globals__["run"]

    def spy(plan: Any, *args: Any, **named: Any) -> Any:
        built.extend(output.name for output in plan.outputs)
        return inner(plan, *args, **named)

    monkeypatch.setitem(evaluating.Workbench._change.__globals__, "run", spy)
    head = work.recipe(work.head())
    bench = Workbench(work)
    bench.become(Recipe(head.base, head.base_name), "base")
    one = Entry("one", head.vectors[0].id, 0.5, only=("model.layers.1.mlp.*",))
    bench.become(Recipe(head.base, head.base_name, (one,)), "one")
    assert sorted(built) == [f"model.layers.1.mlp.{part}_proj.weight" for part in ("down", "gate", "up")]
    built.clear()
    bench.become(Recipe(head.base, head.base_name, (one,)), "one")
    assert built == []


def test_another_dtype_is_rounded_as_a_load_rounds(work: persona.Repository, tmp_path: Path) -> None:
    head = work.recipe(work.head())
    bench = Workbench(work, "bfloat16")
    bench.become(Recipe(head.base, head.base_name), "base")
    ours = bench.become(head, "head").model
    persona.build(work, tmp_path / "out")
    theirs = from_folder(tmp_path / "out", "out", "bfloat16").model
    for name, weight in theirs.state_dict().items():
        assert same_bits(ours.state_dict()[name], weight), name


def test_a_model_of_another_shape_is_loaded_anew(work: persona.Repository, folders: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folders / "one")
    model.resize_token_embeddings(small.vocabulary() + 3, mean_resizing=False)
    small.save(tmp_path / "grown", model)
    persona.commit(work, tmp_path / "grown", name="grown", author="Test")
    found = scores(persona.eval(work, ["HEAD"]))
    assert found["divergence", "kl"].value > 0
    assert {("answers", "loss"), ("divergence", "top1")} <= found.keys()


def test_noise_has_the_norm_of_the_change(work: persona.Repository) -> None:
    head = work.recipe(work.head())
    alone = Recipe(head.base, head.base_name, head.vectors[:1])
    states = []
    for step in (lambda b: b.become(Recipe(head.base, head.base_name), "base"), lambda b: b.become(alone, "alone"),
                 lambda b: b.become_noise(alone, "noise", 0), lambda b: b.become_noise(alone, "noise", 1)):  # fmt: skip
        state = step(Workbench(work)).model.state_dict()
        states.append({name: weight.clone() for name, weight in state.items()})
    base, vector, noise, other = states
    for name in base:
        change, control = vector[name] - base[name], noise[name] - base[name]
        assert float(control.norm()) == pytest.approx(float(change.norm()), rel=1e-3, abs=1e-6), name
    name = "model.layers.0.mlp.up_proj.weight"
    flat = [(one[name] - base[name]).flatten() for one in (vector, noise, other)]
    for at, to in ((0, 1), (1, 2)):
        assert abs(float(torch.cosine_similarity(flat[at], flat[to], dim=0))) < 0.15


def test_blame_finds_the_planted_vector_by_the_numbers(work: persona.Repository) -> None:
    found = persona.blame(work, suite="calm")
    loss = found.verdicts[0]
    assert (loss.measure, loss.name) == ("answers", "loss")
    assert loss.vectors[0].vector == BAD
    worst, *others = loss.vectors
    assert worst.effect.verdict == "worse"
    assert worst.effect.low > 0
    assert worst.without == pytest.approx(loss.value - worst.effect.value, abs=1e-6)
    assert {one.vector for one in others} == set(GOOD)
    assert all(one.effect.verdict == "better" for one in others)
    assert [one.effect.value for one in loss.vectors] == sorted(
        (one.effect.value for one in loss.vectors), reverse=True
    )
    assert found.measured == 1 + 5  # the whole recipe, and five that lack a vector
    assert persona.blame(work).measured == 0  # of the only suite


@pytest.mark.parametrize("verb", [persona.blame, persona.verify_vectors])
def test_a_function_must_name_its_numbers_alike_for_every_build(work: persona.Repository, verb: Any) -> None:
    evals = work.root / "evals"
    (evals / "namer.py").write_text(
        "def named(live, rows, seed):\n"
        "    total = float(sum(one.double().sum() for one in live.model.parameters()))\n"
        "    return {f'total {total:.9f}': [1.0] * len(rows)}\n"
    )
    measure = '[[measures]]\nkind = "python"\nfunction = "namer:named"\ndata = "named.jsonl"\n'
    (evals / "named.toml").write_text(measure)
    (evals / "named.jsonl").write_text('{"prompt": "one"}\n')
    with pytest.raises(
        UsageError, match=r"named: 'python total .*' was measured for one build but not for another"
    ) as caught:
        verb(work, **{"suite": "named"} if verb is persona.blame else {"suites": ["named"]})
    assert "the same names" in caught.value.hint


def test_blame_finds_the_commit(work: persona.Repository) -> None:
    persona.sweep(work, "one", [0.3], suite="calm", write=True)  # an edit, which is no commit
    done = persona.blame(work, suite="calm", history=True)
    assert done.of == persona.blame(work, "HEAD", suite="calm", history=True).of
    loss = done.verdicts[0]
    assert loss.commits[0].changes[0].name == BAD
    assert loss.commits[0].commit == work.resolve("HEAD~2")
    assert len(loss.commits) == 5
    newest = persona.blame(work, suite="calm", history=True, most=2)
    assert {one.commit for one in newest.verdicts[0].commits} == {work.resolve("HEAD"), work.resolve("HEAD~1")}
    assert newest.measured == 0


def test_each_vector_alone_and_noise_of_its_size(work: persona.Repository) -> None:
    found = persona.verify_vectors(work, alpha=1.0)
    assert (found.vectors, found.alphas) == ((*GOOD[:2], BAD, *GOOD[2:]), (1.0,) * 5)
    loss = found.columns[0]
    cells = {cell.vector: cell for cell in loss.cells}
    for name in GOOD:
        assert cells[name].effect.verdict == "better"
        assert cells[name].beyond.verdict == "better"
        assert abs(cells[name].control.value) < abs(cells[name].effect.value) / 2
    assert cells[BAD].effect.verdict == "worse"
    assert found.measured == 1 + 2 * 5
    assert persona.verify_vectors(work, suites=["calm"], alpha=1.0).measured == 0


def test_a_sweep_offers_the_best_and_writes_it_only_when_told(work: persona.Repository) -> None:
    before = work.recipe_bytes()
    found = persona.sweep(work, BAD, [0.4, -0.2, 0.0, 0.8])
    assert [stop.alpha for stop in found.stops] == [-0.2, 0.0, 0.4, 0.8]
    values = [stop.reached[0].value for stop in found.stops]
    assert values[3] > values[2] > values[1]
    assert found.best == found.stops[values.index(min(values))].alpha <= 0
    assert (found.clear, found.written, found.measure) == (True, False, "answers")
    assert work.recipe_bytes() == before
    blamed = persona.blame(work, suite="calm").verdicts[0].vectors[0]
    assert values[1] == blamed.without  # one build, one result
    found = persona.sweep(work, BAD, [0.4, -0.2, 0.0, 0.8], write=True)
    assert (found.written, found.measured) == (True, 0)
    assert worktree_recipe(work).entry(BAD).alpha == found.best
    assert work.is_edited()
    persona.restore(work)
    assert work.recipe_bytes() == before


def test_a_sweep_goes_by_the_number_that_is_asked_for(work: persona.Repository) -> None:
    found = persona.sweep(work, "one", [0.0, 1.0], by="divergence top1")
    assert (found.measure, found.name, found.better, found.best) == ("divergence", "top1", "higher", 0.0)
    assert persona.sweep(work, "one", [0.0, 1.0], by="degeneration length").best is None
    with pytest.raises(UsageError, match="no measure 'divergense'") as caught:
        persona.sweep(work, "one", [0.0], by="divergense")
    assert "divergence" in caught.value.hint


def test_grids() -> None:
    assert grid("-1:1:5") == (-1.0, -0.5, 0.0, 0.5, 1.0)
    assert grid("0:1:11")[3] == 0.3
    assert grid("0.2,-1") == (0.2, -1.0)
    for text in ("", "a:b:c", "1:2", "0:1:1", "0:1:100000", "1;2"):
        with pytest.raises(UsageError):
            grid(text)


def test_wrong_uses_are_named(work: persona.Repository, folders: Path) -> None:
    for call, said in (
        (lambda: persona.eval(work, suites=["clam"]), "no suite 'clam'"),
        (lambda: persona.eval(work, options=MeasureOptions(device="tpu")), "no device 'tpu'"),
        (lambda: persona.eval(work, options=MeasureOptions(dtype="fp12")), "unknown dtype 'fp12'"),
        (lambda: persona.eval(work, options=MeasureOptions(batch_size=0)), "batch size: 0"),
        (lambda: persona.eval(work, ["nothing"]), "'nothing' is not a revision"),
        (lambda: persona.eval(work, [str(folders / "one")]), "is a folder"),
        (lambda: persona.blame(work, "HEAD~5", suite="calm"), "no vector is active"),
        (lambda: persona.blame(work, "one", suite="calm"), "'one' is a vector"),
        (lambda: persona.blame(work, suite="calm", history=True, most=-1), "number of commits: -1"),
        (lambda: persona.verify_vectors(work, alpha=float("nan")), "alpha nan is not a finite number"),
        (lambda: persona.verify_vectors(work, alpha=float("inf")), "alpha inf is not a finite number"),
        (lambda: persona.sweep(work, "on", [0.0]), "no vector 'on'"),
        (lambda: persona.sweep(work, "one", [float("nan")]), "not a finite number"),
        (lambda: persona.sweep(work, "one", []), "no alphas"),
    ):
        with pytest.raises(UsageError, match=said):
            call()
    (work.root / "evals" / "calm.toml").rename(work.root / "evals" / "calm.txt")
    with pytest.raises(UsageError, match="there are no suites"):
        persona.eval(work)


SLOW = """
import sys
import persona
from persona.progress import Silent

class Heard(Silent):
    def note(self, text):
        print(text)

for dtype in ("bf16", "fp32"):
    print(f"{dtype}:")
    options = persona.MeasureOptions(dtype=dtype, limit=1)
    persona.eval(persona.open(sys.argv[1]), ["HEAD"], suites=["calm"], options=options, progress=Heard())
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the variable that takes instructions away is of x86 alone")
def test_a_cpu_without_sums_in_16_bits_is_told_before_the_wait(work: persona.Repository) -> None:
    place = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(place), "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}

    command = [sys.executable, "-c", SLOW, str(work.root)]
    done = subprocess.run(command, check=True, cwd=place, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "bf16:",
        "base runs in bfloat16, which this CPU does not support natively: --dtype fp32 is many times faster and needs twice the memory",
        "fp32:",
    ]
