"""A step for CI: fail if a suite says that main got worse than what is deployed, and say which vector did it.

    python examples/check_release.py examples/evals/manners.toml --released v1
    python examples/check_release.py examples/evals/manners.toml --released builds/deployed

Both are measured in memory, and never written to disk. A number has got worse if the interval of its difference over the very same
examples excludes zero. What was measured before is looked up. The exit code is 1 if anything is worse.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import persona

OPTIONS = persona.MeasureOptions(allow_code=True)  # the suite is your own: its judge may run


def main() -> None:
    parser = argparse.ArgumentParser(description="Fail if a suite finds a revision worse than the released one.")
    parser.add_argument("suite", help="a suite's name, or its file")
    parser.add_argument("--released", required=True, help="what is deployed: a revision, or the folder of a build")
    parser.add_argument("--rev", default="HEAD", help="what is to be released")
    parser.add_argument("--repo", default=".", help="the repository")
    args = parser.parse_args()
    try:
        sys.exit(1 if check(persona.open(args.repo), args.suite, revision(args.released), args.rev) else 0)
    except persona.PersonaError as error:
        sys.exit(f"{error.message}\n{error.hint}")


def revision(said: str) -> str:
    """The commit that a folder was built from; a revision as it is."""
    receipt = Path(said) / "persona.json"
    return str(json.loads(receipt.read_text())["commit"]) if receipt.is_file() else said


def check(repo: persona.Repository, suite: str, released: str, rev: str) -> bool:
    """Whether any number is worse, after saying how each moved."""
    persona.eval(repo, [released, rev], suites=[suite], options=OPTIONS)
    moves = [one for one in persona.diff(repo, released, rev).measured if one.suite == Path(suite).stem]
    if not moves:
        print(f"{rev} makes the same weights as {released}")
    for one in moves:
        print(f"{one.measure} {one.name}: {one.before:.4f} → {one.after:.4f}, {one.verdict}")
    worse = [(one.measure, one.name) for one in moves if one.verdict == "worse"]
    if worse:
        for verdict in persona.blame(repo, rev, suite=suite, options=OPTIONS).verdicts:
            if (verdict.measure, verdict.name) in worse:
                first = verdict.vectors[0]
                print(f"{verdict.measure} {verdict.name} would be {first.without:.4f} without {first.vector}")
    return bool(worse)


if __name__ == "__main__":
    main()
