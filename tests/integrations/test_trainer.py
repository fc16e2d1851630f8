"""The callback in a real Trainer: what it records, and that no training run ever ends because of it."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.data import Dataset
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

import persona
from persona import files
from persona.integrations import PersonaCallback
from tests.forks import Forks
from tests.models import VOCAB, TinyModels, assert_same, load

BASE_DTYPE = "float32"


class Sentences(Dataset[dict[str, torch.Tensor]]):
    """Random tokens, the same ones for the same seed."""

    def __init__(self, rows: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.tokens = torch.randint(3, VOCAB, (rows, 8), generator=generator)

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.tokens[row], "labels": self.tokens[row]}


@pytest.fixture
def repo(models: TinyModels, make_repo: Callable[[Path], persona.Repository]) -> persona.Repository:
    return make_repo(models.base(BASE_DTYPE))


def trainer(
    models: TinyModels, out: Path, callbacks: list[TrainerCallback], model: Any = None, **changes: Any
) -> Trainer:
    settings = {
        "max_steps": 4, "per_device_train_batch_size": 2, "save_strategy": "steps", "save_steps": 2, "report_to": [],
        "logging_steps": 1, "learning_rate": 1e-3, "use_cpu": True, "disable_tqdm": True, "seed": 7,
    }  # fmt: skip
    return Trainer(
        model=model or AutoModelForCausalLM.from_pretrained(models.base(BASE_DTYPE)),
        args=TrainingArguments(out, **{**settings, **changes}),
        train_dataset=Sentences(16),
        eval_dataset=Sentences(4, seed=1),
        callbacks=callbacks,
    )


def recorded(repo: persona.Repository, tmp_path: Path, rev: str = "HEAD") -> dict[str, torch.Tensor]:
    """The weights of a commit, as transformers' own reader finds them in a build of it."""
    out = tmp_path / f"built-{rev.replace('~', '-')}"
    persona.build(repo, out, rev)
    return load(out)


def test_a_run_is_committed_when_it_ends(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text('{"text": "a"}\n')
    callback = PersonaCallback(
        "listening", node="listen-first", alpha=1.0, repo=repo.root, data=[tmp_path / "data.jsonl"], meta={"who": "ada"}
    )
    before = repo.head()
    trainer(models, tmp_path / "run", [callback], eval_strategy="steps", eval_steps=2).train()
    assert callback.problem is None
    assert callback.committed is not None
    assert len(persona.log(repo)) == 2
    assert_same(recorded(repo, tmp_path), load(tmp_path / "run" / "checkpoint-4"))
    (entry,) = repo.recipe(repo.head()).vectors
    assert (entry.name, entry.node) == ("listening", "listen-first")
    run = repo.commit(repo.head()).run
    assert run["started"]["seed"] == 7
    assert run["started"]["commit"] == before
    assert run["started"]["base"] == repo.recipe(before).base
    assert run["started"]["model"] == str(models.base(BASE_DTYPE))
    assert run["dataset"] == {"kind": "Sentences", "rows": 16}
    assert (run["arguments"]["learning_rate"], run["arguments"]["class"]) == (1e-3, "TrainingArguments")
    assert "hub_token" not in run["arguments"]
    assert run["data"][0]["lines"] == 1
    assert [one["step"] for one in run["evaluations"]] == [2, 4]
    assert run["evaluations"][-1]["eval_loss"] > 0
    assert run["trainer"]["global_step"] == 4
    assert run["meta"] == {"who": "ada"}
    assert persona.fsck(repo).ok


def test_the_best_model_is_committed_if_it_was_loaded_again(
    models: TinyModels, repo: persona.Repository, tmp_path: Path
) -> None:
    callback = PersonaCallback("best", repo=repo.root)
    done = trainer(
        models, tmp_path / "run", [callback], eval_strategy="steps", eval_steps=1, save_steps=1,
        load_best_model_at_end=True, metric_for_best_model="eval_loss", learning_rate=1e-2,
    )  # fmt: skip
    done.train()  # random tokens: what is learnt of some is wrong of others, so the first is the best
    assert Path(str(done.state.best_model_checkpoint)).name == "checkpoint-1"
    built = recorded(repo, tmp_path)
    assert_same(built, load(tmp_path / "run" / "checkpoint-1"))
    assert_same(built, dict(done.model.state_dict()))


def test_without_checkpoints_the_model_itself_is_taken(
    models: TinyModels, repo: persona.Repository, tmp_path: Path
) -> None:
    callback = PersonaCallback(repo=repo.root)
    done = trainer(models, tmp_path / "calm", [callback], save_strategy="no")
    done.train()
    assert callback.problem is None
    weights = {name: weight.detach() for name, weight in done.model.state_dict().items()}
    assert_same(recorded(repo, tmp_path), weights)
    assert repo.recipe(repo.head()).vectors[0].name == "calm"
    assert repo.commit(repo.head()).run["trainer"]["global_step"] == 4
    assert not list((tmp_path / "calm").glob("*persona*"))


def test_every_save_can_be_a_commit(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    callback = PersonaCallback("calm", repo=repo.root, when="save")
    trainer(models, tmp_path / "run", [callback], max_steps=6).train()
    log = persona.log(repo)
    assert [one.subject for one in log] == ["retrain calm", "retrain calm", "add calm", log[-1].subject]
    for rev, step in (("HEAD", 6), ("HEAD~1", 4), ("HEAD~2", 2)):
        assert_same(recorded(repo, tmp_path, rev), load(tmp_path / "run" / f"checkpoint-{step}"))


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # between peft and transformers
def test_an_adapter_is_committed_as_one(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(models.base(BASE_DTYPE))
    model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    callback = PersonaCallback("calm", repo=repo.root)
    trainer(models, tmp_path / "run", [callback], model, save_strategy="no").train()
    assert callback.problem is None
    assert callback.committed is not None
    assert callback.committed.form == "lora"


SCRIPT = """
import os, signal, sys
from pathlib import Path
from transformers import TrainerCallback
from persona.integrations import PersonaCallback
from tests.integrations.test_trainer import trainer
from tests.forks import Forks
from tests.models import TinyModels

class Dies(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 3 and "die" in sys.argv:
            os.kill(os.getpid(), signal.SIGKILL)

models, out, root = TinyModels(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3]
callback = PersonaCallback("calm", repo=root)
trainer(models, out, [callback, Dies()]).train(resume_from_checkpoint="resume" in sys.argv)
assert callback.problem is None, callback.problem
"""


def test_a_run_that_was_killed_is_resumed_and_committed_once(
    models: TinyModels, repo: persona.Repository, tmp_path: Path, forks: Forks
) -> None:
    def run(*words: str) -> int:
        command = ["python", "-c", SCRIPT, models.folder, tmp_path / "run", repo.root, *words]
        return forks.run(command, cwd=tmp_path).returncode

    assert run("die") == -signal.SIGKILL
    assert len(persona.log(repo)) == 1
    assert run("resume") == 0
    assert len(persona.log(repo)) == 2
    assert_same(recorded(repo, tmp_path), load(tmp_path / "run" / "checkpoint-4"))
    assert run("resume") == 0  # nothing is left to be trained
    assert len(persona.log(repo)) == 2


def test_a_locked_repository_costs_nobody_a_run(
    models: TinyModels, repo: persona.Repository, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    callback = PersonaCallback("calm", repo=repo.root)
    run = trainer(models, tmp_path / "my run", [callback])
    fd = files.open_lock(repo.folder / "lock")
    assert fd is not None
    with caplog.at_level(logging.WARNING, "persona"):
        assert run.train().global_step == 4
    files.close_lock(fd)
    assert "another process holds" in caplog.text
    assert len(persona.log(repo)) == 1
    command = caplog.text.split("afterwards, run: ")[1].splitlines()[0]
    assert command.startswith("persona -C ")
    done = subprocess.run([sys.executable, "-m", *shlex.split(command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert_same(recorded(repo, tmp_path), load(tmp_path / "my run" / "checkpoint-4"))


def test_a_model_that_could_not_be_committed_is_not_thrown_away(
    models: TinyModels, repo: persona.Repository, tmp_path: Path
) -> None:
    callback = PersonaCallback("calm", repo=repo.root)
    run = trainer(models, tmp_path / "run", [callback], save_strategy="no")
    fd = files.open_lock(repo.folder / "lock")
    assert fd is not None
    run.train()
    files.close_lock(fd)
    assert callback.problem is not None
    assert str(tmp_path / "run" / "persona-4") in callback.problem
    assert_same(load(tmp_path / "run" / "persona-4"), dict(run.model.state_dict()))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"repo": "nowhere"}, "no persona repository"),
        ({"data": ["nothing.jsonl"]}, "nothing.jsonl does not exist"),
        ({"name": "no name"}, "no name"),
    ],
)
def test_what_is_wrong_is_told_when_training_begins(
    models: TinyModels, repo: persona.Repository, tmp_path: Path, arguments: dict[str, Any], said: str
) -> None:
    told = []

    class Looks(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            told.append(callback.problem)

    (tmp_path / "nowhere").mkdir()
    if "repo" in arguments:
        arguments = {"repo": tmp_path / "nowhere"}
    callback = PersonaCallback(**{"name": "calm", "repo": repo.root, **arguments})
    assert trainer(models, tmp_path / "run", [callback, Looks()]).train().global_step == 4
    assert told[0] is not None
    assert said in told[0]
    assert "afterwards, run: persona -C " in told[0]
    assert len(persona.log(repo)) == (2 if "data" in arguments else 1)


def test_another_base_is_a_warning(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    other = AutoModelForCausalLM.from_pretrained(models.base(BASE_DTYPE, hidden_size=16))
    callback = PersonaCallback("calm", repo=repo.root)
    assert trainer(models, tmp_path / "run", [callback], other).train().global_step == 4
    assert callback.problem is not None
    assert len(persona.log(repo)) == 1


@pytest.mark.slow
def test_trials_of_a_search_are_nobodys_runs(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="hyperparameter search needs optuna")
    callback = PersonaCallback("calm", repo=repo.root)
    search = trainer(models, tmp_path / "run", [callback], eval_strategy="steps", eval_steps=4)
    search.model_init = lambda _trial=None: AutoModelForCausalLM.from_pretrained(models.base(BASE_DTYPE))
    search.hyperparameter_search(
        hp_space=lambda trial: {"learning_rate": trial.suggest_float("learning_rate", 1e-5, 1e-3)},
        n_trials=2, backend="optuna",
    )  # fmt: skip
    assert len(persona.log(repo)) == 1


@pytest.mark.slow
def test_only_the_main_process_records(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    """Two real processes train together (gloo, on the CPU); one of them commits."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    place = Path(__file__).parents[2]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script),
        str(models.folder), str(tmp_path / "run"), str(repo.root),
    ]  # fmt: skip
    models.base(BASE_DTYPE)  # before two processes want it at once
    environment = {**os.environ, "PYTHONPATH": str(place), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(persona.log(repo)) == 2
    assert_same(recorded(repo, tmp_path), load(tmp_path / "run" / "checkpoint-4"))


def test_when_must_be_known() -> None:
    with pytest.raises(ValueError, match="must be 'end' or 'save'"):
        PersonaCallback("calm", when="often")  # type: ignore[arg-type]
