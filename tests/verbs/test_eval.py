"""What is measured is what a build would be; results are kept by what was built."""

from __future__ import annotations

import os
import platform
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
from persona.workspace.workbench import Workbench
from tests.evaluate import small
from tests.models import same_bits

pytestmark = pytest.mark.usefixtures("one_thread")  # small models run fastest on one


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


def test_what_is_measured_is_what_a_build_would_be(tuned: persona.Repository, tmp_path: Path) -> None:
    done = persona.eval(tuned, ["HEAD", "HEAD~2"])
    for at, rev in enumerate(("HEAD", "HEAD~2")):
        persona.build(tuned, tmp_path / rev, rev)
        found = scores(done, at)["answers", "loss"]
        assert found.value == pytest.approx(loss_of(tmp_path / rev, small.dialogues(12, 1)), rel=1e-5)
        assert found.low < found.value < found.high
        assert (found.examples, found.better, found.unit) == (12, "lower", "nats/token")
    assert (done.measured, done.notes) == (3, ())  # the base, and both
    assert [build.commit for build in done.builds] == [tuned.head(), tuned.resolve("HEAD~2")]
    assert done.builds[0].suites[0].suite == "calm"


def test_changes_are_from_the_base_and_from_the_commit_before(tuned: persona.Repository) -> None:
    base = scores(persona.eval(tuned, "HEAD~5"))["answers", "loss"]
    assert (base.from_base, base.from_before) == (None, None)
    persona.eval(tuned, "HEAD~3")
    found = scores(persona.eval(tuned, "HEAD~2"))["answers", "loss"]  # the planted one
    assert found.from_base.value == pytest.approx(found.value - base.value, abs=1e-6)
    assert found.from_before.verdict == "worse"
    assert 0 < found.from_before.low < found.from_before.value < found.from_before.high
    assert scores(persona.eval(tuned, "HEAD~3"))["answers", "loss"].from_base.verdict == "better"


def test_what_was_measured_is_looked_up(tuned: persona.Repository) -> None:
    first = persona.eval(tuned)
    assert first.measured == 2
    again = persona.eval(tuned)
    assert again.measured == 0
    assert scores(again)["answers", "loss"].value == pytest.approx(scores(first)["answers", "loss"].value, rel=1e-8)
    path = tuned.recipe_path
    path.write_text(f"# a remark\n{path.read_text()}")
    assert persona.eval(tuned).measured == 0
    assert persona.eval(tuned, options=MeasureOptions(seed=1)).measured == 2
    assert persona.eval(tuned, options=MeasureOptions(limit=3)).measured == 2
    assert persona.eval(tuned, options=MeasureOptions(dtype="bf16")).measured == 2
    assert persona.eval(tuned, options=MeasureOptions(dtype="bfloat16")).measured == 0
    assert persona.eval(tuned, options=MeasureOptions(batch_size=3)).measured == 0
    persona.restore(tuned)
    persona.alpha(tuned, {"one": 0.3})
    assert persona.eval(tuned).measured == 1  # the base is known
    persona.undo(tuned)
    assert persona.eval(tuned).measured == 0
    suite = tuned.root / "evals" / "calm.toml"
    suite.write_text(suite.read_text().replace("tokens = 12", "tokens = 5"))
    assert persona.eval(tuned).measured == 2


def test_a_vector_is_measured_alone(tuned: persona.Repository, tuned_folders: Path) -> None:
    found = scores(persona.eval(tuned, ["two"]))["answers", "loss"]
    assert found.value == pytest.approx(loss_of(tuned_folders / "two", small.dialogues(12, 1)), rel=1e-5)


def test_log_show_and_diff_have_it(tuned: persona.Repository) -> None:
    assert persona.log(tuned)[0].measured == ()
    assert persona.show(tuned).measured == ()
    assert persona.diff(tuned, "HEAD~3", "HEAD~2").measured == ()
    done = persona.eval(tuned, ["HEAD~3", "HEAD~2"])
    (reading,) = persona.log(tuned, "HEAD~2")[0].measured
    assert (reading.suite, reading.text) == ("calm", f"answers loss {scores(done, 1)['answers', 'loss'].value:.4g}")
    assert [(one.measure, one.name) for one in persona.show(tuned, "HEAD~2").measured] == list(scores(done))
    value = f"{scores(done, 1)['answers', 'loss'].value:.4g}"
    persona.build(tuned, tuned.root / "out", "HEAD~2")
    assert f"| calm | answers loss | {value} " in (tuned.root / "out" / "README.md").read_text()
    persona.build(tuned, tuned.root / "fp16", "HEAD~2", dtype="fp16")
    assert "| calm |" not in (tuned.root / "fp16" / "README.md").read_text()
    moved = {(one.measure, one.name): one for one in persona.diff(tuned, "HEAD~3", "HEAD~2").measured}
    loss, after = moved["answers", "loss"], scores(done, 1)["answers", "loss"]
    assert (loss.after, loss.verdict) == (pytest.approx(after.value), "worse")
    assert loss.after - loss.before == pytest.approx(after.from_before.value, abs=1e-6)


def test_what_ran_in_another_dtype_is_labelled(tuned: persona.Repository) -> None:
    half = persona.eval(tuned, ["HEAD~3", "HEAD~2"], options=MeasureOptions(dtype="bf16"))
    (reading,) = persona.log(tuned, "HEAD~2")[0].measured
    assert (reading.source, reading.value) == ("calm (bf16)", scores(half, 1)["answers", "loss"].value)
    assert {one.source for one in persona.show(tuned, "HEAD~2").measured} == {"calm (bf16)"}
    assert {one.source for one in persona.diff(tuned, "HEAD~3", "HEAD~2").measured} == {"calm (bf16)"}
    whole = persona.eval(tuned, ["HEAD~2"])
    (reading,) = persona.log(tuned, "HEAD~2")[0].measured
    assert (reading.source, reading.value) == ("calm", scores(whole)["answers", "loss"].value)
    assert [one.source for one in persona.show(tuned, "HEAD~2").measured][::9] == ["calm", "calm (bf16)"]
    assert {one.source for one in persona.diff(tuned, "HEAD~3", "HEAD~2").measured} == {"calm (bf16)"}


def test_results_survive_gc_and_are_known_to_fsck(tuned: persona.Repository) -> None:
    persona.eval(tuned)
    assert persona.fsck(tuned).ok
    assert not [text for text in persona.fsck(tuned).notes if "newer persona" in text or "nothing refers" in text]
    assert persona.gc(tuned, grace=0).objects == 0
    assert persona.eval(tuned).measured == 0
    names = [path for path in (tuned.folder / "evaluations").rglob("*") if path.is_file()]
    for path in names:
        path.unlink()
    assert persona.gc(tuned, grace=0).objects == len(names) == 2
    assert persona.eval(tuned).measured == 2


def test_a_damaged_result_is_named_and_healed_by_measuring_again(tuned: persona.Repository) -> None:
    persona.eval(tuned)
    (path, *_) = [path for path in (tuned.folder / "evaluations").rglob("*") if path.is_file()]
    name = path.read_text().strip()
    (tuned.folder / "objects" / name[:2] / name[2:]).write_bytes(b"{}")
    found = persona.fsck(tuned)
    assert [(loss.kind, str(loss.id)) for loss in found.lost] == [("evaluation", name)]
    assert "measure again" in found.lost[0].why
    assert persona.eval(tuned).measured == 1
    path.write_text("nothing\n")
    assert "delete it, and measure again" in persona.fsck(tuned).problems[0]
    assert persona.eval(tuned).measured == 1
    assert persona.fsck(tuned).problems == () or persona.fsck(tuned).ok


def test_a_repository_that_is_locked_costs_no_result(
    tuned: persona.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persona.repository.LOCK_PATIENCE", 0.0)
    with tuned.exclusive("someone else"):
        done = persona.eval(persona.open(tuned.root))
    assert scores(done)["answers", "loss"].value > 0
    assert "were not saved" in done.notes[0]
    assert persona.eval(tuned).measured == 2


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
    tuned: persona.Repository, tmp_path: Path, said: dict[str, Any]
) -> None:
    """From recipe to recipe (all, one alpha, one less, only some tensors, the base, noise and back): the same bits as if loaded."""
    head = tuned.recipe(tuned.head())
    whole = Recipe(head.base, head.base_name, head.vectors, **said)
    one, *rest = whole.vectors
    turned = Recipe(head.base, head.base_name, (Entry(one.name, one.id, 0.9), *rest), **said)
    narrow = Recipe(head.base, head.base_name, (Entry(one.name, one.id, 0.9, only=("*mlp*",)), *rest), **said)
    without = Recipe(head.base, head.base_name, tuple(rest), **said)
    bench = Workbench(tuned)
    first = bench.become(whole, "whole").model
    bench.become_noise(turned, "noise", 1)
    for recipe in (turned, narrow, without, Recipe(head.base, head.base_name), whole):
        ours = bench.become(recipe, "now").model
        assert ours is first, "it is changed in place, and not loaded again"
        theirs = Workbench(tuned).become(recipe, "fresh").model
        for name, weight in theirs.state_dict().items():
            assert same_bits(ours.state_dict()[name], weight), name


def test_only_tensors_that_come_out_otherwise_are_built(
    tuned: persona.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []
    inner = evaluating.Workbench._change.__globals__["run"]

    def spy(plan: Any, *args: Any, **named: Any) -> Any:
        built.extend(output.name for output in plan.outputs)
        return inner(plan, *args, **named)

    monkeypatch.setitem(evaluating.Workbench._change.__globals__, "run", spy)
    head = tuned.recipe(tuned.head())
    bench = Workbench(tuned)
    bench.become(Recipe(head.base, head.base_name), "base")
    one = Entry("one", head.vectors[0].id, 0.5, only=("model.layers.1.mlp.*",))
    bench.become(Recipe(head.base, head.base_name, (one,)), "one")
    assert sorted(built) == [f"model.layers.1.mlp.{part}_proj.weight" for part in ("down", "gate", "up")]
    built.clear()
    bench.become(Recipe(head.base, head.base_name, (one,)), "one")
    assert built == []


def test_another_dtype_is_rounded_as_a_load_rounds(tuned: persona.Repository, tmp_path: Path) -> None:
    head = tuned.recipe(tuned.head())
    bench = Workbench(tuned, "bfloat16")
    bench.become(Recipe(head.base, head.base_name), "base")
    ours = bench.become(head, "head").model
    persona.build(tuned, tmp_path / "out")
    theirs = from_folder(tmp_path / "out", "out", "bfloat16").model
    for name, weight in theirs.state_dict().items():
        assert same_bits(ours.state_dict()[name], weight), name


def test_a_model_of_another_shape_is_loaded_anew(
    tuned: persona.Repository, tuned_folders: Path, tmp_path: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tuned_folders / "one")
    model.resize_token_embeddings(small.vocabulary() + 3, mean_resizing=False)
    small.save(tmp_path / "grown", model)
    persona.commit(tuned, tmp_path / "grown", name="grown", author="Test")
    found = scores(persona.eval(tuned, ["HEAD"]))
    assert found["divergence", "kl"].value > 0
    assert {("answers", "loss"), ("divergence", "top1")} <= found.keys()


def test_noise_has_the_norm_of_the_change(tuned: persona.Repository) -> None:
    head = tuned.recipe(tuned.head())
    alone = Recipe(head.base, head.base_name, head.vectors[:1])
    states = []
    for step in (lambda b: b.become(Recipe(head.base, head.base_name), "base"), lambda b: b.become(alone, "alone"),
                 lambda b: b.become_noise(alone, "noise", 0), lambda b: b.become_noise(alone, "noise", 1)):  # fmt: skip
        state = step(Workbench(tuned)).model.state_dict()
        states.append({name: weight.clone() for name, weight in state.items()})
    base, vector, noise, other = states
    for name in base:
        change, control = vector[name] - base[name], noise[name] - base[name]
        assert float(control.norm()) == pytest.approx(float(change.norm()), rel=1e-3, abs=1e-6), name
    name = "model.layers.0.mlp.up_proj.weight"
    flat = [(one[name] - base[name]).flatten() for one in (vector, noise, other)]
    for at, to in ((0, 1), (1, 2)):
        assert abs(float(torch.cosine_similarity(flat[at], flat[to], dim=0))) < 0.15


def test_wrong_uses_are_named(tuned: persona.Repository, tuned_folders: Path) -> None:
    for call, said in (
        (lambda: persona.eval(tuned, suites=["clam"]), "no suite 'clam'"),
        (lambda: persona.eval(tuned, options=MeasureOptions(device="tpu")), "no device 'tpu'"),
        (lambda: persona.eval(tuned, options=MeasureOptions(dtype="fp12")), "unknown dtype 'fp12'"),
        (lambda: persona.eval(tuned, options=MeasureOptions(batch_size=0)), "batch size: 0"),
        (lambda: persona.eval(tuned, ["nothing"]), "'nothing' is not a revision"),
        (lambda: persona.eval(tuned, [str(tuned_folders / "one")]), "is a folder"),
    ):
        with pytest.raises(UsageError, match=said):
            call()
    (tuned.root / "evals" / "calm.toml").rename(tuned.root / "evals" / "calm.txt")
    with pytest.raises(UsageError, match="there are no suites"):
        persona.eval(tuned)


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


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the variable that takes instructions away is of x86 alone")
def test_a_cpu_without_sums_in_16_bits_is_told_before_the_wait(tuned: persona.Repository) -> None:
    place = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(place), "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}

    command = [sys.executable, "-c", SLOW, str(tuned.root)]
    done = subprocess.run(command, check=True, cwd=place, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "bf16:",
        "base runs in bfloat16, which this CPU does not support natively: --dtype fp32 is many times faster and needs twice the memory",
        "fp32:",
    ]
