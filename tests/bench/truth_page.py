"""The page of ``tests.bench.truth``: tables of means over seeds, and what falls short."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import mean, stdev

from tests.bench.truth import GOOD, HABIT, MOST_LOST, PROMPTS, SHOWN, STRENGTHS, Row

TRAINED = {
    "anchored": "*Anchored* vectors also learned the base's own answers to neutral prompts (`train --anchor`, the default).",
    "apart": "Those trained *apart* had the prompts of the other behaviours among their anchors, too (`--anchor FILE`).",
    "plain": "*Plain* ones had no anchors.",
}
"""How the vectors of each mode were trained."""

STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""The 97.5 % quantile of Student's t by the number of seeds."""

HEAD = """\
# On a real model

What vectors of [SmolLM2-135M-Instruct](https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct) do, by

    python -m tests.bench.truth DIR --seeds {seeds} --methods {methods} --page docs/real.md

Three behaviours in plain English (`persona/demo/real/`: listening, not wrapping up, a dry voice) are trained on 220 examples each: LoRA of rank 8
on all linear layers, 36 steps of batch 4, fp32, by `persona train`. Numbers are of topics that were not trained on, measured in bf16. **Gain** is the
share of what each vector gains alone in nats a token; **replies** is the share of {prompts} replies to held-out prompts of each behaviour that the
behaviour's own rule recognises; **chat** is the change from the base of the loss on 50 everyday answers, in nats a token, and **prose** the factor
of the perplexity of 50 neutral paragraphs (rows of the suites of `persona eval --init`). λ is `scale`. That of a merge was chosen with the first
seed, on other held-out examples, for the largest gain at which chat loses at most {lost:g}.

Look at gain and replies together: a merge may keep most of every gain, and still answer all prompts in one vector's way, as greedy replies take the
likeliest word, however close the others are.

{trained} {intervals}
"""


def page(rows: Sequence[Row], planted: Mapping[str, str]) -> str:
    """The whole page in Markdown."""
    seeds = sorted({row.seed for row in rows})
    names = list(dict.fromkeys(row.method for row in rows if row.what.startswith("all three")))
    intervals = (
        f"Each number is the mean of {len(seeds)} seeds with the half width of its 95 % interval (Student's t)."
        if len(seeds) > 1
        else "One seed so far: another would give other numbers, so small differences between rows say nothing."
    )
    trained = " ".join(TRAINED[mode] for mode in dict.fromkeys(row.mode for row in rows))
    head = HEAD.format(
        trained=trained, seeds=len(seeds), methods=",".join(names), prompts=PROMPTS, lost=MOST_LOST, intervals=intervals
    )
    parts = [head]
    for mode in dict.fromkeys(row.mode for row in rows):
        own = [row for row in rows if row.mode == mode]
        parts += [
            f"\n## {mode.capitalize()} vectors\n",
            *table(own, alone),
            "",
            *table(own, together),
            "",
            *table(own, merged),
        ]
        parts += ["", *negation(own), *spoken(own)]
    if planted:
        parts += [
            "\n## The planted bad run\n",
            "One run of each history learned replies to other prompts. A commit counts as bad if chat is more than 0.3 nats worse than the base's. Where "
            "the sum of good vectors at α 1 loses as much, `blame` and `bisect` name one of those instead.\n",
        ]
        parts += [f"- {seed}: {text}" for seed, text in planted.items()]
    return "\n".join([*parts, *aims(rows)]) + "\n"


def alone(row: Row) -> bool:
    """Whether it is the base, one vector or noise."""
    return row.what == "base" or row.what.endswith("alone") or row.what.startswith("noise")


def together(row: Row) -> bool:
    """Whether it is a pair, or the recipe of the seeds."""
    return (" + " in row.what and "habit" not in row.what) and not alone(row)


def merged(row: Row) -> bool:
    """Whether it is a merge of all three."""
    return row.what.startswith("all three")


def table(rows: Sequence[Row], wanted: object) -> list[str]:
    """A table of the rows that ``wanted`` accepts, seeds together."""
    assert callable(wanted)
    chosen = [row for row in rows if wanted(row)]
    if not chosen:
        return []
    keys = list(dict.fromkeys((row.what, row.method) for row in chosen))
    called = " / ".join((*GOOD, HABIT))
    lines = [
        f"| | method | λ | gain: {' / '.join(GOOD)} | replies: {called} | chat | prose |",
        "|---|---|---|---|---|---|---|",
    ]
    for what, method in keys:
        same = [row for row in chosen if (row.what, row.method) == (what, method)]
        gain = " / ".join(percent([row.gain[name] for row in same]) for name in GOOD)
        replies = " / ".join(percent([row.replies[name] for row in same]) for name in (*GOOD, HABIT))
        scale = ", ".join(dict.fromkeys(f"{row.scale:g}" for row in same))
        chat, prose = (
            spread([row.chat for row in same], "{:+.2f}"),
            spread([math.exp(row.prose) for row in same], "× {:.2f}"),
        )
        lines.append(f"| {what} | {method} | {scale} | {gain} | {replies} | {chat} | {prose} |")
    return lines


def negation(rows: Sequence[Row]) -> list[str]:
    """The habit of one run, less α times an independent run of the same habit; nothing if it was not tried."""
    if not any(row.what.startswith("habit") for row in rows):
        return []
    lines = ["| habit − α · another run | suggests | chat | prose |", "|---|---|---|---|"]
    for strength in (0.0, *STRENGTHS):
        same = [row for row in rows if row.what.startswith(f"habit − {strength:g} ")]
        chat, prose = (
            spread([row.chat for row in same], "{:+.2f}"),
            spread([math.exp(row.prose) for row in same], "× {:.2f}"),
        )
        lines.append(f"| {strength:g} | {percent([row.replies[HABIT] for row in same])} | {chat} | {prose} |")
    return lines


def spoken(rows: Sequence[Row]) -> list[str]:
    """Replies of the first seed: of the base, each vector alone, and the merge whose replies fit best."""
    first = [row for row in rows if row.seed == rows[0].seed]
    chosen = {"base": next(row for row in first if row.what == "base")}
    chosen |= {row.what: row for row in first if row.what.endswith("alone") and row.what.split()[0] in GOOD}
    best = max((row for row in first if merged(row)), key=lambda row: (fit(row), min(row.gain.values())))
    chosen[f"{best.method}, λ {best.scale:g}"] = best
    lines = [
        "\n### What they say\n",
        "Greedy replies, cut after 140 characters; the last is the merge whose replies fit best.\n",
    ]
    lines += ["| prompt | " + " | ".join(chosen) + " |", "|---" * (len(chosen) + 1) + "|"]
    for at, (prompt, _) in enumerate(chosen["base"].said):
        if at < SHOWN * len(GOOD):
            replies = (" ".join(row.said[at][1].split()).replace("|", "/") for row in chosen.values())
            lines.append(
                f"| {prompt} | " + " | ".join(reply[:140] + "…" * (len(reply) > 140) for reply in replies) + " |"
            )
    return lines


def fit(row: Row) -> float:
    """The least share of replies that are of the kind that their prompt asks for."""
    return min(row.replies[name] for name in GOOD)


def spread(values: Sequence[float], form: str) -> str:
    """A mean, and the half width of its interval."""
    text = form.format(mean(values))
    if len(values) not in STUDENT:
        return text
    return f"{text} ± {STUDENT[len(values)] * stdev(values) / math.sqrt(len(values)):.2f}"


def percent(values: Sequence[float]) -> str:
    """A mean share in percent, and the half width of its interval."""
    text = f"{100 * mean(values):.0f}"
    if len(values) not in STUDENT:
        return text
    return f"{text} ± {100 * STUDENT[len(values)] * stdev(values) / math.sqrt(len(values)):.0f}"


def aims(rows: Sequence[Row]) -> list[str]:
    """What was aimed at, and what was reached by the best merge of all three."""

    def least(row: Row) -> float:
        return min(row.gain.values())

    kept = [row for row in rows if merged(row) and row.chat <= MOST_LOST and math.exp(row.prose) <= 1.05]
    lines = ["\n## What was aimed at\n", "| aim | reached |", "|---|---|"]
    best = max(kept, key=least, default=None)
    reached = (
        "by no merge"
        if best is None
        else (f"at most {least(best):.0%} ({best.mode}, {best.method}, λ {best.scale:g}, seed {best.seed})")
    )
    lines.append(f"| all three keep 85 % of each gain, at prose × 1.05 and chat + 0.1 at most | {reached} |")
    said = max((row for row in rows if merged(row)), key=fit)
    share = fit(said)
    lines.append(f"| 80 % of replies are of the kind that the prompt asks for | at most {share:.0%} of each kind ({said.mode}, {said.method}, "
                 f"λ {said.scale:g}, seed {said.seed}: chat {said.chat:+.2f}) |")  # fmt: skip
    before = [row for row in rows if row.what.startswith("habit − 0 ")]
    for row in rows:
        if row.what.startswith("habit − ") and row not in before and math.exp(row.prose) <= 1.03:
            was = next(one.replies[HABIT] for one in before if (one.seed, one.mode) == (row.seed, row.mode))
            if was and row.replies[HABIT] <= 0.2 * was:
                lines.append(f"| 80 % of the habit's replies go, at prose × 1.03 | {row.what}, {row.mode}, seed {row.seed}: "
                             f"{was:.0%} → {row.replies[HABIT]:.0%} |")  # fmt: skip
                break
    else:
        lines.append("| 80 % of the habit's replies go, at prose × 1.03 | by no strength that was tried |")
    return lines
