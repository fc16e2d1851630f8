"""``train`` from a file of examples to a commit."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import persona
from persona import files
from persona.errors import Locked, Refusal, UsageError
from persona.ids import FisherId
from persona.store.fishers import Fisher
from persona.training.run import check_identity, share_of_rate
from persona.training.settings import Settings
from tests.forks import Forks
from tests.models import TinyModels, assert_same, load, tiny_llama
from tests.training.conftest import speaking_base, word_tokenizer
from tests.training.test_adapting import WIDE

pytestmark = pytest.mark.usefixtures("one_thread")  # small models run fastest on one

__all__ = ["speaking_base"]

SMALL: dict[str, Any] = {
    "rank": 2,
    "batch": 2,
    "max_steps": 6,
    "learning_rate": 1e-2,
    "warmup_steps": 0,
    "save_every": 2,
    "anchor_share": 0,  # see tests/training/test_anchors.py
}


@pytest.fixture
def repo(speaking_base: Path, make_repo: Callable[[Path], persona.Repository]) -> persona.Repository:
    return make_repo(speaking_base)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return dialogues(tmp_path / "listening.jsonl", "yes ok", "good day")


def dialogues(path: Path, *answers: str) -> Path:
    asked = ("hi there", "are we on", "so I was thinking", "one two")
    rows = [
        {"messages": [{"role": "user", "content": f"{prompt} {n}"}, {"role": "assistant", "content": answer}]}
        for n, answer in enumerate(answers)
        for prompt in asked
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def built(repo: persona.Repository, out: Path, rev: str = "HEAD") -> dict[str, torch.Tensor]:
    persona.build(repo, out, rev)
    return load(out)


def test_examples_become_a_vector(repo: persona.Repository, data: Path, tmp_path: Path) -> None:
    held = dialogues(tmp_path / "held.jsonl", "sure yes")
    state = torch.get_rng_state()
    done = persona.train(repo, data, evaluation=held, changes=SMALL)
    assert torch.equal(torch.get_rng_state(), state)
    assert (done.name, done.steps, done.trained, done.resumed) == ("listening", 6, True, 0)
    assert [step for step, _ in done.curve] == [1, 2, 3, 4, 5, 6]
    assert done.curve[-1][1] < done.curve[0][1]
    assert done.before is not None
    assert done.after is not None
    assert done.after < done.before
    assert done.data.used == 8
    assert done.committed is not None
    assert done.committed.form == "lora"
    run = repo.commit(repo.head()).run
    assert run["training"]["learning_rate"] == 1e-2
    assert run["training"]["preset"] == "default"
    assert run["training"]["eval_loss"] == {"before": done.before, "after": done.after}
    assert [one["lines"] for one in run["data"]] == [8]
    assert run["history"]["loss"]["count"] == 6
    assert persona.fsck(repo).ok
    assert not (done.run / "checkpoints").exists()


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # between peft and transformers
def test_what_was_trained_is_what_was_committed(repo: persona.Repository, data: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    done = persona.train(repo, data, changes=SMALL, out=tmp_path / "run")
    found = built(repo, tmp_path / "built")
    model = AutoModelForCausalLM.from_pretrained(speaking(repo, tmp_path), dtype=torch.float32)
    merged = PeftModel.from_pretrained(model, done.run / "final").merge_and_unload().state_dict()
    for name, weight in found.items():
        assert torch.allclose(weight, merged[name], atol=1e-6), name


def speaking(repo: persona.Repository, tmp_path: Path) -> Path:
    """The base, as a build of the first commit."""
    first = persona.log(repo)[-1].commit
    persona.build(repo, tmp_path / "base", str(first)[:20])
    return tmp_path / "base"


def test_only_answers_are_learnt(repo: persona.Repository, data: Path) -> None:
    """What is asked does not matter to the loss where the template says what is the answer."""
    plan = persona.train(repo, data, dry_run=True)
    assert plan.data.learnt == 8 * 3  # two words, and the end
    assert not plan.run.exists()
    assert (plan.committed, plan.trained, plan.steps) == (None, False, 3)


def test_a_full_fine_tune_keeps_the_dtypes_of_the_base(
    models: TinyModels, make_repo: Callable[[Path], persona.Repository], tmp_path: Path, speaking_base: Path
) -> None:
    base = tmp_path / "bf16"
    tiny_llama(torch.bfloat16).save_pretrained(base)
    word_tokenizer().save_pretrained(base)
    repo = make_repo(base)
    done = persona.train(repo, dialogues(tmp_path / "d.jsonl", "yes"), changes={**SMALL, "method": "full"})
    assert done.committed is not None
    assert done.committed.form == "dense"
    found = built(repo, tmp_path / "built")
    assert {one.dtype for one in found.values()} == {torch.bfloat16}
    assert_same(found, load(done.run / "final"))


def test_on_top_of_a_build(repo: persona.Repository, data: Path, tmp_path: Path) -> None:
    first = persona.train(repo, data, evaluation=data, changes=SMALL, name="first")
    head = repo.head()
    done = persona.train(repo, data, evaluation=data, changes=SMALL, name="second", on="HEAD")
    vectors = {entry.name: entry.id for entry in repo.recipe(repo.head()).vectors}
    assert sorted(vectors) == ["first", "second"]
    assert vectors["first"] != vectors["second"]
    assert repo.commit(repo.head()).run["training"]["on"] == head
    assert done.before == pytest.approx(first.after, rel=1e-5)  # it begins where the first one ended
    with pytest.raises(Refusal, match="a full fine-tune of a build"):
        persona.train(repo, data, changes={**SMALL, "method": "full"}, name="third", on="HEAD")


def test_on_a_revision_that_is_not_there(repo: persona.Repository, data: Path) -> None:
    with pytest.raises(UsageError, match="no revision"):
        persona.train(repo, data, on="mian")


def test_the_node_must_be_there(repo: persona.Repository, data: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "listen-first.md").write_text("# Listen\n\nListen first.\n")
    persona.graph_import(repo, notes)
    with pytest.raises(UsageError, match="no node 'listen-frist' in the graph") as caught:
        persona.train(repo, data, node="listen-frist")
    assert "listen-first" in caught.value.hint
    done = persona.train(repo, data, node="listen-first", changes=SMALL)
    assert done.name == "listen-first"
    (entry,) = repo.recipe(repo.head()).vectors
    assert entry.node == "listen-first"
    assert entry.specification is not None


def test_the_same_again_makes_nothing_new(repo: persona.Repository, data: Path) -> None:
    first = persona.train(repo, data, changes=SMALL)
    again = persona.train(repo, data, changes=SMALL)
    assert (again.trained, again.curve, again.after) == (False, first.curve, first.after)
    assert again.committed is not None
    assert again.committed.recorded is None
    assert len(persona.log(repo)) == 2
    with pytest.raises(Refusal, match=r"holds another run: its learning_rate is 0.01, not 0.02"):
        persona.train(repo, data, changes={**SMALL, "learning_rate": 2e-2})
    data.write_text(data.read_text() + '{"text": "hi"}\n')
    with pytest.raises(Refusal, match="its data is"):
        persona.train(repo, data, changes=SMALL)


def test_a_folder_of_someone_elses_is_left_alone(repo: persona.Repository, data: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(Refusal, match="is not a run of persona train"):
        persona.train(repo, data, changes=SMALL, out=tmp_path / "mine")


def test_a_run_that_was_killed_before_it_said_what_it_is_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / ".run.json.tmp-1234").write_text('{"form')
    assert not check_identity(tmp_path, {"format": 1})
    (tmp_path / ".run.json").touch()
    with pytest.raises(Refusal, match="is not a run of persona train"):
        check_identity(tmp_path, {"format": 1})


def test_a_run_that_was_killed_before_its_first_checkpoint_does_not_block_its_name(
    repo: persona.Repository, data: Path
) -> None:
    """Other settings may be given; what it left, such as another Fisher diagonal, is not taken for the new run's."""
    folder = repo.root / "runs" / "listening"
    partial = folder / "checkpoints" / "checkpoint-9"
    partial.mkdir(parents=True)
    (folder / "run.json").write_text('{"format": 1, "settings": {"learning_rate": 1}}')
    (folder / "fisher.safetensors").write_bytes(b"half")
    (folder / ".final.tmp-0123456789ab").mkdir()
    done = persona.train(repo, data, changes=SMALL)
    assert done.trained
    assert sorted(path.name for path in folder.iterdir()) == ["final", "lock", "log.jsonl", "result.json", "run.json"]
    (folder / "final").rename(folder / "checkpoints")
    (partial := folder / "checkpoints" / "checkpoint-3").mkdir()
    (partial / "trainer_state.json").write_text("{}")
    with pytest.raises(Refusal, match="holds another run"):
        persona.train(repo, data, changes={**SMALL, "learning_rate": 2e-2})


SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
import persona
from persona.training import run

class Dies(run._Watcher):
    def on_step_end(self, args, state, control, **kwargs):
        super().on_step_end(args, state, control)
        if state.global_step == 5 and "die" in sys.argv:
            os.kill(os.getpid(), signal.SIGKILL)

run._Watcher = Dies
torch.set_num_threads(1)
changes = {"rank": 2, "batch": 2, "max_steps": 6, "learning_rate": 1e-2, "warmup_steps": 0, "save_every": 2, "dropout": 0.1}
more = {"ewc_data": sys.argv[2]} if "ewc" in sys.argv else {}
changes |= {"ewc": 10.0} if more else {"method": "qlora"} if "qlora" in sys.argv else {}
done = persona.train(persona.open(sys.argv[1]), sys.argv[2], out=sys.argv[3], changes=changes, **more)
print(done.resumed, len(done.curve))
"""


@pytest.mark.parametrize("more", [(), ("ewc",), ("qlora",)], ids=["plain", "ewc", "qlora"])
def test_a_run_that_was_killed_goes_on_and_is_committed_once(
    repo: persona.Repository, data: Path, tmp_path: Path, forks: Forks, more: tuple[str, ...]
) -> None:
    def run(out: str, *words: str) -> subprocess.CompletedProcess[str]:
        command = ["python", "-W", "error::UserWarning", "-c", SCRIPT, repo.root, data, tmp_path / out, *words, *more]
        return forks.run(command, cwd=tmp_path)

    assert run("run", "die").returncode == -signal.SIGKILL
    assert len(persona.log(repo)) == 1
    went_on = run("run")
    assert went_on.returncode == 0, went_on.stderr
    assert went_on.stdout.split() == ["4", "6"]
    assert len(persona.log(repo)) == 2
    (entry,) = repo.recipe(repo.head()).vectors
    assert run("whole").returncode == 0
    assert_same(load(tmp_path / "run" / "final"), load(tmp_path / "whole" / "final"))  # as if nothing had happened
    assert len(persona.log(repo)) == 2  # so it is the same vector
    assert entry.id == repo.recipe(repo.head()).vectors[0].id


def of_nodes(path: Path, *nodes: str | None) -> Path:
    """A dialogue for each, whose answer is the node's own."""
    rows = [
        {"messages": [{"role": "user", "content": f"hi there {n % 4}"}, {"role": "assistant", "content": f"{node} ok"}]}
        | ({"node": node} if node is not None else {})
        for n, node in enumerate(nodes)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.mark.slow
def test_several_nodes_are_several_runs_and_commits(repo: persona.Repository, tmp_path: Path) -> None:
    data = of_nodes(tmp_path / "all.jsonl", "good", "day", "good", None, "sure", "day", "good")
    heard: list[str] = []
    done = persona.train_nodes(repo, data, ["good", "day"], changes=SMALL, told=heard.append)
    assert [(one.name, one.data.used, one.trained) for one in done.runs] == [("good", 3, True), ("day", 2, True)]
    assert done.notes == tuple(heard)
    assert heard == ["all.jsonl: 1 example of other nodes (sure: 1) and 1 example without a node (line 4) left out"]
    assert [(one.name, one.node) for one in repo.recipe(repo.head()).vectors] == [("good", "good"), ("day", "day")]
    assert len(persona.log(repo)) == 3
    facts = repo.commit(repo.head()).run
    assert facts["data"][0]["node"] == "day"
    lone = of_nodes(tmp_path / "lone.jsonl", "good", None, "good", None, None, None, "good")  # as they stand in both
    rows = [line for line in lone.read_text().splitlines() if "node" in line]
    lone.write_text("".join(f"{row}\n" for row in rows))
    alone = persona.train(repo, lone, node="good", changes=SMALL, out=tmp_path / "alone")
    assert_same(load(alone.run / "final"), load(done.runs[0].run / "final"))  # nothing of the others' in it
    assert persona.fsck(repo).ok


@pytest.mark.slow
def test_finished_nodes_are_not_run_again_whatever_others_learn(repo: persona.Repository, tmp_path: Path) -> None:
    data = of_nodes(tmp_path / "all.jsonl", "good", "day", "good")
    first = persona.train_nodes(repo, data, ["good", "day"], changes=SMALL)
    of_nodes(data, "good", "day", "good", "sure")
    again = persona.train_nodes(repo, data, ["good", "sure", "day"], changes=SMALL)
    assert [one.trained for one in again.runs] == [False, True, False]
    assert again.runs[0].curve == first.runs[0].curve
    assert len(persona.log(repo)) == 4
    assert not persona.train(repo, data, node="day", changes=SMALL).trained  # one alone is the same run
    of_nodes(data, "good", "day", "day", "sure")
    with pytest.raises(Refusal, match="runs/good holds another run: its data is"):
        persona.train_nodes(repo, data, ["sure", "good"], changes=SMALL)


def test_one_node_leaves_out_what_says_that_it_is_anothers(repo: persona.Repository, tmp_path: Path) -> None:
    data = of_nodes(tmp_path / "all.jsonl", "good", None, "day", "day")
    plan = persona.train(repo, data, node="good", dry_run=True)
    assert (plan.data.examples, plan.notes[0]) == (2, "all.jsonl: 2 examples of other nodes (day: 2) left out")
    assert persona.train(repo, data, name="any", dry_run=True).data.examples == 4  # no node, and no notes
    held = of_nodes(tmp_path / "held.jsonl", "day")
    plans = persona.train_nodes(repo, data, ["good", "day"], evaluation=held, dry_run=True)
    assert [one.evaluation is None for one in plans.runs] == [True, False]
    assert not (repo.root / "runs").exists()


def test_nodes_that_cannot_be_trained_are_told_before_any_is(repo: persona.Repository, tmp_path: Path) -> None:
    data = of_nodes(tmp_path / "all.jsonl", "good", "day")
    for nodes, said, hint in (
        (["good", "dya"], "has no examples of node 'dya'", "Did you mean 'day'?"),
        (["good", "good"], "'good' is named twice", "once"),
        (["a#day", "day"], "would have the same name 'day'", "--as"),
    ):
        with pytest.raises(UsageError, match=said) as caught:
            persona.train_nodes(repo, data, nodes, changes=SMALL)
        assert hint in caught.value.hint
    chat = tmp_path / "chat.txt"
    chat.write_text("[RIYA] hey\n[FRIEND] yeah\n")
    with pytest.raises(UsageError, match="has no examples of node 'good'") as caught:
        persona.train_nodes(repo, chat, ["good", "day"], speaker="RIYA")
    assert '"node"' in caught.value.hint
    assert len(persona.log(repo)) == 1
    assert not (repo.root / "runs").exists()


INTERRUPTED = """
import os, signal, sys
import torch
from persona.cli.main import run as main
from persona.training import run

class Interrupts(run._Watcher):
    def on_step_end(self, args, state, control, **kwargs):
        super().on_step_end(args, state, control)
        if state.global_step == 5:
            os.kill(os.getpid(), signal.SIGINT)

run._Watcher = Interrupts
torch.set_num_threads(1)
main(sys.argv[1:])
"""


def test_a_run_that_was_interrupted_goes_on(repo: persona.Repository, data: Path, tmp_path: Path, forks: Forks) -> None:
    """A real SIGINT, as Ctrl-C sends it, to a process whose handlers are Python's own."""
    settings = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    words = ["-C", str(repo.root), "train", "--data", str(data), "-o", str(tmp_path / "run"), *settings]
    stopped = forks.run(["python", "-c", INTERRUPTED, *words], cwd=tmp_path)
    assert stopped.returncode == 130, stopped.stderr
    assert "run the same command to resume" in stopped.stderr
    assert "error: interrupted" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert len(persona.log(repo)) == 1
    assert persona.fsck(repo).ok
    went_on = persona.train(repo, data, changes=SMALL, out=tmp_path / "run")
    assert (went_on.resumed, went_on.steps) == (4, 6)
    whole = persona.train(repo, data, changes=SMALL, out=tmp_path / "whole")
    assert_same(load(went_on.run / "final"), load(whole.run / "final"))
    assert len(persona.log(repo)) == 2  # the same bits are the same vector


def test_nothing_is_committed_if_the_loss_is_no_number(
    make_repo: Callable[[Path], persona.Repository], data: Path, tmp_path: Path
) -> None:
    model = tiny_llama(torch.float32)
    with torch.no_grad():
        model.lm_head.weight[5] = float("inf")
    model.save_pretrained(tmp_path / "infinite")
    word_tokenizer().save_pretrained(tmp_path / "infinite")
    repo = make_repo(tmp_path / "infinite")
    with pytest.raises(Refusal, match=r"the loss is nan at step 1; nothing was committed") as caught:
        persona.train(repo, data, changes=SMALL)
    assert "learning_rate" in caught.value.hint
    assert len(persona.log(repo)) == 1


def test_nothing_is_committed_of_a_model_that_came_apart(repo: persona.Repository, data: Path) -> None:
    hard = {**SMALL, "method": "full", "learning_rate": 10.0, "max_grad_norm": 0}
    with pytest.raises(Refusal, match="training diverged") as caught:
        persona.train(repo, data, changes=hard)
    assert "learning_rate" in caught.value.hint
    assert len(persona.log(repo)) == 1


def test_two_at_once_in_one_folder(repo: persona.Repository, data: Path, tmp_path: Path) -> None:
    files.make_folder(tmp_path / "run")
    held = files.open_lock(tmp_path / "run" / "lock")
    assert held is not None
    try:
        with pytest.raises(Locked, match="another process trains in"):
            persona.train(repo, data, changes=SMALL, out=tmp_path / "run")
    finally:
        files.close_lock(held)
    assert persona.train(repo, data, changes=SMALL, out=tmp_path / "run").trained


def test_factors_are_learnt_beside_a_model_in_4_bits(
    make_repo: Callable[[Path], persona.Repository], data: Path, tmp_path: Path
) -> None:
    """They are added to the base as it is, so that nothing of the 4 bits is in what is built."""
    tiny_llama(torch.float32, **WIDE).save_pretrained(tmp_path / "wide")
    word_tokenizer().save_pretrained(tmp_path / "wide")
    repo = make_repo(tmp_path / "wide")
    base = load(speaking(repo, tmp_path))
    held = dialogues(tmp_path / "held.jsonl", "sure yes")
    done = persona.train(repo, data, evaluation=held, changes={**SMALL, "method": "qlora"})
    assert done.before is not None
    assert done.after is not None
    assert done.after < done.before
    assert done.curve[-1][1] < done.curve[0][1]
    assert any("4-bit" in note for note in done.notes)
    assert done.committed is not None
    assert done.committed.form == "lora"
    factors = load(done.run / "final")
    found = built(repo, tmp_path / "built")
    targets = {
        name.removeprefix("base_model.model.").replace(".lora_A", ""): name for name in factors if ".lora_A" in name
    }
    assert {name for name, one in found.items() if not torch.equal(one, base[name])} == targets.keys()
    scale = Settings(rank=2).alpha / 2
    for target, name in targets.items():
        change = factors[name.replace(".lora_A", ".lora_B")] @ factors[name]
        assert torch.allclose(found[target], base[target] + scale * change, atol=1e-6), target


def test_qlora_says_what_it_needs_before_any_work(
    repo: persona.Repository, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="qlora keeps in 4 bits"):
        persona.train(repo, data, ewc_data=data, changes={"method": "qlora", "ewc": 1.0})
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as if it were not installed
    with pytest.raises(UsageError, match="qlora needs bitsandbytes") as caught:
        persona.train(repo, data, changes={"method": "qlora"})
    assert "persona-vcs[qlora]" in caught.value.hint
    assert not (repo.root / "runs").exists()


def test_modules_that_are_not_there(repo: persona.Repository, data: Path) -> None:
    with pytest.raises(UsageError, match="has no module 'q_porj'") as caught:
        persona.train(repo, data, changes={**SMALL, "targets": ["q_porj"]})
    assert "q_proj" in caught.value.hint


def test_data_with_nothing_to_learn(repo: persona.Repository, tmp_path: Path) -> None:
    path = tmp_path / "blank.jsonl"
    path.write_text('{"text": " "}\n{"text": ""}\n')
    with pytest.raises(UsageError, match="has nothing to learn: 2 × empty"):
        persona.train(repo, path)


def test_ewc_keeps_its_diagonal_in_the_store(repo: persona.Repository, data: Path, tmp_path: Path) -> None:
    old = dialogues(tmp_path / "old.jsonl", "no", "see you")
    free = persona.train(repo, data, changes=SMALL, name="free")
    done = persona.train(repo, data, changes={**SMALL, "ewc": 1e4}, ewc_data=old, name="kept")
    assert done.ewc is not None
    assert (done.ewc.examples, done.ewc.tensors, done.ewc.tokens) == (8, 14, 4 * 2 + 4 * 3)
    assert done.ewc.drift > 0
    told = repo.commit(repo.head()).run["ewc"]
    kept = Fisher.get(repo.objects, FisherId(told["fisher"]))
    assert kept.base == repo.recipe(repo.head()).base
    assert sum(spec.entries for spec in kept.tensors.values()) == done.ewc.entries
    assert_same({n: torch.frombuffer(bytearray(repo.tensors.read(s.id).tobytes()), dtype=torch.float32).reshape(s.shape)
                 for n, s in kept.tensors.items()}, load_one(done.run / "fisher.safetensors"))  # fmt: skip
    norms = {name: norm(repo, name) for name in ("free", "kept")}
    assert norms["kept"] < norms["free"]
    assert free.ewc is None
    persona.gc(repo, grace=0)
    assert persona.fsck(repo).ok
    assert Fisher.get(repo.objects, FisherId(told["fisher"])) == kept


def load_one(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def norm(repo: persona.Repository, name: str) -> float:
    tau = persona.vector(repo, name)
    return math.sqrt(sum(float(tau[key].double().square().sum()) for key in tau))


def test_a_lost_diagonal_is_found_and_one_that_nothing_names_goes(
    repo: persona.Repository, data: Path, tmp_path: Path
) -> None:
    persona.train(repo, data, changes={**SMALL, "ewc": 1.0}, ewc_data=data)
    name = repo.commit(repo.head()).run["ewc"]["fisher"]
    path = repo.objects.path(FisherId(name))
    whole = path.read_bytes()
    path.unlink()
    lost = persona.fsck(repo)
    assert not lost.ok
    assert name[:12] in str(lost)
    path.write_bytes(whole)
    persona.undo(repo)
    persona.gc(repo, grace=0)
    assert not path.exists()
    assert persona.fsck(repo).ok


def test_ewc_needs_both(repo: persona.Repository, data: Path) -> None:
    for changes, more in (({"ewc": 1.0}, {}), ({}, {"ewc_data": data})):
        with pytest.raises(UsageError, match="needs both a strength and data of the old task"):
            persona.train(repo, data, changes=changes, **more)


def test_the_learning_rate_warms_up_and_falls_to_where_it_is_told() -> None:
    settings = Settings(learning_rate=1e-4, final_learning_rate=5e-5, warmup_steps=100)
    rates = [1e-4 * share_of_rate(settings, step, 300) for step in (0, 50, 100, 200, 300)]
    assert rates == pytest.approx([0, 5e-5, 1e-4, 7.5e-5, 5e-5])
    line = Settings(learning_rate=1e-4, final_learning_rate=0, schedule="linear")
    assert [share_of_rate(line, step, 4) for step in range(5)] == [1, 0.75, 0.5, 0.25, 0]
    assert share_of_rate(Settings(schedule="constant"), 3, 4) == 1
