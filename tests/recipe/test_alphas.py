"""Alphas along the depth and by pattern: worked by hand, and through everything that handles a recipe."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import persona
from persona.errors import RecipeError, UsageError
from persona.recipe import alphas, edit
from persona.recipe.alphas import Depths
from persona.recipe.changes import changes
from persona.recipe.model import Entry, Recipe
from persona.recipe.parse import parse
from tests.models import load

MakeRepo = Callable[[Path], persona.Repository]
BASE = '[base]\nid = "abab"\n'

FIVE = [
    "model.embed_tokens.weight",
    *(f"model.layers.{n}.mlp.up_proj.weight" for n in range(5)),
    "model.norm.weight",
    "lm_head.weight",
]


def along(alpha: alphas.Alpha, names: list[str] = FIVE) -> list[float | None]:
    """The strength at each tensor."""
    return [alphas.alpha_at(alpha, name, Depths.of(names)) for name in names]


def test_two_numbers_lie_at_both_ends() -> None:
    """Blocks 0 … 4 of 5 lie at 0, ¼, ½, ¾, 1; embeddings before them, norm and head behind."""
    assert along((0.0, 1.0)) == [0, 0, 0.25, 0.5, 0.75, 1, 1, 1]


def test_three_numbers_have_their_middle_half_way() -> None:
    assert along((0.0, 1.0, 0.5)) == [0, 0, 0.5, 1, 0.75, 0.5, 0.5, 0.5]


def test_more_numbers_than_blocks_meet_where_they_meet() -> None:
    """Nine numbers at eighths: the blocks, at quarters, take every second."""
    assert along(tuple(float(n) for n in range(9))) == [0, 0, 2, 4, 6, 8, 8, 8]


def test_one_number_is_everywhere() -> None:
    assert along((0.7,)) == along(0.7) == [0.7] * 8


def test_a_model_of_one_block_lies_at_the_front() -> None:
    assert along((0.2, 1.0), ["h.0.attn.weight", "wte.weight", "ln_f.weight"]) == [0.2, 0.2, 1.0]


def test_each_stack_has_its_own_depth() -> None:
    names = [
        "encoder.layers.0.w",
        "encoder.layers.1.w",
        "decoder.layers.0.w",
        "decoder.layers.1.w",
        "decoder.layers.2.w",
    ]
    assert along((0.0, 1.0), names) == [0, 1, 0, 0.5, 1]


def test_experts_go_with_their_block() -> None:
    names = [f"model.layers.{layer}.mlp.experts.{expert}.w" for layer in range(3) for expert in range(4)]
    assert along((0.0, 1.0), names) == [0] * 4 + [0.5] * 4 + [1] * 4


def test_the_first_pattern_that_matches_counts() -> None:
    alpha = (("*.layers.[01].*", 0.25), ("*.mlp.*", 0.5), ("*embed*", 0.0), ("*", 1.0))
    assert along(alpha) == [0, 0.25, 0.25, 0.5, 0.5, 0.5, 1, 1]
    assert along((("*.mlp.*", 0.5),)) == [None, *[0.5] * 5, None, None]


@pytest.mark.parametrize(
    ("alpha", "said"),
    [(0.8, "0.8"), ((0.2, 1.0), "0.2 … 1"), ((("*.mlp.*", 0.5), ("*", 1.0)), "*.mlp.* 0.5, * 1")],
    ids=["number", "depth", "patterns"],
)
def test_said_kept_and_taken_apart(alpha: alphas.Alpha, said: str) -> None:
    assert alphas.alpha_text(alpha) == said
    assert alphas.decode(alphas.encode(alpha)) == alpha
    assert alphas.times(alphas.times(alpha, -1), -1) == alpha
    assert alphas.numbers(alphas.times(alpha, -2)) == [-2 * number for number in alphas.numbers(alpha)]
    assert alphas.acts(alpha)
    assert alphas.adds(alpha)
    assert not alphas.adds(alphas.times(alpha, -1))
    assert not alphas.acts(alphas.times(alpha, 0))


WRITTEN = """\
[base]
id = "abab"

[vectors.voice]
id = "1111aaaa"
alpha = [0.2, 1]   # little below

[vectors.listening]
# why
id = "2222bbbb"
alpha = {"*.mlp.*" = 0.5, "*" = 1.0}  # half of the MLPs
density = 0.3

[merge]
method = "ties"
"""


def test_read_from_a_recipe() -> None:
    recipe = parse(WRITTEN)
    assert [entry.alpha for entry in recipe.vectors] == [(0.2, 1.0), (("*.mlp.*", 0.5), ("*", 1.0))]
    assert recipe.vectors[1].parameters == {"density": 0.3}
    resolved = replace(recipe, base="ab" * 32, vectors=tuple(replace(entry, id="cd" * 32) for entry in recipe.vectors))
    assert Recipe.decode(resolved.encode()) == resolved


def test_a_table_of_its_own_is_read_too() -> None:
    text = f'{BASE}[vectors.a]\nid = "abab"\n[vectors.a.alpha]\n"*.mlp.*" = 0.5\n"*" = 1\n'
    assert parse(text).vectors[0].alpha == (("*.mlp.*", 0.5), ("*", 1.0))


def test_comments_stay_when_they_change() -> None:
    text = edit.set_alpha(WRITTEN, "voice", (0.5, 0.0, 1.0))
    assert text == WRITTEN.replace("[0.2, 1]   #", "[0.5, 0.0, 1.0]   #")
    text = edit.set_alpha(WRITTEN, "listening", -0.25)
    assert text == WRITTEN.replace('{"*.mlp.*" = 0.5, "*" = 1.0}  #', "-0.25  #")
    text = edit.set_alpha(text, "listening", (("*.q.*", 2.0), ("*", 0.0)))
    assert text == WRITTEN.replace('{"*.mlp.*" = 0.5, "*" = 1.0}', '{"*.q.*" = 2.0, "*" = 0.0}')
    assert "# half of the MLPs" in text


def test_retraining_keeps_alpha_and_parameters() -> None:
    before = parse(WRITTEN).vectors[1]
    text = edit.put_vector(WRITTEN, Entry("listening", "3333cccc" * 8, before.alpha))
    assert text == WRITTEN.replace("2222bbbb", "3333cccc3333")


def test_differences_read_as_a_person_would_say_them() -> None:
    one = Entry("voice", "a" * 64, (0.2, 1.0))
    other = Entry("voice", "a" * 64, (("*.mlp.*", 0.5), ("*", 1.0)), parameters={"density": 0.3})
    said = changes(Recipe("b" * 64, "b", (one,)), Recipe("b" * 64, "b", (other,), method="ties"))
    assert [change.text for change in said] == [
        "method: linear → ties",
        "voice α 0.2 … 1 → *.mlp.* 0.5, * 1",
        "voice density: unset → 0.3",
    ]


WRONG = [
    ("alpha = []", "vectors.a.alpha: an empty list"),
    ("alpha = [0.2, nan]", "vectors.a.alpha: nan is not a number from -1e.09 to 1e.09"),
    ("alpha = [0.2, inf]", "vectors.a.alpha: inf is not a number from -1e.09 to 1e.09"),
    ('alpha = [0.2, "1"]', "vectors.a.alpha: '1' is not a number from -1e.09 to 1e.09"),
    ("alpha = [0.2, true]", "vectors.a.alpha: True is not a number from -1e.09 to 1e.09"),
    ("alpha = [[0.2]]", r"vectors.a.alpha: \[0.2\] is not a number from -1e.09 to 1e.09"),
    ("alpha = {}", "vectors.a.alpha: an empty pattern"),
    ('alpha = {"" = 1}', "vectors.a.alpha: an empty pattern"),
    ('alpha = {"*" = nan}', "vectors.a.alpha: nan is not a number from -1e.09 to 1e.09"),
    ('alpha = {"*.mlp.*" = [1]}', r"vectors.a.alpha: \[1\] is not a number from -1e.09 to 1e.09"),
    ("densty = 0.3", "vectors.a.densty: unknown key"),
    ("normalize = 'count'", "vectors.a.normalize: unknown key"),
    ("density = 0", "vectors.a.density: 0 is not a number above 0, at most 1"),
    ("density = 1.5", "vectors.a.density: 1.5 is not a number above 0, at most 1"),
    ("density = true", "vectors.a.density: True is not a number above 0, at most 1"),
    ("density = nan", "vectors.a.density: nan is not a number above 0, at most 1"),
]


@pytest.mark.parametrize(("line", "said"), WRONG, ids=[line for line, _ in WRONG])
def test_what_is_wrong_has_its_line(line: str, said: str) -> None:
    with pytest.raises(RecipeError, match=rf"^persona\.toml:7: {said}") as error:
        parse(f'{BASE}[merge]\nmethod = "ties"\n[vectors.a]\nid = "abab"\n{line}\n')
    assert error.value.hint


DELLA = [
    ("density = 0.3\nepsilon = 0.3", "merge.density: density 0.3 - epsilon 0.3 must be above 0"),
    ("epsilon = 0.5", "merge.epsilon: density 0.5 - epsilon 0.5 must be above 0"),
    ("density = 0.95", "merge.density: density 0.95 - epsilon 0.1 must be above 0 and density . epsilon at most 1"),
    ("epsilon = 0.6", "merge.epsilon: 0.6 is not a number from 0 to 0.5"),
    ("seed = -1", "merge.seed: -1 is not a whole number from 0"),
    ("seed = 1.0", "merge.seed: 1.0 is not a whole number from 0"),
    ('rescale = "l2"', 'merge.rescale: .l2. is not one of "density", "l1", "none"'),
    ("rescale = []", 'merge.rescale: .* is not one of "density", "l1", "none"'),
    ("gamma = 0.1", "merge.gamma: unknown key"),
]


@pytest.mark.parametrize(("lines", "said"), DELLA, ids=[lines for lines, _ in DELLA])
@pytest.mark.parametrize("method", ["della", "della_linear"])
def test_parameters_that_do_not_fit(method: str, lines: str, said: str) -> None:
    with pytest.raises(RecipeError, match=rf"^persona\.toml:[5-6]: {said}"):
        parse(f'{BASE}[merge]\nmethod = "{method}"\n{lines}\n')


def test_a_vectors_own_density_has_to_fit_the_epsilon_of_all() -> None:
    text = f'{BASE}[merge]\nmethod = "della"\nepsilon = 0.2\n[vectors.a]\nid = "abab"\ndensity = 0.1\n'
    with pytest.raises(RecipeError, match=r"^persona\.toml:8: vectors\.a\.density: density 0\.1 - epsilon 0\.2"):
        parse(text)
    assert parse(text.replace("density = 0.1", "density = 1.0")), "nothing is dropped, so nothing has a chance"


# Through a repository: two blocks with an embedding before and a norm behind, all of them ones.

NAMES = ["model.embed.weight", "model.layers.0.mlp.w", "model.layers.1.attn.w", "model.norm.weight"]


@pytest.fixture
def repo(make_repo: MakeRepo, tmp_path: Path) -> persona.Repository:
    """One vector, τ = 1 everywhere."""
    for folder, value in (("base", 8.0), ("run", 9.0)):
        (tmp_path / folder).mkdir()
        save_file({name: torch.full((2, 2), value) for name in NAMES}, tmp_path / folder / "model.safetensors")
    made = make_repo(tmp_path / "base")
    persona.commit(made, tmp_path / "run", name="voice")
    return made


def said_in_toml(repo: persona.Repository, alpha: str) -> None:
    text = repo.recipe_path.read_text()
    repo.recipe_path.write_text(text.replace("alpha = 1.0", f"alpha = {alpha}  # by hand"))


def strengths(repo: persona.Repository, out: Path) -> list[float]:
    """What a build moved each tensor by."""
    persona.build(repo, out)
    tensors = load(out)
    return [float(tensors[name][0, 0]) - 8 for name in NAMES]


def test_from_the_file_to_the_weights(repo: persona.Repository, tmp_path: Path) -> None:
    said_in_toml(repo, "[0.25, 1.0]")
    persona.commit(repo, message="along the depth")
    assert strengths(repo, tmp_path / "depth") == [0.25, 0.25, 1, 1]
    persona.negate(repo, "voice")
    assert "alpha = [-0.25, -1.0]  # by hand" in repo.recipe_path.read_text()
    assert strengths(repo, tmp_path / "negated") == [-0.25, -0.25, -1, -1]
    persona.alpha(repo, {"voice": (("*.mlp.*", 0.5), ("*", 2.0))})
    assert 'alpha = {"*.mlp.*" = 0.5, "*" = 2.0}  # by hand' in repo.recipe_path.read_text()
    assert strengths(repo, tmp_path / "patterns") == [2, 0.5, 2, 2]
    assert [c.text for c in persona.diff(repo, "HEAD~1", "HEAD").changes] == ["voice α -0.25 … -1 → *.mlp.* 0.5, * 2"]
    persona.alpha(repo, {"voice": 1.0})
    assert strengths(repo, tmp_path / "one") == [1, 1, 1, 1]
    assert "| voice | 0.25 … 1 |" in (tmp_path / "depth" / "README.md").read_text()
    assert persona.verify(tmp_path / "patterns").ok


def test_the_model_card_says_them(repo: persona.Repository, tmp_path: Path) -> None:
    said_in_toml(repo, '{"*.mlp.*" = 0.5, "*" = 1}')
    repo.recipe_path.write_text(
        repo.recipe_path.read_text() + 'density = 0.3\n[merge]\nmethod = "ties"\ntrim = "model"\n'
    )
    persona.build(repo, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "method `ties` (trim model), scale 1." in card
    assert "| voice | `*.mlp.* 0.5, * 1` (density 0.3) |" in card


def test_a_vector_that_is_absent_counts_as_strong_as_it_would_be_there(make_repo: MakeRepo, tmp_path: Path) -> None:
    """nuslerp: the second vector leaves block 1 alone, where its alpha is 3 against 1: t = 3/4 of the way to τ = 0.

    The angle to a zero is 90°, so τ₁ keeps sin 22.5°.
    """
    names = ["model.layers.0.w", "model.layers.1.w"]
    for folder, moved in (("base", (0, 0)), ("one", (1, 1)), ("two", (1, 0))):
        (tmp_path / folder).mkdir()
        tensors = {name: torch.full((2, 2), 8.0 + by) for name, by in zip(names, moved, strict=True)}
        save_file(tensors, tmp_path / folder / "model.safetensors")
    repo = make_repo(tmp_path / "base")
    for name in ("one", "two"):
        persona.commit(repo, tmp_path / name, name=name)
    head, section, rest = repo.recipe_path.read_text().partition("[vectors.two]")
    rest = rest.replace("alpha = 1.0", "alpha = [9.0, 3.0]")
    repo.recipe_path.write_text(f'{head}{section}{rest}[merge]\nmethod = "nuslerp"\n')
    persona.build(repo, tmp_path / "out")
    assert float(load(tmp_path / "out")[names[1]][0, 0]) == pytest.approx(8 + math.sin(math.pi / 8), abs=1e-6)


def test_a_pattern_with_0_keeps_the_vector_off(repo: persona.Repository, tmp_path: Path) -> None:
    said_in_toml(repo, '{"*.mlp.*" = 0, "*" = 1}')
    assert strengths(repo, tmp_path / "out") == [1, 0, 1, 1]


def test_a_pattern_that_matches_nothing_is_an_error(repo: persona.Repository, tmp_path: Path) -> None:
    said_in_toml(repo, '{"*.mpl.*" = 0.5, "*" = 1.0}')
    wanted = r"vectors\.voice\.alpha: '\*\.mpl\.\*' matches none of its 4 tensors"
    with pytest.raises(UsageError, match=wanted):
        persona.build(repo, tmp_path / "out")
    with pytest.raises(UsageError, match=wanted):
        persona.commit(repo, message="with a typing error")


def test_a_tensor_that_no_pattern_matches_is_an_error(repo: persona.Repository, tmp_path: Path) -> None:
    said_in_toml(repo, '{"*.mlp.*" = 0.5}')
    with pytest.raises(UsageError, match=r"vectors\.voice\.alpha: no pattern matches model\.embed\.weight") as error:
        persona.build(repo, tmp_path / "out")
    assert '"*" = 1.0' in error.value.hint


def test_too_large_a_number_is_refused_wherever_it_stands(repo: persona.Repository) -> None:
    with pytest.raises(UsageError, match="not a finite number of at most 1e"):
        persona.alpha(repo, {"voice": (0.5, 1e10)})
    with pytest.raises(UsageError, match="not a finite number of at most 1e"):
        persona.alpha(repo, {"voice": (("*", float("nan")),)})


def test_a_density_of_its_own_reaches_the_build(repo: persona.Repository, make_repo: MakeRepo, tmp_path: Path) -> None:
    """Half of four entries for all, and three quarters for one."""
    text = repo.recipe_path.read_text()
    for own, kept in (("", 2), ("density = 0.75\n", 3)):
        repo.recipe_path.write_text(f'{text}{own}[merge]\nmethod = "ties"\ndensity = 0.5\n')
        persona.build(repo, tmp_path / f"out-{kept}")
        assert int((load(tmp_path / f"out-{kept}")[NAMES[0]] != 8).sum()) == kept
