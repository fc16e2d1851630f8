"""The tables [files] and [config] of persona.toml: read, edited, merged, compared and stored."""

from __future__ import annotations

from dataclasses import replace

import pytest

from persona.errors import RecipeError, UsageError
from persona.recipe import edit, threeway
from persona.recipe.builds import build_digest
from persona.recipe.changes import changes
from persona.recipe.choices import Choices
from persona.recipe.markers import mark
from persona.recipe.model import Recipe
from persona.recipe.parse import checked_vector_name, parse
from persona.recipe.rewrite import rewrite
from persona.workspace.ingest import vector_name

HEAD = '[base]\nname = "b"\nid = "abcd"\n\n[vectors.a]\nid = "1111"\n\n[vectors.c]\nid = "2222"\n'
TABLES = """
[files]                  # ours
tokenizer = "a"          # its tokens
chat_template = "base"

[config]
from = "c"
max_position_embeddings = 512  # longer
generation_config.top_p = 0.5

[config.rope_parameters]
factor = 2.0
"""
WANTED = Choices(
    {"chat_template": "base", "tokenizer": "a"},
    "c",
    ((("generation_config", "top_p"), 0.5), (("max_position_embeddings",), 512), (("rope_parameters", "factor"), 2.0)),
)


def test_what_is_read() -> None:
    recipe = parse(HEAD + TABLES)
    assert recipe.choices == WANTED
    assert recipe.choices.of_file("config.json") == WANTED.settings[1:]
    assert recipe.choices.of_file("generation_config.json") == ((("top_p",), 0.5),)
    resolved = replace(recipe, base="ab" * 32, vectors=tuple(replace(entry, id="cd" * 32) for entry in recipe.vectors))
    assert Recipe.decode(resolved.encode()) == resolved
    assert parse(HEAD + "[files]\n[config]\n") == parse(HEAD)
    assert not {"files", "config"} & set(parse(HEAD).encode())  # ids of older recipes stay


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ('[files]\ntokenizr = "a"\n', r"persona.toml:11: files.tokenizr: unknown key"),
        ('[files]\ntokenizer = "z"\n', r"persona.toml:11: files.tokenizer: no vector 'z'"),
        ("[files]\ntokenizer = 1\n", "not the name of a vector"),
        ('[config]\nfrom = "z"\n', r"persona.toml:11: config.from: no vector 'z'"),
        ("[config]\nx = 2020-01-01\n", "cannot be a setting"),
        ("[config]\nvocab_size = 5\n", "persona.toml:11: config.vocab_size: a build sets this from its weights"),
        ("[config]\nx = inf\n", "cannot be a setting"),
        ("[config]\nx = [{a = 1}]\n", "cannot be a setting"),
        ("[config]\ngeneration_config = 1\n", "cannot be a setting"),
    ],
)
def test_what_is_refused(lines: str, error: str) -> None:
    with pytest.raises(RecipeError, match=error):
        parse(HEAD + lines)


def test_a_vector_takes_the_choices_that_name_it_along() -> None:
    text = edit.remove_vector(HEAD + TABLES, "a")
    assert parse(text).choices == Choices({"chat_template": "base"}, "c", WANTED.settings)
    assert "# ours" in text
    assert "# longer" in text
    text = edit.remove_vector(HEAD + '\n[files]\ntokenizer = "a"\n', "a")
    assert "files" not in text


CHANGED = [
    replace(WANTED, files={"tokenizer": "c", "processor": "a"}),
    replace(WANTED, settings_from=None, settings=((("rope_parameters", "type"), "yarn"),)),
    replace(WANTED, settings=((("generation_config", "temperature"), 0.5), (("odd key",), [1, 2]))),
    Choices(),
]


@pytest.mark.parametrize("choices", CHANGED)
@pytest.mark.parametrize(
    "tables", [TABLES, TABLES.rstrip(), "", '\nfiles = {tokenizer = "a"}\n', TABLES.replace("\n", "\r\n")]
)
def test_every_layout_is_rewritten(choices: Choices, tables: str) -> None:
    text = (tables.lstrip() + HEAD) if tables.lstrip().startswith("files =") else HEAD + tables
    wanted = replace(parse(text), choices=choices)
    done = rewrite(text, wanted)
    assert parse(done) == wanted
    if "# longer" in text and ("max_position_embeddings",) in dict(choices.settings):
        assert "max_position_embeddings = 512  # longer" in done
    assert rewrite(done, parse(text)).count("[vectors.") == 2
    assert parse(rewrite(done, parse(text))) == parse(text)


def merged(base: Choices, ours: Choices, theirs: Choices) -> threeway.MergedRecipe:
    recipe = parse(HEAD)
    return threeway.merge([replace(recipe, choices=base)], *(replace(recipe, choices=c) for c in (ours, theirs)))


def test_both_sides_choose() -> None:
    one, two = Choices({"tokenizer": "a"}), Choices({"chat_template": "c"}, None, ((("x",), 1),))
    both = merged(Choices(), one, two)
    assert both.clashes == ()
    assert both.recipe.choices == Choices({"chat_template": "c", "tokenizer": "a"}, None, ((("x",), 1),))
    assert merged(one, one, Choices()).recipe.choices == Choices()


@pytest.mark.parametrize("text", [HEAD + "\n[config]\nx.y = 1  # note\n", HEAD + "\n[config.x]\ny = 1\n"])
def test_a_clash_is_marked_where_it_is(text: str) -> None:
    theirs = text.replace("y = 1", "y = 2")
    before = replace(parse(HEAD), choices=Choices({}, None, ((("x", "y"), 0),)))
    result = threeway.merge([before], parse(text), parse(theirs))
    assert [clash.text for clash in result.clashes] == ["config.x.y: ours 1, theirs 2"]
    lines = mark(text, result.clashes, "main", "other", theirs, parse(theirs)).splitlines()
    start = lines.index("<<<<<<< main")
    kept = [*lines[:start], lines[lines.index("=======") + 1], *lines[lines.index(">>>>>>> other") + 1 :]]
    assert parse("\n".join(kept)) == parse(theirs)


def test_a_clash_without_a_table_of_ours() -> None:
    theirs = HEAD + "\n[config]\nx = 2\n"
    before = replace(parse(HEAD), choices=Choices({}, None, ((("x",), 0),)))
    result = threeway.merge([before], parse(HEAD), parse(theirs))
    text = mark(HEAD, result.clashes, "main", "other", theirs, parse(theirs))
    start, middle, stop = (text.index(m) for m in ("<<<<<<<", "=======\n", ">>>>>>>"))
    assert parse(text[:start] + text[middle + 8 : stop]) == parse(theirs)


def test_a_removed_vector_takes_its_choices_in_a_merge() -> None:
    chosen = replace(parse(HEAD), choices=Choices({"tokenizer": "c"}))
    gone = parse(edit.remove_vector(HEAD, "c"))
    assert threeway.merge([parse(HEAD)], chosen, gone).recipe.choices == Choices()


def test_changes_and_digests() -> None:
    before = parse(HEAD)
    after = parse(HEAD + TABLES)
    assert [change.text for change in changes(before, after)][:2] == [
        "config.from: unset → c",
        "config.generation_config.top_p: unset → 0.5",
    ]
    assert len({build_digest(before), build_digest(after), build_digest(replace(before, choices=CHANGED[1]))}) == 3


def test_a_switch_is_shown_as_it_is_written() -> None:
    before, after = (parse(HEAD + f"[config]\nuse_sliding_window = {value}\n") for value in ("false", "true"))
    assert [change.text for change in changes(before, after)] == ["config.use_sliding_window: false → true"]


@pytest.mark.parametrize("name", ["base", "HEAD"])
def test_names_that_mean_something_else(name: str) -> None:
    with pytest.raises(UsageError, match=f"'{name}' cannot be the name of a vector"):
        checked_vector_name(name)
    assert parse(HEAD + f'[vectors.{name}]\nid = "0a1b"\n').entry(name)  # which an older version allowed


def test_folders_of_such_names() -> None:
    assert [vector_name(name) for name in ("base", "HEAD", "base-2", "head")] == ["", "", "base-2", "head"]
