"""``diff`` between any two sides, beside plain torch on the folders that builds and trainers wrote."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import persona
from persona import threads
from persona.building import compare as comparing
from persona.building.compare import Comparison, ComparisonFigures
from persona.errors import CheckpointError, NoRepository, PersonaError, UsageError
from persona.verbs.diff import DiffResult, diff
from tests.checkpoints.test_alignment import hub_names, module_names
from tests.families import tiny
from tests.models import TinyModels, load, nudge, tiny_llama

MakeRepo = Callable[[Path], persona.Repository]
Tensors = dict[str, torch.Tensor]


@pytest.fixture
def two(models: TinyModels, repo: persona.Repository) -> persona.Repository:
    """HEAD~1 has listening and voice, HEAD another voice, of the MLPs alone."""
    persona.commit(repo, models.run(1), name="listening")
    persona.commit(repo, models.run(2), name="voice", alpha=0.5)
    persona.commit(repo, models.run(3, only="mlp"), name="voice")
    return repo


def write_recipe(repo: persona.Repository, method: str) -> None:
    """An edit: another method, and another alpha."""
    text = repo.recipe_path.read_text().replace("alpha = 0.5", "alpha = 0.7")
    repo.recipe_path.write_text(f'{text}\n[merge]\nmethod = "{method}"\n')


def layer(name: str) -> str:
    parts = name.split(".")
    return ".".join(parts[:3]) if parts[1] == "layers" else name.removesuffix(".weight")


def near(found: float | None, wanted: torch.Tensor | float) -> None:
    if not math.isfinite(float(wanted)):
        assert found is None
    else:
        assert found == pytest.approx(float(wanted), rel=1e-5, abs=1e-9)


def check(row: ComparisonFigures, a: Tensors, b: Tensors, base: Tensors | None, names: list[str]) -> None:
    """Every figure of a row that is about tensors of these names."""
    x, y = (torch.cat([side[n].double().flatten() for n in names]) for side in (a, b))
    assert (row.tensors, row.entries) == (len(names), len(x))
    assert row.changed == sum(not torch.equal(a[n], b[n]) for n in names)
    assert row.differing == int((x != y).sum())
    assert (row.grew, row.shrank) == (int((y.abs() > x.abs()).sum()), int((y.abs() < x.abs()).sum()))
    near(row.norm_before, x.norm())
    near(row.norm_after, y.norm())
    near(row.difference, (y - x).norm())
    near(row.relative, (y - x).norm() / x.norm())
    near(row.largest, (y - x).abs().max())
    if base is not None:
        w = torch.cat([base[n].double().flatten() for n in names])
        dx, dy = x - w, y - w
        near(row.cosine, (dx @ dy) / (dx.norm() * dy.norm()))
        near(row.opposed, (dx * dy < 0).sum() / (dx * dy != 0).sum())


def check_all(found: Comparison, a: Tensors, b: Tensors, base: Tensors | None) -> None:
    check(found.whole, a, b, base, list(a))
    of = (lambda name: name) if found.by == "tensor" else layer
    differing = {of(name) for name in a if not torch.equal(a[name], b[name])}
    assert {row.name for row in found.rows} == differing
    for row in found.rows:
        check(row, a, b, base, [name for name in a if of(name) == row.name])


def tensors(found: DiffResult) -> Comparison:
    assert found.tensors is not None
    return found.tensors


REVS = {"HEAD~1": "HEAD~1", "HEAD": "HEAD", "persona.toml": None, "built": "HEAD~2", "listening": "HEAD~3"}
PAIRS = [
    (before, after)
    for before, after in product([*REVS, "run"], [*REVS, "run"])
    if before not in (after, "persona.toml") and (before, after) != ("listening", "persona.toml")
]


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_every_pair_has_the_figures_of_the_folders(
    models: TinyModels, two: persona.Repository, tmp_path: Path, before: str, after: str
) -> None:
    persona.alpha(two, {"voice": 0.25})
    two.recipe_path.write_text(two.recipe_path.read_text().replace("0.25", "-0.75"))
    weights = {"run": load(models.run(2))}
    for side in {before, after} - {"run"}:
        persona.build(two, tmp_path / side, REVS[side])
        weights[side] = load(tmp_path / side)
    said = {"built": str(tmp_path / "built"), "run": str(models.run(2)), "persona.toml": None}
    for by in ("layer", "tensor"):
        found = diff(two, said.get(before, before), said.get(after, after), stat=True, by=by)
        check_all(tensors(found), weights[before], weights[after], load(models.base()))
        assert found.differs


def test_two_vectors_are_compared_as_changes(models: TinyModels, two: persona.Repository) -> None:
    base = load(models.base())
    a, b = (
        {name: run[name].float() - base[name].float() for name in base}
        for run in (load(models.run(2)), load(models.run(3, only="mlp")))
    )
    moved = [name for name in base if a[name].any() or b[name].any()]
    a, b = ({name: side[name] for name in moved} for side in (a, b))
    found = diff(two, "voice@HEAD~1", "voice@main", weights=True, by="tensor")
    assert found.kinds == ("vector", "vector")
    assert found.weights is None
    check_all(tensors(found), a, b, {name: torch.zeros_like(a[name]) for name in a})
    assert {change.name for change in found.changes} == {"id", "tensors"}


def test_a_vector_alone_is_compared_with_the_one_in_the_work_tree(models: TinyModels, two: persona.Repository) -> None:
    same = diff(two, "voice")
    assert (same.differs, same.kinds) == (False, ("vector", "vector"))
    assert same.before.startswith("voice@HEAD (")
    assert diff(two, "voice@HEAD~1").differs
    two.recipe_path.write_text(persona.show(two, "HEAD~1").text)
    assert diff(two, "voice").differs


def test_a_vector_beside_a_model_is_the_run_that_it_came_from(models: TinyModels, two: persona.Repository) -> None:
    assert not diff(two, "listening", models.run(1)).differs
    assert diff(two, "listening", models.run(2)).differs


def test_a_lora_vector_beside_a_dense_one(models: TinyModels, make_repo: MakeRepo, tmp_path: Path) -> None:
    from peft import LoraConfig

    from tests.checkpoints.peft_folders import train

    model = tiny_llama(torch.float32)
    repo = make_repo(models.base("float32"))
    persona.commit(repo, models.run(1, "float32"), name="dense")
    trained = train(model, LoraConfig(r=2, target_modules=["q_proj"]), tmp_path / "lora")
    persona.commit(repo, tmp_path / "lora", name="lora")
    trained.merged.save_pretrained(tmp_path / "merged")
    base, merged, dense = load(models.base("float32")), load(tmp_path / "merged"), load(models.run(1, "float32"))
    row = next(
        r for r in tensors(diff(repo, "lora", "dense", stat=True, by="tensor")).rows if "0.self_attn.q" in r.name
    )
    a, b = (side[row.name].double() - base[row.name].double() for side in (merged, dense))
    assert row.norm_before == pytest.approx(float(a.norm()), rel=1e-3)
    assert row.cosine == pytest.approx(float((a * b).sum() / (a.norm() * b.norm())), abs=1e-3)
    with pytest.raises(UsageError, match="is an adapter"):
        diff(repo, "HEAD", tmp_path / "lora")


@pytest.mark.parametrize("method", ["linear", "ties", "dare_ties", "iso_c", "model_stock", "sce"])
def test_a_build_is_what_would_be_built(two: persona.Repository, tmp_path: Path, method: str) -> None:
    write_recipe(two, method)
    persona.build(two, tmp_path / "built")
    found = diff(two, tmp_path / "built", stat=True)
    assert not found.differs
    assert tensors(found).whole.differing == 0
    check_all(tensors(diff(two, "HEAD", stat=True)), *map(load, (_built(two, tmp_path), tmp_path / "built")), None)


def _built(repo: persona.Repository, tmp_path: Path) -> Path:
    persona.build(repo, tmp_path / "head", "HEAD")
    return tmp_path / "head"


@pytest.mark.parametrize("method", ["linear", "ties", "iso_c"])
def test_blocks_and_cores_change_nothing(two: persona.Repository, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    write_recipe(two, method)
    wanted = diff(two, "HEAD", stat=True).tensors
    monkeypatch.setattr(threads, "cores", lambda: 1)
    assert diff(two, "HEAD", stat=True).tensors == wanted
    for block in (97, 1 << 10):
        monkeypatch.setattr(comparing, "BLOCK", block)
        assert diff(two, "HEAD", stat=True).tensors == wanted


def test_what_is_surely_the_same_is_not_read(two: persona.Repository) -> None:
    for pack in two.tensors.packs.iterdir():
        pack.rename(pack.with_name(f"{pack.name}.away"))
    found = diff(two, "HEAD", stat=True)
    assert (found.differs, tensors(found).whole.changed, tensors(found).whole.norm_before) == (False, 0, None)


def test_a_retrained_vector_says_how_near_it_is(models: TinyModels, two: persona.Repository) -> None:
    for options in ({"stat": True}, {"weights": True}):
        found = diff(two, "HEAD~1", "HEAD", **options)
        (change,) = found.changes
        assert change.text == "voice retrained (cos 0.00 with before)"
        base, then, now = (load(folder) for folder in (models.base(), models.run(2), models.run(3, only="mlp")))
        a, b = (torch.cat([(run[n].double() - base[n].double()).flatten() for n in base]) for run in (then, now))
        assert change.cosine == pytest.approx(float(a @ b / (a.norm() * b.norm())), abs=1e-6)
    assert "→" in diff(two, "HEAD~1", "HEAD").changes[0].text


def test_a_built_folder_is_its_recipe(two: persona.Repository, tmp_path: Path) -> None:
    persona.build(two, tmp_path / "built", "HEAD~1")
    found = diff(two, tmp_path / "built", "HEAD")
    assert (found.kinds, found.tensors) == (("build", "revision"), None)
    assert [change.kind for change in found.changes] == ["retrained"]
    assert "built from" in found.before
    assert not diff(two, "HEAD~1", tmp_path / "built").differs


@pytest.mark.parametrize("what", ["config.json", "model.safetensors"])
def test_a_folder_that_was_changed_since_its_build_says_so(two: persona.Repository, tmp_path: Path, what: str) -> None:
    persona.build(two, tmp_path / "built")
    path = tmp_path / "built" / what
    path.write_bytes(path.read_bytes() + b" ")
    found = diff(two, "HEAD", tmp_path / "built")
    assert found.differs
    assert what in found.unlike[0].what
    if what == "model.safetensors":
        with pytest.raises(CheckpointError, match="1 bytes after its last tensor"):
            diff(two, "HEAD", tmp_path / "built", stat=True)


def test_one_flipped_bit_in_a_build_is_seen_by_its_weights(two: persona.Repository, tmp_path: Path) -> None:
    persona.build(two, tmp_path / "built")
    path = tmp_path / "built" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 0x80
    path.write_bytes(data)
    assert not diff(two, "HEAD", tmp_path / "built").differs
    found = tensors(diff(two, "HEAD", tmp_path / "built", stat=True))
    assert (found.whole.changed, found.whole.differing) == (1, 1)


def test_a_receipt_that_was_changed_proves_nothing(two: persona.Repository, tmp_path: Path) -> None:
    persona.build(two, tmp_path / "built")
    path = tmp_path / "built" / "persona.json"
    path.write_text(path.read_text().replace('"edited": false', '"edited": true'))
    found = diff(two, "HEAD", tmp_path / "built")
    assert found.kinds == ("revision", "checkpoint")
    assert "treated as a plain checkpoint" in found.notes[0]
    assert not found.differs


def test_another_format_alone(models: TinyModels, two: persona.Repository, tmp_path: Path) -> None:
    persona.build(two, tmp_path / "wide", "HEAD", dtype="fp32")
    persona.build(two, tmp_path / "same", "HEAD")
    wide = load(tmp_path / "wide")
    found = diff(None, tmp_path / "same", tmp_path / "wide", stat=True)
    assert len(tensors(found).recast) == tensors(found).whole.changed == len(wide)
    assert {(one.before.dtype, one.after.dtype) for one in tensors(found).recast if one.before and one.after} == {
        ("BF16", "F32")
    }
    apart = tensors(diff(two, "HEAD", tmp_path / "wide", stat=True)).whole
    narrow = load(tmp_path / "same")
    a, b = (torch.cat([side[n].double().flatten() for n in wide]) for side in (narrow, wide))
    assert apart.differing == int((a != b).sum())
    near(apart.difference, (b - a).norm())
    exact = {name: tensor.float() for name, tensor in narrow.items()}
    (tmp_path / "exact").mkdir()
    save_file(exact, tmp_path / "exact" / "model.safetensors")
    again = tensors(diff(None, tmp_path / "same", tmp_path / "exact")).whole
    assert (again.differing, again.difference, again.changed) == (0, 0.0, len(wide))


def test_shards_do_not_count(models: TinyModels, two: persona.Repository, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(models.run(1), dtype="auto")
    model.save_pretrained(tmp_path / "sharded", max_shard_size="10KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    assert not diff(two, models.run(1), tmp_path / "sharded").differs


def test_a_tied_head_may_be_written_out(make_repo: MakeRepo, models: TinyModels, tmp_path: Path) -> None:
    base = models.base(tie_word_embeddings=True)
    repo = make_repo(base)
    shutil.copytree(base, tmp_path / "written")
    tensors_ = load_file(base / "model.safetensors")
    tensors_["lm_head.weight"] = tensors_["model.embed_tokens.weight"].clone()
    save_file(tensors_, tmp_path / "written" / "model.safetensors", {"format": "pt"})
    assert not diff(repo, "HEAD", tmp_path / "written").differs
    tensors_["lm_head.weight"] += 1
    save_file(tensors_, tmp_path / "written" / "model.safetensors", {"format": "pt"})
    found = tensors(diff(repo, "HEAD", tmp_path / "written"))
    assert [(one.name, one.before) for one in found.recast] == [("lm_head.weight", None)]


def test_missing_new_and_grown_tensors(models: TinyModels, two: persona.Repository, tmp_path: Path) -> None:
    shutil.copytree(models.run(1), tmp_path / "other")
    there = load_file(tmp_path / "other" / "model.safetensors")
    before = dict(there)
    del there["model.norm.weight"]
    there["score.weight"] = torch.ones(2, 32)
    there["lm_head.weight"] = torch.cat([there["lm_head.weight"] * 2, torch.ones(4, 32, dtype=torch.bfloat16)])
    there["model.layers.0.mlp.up_proj.weight"] = there["model.layers.0.mlp.up_proj.weight"].T.contiguous()
    save_file(there, tmp_path / "other" / "model.safetensors")
    found = tensors(diff(two, models.run(1), tmp_path / "other", by="tensor"))
    assert {one.name: (one.before and one.before.shape, one.after and one.after.shape) for one in found.recast} == {
        "model.norm.weight": ((32,), None),
        "score.weight": (None, (2, 32)),
        "lm_head.weight": ((96, 32), (100, 32)),
        "model.layers.0.mlp.up_proj.weight": ((48, 32), (32, 48)),
    }
    row = next(row for row in found.rows if row.name == "lm_head.weight")
    head = before["lm_head.weight"].double()
    assert row.entries == head.numel()
    assert row.relative == pytest.approx(1)
    near(row.difference, head.norm())
    assert found.whole.changed == 4


def test_integers_are_compared_bit_for_bit(tmp_path: Path) -> None:
    for name, last in (("a", 3), ("b", 4)):
        (tmp_path / name).mkdir()
        steps, w = torch.tensor([1, 2, last]), torch.tensor([float("nan"), -0.0])
        save_file({"steps": steps, "w": w}, tmp_path / name / "model.safetensors")
    (row,) = tensors(diff(None, tmp_path / "a", tmp_path / "b", by="tensor")).rows
    assert (row.name, row.entries, row.differing, row.norm_before) == ("steps", 3, 1, 0.0)


def test_zero_has_two_signs_and_a_nan_is_no_figure(tmp_path: Path) -> None:
    for name, values in (("a", [0.0, 1.0, 2.0]), ("b", [-0.0, 1.0, 2.0]), ("c", [0.0, 1.0, float("nan")])):
        (tmp_path / name).mkdir()
        save_file({"w": torch.tensor(values)}, tmp_path / name / "model.safetensors")
    (row,) = tensors(diff(None, tmp_path / "a", tmp_path / "b")).rows
    assert (row.differing, row.difference, row.relative) == (1, 0.0, 0.0)
    (row,) = tensors(diff(None, tmp_path / "a", tmp_path / "c")).rows
    assert (row.differing, row.difference, row.relative, row.largest) == (1, None, None, None)
    assert not diff(None, tmp_path / "c", tmp_path / "c").differs


def test_settings_and_templates_are_told(models: TinyModels, two: persona.Repository, tmp_path: Path) -> None:
    shutil.copytree(models.run(1), tmp_path / "other")
    path = tmp_path / "other" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rms_norm_eps": 0.5, "use_cache": False}))
    (tmp_path / "other" / "chat_template.jinja").write_text("{{ messages }}")
    found = diff(two, "listening", tmp_path / "other")
    wanted = ["config.json rms_norm_eps: 1e-06 → 0.5", "+ chat_template.jinja"]
    assert [file.text for file in found.files] == wanted
    (tmp_path / "again").mkdir()
    shutil.copytree(tmp_path / "other", tmp_path / "again", dirs_exist_ok=True)
    (tmp_path / "again" / "chat_template.jinja").write_text("{{ other }}")
    assert [file.text for file in diff(two, tmp_path / "other", tmp_path / "again").files] == [
        "chat_template.jinja differs"
    ]


def test_two_bases_can_be_compared_as_models(make_repo: MakeRepo, models: TinyModels, tmp_path: Path) -> None:
    repo = make_repo(models.base())
    persona.commit(repo, models.run(1), name="a")
    other = persona.init(tmp_path / "other", models.base(seed=5), author="T <t@example.org>")
    assert other
    there = persona.open(tmp_path / "other")
    persona.build(there, tmp_path / "foreign")
    found = diff(repo, "HEAD", tmp_path / "foreign", weights=True)
    check_all(tensors(found), load(models.run(1)), load(tmp_path / "foreign"), None)
    assert tensors(found).whole.cosine is None
    assert "base" in {change.name for change in found.changes}


def test_a_recipe_that_no_build_accepts_still_has_its_report(
    models: TinyModels, repo: persona.Repository, tmp_path: Path
) -> None:
    for rows, name in ((98, "one"), (100, "other")):
        model = nudge(tiny_llama(), rows)
        model.resize_token_embeddings(rows, mean_resizing=False)
        model.save_pretrained(tmp_path / name)
        persona.commit(repo, tmp_path / name, name=name)
    found = diff(repo, "HEAD", weights=True)
    assert found.weights is not None
    assert found.tensors is None
    assert "different shapes" in found.notes[0]
    with pytest.raises(PersonaError, match="different shapes"):
        diff(repo, "HEAD", stat=True)


def test_a_name_is_a_revision_before_a_vector_before_a_folder(
    models: TinyModels, two: persona.Repository, tmp_path: Path
) -> None:
    shutil.copytree(models.run(2), tmp_path / "voice")
    shutil.copytree(models.run(2), tmp_path / "main")
    shutil.copytree(models.run(2), tmp_path / "plain")
    assert diff(two, "main", "HEAD", cwd=tmp_path).kinds == ("revision", "revision")
    found = diff(two, "voice", "HEAD", cwd=tmp_path)
    assert found.kinds == ("vector", "revision")
    assert "For the folder, write ./voice" in found.notes[0]
    for said in ("./voice", "./main", "plain", str(tmp_path / "main"), Path("main")):
        assert diff(two, said, "HEAD", cwd=tmp_path).kinds == ("checkpoint", "revision"), said
    persona.checkout(two, branch="voice")
    assert diff(two, "voice", "HEAD").kinds == ("revision", "revision")
    assert diff(two, "voice@HEAD", "HEAD").kinds == ("vector", "revision")


def test_the_newest_checkpoint_of_a_run(models: TinyModels, two: persona.Repository, tmp_path: Path) -> None:
    for step, seed in ((100, 2), (1000, 1)):
        shutil.copytree(models.run(seed), tmp_path / "run" / f"checkpoint-{step}")
    found = diff(two, "listening", "./run", cwd=tmp_path)
    assert (found.after, found.differs) == ("./run/checkpoint-1000", False)


@pytest.mark.parametrize(
    ("said", "message", "hint"),
    [
        ("lisening", "'lisening' is not a revision, a vector of the recipe or a folder", "'listening'"),
        ("HEDA", "'HEDA' is not a revision", "'HEAD'"),
        ("voice@HEAD~9", "'voice@HEAD~9' is not a revision", "voice"),
        ("voise@HEAD", "'voise@HEAD' is not a revision", "voice"),
        ("runs/none", "'runs/none' is not a revision", ""),
        ("HEAD~9", "goes further back than history does", "persona log"),
        ("./none", "does not exist", "folder with the weights"),
    ],
)
def test_unknown_sides(two: persona.Repository, tmp_path: Path, said: str, message: str, hint: str) -> None:
    with pytest.raises(PersonaError, match=message) as caught:
        diff(two, said, "HEAD", cwd=tmp_path)
    assert hint in caught.value.hint
    assert caught.value.exit_code == 2


def test_folders_that_are_no_checkpoints(two: persona.Repository, tmp_path: Path, models: TinyModels) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        diff(two, tmp_path / "empty", "HEAD")
    shutil.copytree(models.run(1), tmp_path / "hurt")
    path = tmp_path / "hurt" / "model.safetensors"
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])
    with pytest.raises(CheckpointError, match="states a header of"):
        diff(two, "HEAD", tmp_path / "hurt")
    with pytest.raises(CheckpointError, match="is a file"):
        diff(two, "HEAD", path)


def test_a_run_under_other_names_is_the_vector_that_it_became(make_repo: MakeRepo, tmp_path: Path) -> None:
    tiny("Mixtral", 1).save_pretrained(tmp_path / "base")
    repo = make_repo(tmp_path / "base")
    module_names("Mixtral", tmp_path / "run", 2)
    persona.commit(repo, tmp_path / "run", name="run")
    whole = tensors(diff(repo, tmp_path / "run", "HEAD")).whole
    assert (whole.tensors, whole.changed) == (len(load(tmp_path / "base")), 0)
    hub_names("Mixtral", tmp_path / "saved", 2)
    whole = tensors(diff(repo, tmp_path / "run", tmp_path / "saved")).whole
    assert (whole.tensors, whole.changed) == (len(load(tmp_path / "base")), 0)


def test_two_folders_need_no_repository(models: TinyModels) -> None:
    found = diff(None, models.run(1), models.run(2), by="tensor")
    check_all(tensors(found), load(models.run(1)), load(models.run(2)), None)
    assert tensors(found).whole.cosine is None
    with pytest.raises(NoRepository, match="no persona repository here"):
        diff(None, models.run(1))
    with pytest.raises(UsageError, match="not a revision"):
        diff(None, models.run(1), "HEAD")
