"""Words of git that are no commands here: why not, and what to do instead."""

from __future__ import annotations

from persona.errors import UsageError

WORDS = {
    "add": (
        "there is no staging area: 'commit' records a run, or persona.toml as it is",
        "Record a run: persona commit RUN --as NAME. Record an edit of persona.toml: persona commit -m MESSAGE",
    ),
    "am": (
        "commits are not exchanged as mail",
        "Take a recipe from a file: persona import FILE. Take an adapter: persona import-adapter PATH",
    ),
    "apply": (
        "there are no patch files: a change is a vector or an edit of persona.toml",
        "Add an adapter: persona import-adapter PATH. Change a strength: persona alpha NAME=VALUE",
    ),
    "archive": ("a revision is written as a model, not as an archive", "Write it: persona build REV -o OUT"),
    "bundle": (
        "a repository is one folder, and a copy of it is complete",
        "Copy the folder with its .persona, then check the copy: persona fsck",
    ),
    "cat-file": ("objects are read by what they are", "See one: persona show REV, or persona show NAME"),
    "clean": (
        "persona does not track the files beside persona.toml and never deletes them",
        "Free space in the repository: persona gc --dry-run, then persona gc",
    ),
    "clone": (
        "a repository is one folder, and a copy of it is complete",
        "Copy the folder with its .persona. For another branch in this repository: persona switch -c NAME",
    ),
    "config": (
        "settings are in files: .persona/config.toml, and ~/.config/persona/config.toml for all repositories",
        'Edit the file. Set the author with [user], and below it name = "…" and email = "…".',
    ),
    "describe": ("a commit is named by the branches and tags that point at it", "See them: persona log --oneline"),
    "difftool": (
        "recipes and weights are compared by persona itself",
        "Compare two revisions: persona diff A B. Compare their weights: persona diff A B --weights",
    ),
    "fetch": ("a repository has no remotes yet", "Take a vector from an adapter: persona import-adapter PATH"),
    "filter-branch": (
        "commits are not rewritten, because builds and receipts name their ids",
        "Remove a vector from now on: persona rm NAME",
    ),
    "format-patch": (
        "commits are not exchanged as patches",
        "Write the recipe for mergekit: persona export --to FILE. Write an adapter: persona build -o OUT --as-adapter",
    ),
    "grep": (
        "a recipe is short, and its history is searched by what changed",
        "Search messages: persona log --grep TEXT. Search by vector: persona log --vector NAME",
    ),
    "ls-files": ("one file is tracked: persona.toml", "List its vectors: persona vectors"),
    "ls-tree": ("a commit holds a recipe, not a tree of files", "List its vectors: persona vectors REV"),
    "mergetool": (
        "a merge leaves its conflicts in persona.toml, marked as in git",
        "Edit persona.toml, then: persona commit. Or take one side: persona merge REV --ours, or --theirs",
    ),
    "notes": (
        "facts about a run are stored when it is committed",
        "Store one: persona commit RUN --meta KEY=VALUE. See them: persona show REV",
    ),
    "pack-refs": ("refs are few and stay in files of their own", "Tidy the repository: persona gc"),
    "prune": ("'gc' deletes what nothing refers to", "See what it would delete: persona gc --dry-run"),
    "pull": ("a repository has no remotes yet", "Merge a branch of this repository: persona merge REV"),
    "push": (
        "a repository has no remotes yet",
        "Write the model to share it: persona build -o OUT. Write an adapter: persona build -o OUT --as-adapter",
    ),
    "range-diff": ("two revisions are compared, not two series", "Compare them: persona diff A B"),
    "rebase": (
        "history is not replayed, so that the ids of commits in builds and receipts stay true",
        "Join two branches: persona merge REV. Take one change: persona cherry-pick REV",
    ),
    "reflog": (
        "the operation log has every earlier position of HEAD, branches and tags",
        "See it: persona op log. Go to an earlier position: persona checkout 'HEAD@{1}'",
    ),
    "remote": ("a repository has no remotes yet", "Its branches: persona branch. What it is based on: persona status"),
    "repack": ("'gc' joins small packs and rewrites those that are mostly unused", "Run it: persona gc"),
    "reset": (
        "nothing is reset: a change is taken back as a whole, and the file by itself",
        "Take back the last command: persona undo. Discard edits of persona.toml: persona restore. "
        "Move a branch: persona branch -f NAME REV",
    ),
    "rev-list": ("'log' lists commits", "List them: persona log --oneline REV. For a script: persona log --json REV"),
    "rev-parse": ("'show' finds the commit of a revision", "For a script: persona show REV --json"),
    "shortlog": ("commits are not counted by author", "See those of one author: persona log --author NAME"),
    "show-ref": ("branches and tags are listed by 'branch' and 'tag'", "List them: persona branch, persona tag"),
    "submodule": (
        "a repository has one base and does not contain others",
        "Take a vector from elsewhere: persona commit RUN --as NAME, or persona import-adapter PATH",
    ),
    "whatchanged": ("'log' shows what changed", "See it: persona log -p"),
    "worktree": (
        "a repository has one persona.toml; another revision is built without checking it out",
        "Build it: persona build REV -o OUT. Compare it: persona diff REV",
    ),
}  # fmt: skip
"""Why the word is no command, as one clause, and what to do instead."""


def explain(word: str) -> UsageError | None:
    """Return the error for a word of git; None if it is not one of ``WORDS``."""
    if word not in WORDS:
        return None
    why, instead = WORDS[word]
    return UsageError(f"persona has no '{word}': {why}", instead)
