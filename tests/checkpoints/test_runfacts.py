"""What is read of a run beside its weights: from real files, from broken ones, and from hostile ones."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import TrainingArguments

from persona.checkpoints.provenance import arguments, card, run_facts, state
from persona.checkpoints.provenance.dataset import fingerprint
from persona.checkpoints.provenance.reading import Unreadable
from persona.errors import UsageError
from persona.store.objects import canonical
from tests.amount import fuzzed


def trainer_state(**changes: Any) -> bytes:
    history = [
        {"loss": 3.0 - step / 100, "learning_rate": 1e-4, "epoch": step / 50, "step": step} for step in range(1, 101)
    ]
    table = {"global_step": 100, "epoch": 2.0, "max_steps": 100, "log_history": history, "is_world_process_zero": True}
    return json.dumps({**table, **changes}).encode()


def test_a_long_history_is_thinned_and_says_how_long_it_was() -> None:
    history = state.read(trainer_state())["history"]
    loss = history["loss"]
    assert loss["count"] == 100
    assert len(loss["points"]) <= state.POINTS
    assert loss["points"][0] == [1, 2.99]
    assert loss["points"][-1] == [100, 2.0]
    assert set(history) == {"loss", "learning_rate"}


@given(st.lists(st.floats(allow_nan=False, width=32), max_size=400))
def test_thinning_keeps_the_ends_and_the_extremes_in_order(values: list[float]) -> None:
    points = [[step, value] for step, value in enumerate(values)]
    kept = state.thinned(points)
    assert len(kept) <= state.POINTS
    assert kept == sorted(kept, key=lambda point: point[0])
    assert kept == state.thinned(points)
    if values:
        assert {0, len(values) - 1} <= {step for step, _ in kept}
        assert {min(values), max(values)} <= {value for _, value in kept}
    if len(points) <= state.POINTS:
        assert kept == points


def test_a_loss_that_is_no_number_is_kept_by_name() -> None:
    """As the Trainer writes it: NaN and Infinity stand in the JSON."""
    data = b'{"global_step": 2, "best_metric": NaN, "log_history": [{"loss": Infinity, "step": 1}, {"loss": NaN, "step": 2}]}'
    facts = state.read(data)
    assert facts["history"]["loss"]["points"] == [[1, "Infinity"], [2, "NaN"]]
    assert facts["trainer"]["best_metric"] == "NaN"
    canonical(facts)


def test_the_best_is_known_by_its_step_and_its_folder_but_not_by_a_path_of_the_machine() -> None:
    data = trainer_state(best_metric=1.5, best_global_step=60, best_model_checkpoint="/home/ada/runs/x/checkpoint-60")
    trainer = state.read(data)["trainer"]
    assert (trainer["best_metric"], trainer["best_step"], trainer["best_checkpoint"]) == (1.5, 60, "checkpoint-60")


@pytest.mark.filterwarnings("ignore")
def test_arguments_are_read_without_running_them(tmp_path: Path) -> None:
    given = TrainingArguments(
        output_dir=str(tmp_path), learning_rate=3e-4, seed=17, lr_scheduler_type="cosine", optim="adamw_torch",
        use_cpu=True, report_to=[], hub_token="hf_secret", label_names=["labels"],
    )  # fmt: skip
    torch.save(given, tmp_path / "training_args.bin")
    found = arguments.read((tmp_path / "training_args.bin").read_bytes())["arguments"]
    assert found["class"] == "TrainingArguments"
    assert (found["learning_rate"], found["seed"]) == (3e-4, 17)
    assert (found["lr_scheduler_type"], found["optim"]) == ("cosine", "adamw_torch")
    assert "hf_secret" not in str(found)


class Trap:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def zipped(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", data)
    return file.getvalue()


def test_a_pickle_that_would_run_something_does_not(tmp_path: Path) -> None:
    for protocol in range(6):
        with pytest.raises(Unreadable):
            arguments.read(zipped(pickle.dumps(Trap(tmp_path / "sprung"), protocol)))
    assert not (tmp_path / "sprung").exists()


PICKLES = pickle.dumps({"learning_rate": [1, 2.0, None, ("a", {"b": b"c"})], "x": {1, 2}}, 2)


@given(
    st.one_of(
        st.binary(max_size=300),
        st.lists(st.sampled_from(sorted(set(PICKLES + b"(]}.\x85\x86\x87taus0bRq\x94"))), max_size=200).map(bytes),
    )
)
@fuzzed(500)
def test_any_pickle_is_facts_or_unreadable(data: bytes) -> None:
    for tried in (data, b"\x80\x02" + data + b"."):
        with pytest.raises(Unreadable):
            arguments.read(zipped(tried))


def test_pickles_that_are_deep_or_long_are_left_out() -> None:
    for data in (
        b"(" * 150_000 + b"t" * 150_000 + b".",
        b")" + b"\x85" * 190_000 + b"K\x01s.",
        b"N" * 3_000_000 + b".",
    ):
        with pytest.raises(Unreadable):
            arguments.read(zipped(data))


@given(st.binary(max_size=400))
@fuzzed(300)
def test_any_bytes_are_facts_or_unreadable(data: bytes) -> None:
    for read in (state.read, arguments.read, card.read):
        for tried in (data, b"---\n" + data + b"\n---\n", b"{" + data + b"}"):
            with contextlib.suppress(Unreadable):
                canonical(read(tried))


CARD = b"""---
base_model: Qwen/Qwen2.5-0.5B
license: apache-2.0
tags: [listening, lora]
datasets:
- ada/dialogues
model-index:
- name: listening
  results:
  - task: {type: text-generation}
    dataset: {name: Dialogues, type: ada/dialogues}
    metrics:
    - {type: accuracy, name: Accuracy, value: 0.91}
    - {type: loss, value: .nan}
released: 2026-02-30
---
# Listening

### Framework versions

- PEFT 0.17.1
- Transformers: 4.55.0
- Pytorch 2.8.0+cu128

## More

- Nothing 1.0
"""


def test_a_model_card() -> None:
    facts = card.read(CARD.replace(b"released: 2026-02-30\n", b""))
    assert facts["card"] == {
        "base_model": "Qwen/Qwen2.5-0.5B", "license": "apache-2.0", "tags": ["listening", "lora"],
        "datasets": ["ada/dialogues"], "results": {"Dialogues Accuracy": 0.91, "Dialogues loss": "NaN"},
    }  # fmt: skip
    assert facts["versions"] == {"peft": "0.17.1", "transformers": "4.55.0", "pytorch": "2.8.0+cu128"}


@pytest.mark.parametrize(
    "front",
    [
        b"released: 2026-02-30",
        b"a: &a [x]\nb: *a",
        b"a: 1\na: 2",
        b"tags: !!python/object/apply:os.system [true]",
        b"[" * 5000,
        b"a: \xff\xfe",
    ],
)
def test_front_matter_that_is_none_is_left_out(front: bytes) -> None:
    with pytest.raises(Unreadable):
        card.read(b"---\n" + front + b"\n---\n")


def test_files_that_cannot_be_read_are_named_and_left_out(tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text('{"global_step": 1}')
    run = tmp_path / "run"
    run.mkdir()
    (run / "trainer_state.json").symlink_to(secret)
    (run / "README.md").mkdir()
    os.mkfifo(run / "training_args.bin")
    (run / "adapter_config.json").write_text("[" * 100_000)
    facts, notes = run_facts(run, run)
    assert facts == {}
    assert [note.partition(" ")[0] for note in notes] == [
        "trainer_state.json", "adapter_config.json", "training_args.bin", "README.md",
    ]  # fmt: skip


def test_the_state_of_a_finished_run_is_with_its_checkpoints(tmp_path: Path) -> None:
    for step in (20, 100):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_bytes(trainer_state(global_step=step))
    assert run_facts(tmp_path, tmp_path)[0]["trainer"]["global_step"] == 100
    assert run_facts(tmp_path, tmp_path / "checkpoint-20")[0]["trainer"]["global_step"] == 20


def test_fingerprints(tmp_path: Path) -> None:
    """Digests are b3sum's: of "abc\\n", and of the listing of a folder."""
    (tmp_path / "data" / "more").mkdir(parents=True)
    (tmp_path / "data" / "b.txt").write_text("abc\n")
    (tmp_path / "data" / "more" / "a.txt").write_text("x\ny")
    one = fingerprint(tmp_path / "data" / "b.txt")
    assert (one["bytes"], one["lines"]) == (4, 1)
    from blake3 import blake3

    assert one["digest"] == blake3(b"abc\n").hexdigest()
    both = fingerprint(tmp_path / "data")
    listing = f"{blake3(b'abc' + bytes([10])).hexdigest()}  b.txt\n{blake3(b'x' + bytes([10]) + b'y').hexdigest()}  more/a.txt\n"
    assert (both["files"], both["bytes"], both["lines"]) == (2, 7, 3)
    assert both["digest"] == blake3(listing.encode()).hexdigest()
    (tmp_path / "data" / "c.bin").write_bytes(b"\0\n")
    assert "lines" not in fingerprint(tmp_path / "data")
    (tmp_path / "data" / "elsewhere").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="elsewhere is a link to a folder"):
        fingerprint(tmp_path / "data")
    with pytest.raises(UsageError, match="does not exist"):
        fingerprint(tmp_path / "none")
