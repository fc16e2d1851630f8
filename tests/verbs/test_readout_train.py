"""``readout train`` on a real model: the same whatever the batches, resumed after a kill, and clear about bad input."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import persona
from persona.errors import CheckpointError, Locked, PersonaError, Refusal, Storage, UsageError
from persona.readout import aggregators, working
from persona.readout.capture import FACTS
from persona.readout.folder import MANIFEST, VECTORS, read_readout
from persona.readout.working import LOCK, PLAN, Working, folder_of
from persona.verbs.readout.train import ReadoutTrainResult, readout_train
from tests.forks import Forks
from tests.models import TinyModels
from tests.readout.small import MARK, examples, small_model, texts, written

pytestmark = pytest.mark.usefixtures("one_thread")  # small models run fastest on one


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("small") / "model")


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two concepts that share negatives; the second has texts of its own, too."""
    shared = texts(40, 1)
    return written(
        tmp_path_factory.mktemp("pairs") / "pairs.jsonl",
        examples("marked", texts(30, 2, MARK, MARK), shared),
        examples("first", texts(25, 3, "w1", "w2"), [*shared, *texts(10, 4)]),
    )


def contents(out: Path) -> tuple[bytes, bytes]:
    return (out / VECTORS).read_bytes(), (out / MANIFEST).read_bytes()


class Stopping:
    """Progress that does something after some tokens."""

    def __init__(self, after: int, do: Callable[[], Any]) -> None:
        self.left, self.do = after, do

    @contextmanager
    def task(self, label: str, total: int, unit: str = "bytes") -> Iterator[Stopping]:
        self.unit = unit
        yield self

    def note(self, text: str) -> None:
        pass

    def advance(self, amount: int) -> None:
        self.left -= amount if self.unit == "tokens" else 0
        if self.left < 0:
            self.do()


def stop() -> None:
    raise KeyboardInterrupt


def test_the_file_says_what_was_done(model: Path, pairs: Path, tmp_path: Path) -> None:
    done = readout_train(pairs, tmp_path / "out", model, layers="1-3")
    found = read_readout(tmp_path / "out")
    assert (found.concepts, found.layers, found.hidden) == (("first", "marked"), (1, 2, 3), 64)
    assert (done.texts, done.layers, done.blocks, done.clusters) == (105, (1, 2, 3), 4, ())
    about = found.about
    assert about["counts"]["marked"] == {"positive": 24, "negative": 32, "held_out": [6, 8]}
    assert (about["site"], about["pooling"], about["aggregator"], about["dtype"]) == (
        "block_output",
        "mean",
        "mean",
        "float32",
    )
    for key in ("norms", "centers", "spreads", "auc", "auc_low", "auc_high", "control", "control_high"):
        assert np.shape(about[key]) == (2, 3), key
    for row, one in enumerate(done.concepts):
        assert [quality.auc for quality in one.layers] == about["auc"][row]
        assert about["best"][row] == one.best
        assert one.verdict is None
    assert about["source"]["file"] == "pairs.jsonl"
    assert not folder_of(tmp_path / "out").exists()


def test_directions_are_those_of_the_texts_one_by_one(model: Path, pairs: Path, tmp_path: Path) -> None:
    """An oracle that owes the library nothing but the split: transformers' own hidden states, one text at a time."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from persona.readout.labels import labels_of
    from persona.readout.pairs import read_pairs
    from persona.readout.split import held_out

    readout_train(pairs, tmp_path / "out", model, layers="2")
    found = read_readout(tmp_path / "out")
    llama, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)

    @torch.inference_mode()
    def mean(some: list[str]) -> Any:
        states = [llama(**tokenizer(text, return_tensors="pt"), output_hidden_states=True) for text in some]
        return np.mean([state.hidden_states[3][0, 1:].double().mean(0).numpy() for state in states], axis=0)

    every = labels_of(read_pairs(pairs))
    held = held_out(every)
    for row, one in enumerate(every):
        sides = [[text for text in one.side(side) if text not in held] for side in (True, False)]
        wanted = mean(sides[0]) - mean(sides[1])
        assert found.vectors[2][row] == pytest.approx(wanted / np.linalg.norm(wanted), abs=1e-5)
        assert found.about["norms"][row][0] == pytest.approx(np.linalg.norm(wanted), rel=1e-4)


@pytest.mark.parametrize("aggregator", aggregators.names())
def test_batches_of_any_size_give_the_same(model: Path, pairs: Path, tmp_path: Path, aggregator: str) -> None:
    outs = {size: tmp_path / str(size) for size in (1, 3, 64)}
    for size, out in outs.items():
        readout_train(pairs, out, model, layers="1,3", aggregator=aggregator, batch_size=size)
    usual = read_readout(outs[64])
    for out in outs.values():
        found = read_readout(out)
        for layer in (1, 3):
            assert np.abs(found.vectors[layer] - usual.vectors[layer]).max() < 2e-4
        assert np.array(found.about["auc"]) == pytest.approx(np.array(usual.about["auc"]), abs=0.02)


def test_the_order_of_lines_changes_no_byte(model: Path, pairs: Path, tmp_path: Path) -> None:
    lines = pairs.read_text().splitlines(keepends=True)
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / pairs.name
    other.write_text("".join(lines[::-1] + lines[:5]))
    for source, out in ((pairs, tmp_path / "a"), (other, tmp_path / "b")):
        readout_train(source, out, model, aggregator="pca")
    (vectors, manifest), (mixed, its_manifest) = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert vectors == mixed
    assert {**json.loads(manifest), "source": 0} == {**json.loads(its_manifest), "source": 0}


KILLED = """
import os, signal, sys
from tests.verbs.test_readout_train import Stopping
from persona.readout import working
from persona.verbs.readout.train import readout_train
working.PATIENCE = 0.0
readout_train(*sys.argv[1:4], progress=Stopping(900, lambda: os.kill(os.getpid(), signal.SIGKILL)))
"""


def test_a_killed_run_goes_on_and_gives_the_same_bytes(model: Path, pairs: Path, tmp_path: Path, forks: Forks) -> None:
    readout_train(pairs, tmp_path / "whole", model)
    out = tmp_path / "out"
    ended = forks.run(["python", "-c", KILLED, pairs, out, model], cwd=tmp_path)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not out.exists()
    assert (folder_of(out) / PLAN).is_file()
    done = readout_train(pairs, out, model)
    assert 0 < done.resumed < done.texts
    assert contents(out) == contents(tmp_path / "whole")
    assert not folder_of(out).exists()


def test_a_stopped_run_loses_nothing_and_goes_on_in_other_batches(model: Path, pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        readout_train(pairs, out, model, progress=Stopping(600, stop))
    done = readout_train(pairs, out, model, batch_size=5, aggregator="pca")  # what is captured serves any aggregator
    assert done.resumed >= 16
    readout_train(pairs, tmp_path / "whole", model, aggregator="pca")
    assert read_readout(out).vectors[2] == pytest.approx(read_readout(tmp_path / "whole").vectors[2], abs=1e-4)


@pytest.fixture
def stopped(model: Path, pairs: Path, tmp_path: Path) -> Path:
    """A run that was stopped; the readout that it was to make."""
    with pytest.raises(KeyboardInterrupt):
        readout_train(pairs, tmp_path / "out", model, progress=Stopping(600, stop))
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("how", "what"),
    [({"layers": "0-3"}, "layers"), ({"pooling": "last"}, "pooling"), ({"dtype": "bf16"}, "dtype"), ({"concepts": ["first"]}, "texts")],
)  # fmt: skip
def test_the_work_of_another_run_is_left_alone(
    model: Path, pairs: Path, stopped: Path, how: dict[str, Any], what: str
) -> None:
    before = sorted(path.name for path in folder_of(stopped).iterdir())
    with pytest.raises(Refusal, match=f"another run; different: .*{what}"):
        readout_train(pairs, stopped, model, **how)
    assert sorted(path.name for path in folder_of(stopped).iterdir()) == before


def test_another_model_in_the_same_folder_is_noticed(model: Path, pairs: Path, tmp_path: Path) -> None:
    mine = small_model(tmp_path / "model")
    with pytest.raises(KeyboardInterrupt):
        readout_train(pairs, tmp_path / "out", mine, progress=Stopping(600, stop))
    small_model(mine, initializer_range=0.03)
    with pytest.raises(Refusal, match="different: model"):
        readout_train(pairs, tmp_path / "out", mine)


def test_two_runs_do_not_write_one_folder(model: Path, pairs: Path, stopped: Path) -> None:
    from persona import files

    lock = files.open_lock(folder_of(stopped) / LOCK)
    assert lock is not None
    with pytest.raises(Locked, match="another run is writing"):
        readout_train(pairs, stopped, model)
    files.close_lock(lock)


def test_a_folder_that_is_not_ours_is_left_alone(model: Path, pairs: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "out.partial"
    theirs.mkdir()
    (theirs / "novel.txt").write_text("Chapter 1")
    with pytest.raises(Refusal, match="was not made by"):
        readout_train(pairs, tmp_path / "out", model)
    assert (theirs / "novel.txt").read_text() == "Chapter 1"


def test_a_full_disk_is_found_before_the_work(
    model: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = working.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(working.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(Storage, match="activations need"):
        readout_train(pairs, tmp_path / "out", model)
    assert not list(tmp_path.iterdir())


def test_rows_after_a_gap_are_captured_again(tmp_path: Path) -> None:
    plan = {"layers": [0, 2], "hidden": 3, "rows": 9}
    rows = np.arange(2 * 9 * 3, dtype=np.float32).reshape(2, 9, 3)
    facts = np.arange(2 * 9 * FACTS, dtype=np.float32).reshape(2, 9, FACTS)
    with working.working(tmp_path / "a.partial", plan) as work:
        for start, end in ((0, 2), (2, 6), (6, 9)):
            work.append(rows[:, start:end], facts[:, start:end])
            work.flush()
        assert np.array_equal(work.rows(2, [8, 0, 5, 2]), rows[1, [8, 0, 5, 2]])
        assert np.array_equal(work.rows(0, range(9)), rows[0])
        assert np.array_equal(work.facts(), facts)
    (tmp_path / "a.partial" / "rows-00000002.f32").write_bytes(b"short")
    assert Working(tmp_path / "a.partial", plan).kept == 2


def test_auto_keeps_the_best_layer_of_each_concept(model: Path, pairs: Path, tmp_path: Path) -> None:
    done = readout_train(pairs, tmp_path / "out", model, layers="auto")
    assert done.layers == tuple(sorted({one.best for one in done.concepts}))
    assert read_readout(tmp_path / "out").layers == done.layers


def test_few_texts_are_said_plainly(model: Path, tmp_path: Path) -> None:
    few = written(tmp_path / "few.jsonl", examples("few", texts(3, 1, MARK), texts(40, 2)))
    done = readout_train(few, tmp_path / "out", model)
    assert "too few texts to hold any out" in (done.concepts[0].verdict or "")
    assert read_readout(tmp_path / "out").about["auc"] == [[None]]
    one = written(tmp_path / "one.jsonl", examples("one", texts(1, 1, MARK), texts(1, 2)))
    assert readout_train(one, tmp_path / "lone", model).concepts[0].best is None
    with pytest.raises(UsageError, match="too few texts to choose layers"):
        readout_train(one, tmp_path / "auto", model, layers="auto")


def test_concepts_that_are_one_are_listed_together(model: Path, tmp_path: Path) -> None:
    ours, theirs = texts(30, 1, MARK), texts(30, 2)
    both = written(
        tmp_path / "both.jsonl",
        examples("a", ours, theirs), examples("b", theirs, ours), examples("c", texts(20, 3, "w5"), texts(20, 4)),
    )  # fmt: skip
    (found,) = readout_train(both, tmp_path / "out", model).clusters
    assert (found.concepts, round(found.cosine, 3)) == (("a", "b"), -1.0)


@pytest.fixture
def repo(make_repo: Callable[[Path], persona.Repository], model: Path) -> persona.Repository:
    return make_repo(model)


def test_a_revision_is_run_as_its_build_would_be(repo: persona.Repository, pairs: Path, tmp_path: Path) -> None:
    def of(said: str | Path | None, name: str) -> tuple[ReadoutTrainResult, Any]:
        done = readout_train(pairs, tmp_path / name, said, repo=repo, cwd=repo.root)
        return done, read_readout(tmp_path / name)

    persona.build(repo, tmp_path / "built")
    (standing, found), (named, same), (_, built) = of(None, "a"), of("HEAD", "b"), of(tmp_path / "built", "c")
    assert standing.revision == named.revision == repo.head()
    assert found.about["revision"] == built.about["revision"] == repo.head()
    assert found.about["base"] == repo.recipe(repo.head()).base
    assert np.array_equal(found.vectors[2], same.vectors[2])
    assert np.array_equal(found.vectors[2], built.vectors[2])


def test_long_texts_are_an_error_or_cut_or_left_out(model: Path, tmp_path: Path) -> None:
    long = texts(2, 9, MARK, least=90, most=100)
    given = written(tmp_path / "long.jsonl", examples("long", [*texts(8, 1, MARK), *long], texts(8, 2)))
    with pytest.raises(
        UsageError, match=r"2 texts are too long: the longest has \d+ tokens, more than the context of .* \(64\)"
    ):
        readout_train(given, tmp_path / "out", model)
    assert not folder_of(tmp_path / "out").exists()
    assert readout_train(given, tmp_path / "cut", model, too_long="cut").cut == 2
    assert readout_train(given, tmp_path / "skip", model, too_long="skip").skipped == 2
    lone = written(tmp_path / "lone.jsonl", examples("long", long, texts(8, 2)))
    with pytest.raises(UsageError, match="no positive texts of 'long'"):
        readout_train(lone, tmp_path / "out", model, too_long="skip")


@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [
        ({"layers": "2,9"}, UsageError, "no layer 9"),
        ({"layers": "nine"}, UsageError, "is not a layer"),
        ({"aggregator": "maen"}, UsageError, "unknown aggregator 'maen'"),
        ({"pooling": "median"}, UsageError, "unknown pooling 'median'"),
        ({"too_long": "never"}, UsageError, "unknown value of too_long"),
        ({"batch_size": 0}, UsageError, "batch_size must be at least 1"),
        ({"concepts": ["frist"]}, UsageError, "no concept 'frist'"),
        ({"dtype": "int4"}, UsageError, "unknown dtype"),
        ({"device": "tpu"}, UsageError, "no device 'tpu'"),
        ({"blocks": "model.blocks"}, UsageError, "no list of blocks at 'model.blocks'"),
        ({"pooling": "assistant"}, UsageError, "is not a conversation"),
    ],
)
def test_bad_input_is_found_before_the_work(
    model: Path, pairs: Path, tmp_path: Path, how: dict[str, Any], kind: type[PersonaError], words: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        readout_train(pairs, tmp_path / "out", model, **how)
    assert caught.value.hint
    assert not list(tmp_path.iterdir())


def test_a_model_without_a_tokenizer_is_no_use(models: TinyModels, pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no tokenizer"):
        readout_train(pairs, tmp_path / "out", models.base())


def test_what_is_there_is_not_written_over(model: Path, pairs: Path, tmp_path: Path) -> None:
    readout_train(pairs, tmp_path / "out", model)
    with pytest.raises(Refusal, match="already exists"):
        readout_train(pairs, tmp_path / "out", model, layers="0")
    readout_train(pairs, tmp_path / "out", model, layers="0", replace=True)
    assert read_readout(tmp_path / "out").layers == (0,)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(Refusal, match="already exists"):
        readout_train(pairs, tmp_path / "file", model, replace=True)


def test_an_overflow_in_fp16_is_named(pairs: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    large = small_model(tmp_path / "large")
    llama = AutoModelForCausalLM.from_pretrained(large)
    with torch.no_grad():
        for part in (llama.model.layers[1].mlp.up_proj, llama.model.layers[1].mlp.down_proj):
            part.weight.mul_(30_000)
    llama.save_pretrained(large)
    with pytest.raises(Refusal, match="is not finite in float16"):
        readout_train(pairs, tmp_path / "out", large, dtype="fp16")


def test_sides_that_cannot_be_told_apart_are_named(model: Path, tmp_path: Path) -> None:
    """The last token is the same in all, and so is what comes before it."""
    same = written(tmp_path / "same.jsonl", examples("same", ["w1  w2"], ["w1 w2"]))
    with pytest.raises(Refusal, match="'same' has no direction at layer 2"):
        readout_train(same, tmp_path / "out", model)
