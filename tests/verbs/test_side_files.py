"""What is beside the weights: at alpha 1 a build has the run's tokenizer, template and processor; the recipe chooses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoProcessor, AutoTokenizer, LlavaProcessor
from transformers import CLIPImageProcessorPil as ImageProcessor

import persona
from persona.errors import CheckpointError, Refusal
from persona.maintenance.rebuild import encoding
from persona.maintenance.sources import open_source
from persona.progress import SILENT
from persona.workspace.record import worktree_recipe
from tests.models import VOCAB, TinyModels, load, same_bits, word_tokenizer
from tests.verbs.test_messy_checkpoints import MakeRepo, grown, spoken

__all__ = ["spoken"]

WORDS = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{number}" for number in range(4, VOCAB))]
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 988097824\n"
Tables = dict[str, Any]


@pytest.fixture(scope="module")
def base(models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base with a tokenizer whose template is in the old place."""
    folder = tmp_path_factory.mktemp("spoken") / "base"
    shutil.copytree(models.base(), folder)
    word_tokenizer(WORDS, TEMPLATE).save_pretrained(folder)
    (folder / "chat_template.jinja").unlink()
    edit(folder / "tokenizer_config.json", lambda table: table.update(chat_template=TEMPLATE))
    return folder


@pytest.fixture(scope="module")
def repo(base: Path, tmp_path_factory: pytest.TempPathFactory) -> persona.Repository:
    root = tmp_path_factory.mktemp("repo") / "work"
    persona.init(root, base, author="Test <test@example.org>")
    return persona.open(root)


def edit(path: Path, change: Callable[[Tables], object]) -> None:
    table = json.loads(path.read_text()) if path.exists() else {}
    change(table)
    path.write_text(json.dumps(table))


def run_of(models: TinyModels, base: Path, folder: Path, seed: int = 1) -> Path:
    """A run with the base's tokenizer, to be changed."""
    shutil.copytree(base, folder)
    shutil.copy(models.run(seed) / "model.safetensors", folder)
    return folder


def seen(folder: Path) -> list[object]:
    """What a user sees of a tokenizer."""
    words = AutoTokenizer.from_pretrained(folder)
    ids = [words(text).input_ids for text in ("w5 w6", "w5 <new>")]
    said = words.apply_chat_template([{"role": "user", "content": "w7"}], tokenize=False)
    return [words.special_tokens_map, ids, words.chat_template, said]


def config(change: Callable[[Tables], object]) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "tokenizer_config.json", change)


def tokens(change: Callable[[Tables], object]) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "tokenizer.json", change)


def to_jinja(folder: Path) -> None:
    config(lambda table: table.pop("chat_template"))(folder)
    (folder / "chat_template.jinja").write_text("J{{ messages[0].content }}")


NEW = {"id": 95, "content": "<new>", "special": True} | dict.fromkeys(
    ("single_word", "lstrip", "rstrip", "normalized"), False
)
CHANGES = {
    "eos": config(lambda table: table.update(eos_token="<unk>")),
    "pad": config(lambda table: table.update(pad_token="</s>")),
    "no bos": tokens(lambda table: table.update(post_processor=None)),
    "a token": tokens(lambda table: table["added_tokens"].append(NEW)),
    "template": config(lambda table: table.update(chat_template="X{{ messages[0].content }}")),
    "template in a file": to_jinja,
    "all": lambda folder: (CHANGES["eos"](folder), CHANGES["a token"](folder), CHANGES["template in a file"](folder)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_at_alpha_1_the_tokenizer_is_the_run_s(
    what: str, models: TinyModels, base: Path, repo: persona.Repository, tmp_path: Path
) -> None:
    run = run_of(models, base, tmp_path / "run")
    CHANGES[what](run)
    done = persona.commit(repo, run, name="a", message=what)
    assert any(note.startswith("brings its own") for note in done.notes)
    persona.build(repo, tmp_path / "out")
    assert seen(tmp_path / "out") == seen(run) != seen(base)


def test_a_run_that_changed_nothing_brings_nothing(
    models: TinyModels, base: Path, repo: persona.Repository, tmp_path: Path
) -> None:
    run = run_of(models, models.base(), tmp_path / "run")
    words = word_tokenizer(WORDS, TEMPLATE, side="left")  # as a trainer that loads and saves it
    words.model_max_length = 77
    words.save_pretrained(run)
    done = persona.commit(repo, run, name="a")
    assert not repo.vector(done.vector).files


def test_an_adapter_has_them_too(
    models: TinyModels, base: Path, adapter: Path, make_repo: MakeRepo, tmp_path: Path
) -> None:
    run = shutil.copytree(adapter, tmp_path / "run")
    words = word_tokenizer(WORDS, "T{{ messages[0].content }}")
    words.eos_token = "<unk>"
    words.save_pretrained(run)
    repo = make_repo(base)
    persona.commit(repo, run, name="style", alpha=0.5)
    persona.build(repo, tmp_path / "out")
    persona.build(repo, tmp_path / "adapter", as_adapter=True)
    assert seen(tmp_path / "out") == seen(tmp_path / "adapter") == seen(run)


def choose(repo: persona.Repository, lines: str) -> None:
    text = repo.head_text().partition("\n[files]")[0].partition("\n[config]")[0]
    repo.recipe_path.write_text(text + lines)


def test_the_recipe_chooses_among_files(models: TinyModels, base: Path, make_repo: MakeRepo, tmp_path: Path) -> None:
    repo = make_repo(base)
    for name, seed, what in (("one", 1, ("eos", "template")), ("two", 2, ("no bos", "template in a file"))):
        run = run_of(models, base, tmp_path / name, seed)
        for change in what:
            CHANGES[change](run)
        persona.commit(repo, run, name=name)
    with pytest.raises(Refusal, match=r"'one' and 'two' bring different tokenizer files: .*eos_token") as caught:
        persona.build(repo, tmp_path / "out")
    assert 'set tokenizer to "one", "two" or "base"' in caught.value.hint
    choose(repo, '\n[files]\ntokenizer = "one"\n')
    with pytest.raises(Refusal, match="bring different chat template files"):
        persona.build(repo, tmp_path / "out")
    sources = {"one": tmp_path / "one", "two": tmp_path / "two", "base": base}
    for words, template in (("one", "two"), ("two", "one"), ("base", "two"), ("two", "base")):
        choose(repo, f'\n[files]\ntokenizer = "{words}"\nchat_template = "{template}"\n')
        out = tmp_path / f"{words}-{template}"
        persona.build(repo, out)
        assert seen(out)[:2] == seen(sources[words])[:2]
        assert seen(out)[2:] == seen(sources[template])[2:]
    persona.commit(repo, message="choose")
    persona.bake(repo, ["one", "two"], "both")
    assert "tokenizer" not in repo.head_text()
    persona.build(repo, tmp_path / "baked")
    assert seen(tmp_path / "baked") == seen(tmp_path / "two-base")


def test_a_vector_with_all_changes_of_another_stands_for_both(
    models: TinyModels, base: Path, make_repo: MakeRepo, tmp_path: Path
) -> None:
    """As a library does that writes every tokenizer in another form: only one of the runs changed something."""
    repo = make_repo(base)
    for name, seed, changes in (("one", 1, ("pad",)), ("two", 2, ("pad", "a token")), ("three", 3, ("pad",))):
        run = run_of(models, base, tmp_path / name, seed)
        for change in changes:
            CHANGES[change](run)
        persona.commit(repo, run, name=name)
    persona.build(repo, tmp_path / "out")
    assert seen(tmp_path / "out") == seen(tmp_path / "two")


def test_new_rows_come_with_the_chosen_tokenizer(make_repo: MakeRepo, spoken: Path, tmp_path: Path) -> None:
    """The rows of other vectors are for other tokens, even if there are as many."""
    repo = make_repo(spoken)
    runs = {"one": ["<a>"], "two": ["<b>"], "three": ["<c>", "<d>"]}
    for seed, (name, added) in enumerate(runs.items()):
        persona.commit(repo, grown(tmp_path / name, spoken, added, seed), name=name)
    with pytest.raises(Refusal, match="different shapes") as caught:
        persona.build(repo, tmp_path / "out")
    assert "table [files]" in caught.value.hint
    for name, added in runs.items():
        choose(repo, f'\n[files]\ntokenizer = "{name}"\n')
        persona.build(repo, tmp_path / f"out-{name}")
        out, run = load(tmp_path / f"out-{name}"), load(tmp_path / name)
        for tensor in ("model.embed_tokens.weight", "lm_head.weight"):
            assert same_bits(out[tensor][VOCAB:], run[tensor][VOCAB:])
            assert out[tensor].shape[0] == VOCAB + len(added)
        words = AutoTokenizer.from_pretrained(tmp_path / f"out-{name}")
        assert words.convert_tokens_to_ids(added) == [*range(VOCAB, VOCAB + len(added))]


def test_settings_that_two_vectors_set(models: TinyModels, base: Path, make_repo: MakeRepo, tmp_path: Path) -> None:
    repo = make_repo(base)
    for name, seed, positions in (("one", 1, 256), ("two", 2, 512)):
        run = run_of(models, base, tmp_path / name, seed)
        changed = {"max_position_embeddings": positions, "unsloth_version": name, "_attn_implementation": name}
        edit(run / "config.json", lambda table, changed=changed: table.update(changed))
        edit(
            run / "generation_config.json", lambda table, seed=seed: table.update(temperature=seed / 4, do_sample=True)
        )
        persona.commit(repo, run, name=name)
    with pytest.raises(Refusal, match=r"set max_position_embeddings .*: 256 and 512") as caught:
        persona.build(repo, tmp_path / "out")
    assert 'the table [config]: max_position_embeddings = 256, or from = "one"' in caught.value.hint
    wanted = {'from = "two"': (512, 0.5), 'from = "base"': (64, None), "max_position_embeddings = 300": (300, None)}
    for number, (line, (positions, temperature)) in enumerate(wanted.items()):
        choose(repo, f"\n[config]\n{line}\n")
        persona.build(repo, tmp_path / f"out{number}")
        assert AutoConfig.from_pretrained(tmp_path / f"out{number}").max_position_embeddings == positions
        generation = json.loads((tmp_path / f"out{number}" / "generation_config.json").read_text())
        assert generation.get("temperature") == temperature
        notes = repo.prepare(worktree_recipe(repo)).beside(repo.tensors).notes
        assert any(note.startswith("vectors differ in temperature:") for note in notes) is (number == 2)
    choose(repo, "\n[config]\nmax_positon_embeddings = 300\nmax_position_embeddings = 300\n")
    notes = repo.prepare(worktree_recipe(repo)).beside(repo.tensors).notes
    assert any("has no max_positon_embeddings" in note and "'max_position_embeddings'" in note for note in notes)


def test_a_processor_of_its_own(models: TinyModels, base: Path, make_repo: MakeRepo, tmp_path: Path) -> None:
    """The base has it in two files, as old versions wrote it, and the run in one."""
    words = word_tokenizer(WORDS)
    images = ImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    sent = run_of(models, base, tmp_path / "sent", 1)
    shutil.copy(models.base() / "model.safetensors", sent)
    images.save_pretrained(sent)
    processor = LlavaProcessor(images, words, patch_size=8)
    table = json.loads(
        json.dumps({k: v for k, v in processor.to_dict().items() if not isinstance(v, dict)}, default=str)
    )
    (sent / "processor_config.json").write_text(json.dumps(table))
    repo = make_repo(sent)
    run = run_of(models, base, tmp_path / "run")
    LlavaProcessor(images, words, patch_size=8).save_pretrained(run)
    assert not any("processor" in note for note in persona.commit(repo, run, name="a").notes)
    images.size = {"shortest_edge": 8}
    LlavaProcessor(images, words, patch_size=8).save_pretrained(run)
    assert any(
        "own processor; differences: image_processor.size" in n for n in persona.commit(repo, run, name="a").notes
    )
    persona.build(repo, tmp_path / "out")
    ours, theirs = (AutoProcessor.from_pretrained(folder) for folder in (tmp_path / "out", run))
    assert ours.image_processor.size == theirs.image_processor.size
    assert ours.image_processor.size["shortest_edge"] == 8


@pytest.fixture
def sent(models: TinyModels, tmp_path: Path) -> Path:
    """A base with code, modules and much else in its folder."""
    folder = Path(shutil.copytree(models.base(), tmp_path / "sent"))
    (folder / "modules.json").write_text(json.dumps([{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Dense"}]))
    for name in ("1_Pooling", "2_Dense", "tool/deep", "original", ".cache", "checkpoint-5", "onnx", "style", "linked"):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text("{}")
    save_file({"w": load(models.base())["model.norm.weight"]}, folder / "2_Dense" / "model.safetensors")
    (folder / "style" / "adapter_model.safetensors").write_bytes(b"")
    (tmp_path / "key.json").write_text('"s3cret"')
    (folder / "linked" / "key.json").symlink_to(tmp_path / "key.json")
    (folder / "away").symlink_to(tmp_path)
    edit(folder / "config.json", lambda t: t.update(model_type="mine", auto_map={
        "AutoConfig": "configuration_mine.Mine", "AutoModelForCausalLM": "modeling_mine.Mine"}))  # fmt: skip
    (folder / "configuration_mine.py").write_text(
        "from transformers import LlamaConfig\nclass Mine(LlamaConfig):\n    model_type = 'mine'\n"
    )
    (folder / "modeling_mine.py").write_text(
        "from transformers import LlamaForCausalLM\nfrom .configuration_mine import Mine as Config\n"
        "class Mine(LlamaForCausalLM):\n    config_class = Config\n"
    )
    return folder


CODE = {"configuration_mine.py", "modeling_mine.py"}


@pytest.mark.parametrize("allow", [False, True])
def test_what_belongs_to_a_base(sent: Path, models: TinyModels, tmp_path: Path, allow: bool) -> None:
    done = persona.init(tmp_path / "work", sent, allow_code=allow)
    repo = persona.open(tmp_path / "work")
    below = {"1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors", "tool/deep/config.json"}
    stored = set(repo.base(done.base).files)
    assert {name for name in stored if "/" in name} == below
    assert {name for name in stored if name.endswith(".py")} == (CODE if allow else set())
    assert any("left out: linked/" in note for note in done.notes)
    assert any("left out: style/" in note for note in done.notes)
    assert any("modeling_mine.py" in note and "--allow-code" in note for note in done.notes) is not allow
    assert "s3cret" not in str([repo.tensors.blob(blob) for blob in repo.base(done.base).files.values()])
    run = Path(shutil.copytree(sent, tmp_path / "run", symlinks=True))
    shutil.copy(models.run(1) / "model.safetensors", run)
    (run / "modeling_mine.py").write_text("raise SystemExit('code of a run')")
    noted = persona.commit(repo, run, name="a").notes
    assert any("its code (" in note and "modeling_mine.py" in note for note in noted)
    persona.build(repo, tmp_path / "out")
    out = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert out == stored | {"README.md", "persona.json", "model.safetensors"}
    assert persona.verify(tmp_path / "out").ok
    persona.build(repo, tmp_path / "out", replace=True)
    if allow:
        AutoModelForCausalLM.from_pretrained(tmp_path / "out", trust_remote_code=True)
    ids = {persona.ids.object_digest(encoding(base)) for base in open_source(sent, SILENT).bases()}
    assert done.base in ids


@pytest.mark.parametrize("name", ["model.safetensors.txt", "tokenizer.json", "1_Pooling/config.json", "vocab.txt"])
def test_a_pointer_of_git_lfs_is_named(name: str, sent: Path, models: TinyModels, tmp_path: Path) -> None:
    (sent / name).write_text(POINTER)
    with pytest.raises(CheckpointError, match=f"{name} is a git-lfs pointer, not the file") as caught:
        persona.init(tmp_path / "work", sent)
    assert "lfs pull" in caught.value.hint
    persona.init(tmp_path / "work", models.base())
    run = Path(shutil.copytree(models.run(1), tmp_path / "run"))
    (run / "tokenizer.json").write_text(POINTER)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is a git-lfs pointer"):
        persona.commit(persona.open(tmp_path / "work"), run, name="a")
