"""``fisher``: from examples to a diagonal that a recipe names, and what a build makes of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

import persona
from persona import files
from persona.errors import RecipeError, Refusal, Storage, UsageError
from persona.ids import FisherId
from persona.maintenance.check import check
from persona.recipe.model import Recipe
from persona.store.fishers import Fisher
from persona.training.fisher import estimate
from persona.workspace.loading import planned
from persona.workspace.workbench import Workbench
from tests.checkpoints.peft_folders import handmade, pair
from tests.diagonals import put_diagonal
from tests.models import assert_same, load, nudge
from tests.training.conftest import speaking_base, word_tokenizer

__all__ = ["speaking_base"]
FISHER = '\n[merge]\nmethod = "fisher"\n'


@pytest.fixture(scope="session")
def runs(speaking_base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs of the base, and one that adds two tokens."""
    folder, found = tmp_path_factory.mktemp("runs"), []
    for number in range(3):
        model = nudge(AutoModelForCausalLM.from_pretrained(speaking_base, dtype="auto"), number + 1, 2e-3)
        if number == 2:
            model.resize_token_embeddings(98)
        model.save_pretrained(folder / f"run-{number}")
        found.append(folder / f"run-{number}")
    return found


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": "yes good day"}]}
        for asked in ("hi there", "are we on", "so I was thinking", "one two")
    ]
    path = tmp_path_factory.mktemp("data") / "data.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def made(speaking_base: Path, runs: list[Path], data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with vectors a and b, and their diagonals."""
    root = tmp_path_factory.mktemp("made") / "work"
    persona.init(root, speaking_base, author="Test")
    repo = persona.open(root)
    for name, run in zip("ab", runs, strict=False):
        persona.commit(repo, run, name=name)
    for seed, name in enumerate("ab"):
        persona.fisher(repo, name, data, seed=seed)
    return root


@pytest.fixture
def repo(made: Path, tmp_path: Path) -> persona.Repository:
    return persona.open(shutil.copytree(made, tmp_path / "work"))


def diagonal_of(repo: persona.Repository, name: str) -> tuple[FisherId, Fisher]:
    entry = repo.recipe(repo.head()).entry(name)
    assert entry is not None
    assert entry.fisher is not None
    return FisherId(entry.fisher), Fisher.get(repo.objects, FisherId(entry.fisher))


def weights_in(repo: persona.Repository, fisher: Fisher) -> dict[str, np.ndarray]:
    read = {name: repo.tensors.read(spec.id).view(np.float32) for name, spec in fisher.tensors.items()}
    return {name: flat.reshape(fisher.tensors[name].shape) for name, flat in read.items()}


def weigh(repo: persona.Repository, more: str = "") -> None:
    repo.recipe_path.write_text((repo.recipe_text() or "") + FISHER + more)


def test_it_is_the_diagonal_of_the_base_with_that_vector(
    repo: persona.Repository, runs: list[Path], data: Path
) -> None:
    """What ``estimate`` gives of the run itself, which is base + τ; and its sums, in the object, the commit and the recipe."""
    from persona.training.examples import read_examples
    from persona.training.problems import prepare
    from persona.training.settings import Settings

    _, kept = diagonal_of(repo, "b")
    model = AutoModelForCausalLM.from_pretrained(runs[1], dtype="auto")
    rows = prepare(word_tokenizer(), read_examples(data), Settings(), None).rows
    for one in model.parameters():
        one.requires_grad_(True)
    wanted, tokens = estimate(model, rows, 1)
    found = weights_in(repo, kept)
    assert {name: one.shape for name, one in found.items()} == {name: tuple(one.shape) for name, one in wanted.items()}
    for name, one in wanted.items():  # the build may differ from the run in the last place: W + (W' - W)
        np.testing.assert_allclose(found[name], one.numpy(), rtol=1e-3, atol=float(one.max()) * 1e-4)
    assert (kept.examples, kept.tokens, kept.seed) == (4, tokens, 1)
    flat = np.concatenate([one.reshape(-1).astype(np.float64) for one in found.values()])
    assert kept.trace == pytest.approx(flat.sum(), rel=1e-12)
    assert kept.norm == pytest.approx(np.sqrt((flat**2).sum()), rel=1e-12)
    assert kept.mean == pytest.approx(flat.mean(), rel=1e-12)
    run = repo.commit(repo.head()).run
    assert run["fisher"]["vector"] == "b"
    assert run["data"][0]["digest"] == kept.data[0]


def test_a_build_is_the_formula(
    repo: persona.Repository, speaking_base: Path, runs: list[Path], tmp_path: Path
) -> None:
    """In fp64, from the folders and the two diagonals; λ = 0.9, α = 1 and -0.5, F by its mean."""
    persona.alpha(repo, {"b": -0.5})
    weigh(repo, "scale = 0.9\n")
    persona.build(repo, tmp_path / "out")
    base, one, two = (load(folder) for folder in (speaking_base, *runs[:2]))
    diagonals = [diagonal_of(repo, name)[1] for name in "ab"]
    first, second = (
        {
            name: np.maximum(values.astype(np.float64) / kept.mean, 1e-6)
            for name, values in weights_in(repo, kept).items()
        }
        for kept in diagonals
    )
    for name, built in load(tmp_path / "out").items():
        w, x, y = (folder[name].double().numpy() for folder in (base, one, two))
        mass = first[name] + 0.5 * second[name]
        delta = (first[name] * (x - w) - 0.5 * second[name] * (y - w)) / mass
        # fp32: a handful of roundings of terms no larger than the largest τ and W
        np.testing.assert_allclose(
            built.double().numpy(), w + 0.9 * delta, rtol=0, atol=8 * 2**-24 * np.abs(w).max() + 1e-8
        )


def test_it_depends_on_the_diagonals_and_other_methods_do_not(repo: persona.Repository, tmp_path: Path) -> None:
    persona.build(repo, tmp_path / "linear")
    weigh(repo)
    persona.build(repo, tmp_path / "fisher")
    _, kept = diagonal_of(repo, "a")
    put_diagonal(repo, "a", {name: values[::-1].copy() for name, values in weights_in(repo, kept).items()})
    persona.build(repo, tmp_path / "other")
    assert persona.diff(repo, str(tmp_path / "fisher"), str(tmp_path / "other"), weights=True).differs
    repo.recipe_path.write_text((repo.recipe_text() or "").replace(FISHER, ""))
    persona.build(repo, tmp_path / "again")
    assert_same(load(tmp_path / "again"), load(tmp_path / "linear"))


def test_a_vector_without_one_is_refused_by_name(repo: persona.Repository, tmp_path: Path) -> None:
    persona.undo(repo)
    weigh(repo)
    with pytest.raises(
        Refusal, match=r"'fisher' needs the Fisher diagonal of vector 'b' at \S+, and it has none"
    ) as error:
        persona.build(repo, tmp_path / "out")
    assert "persona fisher b --data" in error.value.hint
    assert not (tmp_path / "out").exists()
    assert "persona fisher b" in persona.status(persona.open(repo.root)).next or repo.is_edited()
    persona.commit(repo, message="weigh")
    assert persona.status(repo).next == "persona fisher b --data FILE"
    with pytest.raises(Refusal, match="'b'"):
        persona.bake(repo, ["a", "b"], "both")
    with pytest.raises(Refusal, match="'b'"):
        persona.build(repo, tmp_path / "out", as_adapter=True, rank=2)
    persona.alpha(repo, {"b": 0.0})
    persona.build(repo, tmp_path / "alone")  # there is nothing to weigh it against


def test_a_retrained_vector_has_none(repo: persona.Repository, runs: list[Path]) -> None:
    done = persona.commit(repo, runs[2], name="a")
    assert done.recorded is not None
    assert [one.kind for one in done.recorded.changes] == ["retrained", "fisher"]
    assert done.recorded.notes[0].startswith("a no longer has a Fisher diagonal, because the vector was replaced.")
    entry = repo.recipe(repo.head()).entry("a")
    assert entry is not None
    assert entry.fisher is None
    persona.revert(repo, "HEAD")
    assert diagonal_of(repo, "a")[1].seed == 0


@pytest.mark.parametrize(("how", "keeps"), [("ours", True), ("theirs", False), ("mean", False), ("both", True)])
def test_a_merge_takes_it_with_the_vector(repo: persona.Repository, runs: list[Path], how: str, keeps: bool) -> None:
    persona.switch(repo, "side", create=True)
    persona.commit(repo, runs[2], name="a")
    persona.switch(repo, "main")
    persona.commit(repo, runs[1], name="a")
    put_diagonal(repo, "a", weights_in(repo, diagonal_of(repo, "b")[1]))
    persona.commit(repo, message="weigh a")
    done = persona.merge(repo, ["side"], retrained=how)
    assert done.ok
    found = {entry.name: entry.fisher is not None for entry in repo.recipe(repo.head()).vectors}
    assert found.pop("a") is keeps
    assert found.pop("b")
    assert found == ({"a-side": False} if how == "both" else {})


def test_one_of_another_vector_is_refused_with_its_line(repo: persona.Repository) -> None:
    text = repo.recipe_text() or ""
    names = [diagonal_of(repo, name)[0].short for name in "ab"]
    repo.recipe_path.write_text(text.replace(names[0], names[1]))
    with pytest.raises(RecipeError, match=r"persona.toml:\d+: vectors.a.fisher: \w+ was not estimated for this vector"):
        persona.commit(repo, message="wrong")
    repo.recipe_path.write_text(text.replace(names[0], "abcdef123456"))
    with pytest.raises(RecipeError, match="no fisher 'abcdef123456'") as error:
        persona.commit(repo, message="wrong")
    assert "persona fisher" in error.value.hint
    repo.recipe_path.write_text(text.replace(names[0], names[0][:6]))
    persona.commit(repo, message="a shorter id is the same")


def test_the_same_again_records_nothing_and_undo_takes_it_back(repo: persona.Repository, data: Path) -> None:
    before = repo.head()
    done = persona.fisher(repo, "b", data, seed=1)
    assert done.recorded is None
    assert repo.head() == before
    name, _ = diagonal_of(repo, "b")
    other = persona.fisher(repo, "b", data, seed=2, limit=2)
    assert (other.examples, other.waiting) == (2, ())
    assert other.fisher != name
    persona.undo(repo)
    assert diagonal_of(repo, "b")[0] == name


def test_the_store_keeps_what_recipes_name(repo: persona.Repository) -> None:
    name, kept = diagonal_of(repo, "a")
    persona.gc(repo, grace=0)
    assert persona.fsck(repo).ok
    assert Fisher.get(repo.objects, name) == kept
    whole = repo.objects.path(name).read_bytes()
    repo.objects.path(name).unlink()
    found = persona.fsck(repo)
    assert [(loss.kind, loss.id) for loss in found.lost] == [("fisher", name)]
    repo.objects.path(name).write_bytes(whole)
    assert {spec.id for spec in kept.tensors.values()} <= set(check(repo.on_disk()).needed)
    while repo.commit(repo.head()).message.startswith("estimate"):
        persona.undo(repo)
    persona.gc(repo, grace=0)
    assert name not in repo.objects
    assert persona.fsck(repo).ok


def test_a_model_in_memory_is_the_build(repo: persona.Repository, tmp_path: Path) -> None:
    """And changes with the diagonals alone."""
    weigh(repo)
    persona.commit(repo, message="weigh")
    before = repo.recipe(repo.head())
    bench = Workbench(repo)
    bench.become(Recipe(before.base, before.base_name), "base")
    _, kept = diagonal_of(repo, "a")
    put_diagonal(repo, "a", {name: values[::-1].copy() for name, values in weights_in(repo, kept).items()})
    persona.commit(repo, message="another")
    for number, recipe in enumerate((before, repo.recipe(repo.head()))):
        live = bench.become(recipe, "now")
        persona.build(repo, tmp_path / f"out-{number}", "HEAD~1" if number == 0 else "HEAD")
        assert_same(dict(live.model.state_dict()), load(tmp_path / f"out-{number}"))


def test_rows_that_the_base_has_not_are_cut_off(repo: persona.Repository, runs: list[Path], data: Path) -> None:
    persona.commit(repo, runs[2], name="grown")
    persona.fisher(repo, "grown", data)
    _, kept = diagonal_of(repo, "grown")
    base = repo.base(kept.base)
    assert all(spec.shape == base.tensors[name].shape for name, spec in kept.tensors.items())
    weigh(repo)
    plan, _ = planned(repo, persona.status(repo).recipe)
    assert all(term.weight for output in plan.outputs for term in output.terms if len(output.terms) > 1)


def test_a_tensor_that_the_model_does_not_use_has_the_mean(
    speaking_base: Path, runs: list[Path], data: Path, make_repo: Callable[[Path], persona.Repository], tmp_path: Path
) -> None:
    """The formula with all F alike: (τ₁ + τ₂)/2 = (0.25 + 0.75)/2."""
    for number, folder in enumerate((speaking_base, *runs[:2])):
        shutil.copytree(folder, tmp_path / f"run-{number}")
        tensors = {**load(folder), "extra.weight": torch.tensor([0.0, 0.25, 0.75][number]).repeat(3)}
        save_file(tensors, tmp_path / f"run-{number}" / "model.safetensors", {"format": "pt"})
    repo = make_repo(tmp_path / "run-0")
    for number, name in enumerate("ab", 1):
        persona.commit(repo, tmp_path / f"run-{number}", name=name)
        done = persona.fisher(repo, name, data)
        assert done.uncovered == ("extra.weight",)
        assert done.notes[0].startswith("the model has no weights named extra.weight")
    weigh(repo)
    persona.build(repo, tmp_path / "out")
    assert load(tmp_path / "out")["extra.weight"].tolist() == [0.5, 0.5, 0.5]


def test_an_adapter_a_sum_and_vectors_that_are_kept_off(repo: persona.Repository, data: Path, tmp_path: Path) -> None:
    """Factors, derived vectors, ``only``, and alphas along the depth: each tensor by those that touch it."""
    handmade(tmp_path / "lora", pair("model.layers.0.mlp.up_proj", 48, 32), target_modules=["up_proj"])
    persona.commit(repo, tmp_path / "lora", name="lora")
    persona.derive(repo, "sum", "a - 0.5 * b", alpha=0.7)
    persona.fisher(repo, "lora", data)
    _, kept = diagonal_of(repo, "lora")
    assert list(kept.tensors) == ["model.layers.0.mlp.up_proj.weight"]
    put_diagonal(repo, "sum", weights_in(repo, diagonal_of(repo, "a")[1]))
    text = repo.recipe_text() or ""
    text = text.replace("[vectors.a]", '[vectors.a]\nonly = ["*mlp*"]').replace("alpha = 0.7", "alpha = [0.2, 1.0]")
    repo.recipe_path.write_text(text)
    weigh(repo)
    persona.build(repo, tmp_path / "out")
    plan, _ = planned(repo, persona.status(repo).recipe)
    by_name = {output.name: output for output in plan.outputs}
    assert [term.vector for term in by_name["model.layers.0.mlp.up_proj.weight"].terms] == ["a", "b", "lora", "sum"]
    assert [term.vector for term in by_name["model.layers.1.self_attn.q_proj.weight"].terms] == ["b", "sum"]
    persona.build(repo, tmp_path / "torch", device="torch")
    assert_same(load(tmp_path / "torch"), load(tmp_path / "out"))
    persona.commit(repo, message="all of it")
    persona.bake(repo, ["a", "b", "lora", "sum"], "baked")
    persona.build(repo, tmp_path / "baked")
    assert_same(load(tmp_path / "baked"), load(tmp_path / "out"))


def test_what_else_reads_such_a_recipe(repo: persona.Repository, tmp_path: Path) -> None:
    """It works, or is refused for what it is."""
    weigh(repo)
    persona.commit(repo, message="weigh")
    with pytest.raises(Refusal, match="mergekit has no method 'fisher'"):
        persona.export(repo, tmp_path / "recipe.yml")
    with pytest.raises(Refusal, match="fisher"):
        persona.build(repo, tmp_path / "exact", as_adapter=True)
    near = persona.build(repo, tmp_path / "near", as_adapter=True, rank=32)
    assert near.adapter is not None
    assert near.adapter.error is not None
    assert persona.interference(repo).vectors == ("a", "b")
    assert persona.diff(repo, "HEAD~1", "HEAD", weights=True).differs
    assert not persona.diff(repo, "HEAD~2", "HEAD~1", weights=True).tensors.whole.changed  # type: ignore[union-attr]
    (one,) = persona.merge_methods("fisher")
    assert one.weighs


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("c", {}, "no vector 'c'"),
        ("a", {"device": "cuda:7"}, "no device 'cuda:7'"),
        ("a", {"dtype": "int8"}, "unknown dtype 'int8'"),
        ("a", {"limit": 0}, "invalid limit: 0"),
        ("a", {"changes": {"loss": "none"}}, "loss"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(
    repo: persona.Repository, data: Path, name: str, more: dict[str, object], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        persona.fisher(repo, name, data, **more)  # type: ignore[arg-type]


def test_it_needs_a_clean_recipe_and_data_with_an_answer(repo: persona.Repository, data: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"prompt": "", "completion": ""}\n')
    with pytest.raises(UsageError, match=r"empty.jsonl has no token that counts"):
        persona.fisher(repo, "a", empty)
    with pytest.raises(persona.PersonaError, match=r"missing.jsonl"):
        persona.fisher(repo, "a", tmp_path / "missing.jsonl")
    weigh(repo)
    with pytest.raises(Refusal, match="uncommitted edits"):
        persona.fisher(repo, "a", data)


@pytest.fixture
def failing() -> Iterator[Callable[[int], None]]:
    """Let the n-th file effect in a repository fail."""

    def at(number: int) -> None:
        left = [number]

        def observe(effect: str, path: Path) -> None:
            left[0] -= ".persona" in path.parts or path.name == "persona.toml"
            if left[0] == 0:
                left[0] = -1
                raise OSError(28, "No space left on device")

        files.observer = observe

    yield at
    files.observer = None


@pytest.mark.slow
def test_a_disk_that_is_full_at_any_moment(
    made: Path, data: Path, tmp_path: Path, failing: Callable[[int], None]
) -> None:
    """The recipe says the one or the other, everything is whole, and the same command then succeeds."""
    number = 0
    while True:
        number += 1
        repo = persona.open(shutil.copytree(made, tmp_path / f"work-{number}"))
        failing(number)
        try:
            persona.fisher(repo, "a", data, seed=9)
        except Storage:
            pass
        else:
            break
        finally:
            files.observer = None
        again = persona.open(repo.root)
        assert diagonal_of(again, "a")[1].seed in (0, 9)
        assert not again.is_edited()
        persona.fisher(again, "a", data, seed=9)
        assert diagonal_of(again, "a")[1].seed == 9
        assert persona.fsck(again).ok
    assert number > 10
