"""``persona derive``: sums that cost nothing, mean the same for ever, and are shown as sums."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

import persona
from persona.errors import Damaged, ExpressionError, Refusal, UsageError, WrongBase
from persona.ids import VectorId
from persona.maintenance.report import LostObject
from persona.recipe.naming import names_a_vector, vector_at
from persona.store.nouns import TermOf, Vector
from persona.workspace.record import worktree_recipe
from tests.cli.conftest import Run
from tests.models import VOCAB, TinyModels, load, nudge, same_bits, write_adapter
from tests.verbs.test_messy_checkpoints import grown
from tests.verbs.test_messy_checkpoints import spoken as spoken  # the fixture

pytestmark = pytest.mark.filterwarnings("ignore")  # peft's and transformers' own

MakeRepo = Callable[[Path], persona.Repository]


@pytest.fixture
def three(models: TinyModels, repo: persona.Repository) -> persona.Repository:
    """Vectors listening, rushing and b-a, at alpha 1."""
    for number, name in enumerate(("listening", "rushing", "b-a"), 1):
        persona.commit(repo, models.run(number), name=name)
    return repo


def terms_of(repo: persona.Repository, name: str) -> dict[str, float]:
    entry = repo.recipe(repo.head()).entry(name)
    assert entry is not None
    return {term.name: term.coefficient for term in repo.vector(VectorId(entry.id)).terms}


def objects(repo: persona.Repository) -> set[Path]:
    return set((repo.folder / "packs").iterdir())


def test_a_sum_costs_no_weights(three: persona.Repository) -> None:
    before = objects(three)
    done = persona.derive(three, "calm", "listening - 0.5 * rushing", alpha=0.8)
    assert objects(three) == before
    assert (done.vector.form, done.vector.kept_bytes, done.vector.alpha) == ("derived", 0, 0.8)
    assert done.vector.expression == "listening − 0.5 × rushing"
    assert terms_of(three, "calm") == {"listening": 1.0, "rushing": -0.5}
    assert "[vectors.calm]  # = listening - 0.5 * rushing\n" in three.head_text()
    assert done.recorded is not None
    assert done.recorded.message == "derive calm = listening - 0.5 * rushing"


def test_its_tau_is_the_sum(three: persona.Repository) -> None:
    persona.derive(three, "calm", "listening - 0.5 * rushing")
    calm, one, two = (persona.vector(three, name) for name in ("calm", "listening", "rushing"))
    assert set(calm) == {*one, *two}
    for name, tau in calm.items():
        wanted = one[name].clone() if name in one else torch.zeros_like(tau)
        wanted += torch.tensor(-0.5) * two[name] if name in two else 0
        assert torch.equal(tau, wanted), name


def test_the_same_again_says_so(three: persona.Repository) -> None:
    first = persona.derive(three, "calm", "listening - rushing")
    again = persona.derive(three, "calm", "(listening)  +  -1*rushing")
    assert first.recorded is not None
    assert again.recorded is None
    assert again.vector.id == first.vector.id
    assert persona.derive(three, "calm", "listening - rushing", alpha=0.5).recorded is not None


def test_a_taken_name_is_redefined_only_when_asked(three: persona.Repository) -> None:
    persona.derive(three, "calm", "listening - rushing", alpha=0.5)
    with pytest.raises(UsageError, match="already has a vector 'calm'"):
        persona.derive(three, "calm", "listening + rushing")
    with pytest.raises(UsageError, match="already has a vector 'listening'"):
        persona.derive(three, "listening", "listening + rushing")
    done = persona.derive(three, "calm", "2 * calm + 'b-a'", replace=True)
    assert done.replaced
    assert done.vector.alpha == 0.5
    assert terms_of(three, "calm") == {"listening": 2.0, "rushing": -2.0, "b-a": 1.0}
    assert three.head_text().count("# =") == 1
    assert "[vectors.calm]  # = 2 * calm + 'b-a'\n" in three.head_text()


def test_a_vector_once_is_that_vector(three: persona.Repository) -> None:
    for name, text in {"same": "listening", "again": "listening + rushing - rushing"}.items():
        done = persona.derive(three, name, text)
        entry = worktree_recipe(three).entry("listening")
        assert entry is not None
        assert done.vector.id == entry.id
        assert done.notes
    assert "# =" not in three.head_text()


def test_it_keeps_its_meaning_when_a_term_is_retrained(three: persona.Repository, models: TinyModels) -> None:
    persona.derive(three, "calm", "listening - rushing")
    before = {name: tau.clone() for name, tau in persona.vector(three, "calm").items()}
    old = persona.vectors(three)[0].id
    persona.commit(three, models.run(9), name="listening")
    after = persona.vector(three, "calm")
    assert all(torch.equal(after[name], tau) for name, tau in before.items())
    assert persona.vectors(three)[3].expression == f"listening ({old.short}) − rushing"
    persona.derive(three, "learnt", "listening - listening@HEAD~1")
    assert [term.id for term in persona.vectors(three)[4].terms] == [persona.vectors(three)[0].id, old]


def test_a_run_that_takes_its_name_takes_the_comment_away(three: persona.Repository, models: TinyModels) -> None:
    persona.derive(three, "calm", "listening - rushing")
    persona.commit(three, models.run(9), name="calm")
    assert "# =" not in three.head_text()


def test_a_comment_of_someones_own_stays(three: persona.Repository) -> None:
    persona.derive(three, "calm", "listening - rushing")
    text = three.head_text().replace("# = listening - rushing", "# mine # = x")
    three.recipe_path.write_text(text)
    persona.commit(three, message="comment")
    persona.derive(three, "calm", "listening + rushing", replace=True)
    assert "[vectors.calm]  # mine # = x\n" in three.head_text()


def test_an_inline_table_gets_a_row(three: persona.Repository) -> None:
    recipe = worktree_recipe(three)
    rows = ", ".join(f'{entry.name} = {{id = "{entry.id[:12]}"}}' for entry in recipe.vectors)
    three.recipe_path.write_text(f'vectors = {{{rows}}}\n\n[base]\nname = "b"\nid = "{recipe.base[:12]}"\n')
    persona.commit(three, message="inline")
    persona.derive(three, "calm", "listening - rushing")
    assert terms_of(three, "calm") == {"listening": 1.0, "rushing": -1.0}


def test_undo_and_negate(three: persona.Repository, models: TinyModels, tmp_path: Path) -> None:
    persona.derive(three, "calm", "listening - rushing")
    persona.negate(three, "calm")
    persona.rm(three, ["listening", "rushing", "b-a"])
    persona.build(three, tmp_path / "out", dtype="fp32")
    base, calm = load(models.base()), persona.vector(three, "calm")
    for name, built in load(tmp_path / "out").items():
        assert torch.equal(built, base[name].float() - calm.get(name, 0)), name
    persona.undo(three)
    persona.undo(three)
    persona.undo(three)
    assert three.recipe(three.head()).entry("calm") is None


def test_names_and_places_of_what_is_wrong(three: persona.Repository) -> None:
    for text, column, what, hint in [
        ("rushing + listning", 11, "no vector 'listning' in the recipe", "Did you mean 'listening'?"),
        ("listening-rushing", 1, "no vector 'listening-rushing'", "'listening - rushing', with spaces"),
        ("3rushing", 1, "no vector '3rushing'", "'3 * rushing'"),
        ("rushing + listening@nowhere", 11, "no revision 'nowhere'", "main"),
        ("listening@", 1, "no revision after the @", "listening@HEAD~1"),
        (
            "listening@HEAD~3 + rushing",
            1,
            "no vector 'listening' in the recipe of 'HEAD~3'",
            "The recipe has no vectors.",
        ),
        ("rushing * listening", 9, "cannot multiply two vectors", "0.5 * a"),
    ]:
        with pytest.raises(ExpressionError) as caught:
            persona.derive(three, "x", text)
        assert what in caught.value.message
        assert caught.value.message.startswith(f"column {column}: ")
        assert hint in caught.value.hint
    assert not three.is_edited()


def test_it_must_be_a_name_and_a_number(three: persona.Repository) -> None:
    with pytest.raises(UsageError, match="not a valid vector name"):
        persona.derive(three, "a b", "listening - rushing")
    with pytest.raises(UsageError, match="not a finite number"):
        persona.derive(three, "x", "listening - rushing", alpha=float("nan"))
    three.recipe_path.write_text(three.head_text() + "\n# edit\n")
    with pytest.raises(Refusal, match="uncommitted edits"):
        persona.derive(three, "x", "listening - rushing")


def test_a_vector_by_what_people_call_it(three: persona.Repository, models: TinyModels) -> None:
    old = persona.vectors(three)[0]
    persona.commit(three, models.run(9), name="listening")
    refs, recipe = three.refs(), worktree_recipe(three)

    def means(text: str) -> VectorId:
        return vector_at(text, recipe, refs, three.objects).id

    new = persona.vectors(three)[0]
    assert means("listening") == means("listening@HEAD") == means("listening@main") == new.id
    assert means("listening@HEAD~1") == means("listening@main^") == means(old.id) == means(old.id[:8]) == old.id
    assert vector_at(old.id[:8], recipe, refs, three.objects).name == old.id.short
    assert vector_at(new.id[:8], recipe, refs, three.objects).name == "listening"
    with pytest.raises(UsageError, match="no vector 'listning' in the recipe of 'main'"):
        means("listning@main")
    assert names_a_vector("listening@{2}", refs)
    assert names_a_vector("main@HEAD~1", refs)
    assert not names_a_vector("main@{2}", refs)
    assert not names_a_vector("@{2}", refs)
    assert not names_a_vector("HEAD@{2}", refs)
    assert not names_a_vector("main", refs)
    assert persona.vector(three, "listening@HEAD~1").keys() == persona.vector(three, old.id[:12]).keys()


def test_only_vectors_of_one_base(three: persona.Repository, models: TinyModels, tmp_path: Path) -> None:
    entry = persona.vectors(three)[0]
    other = three.vector(entry.id)
    foreign = Vector(three.base(other.base).put(three.objects), "dense", other.tensors)
    stranger = Vector(VectorId("0" * 64), "dense", foreign.tensors).put(three.objects)  # type: ignore[arg-type]
    with pytest.raises(WrongBase, match="belongs to base 000000000000"):
        persona.derive(three, "x", f"listening - '{stranger[:12]}'")


# what does not add up


def test_rows_come_from_what_is_added(make_repo: MakeRepo, spoken: Path, tmp_path: Path) -> None:
    repo = make_repo(spoken)
    runs = [grown(tmp_path / f"run{seed}", spoken, ["<listen>"], seed) for seed in (1, 2, 3)]
    for number, run_ in enumerate(runs, 1):
        persona.commit(repo, run_, name=f"v{number}", alpha=0.0)
    persona.derive(repo, "sum", "v1 + 3 * v2 - v3")
    persona.build(repo, tmp_path / "out")
    out, name = load(tmp_path / "out"), "lm_head.weight"
    tensors = [load(folder)[name].float() for folder in runs]
    assert same_bits(out[name][VOCAB:], (tensors[0][VOCAB:] * 0.25 + tensors[1][VOCAB:] * 0.75).bfloat16())
    base = load(spoken)[name].float()
    taus = [tensor[:VOCAB] - base for tensor in tensors]
    assert same_bits(out[name][:VOCAB], (base + (taus[0] + 3 * taus[1] - taus[2])).bfloat16())
    assert torch.equal(persona.vector(repo, "sum")[name][VOCAB:], tensors[0][VOCAB:] * 0.25 + tensors[1][VOCAB:] * 0.75)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["vocab_size"] == VOCAB + 1
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")


def test_what_is_taken_away_brings_no_rows(make_repo: MakeRepo, spoken: Path, tmp_path: Path) -> None:
    repo = make_repo(spoken)
    persona.commit(repo, grown(tmp_path / "grown", spoken, ["<listen>"]), name="grown", alpha=0.0)
    plain = nudge(AutoModelForCausalLM.from_pretrained(spoken, dtype="auto"), 4)
    plain.save_pretrained(tmp_path / "plain")
    persona.commit(repo, tmp_path / "plain", name="plain", alpha=0.0)
    persona.derive(repo, "less", "plain - grown")
    persona.build(repo, tmp_path / "out")
    assert load(tmp_path / "out")["lm_head.weight"].shape[0] == VOCAB
    assert persona.vector(repo, "less")["lm_head.weight"].shape[0] == VOCAB
    assert repo.vector(persona.vectors(repo)[2].id).files == {}


def test_terms_that_grow_differently_are_named(make_repo: MakeRepo, spoken: Path, tmp_path: Path) -> None:
    repo = make_repo(spoken)
    for name, tokens in {"one": ["<a>"], "two": ["<b>", "<c>"]}.items():
        persona.commit(repo, grown(tmp_path / name, spoken, tokens), name=name)
    with pytest.raises(Refusal, match=r"'one' and 'two' give .* different shapes"):
        persona.derive(repo, "x", "one + two")
    persona.derive(repo, "x", "one - two")


def heads(folder: Path, **tensors: torch.Tensor) -> Path:
    """A checkpoint of these tensors, beside one that says what model it is."""
    folder.mkdir()
    apart = {name: tensor.clone() for name, tensor in tensors.items()}
    save_file({"anchor": torch.full((100,), 1000.0), **apart}, folder / "model.safetensors")
    return folder


def test_new_and_missing_tensors(make_repo: MakeRepo, tmp_path: Path) -> None:
    w, head = torch.ones(4), torch.arange(4.0)
    repo = make_repo(heads(tmp_path / "base", w=w, u=w))
    persona.commit(repo, heads(tmp_path / "one", w=w + 1, u=w, value=head), name="one", alpha=0.0)
    persona.commit(repo, heads(tmp_path / "two", w=w + 2, u=w, value=3 * head), name="two", alpha=0.0)
    persona.commit(repo, heads(tmp_path / "lacks", w=w + 4), name="lacks", alpha=0.0)
    persona.commit(repo, heads(tmp_path / "uses", w=w, u=2 * w), name="uses", alpha=0.0)
    for number, (text, wanted) in enumerate([
        ("one + two", {"w": w + 3, "u": w, "value": 2 * head}),
        ("lacks - one", {"w": w + 3}),
        ("one - lacks", {"w": w - 3, "u": w, "value": head}),
        ("lacks - uses", {"w": w + 4}),
        ("0.5 * one", {"w": w + 0.5, "u": w, "value": head}),
    ]):  # fmt: skip
        persona.derive(repo, "sum", text, replace=True)
        persona.build(repo, tmp_path / f"out{number}")
        found = load(tmp_path / f"out{number}")
        del found["anchor"]
        assert {k: v.tolist() for k, v in found.items()} == {k: v.tolist() for k, v in wanted.items()}, text
        assert set(persona.vector(repo, "sum")) <= {*found, "u"}
    with pytest.raises(Refusal, match="'lacks' was saved without u, but vector 'uses' changes it"):
        persona.derive(repo, "x", "lacks + uses")


def test_settings_that_differ_are_named(models: TinyModels, make_repo: MakeRepo, tmp_path: Path) -> None:
    repo = make_repo(models.base())
    for number, theta in ((1, 20000.0), (2, 30000.0)):
        folder = shutil.copytree(models.run(number), tmp_path / f"run{number}")
        config = json.loads((folder / "config.json").read_text())
        config["max_position_embeddings"] = int(theta)
        (folder / "config.json").write_text(json.dumps(config))
        persona.commit(repo, folder, name=f"v{number}")
    with pytest.raises(Refusal, match=r"'v1' and 'v2' set max_position_embeddings .* differently"):
        persona.derive(repo, "x", "v1 + v2")
    done = persona.derive(repo, "x", "v1 - v2")
    assert dict(repo.vector(done.vector.id).config) == dict(repo.vector(persona.vectors(repo)[0].id).config)


# adapters


def test_a_sum_of_adapters_is_an_adapter(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    for seed in (1, 2):
        persona.commit(repo, write_adapter(models.base(), tmp_path / f"a{seed}", seed), name=f"a{seed}")
    done = persona.derive(repo, "sum", "a1 - 0.5 * a2", alpha=0.8)
    assert done.vector.rank == 4
    persona.rm(repo, ["a1", "a2"])
    built = persona.build(repo, tmp_path / "adapter", as_adapter=True)
    assert built.adapter is not None
    assert (built.adapter.rank, built.adapter.error) == (4, None)
    from peft import PeftModel

    base = AutoModelForCausalLM.from_pretrained(models.base(), dtype=torch.float32)
    merged = PeftModel.from_pretrained(base, tmp_path / "adapter").merge_and_unload().state_dict()
    persona.build(repo, tmp_path / "whole", dtype="fp32")
    for name, tensor in load(tmp_path / "whole").items():
        torch.testing.assert_close(tensor, merged[name].float(), rtol=1e-5, atol=1e-6)
    near = persona.build(repo, tmp_path / "near", as_adapter=True, rank=4)
    assert near.adapter is not None
    assert near.adapter.error is not None
    assert near.adapter.error < 1e-6


def test_a_sum_with_a_run_is_no_exact_adapter(three: persona.Repository, adapter: Path, tmp_path: Path) -> None:
    persona.commit(three, adapter, name="style")
    persona.derive(three, "sum", "style - listening")
    persona.rm(three, ["listening", "rushing", "b-a", "style"])
    with pytest.raises(Refusal, match=r"vector 'sum' changes .* as a whole tensor"):
        persona.build(three, tmp_path / "out", as_adapter=True)
    found = persona.build(three, tmp_path / "near", as_adapter=True, rank=3)
    assert found.adapter is not None


# keeping


def test_what_it_is_a_sum_of_is_kept(three: persona.Repository) -> None:
    """The terms are in no recipe of any ref: the sum alone holds them."""
    persona.derive(three, "calm", "listening - 0.5 * rushing")
    text, base = three.head_text(), three.recipe(three.head()).base
    before = {name: tau.clone() for name, tau in persona.vector(three, "calm").items()}
    alone = (
        "[base]" + text.split("[base]")[1].split("[vectors.")[0] + "[vectors.calm]" + text.split("[vectors.calm]")[1]
    )
    orphan(three, alone)
    assert [v.name for v in persona.vectors(three)] == ["calm"]
    assert len(persona.log(three)) == 1
    persona.gc(three, grace=0)
    assert persona.fsck(three).ok
    after = persona.vector(three, "calm")
    assert three.recipe(three.head()).base == base
    assert all(torch.equal(after[name], tau) for name, tau in before.items())
    assert persona.vectors(three)[0].expression.startswith("listening (")
    orphan(three, alone.split("[vectors.calm]")[0])
    collected = persona.gc(three, grace=0)
    assert collected.objects >= 3
    assert persona.fsck(three).ok


def orphan(repo: persona.Repository, text: str) -> None:
    """Make ``text`` the only commit that any ref has, without a parent."""
    from persona.history.commits import Commit, put_text
    from persona.recipe.parse import parse
    from persona.recipe.resolve import resolve

    with repo.transaction("orphan") as change:
        recipe = resolve(parse(text), repo.objects, None, text)
        commit = Commit(
            recipe.put(repo.objects), put_text(repo.objects, text), (), "T", "2026-01-01T00:00:00+00:00", "x", {}
        )
        change.advance(commit.put(repo.objects))
        change.set_recipe_text(text)


def test_what_suffers_when_a_term_is_lost(three: persona.Repository) -> None:
    persona.derive(three, "calm", "listening - rushing")
    persona.derive(three, "half", "'b-a' / 2")
    lost = persona.vectors(three)[0].id
    three.objects.path(lost).unlink()
    [loss] = [one for one in persona.fsck(three).lost if one.kind == "vector"]
    assert isinstance(loss, LostObject)
    assert (loss.id, loss.vectors) == (lost, ("calm", "listening"))
    calm = VectorId(three.recipe(three.head()).vectors[3].id)
    with pytest.raises(Damaged, match=f"vector {lost.short} is missing"):
        three.vector(calm)
    assert persona.diff(three, "HEAD~2", "HEAD").changes[0].meaning == "listening − rushing"


def test_an_object_that_no_persona_wrote(three: persona.Repository) -> None:
    one = persona.vectors(three)[0].id
    base = three.recipe(three.head()).base_id
    deep = Vector(base, "derived", {}, terms=(TermOf(2.0, one, "listening"),)).put(three.objects)
    nested = Vector(base, "derived", {}, terms=(TermOf(1.0, deep, "x"),)).put(three.objects)
    with pytest.raises(Damaged, match="a term is itself derived"):
        three.vector(nested)
    for wrong in (0.0, 1e300, float("1e-40")):
        bad = Vector(base, "derived", {}, terms=(TermOf(wrong, one, "listening"),)).put(three.objects)
        with pytest.raises(Damaged, match="coefficient"):
            three.vector(bad)


# what a person sees


def test_on_the_command_line(three: persona.Repository, run: Run) -> None:
    root = three.root
    said = run(root, "derive", "calm", "listening - rushing", "--alpha", "0.8", "-m", "calmer")
    assert said.code == 0
    assert " + calm   α 0.8   derived, 20 tensors, no weights of its own\n   = listening − rushing\n" in said.out
    assert "derived = listening − rushing" in run(root, "vectors").out
    shown = run(root, "show", "calm").out
    assert "\n= listening − rushing\n" in shown
    assert f"Term:   -1 × rushing ({persona.vectors(three)[1].id.short})" in shown
    assert run(root, "diff", "HEAD~1", "HEAD").out == "+ calm α 0.8 = listening − rushing\n"
    assert run(root, "derive", "calm", "listening + rushing", "--replace").code == 0
    assert run(root, "diff", "HEAD~1", "HEAD").out.endswith(") = listening + rushing\n")
    assert "vector" in run(root, "show", "listening@HEAD~1").out
    old = run(root, "show", persona.vectors(three, "HEAD~1")[3].id[:12]).out.splitlines()
    assert old[1] == "derived, 20 tensors, 0 B kept"
    assert run(root, "derive", "less", "--", "-rushing").code == 0
    assert "nothing was recorded" in run(root, "derive", "less", "--", "-1 * rushing").out


def test_as_json(three: persona.Repository, run: Run) -> None:
    done = json.loads(run(three.root, "derive", "calm", "listening - rushing", "--json").out)["result"]
    assert done["vector"]["terms"] == [
        {"coefficient": 1.0, "id": persona.vectors(three)[0].id, "name": "listening"},
        {"coefficient": -1.0, "id": persona.vectors(three)[1].id, "name": "rushing"},
    ]
    assert done["expression"] == "listening - rushing"
    [change] = done["recorded"]["changes"]
    assert change["meaning"] == "listening − rushing"
    wrong = json.loads(run(three.root, "derive", "x", "listening *", "--json").out)["error"]
    assert wrong["excerpt"] == "listening *\n           ^"


def test_an_error_points_at_its_place(three: persona.Repository, run: Run) -> None:
    said = run(three.root, "derive", "x", "rushing + listning")
    assert said.code == 2
    assert said.err == (
        "error: column 11: no vector 'listning' in the recipe\n  rushing + listning\n            ^\n"
        "hint: Did you mean 'listening'?\n"
    )
