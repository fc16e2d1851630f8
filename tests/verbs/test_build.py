"""What was committed comes back bit for bit; what is computed is the formula, rounded once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

import persona
from persona import files
from persona.building import run as engine
from persona.building.card import usage_of_model
from persona.cli.main import invoke
from persona.errors import Refusal, UsageError
from tests.models import TinyModels, assert_same, load, same_bits

MakeRepo = Callable[[Path], persona.Repository]
DTYPES = ["bfloat16", "float16", "float32"]


def special_values(dtype: torch.dtype) -> torch.Tensor:
    """Every kind of number: signed zeros, NaNs with payloads, infinities, subnormals, extremes."""
    if dtype == torch.float32:
        bits = [0, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00001, 0xFFC12345, 0x7F800001, 1, 0x807FFFFF, 0x7F7FFFFF]
        return torch.from_numpy(np.array(bits, np.uint32).view(np.float32).copy())
    if dtype == torch.bfloat16:
        bits = [0, 0x8000, 0x7F80, 0xFF80, 0x7FC1, 0xFFE2, 0x7F81, 1, 0x807F, 0x7F7F]
    else:
        bits = [0, 0x8000, 0x7C00, 0xFC00, 0x7E01, 0xFF12, 0x7C01, 1, 0x83FF, 0x7BFF]
    return torch.from_numpy(np.array(bits, np.uint16).view(np.int16).copy()).view(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_dense_vector_at_alpha_1_is_the_fine_tuned_checkpoint(
    models: TinyModels, make_repo: MakeRepo, tmp_path: Path, dtype: str
) -> None:
    repo = make_repo(models.base(dtype))
    persona.commit(repo, models.run(1, dtype), name="listening")
    persona.build(repo, tmp_path / "out")
    assert_same(load(tmp_path / "out"), load(models.run(1, dtype)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kind_of_number_and_shape_comes_back(make_repo: MakeRepo, tmp_path: Path, dtype: str) -> None:
    torch_dtype = getattr(torch, dtype)
    special = special_values(torch_dtype)
    base = {
        "plain": torch.linspace(-2, 2, 300_001).to(torch_dtype),
        "special": special.clone(),
        "scalar": torch.tensor(1.5, dtype=torch_dtype),
        "empty": torch.empty(0, 7, dtype=torch_dtype),
        "same": torch.ones(5, dtype=torch_dtype),
        "count": torch.tensor([3, 4], dtype=torch.int64),
    }
    tuned = {
        "plain": (base["plain"].float() + 0.01).to(torch_dtype),
        "special": special.flip(0).contiguous(),
        "scalar": torch.tensor(-0.0, dtype=torch_dtype),
        "empty": base["empty"].clone(),
        "same": base["same"].clone(),
        "count": torch.tensor([5, 6], dtype=torch.int64),
    }
    for folder, tensors in (("base", base), ("run", tuned)):
        (tmp_path / folder).mkdir()
        save_file(tensors, tmp_path / folder / "model.safetensors")
    repo = make_repo(tmp_path / "base")
    persona.commit(repo, tmp_path / "run", name="odd")
    assert persona.build(repo, tmp_path / "out").not_finite == ("special",)
    assert_same(load(tmp_path / "out"), tuned)
    assert persona.build(repo, tmp_path / "before", "HEAD~1").not_finite == ("special",)
    assert_same(load(tmp_path / "before"), base)


def test_a_build_names_tensors_that_are_not_finite(
    make_repo: MakeRepo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether the base or a vector brings them, and whether they are copied or computed."""
    base = {name: torch.ones(4, 4) for name in "abcdefg"} | {"f": torch.full((4, 4), torch.inf)}
    run = {**base, "a": base["a"] * torch.nan, "b": base["b"] * -torch.inf, "c": base["c"] * torch.nan}
    for folder, tensors in (("base", base), ("run", run)):
        (tmp_path / folder).mkdir()
        save_file(tensors, tmp_path / folder / "model.safetensors")
    repo = make_repo(tmp_path / "base")
    persona.commit(repo, tmp_path / "run", name="odd", alpha=0.5)
    capsys.readouterr()
    assert invoke(["-C", str(repo.root), "build", "-o", str(tmp_path / "out")]) == 0
    assert "warning: 4 tensors with infinities or NaNs: a, b, c and 1 more\n" in capsys.readouterr().err
    finite = {name for name, tensor in load(tmp_path / "out").items() if torch.isfinite(tensor).all()}
    assert finite == {"d", "e", "g"}


def oracle(base: torch.Tensor, tuned: list[torch.Tensor], alphas: list[float], scale: float = 1.0) -> torch.Tensor:
    """The formula in plain torch, whole tensors, fp32, in the documented order."""
    w = base.float()
    total: torch.Tensor | None = None
    for tensor, alpha in zip(tuned, alphas, strict=True):
        product = (tensor.float() - w) * torch.tensor(alpha, dtype=torch.float32)
        total = product if total is None else total + product
    assert total is not None
    return (w + (total * torch.tensor(scale) if scale != 1 else total)).to(base.dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_is_the_formula_to_the_bit(models: TinyModels, make_repo: MakeRepo, tmp_path: Path, dtype: str) -> None:
    repo = make_repo(models.base(dtype))
    alphas = [0.8, -0.5, 0.3]
    for seed, alpha in enumerate(alphas, 1):
        persona.commit(repo, models.run(seed, dtype), name=f"v{seed}", alpha=alpha)
    persona.build(repo, tmp_path / "out")
    base, runs = load(models.base(dtype)), [load(models.run(seed, dtype)) for seed in (1, 2, 3)]
    wanted = {name: oracle(w, [run[name] for run in runs], alphas) for name, w in base.items()}
    assert_same(load(tmp_path / "out"), wanted)


def test_scale_multiplies_the_whole_delta(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    persona.commit(repo, models.run(1), name="a", alpha=0.5)
    repo.recipe_path.write_text(repo.recipe_path.read_text() + "\n[merge]\nscale = 0.25\n")
    persona.commit(repo, message="quarter")
    persona.build(repo, tmp_path / "out")
    base, tuned = load(models.base()), load(models.run(1))
    wanted = {name: oracle(w, [tuned[name]], [0.5], 0.25) for name, w in base.items()}
    assert_same(load(tmp_path / "out"), wanted)


def test_by_hand(make_repo: MakeRepo, tmp_path: Path) -> None:
    """base 1, 2, 4, 50; a = 2, 2, 0, 50 at α 0.5; b = 1, 6, 8, 50 at α −0.25: 1.5, 1, 1, 50."""
    for folder, values in (("base", [1, 2, 4, 50]), ("a", [2, 2, 0, 50]), ("b", [1, 6, 8, 50])):
        (tmp_path / folder).mkdir()
        save_file({"w": torch.tensor(values, dtype=torch.float32)}, tmp_path / folder / "model.safetensors")
    repo = make_repo(tmp_path / "base")
    persona.commit(repo, tmp_path / "a", name="a", alpha=0.5)
    persona.commit(repo, tmp_path / "b", name="b", alpha=-0.25)
    persona.build(repo, tmp_path / "out")
    assert load(tmp_path / "out")["w"].tolist() == [1.5, 1.0, 1.0, 50.0]


def test_alpha_zero_is_not_there(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    persona.commit(repo, models.run(1), name="a", alpha=0.0)
    persona.build(repo, tmp_path / "out")
    assert_same(load(tmp_path / "out"), load(models.base()))


def test_only_and_except_limit_a_vector(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    persona.commit(repo, models.run(1), name="a")
    text = repo.recipe_path.read_text().replace("alpha = 1.0", 'alpha = 1.0\nonly = ["*.mlp.*"]\nexcept = ["*down*"]')
    repo.recipe_path.write_text(text)
    persona.build(repo, tmp_path / "out")
    base, tuned, out = load(models.base()), load(models.run(1)), load(tmp_path / "out")
    for name, tensor in out.items():
        source = tuned if ".mlp." in name and "down" not in name else base
        assert same_bits(tensor, source[name]), name


def test_a_pattern_that_matches_nothing_is_an_error(
    models: TinyModels, repo: persona.Repository, tmp_path: Path
) -> None:
    persona.commit(repo, models.run(1), name="a")
    repo.recipe_path.write_text(repo.recipe_path.read_text().replace("alpha = 1.0", 'alpha = 1.0\nonly = ["*.mpl.*"]'))
    with pytest.raises(UsageError, match=r"vectors\.a\.only: '\*\.mpl\.\*' matches none"):
        persona.build(repo, tmp_path / "out")


def test_transformers_loads_it_and_computes_the_same(
    models: TinyModels, repo: persona.Repository, tmp_path: Path
) -> None:
    persona.commit(repo, models.run(1), name="a")
    persona.build(repo, tmp_path / "out", shard_size=20_000)
    built = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    tuned = AutoModelForCausalLM.from_pretrained(models.run(1), dtype="auto")
    tokens = torch.arange(12).reshape(2, 6)
    assert torch.equal(built(tokens).logits, tuned(tokens).logits)


@pytest.mark.parametrize("shard_size", [1, 5_000, 40_000, 10**9])
def test_shards_are_as_asked_and_hold_the_same(
    models: TinyModels, repo: persona.Repository, tmp_path: Path, shard_size: int
) -> None:
    persona.commit(repo, models.run(1), name="a", alpha=0.5)
    persona.build(repo, tmp_path / "one")
    built = persona.build(repo, tmp_path / "many", shard_size=shard_size)
    files = sorted((tmp_path / "many").glob("*.safetensors"))
    assert len(files) == built.shards
    biggest = max(t.nbytes for t in load(tmp_path / "many").values())
    assert all(f.stat().st_size <= max(shard_size, biggest) + 8192 for f in files)
    assert_same(load(tmp_path / "many"), load(tmp_path / "one"))
    index = tmp_path / "many" / "model.safetensors.index.json"
    assert index.exists() == (len(files) > 1)
    if index.exists():
        assert set(json.loads(index.read_text())["weight_map"].values()) == {f.name for f in files}


@pytest.mark.parametrize("block", [1, 7, 4096, 1 << 22])
def test_the_bytes_do_not_depend_on_the_block_size(
    models: TinyModels, repo: persona.Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    run = models.run(1, only="norm") if block < 100 else models.run(1)
    persona.commit(repo, run, name="a", alpha=0.3)
    persona.build(repo, tmp_path / "one")
    monkeypatch.setattr(engine.run, "__kwdefaults__", {**engine.run.__kwdefaults__, "block": block, "memory": 1 << 20})
    persona.build(repo, tmp_path / "two")
    assert_same(load(tmp_path / "two"), load(tmp_path / "one"))


@pytest.mark.parametrize("cpus", [1, 2])
@pytest.mark.parametrize("hash_seed", ["0", "77"])
def test_the_bytes_do_not_depend_on_threads_or_hash_seed(
    models: TinyModels, repo: persona.Repository, tmp_path: Path, cpus: int, hash_seed: str
) -> None:
    persona.commit(repo, models.run(1), name="a", alpha=0.3)
    persona.commit(repo, models.run(2), name="b", alpha=-0.7)
    persona.build(repo, tmp_path / "one")
    program = (
        "import os, sys\n"
        f"os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{cpus}])\n"
        "import persona\n"
        f"persona.build(persona.open({str(repo.root)!r}), {str(tmp_path / 'two')!r})\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONHASHSEED": hash_seed})
    assert_same(load(tmp_path / "two"), load(tmp_path / "one"))
    assert (tmp_path / "two" / "persona.json").read_bytes() == (tmp_path / "one" / "persona.json").read_bytes()


@pytest.mark.parametrize(
    ("asked", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", torch.float32)]
)
def test_dtype_is_as_asked_and_config_says_so(
    models: TinyModels, repo: persona.Repository, tmp_path: Path, asked: str, dtype: torch.dtype
) -> None:
    persona.commit(repo, models.run(1), name="a", alpha=0.5)
    persona.build(repo, tmp_path / "out", dtype=asked)
    out = load(tmp_path / "out")
    assert {t.dtype for t in out.values()} == {dtype}
    base, tuned = load(models.base()), load(models.run(1))
    for name, w in base.items():
        exact = w.float() + (tuned[name].float() - w.float()) * 0.5
        assert same_bits(out[name], exact.to(dtype))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config.get("dtype") or config.get("torch_dtype")) == str(dtype).removeprefix("torch.")


def test_values_beyond_fp16_are_an_error_and_leave_nothing(make_repo: MakeRepo, tmp_path: Path) -> None:
    for folder in ("base", "run"):
        (tmp_path / folder).mkdir()
    save_file({"w": torch.tensor([60000.0, 60000, 60000, 60000])}, tmp_path / "base" / "model.safetensors")
    save_file({"w": torch.tensor([66000.0, 60000, 60000, 60000])}, tmp_path / "run" / "model.safetensors")
    repo = make_repo(tmp_path / "base")
    persona.commit(repo, tmp_path / "run", name="huge")
    with pytest.raises(Refusal, match="w has values beyond the range of F16"):
        persona.build(repo, tmp_path / "out", dtype="fp16")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_rolling_back_builds_the_same_folder(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    persona.commit(repo, models.run(1), name="a")
    persona.build(repo, tmp_path / "first")
    persona.commit(repo, models.run(2), name="b")
    persona.negate(repo, "b", alpha=0.5)
    persona.checkout(repo, "HEAD~2")
    persona.build(repo, tmp_path / "again")
    first, again = ({p.name: p.read_bytes() for p in (tmp_path / d).iterdir()} for d in ("first", "again"))
    assert first == again


def test_an_existing_folder_is_not_touched(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("keep me")
    with pytest.raises(Refusal, match="is not a persona build"):
        persona.build(repo, mine, replace=True)
    persona.build(repo, tmp_path / "out")
    with pytest.raises(Refusal, match="holds an earlier build"):
        persona.build(repo, tmp_path / "out")
    persona.commit(repo, models.run(1), name="a")
    persona.build(repo, tmp_path / "out", replace=True)
    assert_same(load(tmp_path / "out"), load(models.run(1)))
    assert (mine / "notes.txt").read_text() == "keep me"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "out", "work"]


def test_an_edited_recipe_is_built_and_said_to_be(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    persona.commit(repo, models.run(1), name="a")
    repo.recipe_path.write_text(repo.recipe_path.read_text().replace("alpha = 1.0", "alpha = 0.5"))
    assert persona.build(repo, tmp_path / "out").edited
    assert persona.verify(tmp_path / "out").edited
    assert not persona.build(repo, tmp_path / "committed", "HEAD").edited
    assert_same(load(tmp_path / "committed"), load(models.run(1)))


def test_a_plain_build_of_the_base_alone(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    persona.build(repo, tmp_path / "out")
    assert_same(load(tmp_path / "out"), load(models.base()))
    assert (tmp_path / "out" / "config.json").read_bytes() == (models.base() / "config.json").read_bytes()


def test_model_card_and_receipt_name_the_recipe(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    persona.commit(repo, models.run(1), name="listening", alpha=0.8, node="pattern-listening")
    built = persona.build(repo, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| listening | 0.8 |" in card
    assert "pattern-listening" in card
    front, usage = card.split("---\n")[1], card.partition("```python\n")[2].partition("```")[0]
    name = repo.recipe(repo.head()).base_name
    assert yaml.safe_load(front) == {
        "library_name": "transformers", "base_model": name, "tags": ["persona", "task-arithmetic"],
    }  # fmt: skip
    assert "measure" not in card
    names: dict[str, object] = {}
    exec(usage.replace("path/to/this/folder", str(tmp_path / "out")), names)
    assert type(names["model"]).__name__ == "LlamaForCausalLM"
    receipt = json.loads((tmp_path / "out" / "persona.json").read_text())
    assert receipt["commit"] == built.commit
    assert receipt["recipe"]["vectors"][0]["alpha"] == 0.8


def test_unknown_dtype_gets_a_suggestion(repo: persona.Repository, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown dtype 'bf32'"):
        persona.build(repo, tmp_path / "out", dtype="bf32")


def test_replace_replaces_only_what_a_build_wrote(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "persona.json").write_text('{"name": "bob"}')
    (mine / "thesis").write_text("years")
    with pytest.raises(Refusal, match="is not an intact build"):
        persona.build(repo, mine, replace=True)
    persona.build(repo, tmp_path / "out")
    (tmp_path / "out" / "checkpoint-5").mkdir()
    with pytest.raises(Refusal, match="holds checkpoint-5, which is not as the build wrote it"):
        persona.build(repo, tmp_path / "out", replace=True)
    assert (mine / "thesis").read_text() == "years"
    assert (tmp_path / "out" / "checkpoint-5").is_dir()


@pytest.mark.parametrize(
    ("config", "files", "kind"),
    [
        ({"architectures": ["Qwen2ForCausalLM"]}, {"tokenizer.json": b""}, "AutoModelForCausalLM"),
        ({"architectures": ["T5ForConditionalGeneration"]}, {}, "T5ForConditionalGeneration"),
        ({"architectures": ["x; import os"]}, {}, "AutoModel"),
    ],
)
def test_the_code_of_a_card_loads_what_is_there(config: dict[str, object], files: dict[str, bytes], kind: str) -> None:
    usage = usage_of_model(config, files)
    assert f"model = {kind}.from_pretrained(" in usage
    assert ("AutoTokenizer" in usage) == bool(files)
    compile(usage, "card", "exec")


def _card(out: Path) -> None:
    (out / "README.md").write_text("my own words")


def _config(out: Path) -> None:
    (out / "config.json").write_text((out / "config.json").read_text() + " ")


def _header(out: Path) -> None:
    path = out / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"format":"pt"', b'"format":"xx"', 1))


def _weight(out: Path) -> None:
    path = out / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


@pytest.mark.parametrize(
    ("edit", "name"),
    [(_card, "README.md"), (_config, "config.json"), (_header, "model.safetensors"), (_weight, "lm_head|model.*")],
)
def test_replace_keeps_what_was_edited(
    repo: persona.Repository, tmp_path: Path, edit: Callable[[Path], None], name: str
) -> None:
    out = tmp_path / "out"
    persona.build(repo, out)
    persona.build(repo, out, replace=True)
    edit(out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(Refusal, match=f"holds ({name}), which is not as the build wrote it"):
        persona.build(repo, out, replace=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_replace_of_a_copy_whose_times_say_nothing(repo: persona.Repository, tmp_path: Path) -> None:
    out = tmp_path / "out"
    persona.build(repo, out)
    os.utime(out / "persona.json", (1, 1))
    (out / "README.md").unlink()
    persona.build(repo, out, replace=True)


def test_a_folder_that_appears_meanwhile_is_left_alone(
    models: TinyModels, repo: persona.Repository, tmp_path: Path
) -> None:
    def appear(effect: str, path: Path) -> None:
        if effect == "reserve":
            (tmp_path / "out").mkdir(exist_ok=True)
            (tmp_path / "out" / "theirs").write_text("x")

    files.observer = appear
    try:
        with pytest.raises(Refusal):
            persona.build(repo, tmp_path / "out")
    finally:
        files.observer = None
    assert (tmp_path / "out" / "theirs").read_text() == "x"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "work"]


def test_nobody_builds_into_the_folder_they_are_in(
    repo: persona.Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(Refusal, match="is the current folder"):
        persona.build(repo, ".")
    with pytest.raises(Refusal, match=r"is in \.persona, where persona keeps its own files"):
        persona.build(repo, repo.folder / "new")
