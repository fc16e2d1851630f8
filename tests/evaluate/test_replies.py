"""What a model replies, whether it meets a rule, and that it can be read afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import persona
from persona.cli.main import invoke
from persona.errors import UsageError
from persona.evaluate import suite as suites
from persona.evaluate.measures import Look, replies
from persona.history import evaluations
from persona.history.evaluations import Said, text_of
from tests.evaluate import small

pytestmark = pytest.mark.usefixtures("one_thread")

SUITE = '[[measures]]\nkind = "replies"\nname = "talk"\ndata = "asked.jsonl"\ntokens = 8\n'


def says(*words: int) -> Any:
    """A model that says the word of the highest bias; each reply ends with the end token."""
    model = small.flat()
    model.model.norm.weight.fill_(0.0)
    model.lm_head.bias = torch.nn.Parameter(torch.zeros(small.vocabulary()), requires_grad=False)
    for word in words:
        model.lm_head.bias[word] = 5.0
    return model


def written(folder: Path, rule: str = 'matches = "w2"\n', rows: Any = ({"prompt": "w1"},), **modules: str) -> Path:
    small.lines(folder / "asked.jsonl", rows)
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    (folder / "talk.toml").write_text(SUITE + rule)
    return folder / "talk.toml"


def shares(path: Path, model: Any) -> Any:
    (asked,) = suites.read(path).measures
    (sums,) = asked.module.measure(Look(small.live(model)), asked.rows, asked.settings)
    return sums


@pytest.mark.parametrize(
    ("rule", "met"),
    [
        ('matches = "w2( w2)*$"', 1),
        ('matches = "W2"', 0),
        ('matches = "(?i)W2"', 1),
        ('rejects = "w2"', 0),
        ('rejects = "w3"\nmatches = "w2"', 1),
        ('rejects = "w2"\nmatches = "w2"', 0),
        ("max_words = 8", 1),
        ("max_words = 7", 0),
        ('matches = "w2"\nmax_words = 7', 0),
    ],
)
def test_a_rule_by_hand(tmp_path: Path, rule: str, met: float) -> None:
    """A model that says ``w2`` eight times."""
    word = small.tokenizer().convert_tokens_to_ids("w2")
    found = shares(written(tmp_path, rule), says(word))
    assert (found.totals, found.counts, found.unit, found.better) == ([met], [1.0], "share", "higher")
    assert found.replies == (("w1", " ".join(["w2"] * 8)),)


def test_a_row_has_its_own_rule(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "w5"}, {"role": "assistant", "content": "w6"}]
    rows = [
        {"prompt": "w1"},
        {"prompt": "w3", "matches": "w9", "max_words": 8},
        {"messages": messages, "rejects": "w2"},
        {"prompt": "w4", "max_words": 1},
    ]
    found = shares(written(tmp_path, rows=rows), says(small.tokenizer().convert_tokens_to_ids("w2")))
    assert found.totals == [1, 0, 0, 0]
    assert [prompt for prompt, _ in found.replies] == ["w1", "w3", "w5", "w4"]
    assert shares(written(tmp_path, "", rows[1:]), says(2)).totals == [0, 1, 1]  # it ends at once: nothing is said


def test_a_function_judges_the_replies(tmp_path: Path) -> None:
    judge = (
        "def score(replies, rows, seed):\n    return [r.split()[0] == row['wanted'] for r, row in zip(replies, rows)]\n"
    )
    rows = [{"prompt": "w1", "wanted": "w2"}, {"prompt": "w1", "wanted": "w3"}]
    word = says(small.tokenizer().convert_tokens_to_ids("w2"))
    path = written(tmp_path, 'function = "judge:score"\nbetter = "lower"\n', rows, judge=judge)
    assert (shares(path, word).totals, shares(path, word).better) == ([1, 0], "lower")
    digest = suites.read(path).digest
    for text, said in (
        ("return [2, 0]", "not from 0 to 1"),
        ("return [float('nan'), 0]", "not from 0 to 1"),
        ("return {'a': [1, 0], 'b': [1, 0]}", "returned 2 lists"),
        ("return [1]", "returned 1 numbers for 2 rows"),
    ):
        written(tmp_path, 'function = "judge:score"\n', rows, judge=f"def score(replies, rows, seed):\n    {text}\n")
        with pytest.raises(UsageError, match=said):
            shares(path, word)
        assert suites.read(path).digest != digest


@pytest.mark.parametrize(
    ("rule", "row", "said"),
    [
        ('matches = "("', {}, r"talk.toml:6: measures\[0\].matches: '\(' is not a regular expression: missing \)"),
        ('matches = ""', {}, "is not a regular expression"),
        (f'rejects = "{"(" * 900}"', {}, "is not a regular expression"),
        (f'rejects = "{"a" * 1001}"', {}, "of at most 1000 characters"),
        ("max_words = 0", {}, "is not a whole number from 1"),
        ("", {}, "asked.jsonl:1 has no rule, and neither has its measure"),
        ("", {"matches": "[z-a]"}, "asked.jsonl:1: 'matches' is not a regular expression"),
        ("", {"rejects": 5}, "asked.jsonl:1: 'rejects' is not a regular expression"),
        ("", {"max_words": "5"}, "asked.jsonl:1: 'max_words' is not a whole number"),
        (
            'matches = "a"\nfunction = "judge:score"',
            {},
            "talk.toml:7: measures\\[0\\].function: there is 'matches', too",
        ),
    ],
)
def test_a_rule_that_is_none_is_named(tmp_path: Path, rule: str, row: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        suites.read(written(tmp_path, rule, [{"prompt": "w1", **row}]))


def test_a_pattern_without_end_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "PATIENCE", 0.02)
    asked = suites.SuiteMeasure("replies", "talk", (), {})
    row = suites.SuiteRow("asked.jsonl:3", "w1")
    assert asked.module is replies
    with pytest.raises(UsageError, match=r"'\(a\+\)\+\$' takes too long on the reply to asked.jsonl:3"):
        replies._has("a" * 200 + "!", "(a+)+$", row)


def test_long_replies_are_cut_and_odd_ones_survive() -> None:
    (line,) = text_of([Said("talk", "p" * 9000, "\ud83d\x1b é", 1.0)]).splitlines()
    assert len(json.loads(line)["prompt"]) == evaluations.LONGEST
    assert evaluations._said(line).reply == "\ud83d\x1b é"
    line.encode("ascii")


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> persona.Repository:
    """A base that is random, a vector, and a suite of three prompts."""
    folder = tmp_path_factory.mktemp("talking")
    base = small.base_folder(folder / "base")
    repo = persona.init(folder / "work", base, author="Test") and persona.open(folder / "work")
    persona.commit(repo, small.tuned_folder(folder / "one", base, 1, 5e-3), name="one", author="Test")
    rows = [{"prompt": text} for text in small.texts(3, 4)]
    (repo.root / "evals").mkdir()
    written(repo.root / "evals", 'matches = "w1"\n', rows)
    return repo


@torch.inference_mode()
def said_by(folder: Path, prompt: str) -> str:
    """By transformers alone."""
    model, words = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    given = words(prompt, return_tensors="pt")["input_ids"]
    made = model.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=8, do_sample=False)
    return str(words.decode(made[0, given.shape[1] :], skip_special_tokens=True)).strip()


def test_replies_are_kept_and_shown_side_by_side(
    talking: persona.Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    done = persona.eval(talking, replies=True)
    assert (done.measured, persona.eval(talking).replies) == (2, ())
    again = persona.eval(talking, "HEAD", replies=True)
    assert again.measured == 0
    (found,) = again.replies
    assert (found.suite, found.measure, found.better, found.examples) == ("talk", "talk", "higher", 3)
    for row in found.prompts:
        base, after = row.replies
        assert (base.build, after.build[:4]) == ("base", "HEAD")
        assert base.reply == said_by(talking.root.parent / "base", row.prompt)
        assert after.reply == said_by(talking.root.parent / "one", row.prompt)
        assert after.score == float("w1" in after.reply)
    (score,) = again.builds[0].suites[0].scores
    assert score.value == pytest.approx(sum(row.replies[1].score for row in found.prompts) / 3)
    (both,) = persona.eval(talking, ["HEAD~1", "HEAD"], replies=True).replies
    assert [one.build.split()[0] for one in both.prompts[0].replies] == ["HEAD~1", "HEAD"]  # the base is HEAD~1
    capsys.readouterr()
    assert invoke(["-C", str(talking.root), "eval", "HEAD", "--replies"]) == 0
    shown = capsys.readouterr().out
    assert all(one.reply in shown for row in found.prompts for one in row.replies)


def test_lost_replies_cost_no_result_and_are_made_again(talking: persona.Repository) -> None:
    persona.eval(talking)
    assert persona.gc(talking, grace=0).objects == 0
    assert persona.fsck(talking).ok
    (path, *_) = sorted((talking.folder / "evaluations").rglob("?" * 64 + "/*"))
    (kept,) = talking.evaluations.of(path.parent.name)
    assert kept.replies is not None
    talking.objects.path(kept.replies).unlink()
    (lost,) = persona.fsck(talking).lost
    assert (lost.kind, lost.id) == ("text", kept.replies)
    assert "persona eval --replies makes them again" in lost.why
    assert persona.eval(talking).measured == 0
    assert persona.eval(talking, replies=True).measured == 1
    assert persona.fsck(talking).ok


def test_a_suite_without_replies_says_how_to_have_some(talking: persona.Repository, tmp_path: Path) -> None:
    path = tmp_path / "plain.toml"
    small.lines(tmp_path / "answers.jsonl", small.dialogues(2, 1))
    path.write_text('[[measures]]\nkind = "loss"\ndata = "answers.jsonl"\n')
    with pytest.raises(UsageError, match="no suite keeps replies"):
        persona.eval(talking, suites=[path], replies=True)
