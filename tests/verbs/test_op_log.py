"""``op log``: the operations, and which of them are undone."""

from __future__ import annotations

import persona


def test_the_log_says_what_is_undone(added: persona.Repository) -> None:
    persona.alpha(added, {"a": 0.5}, command="alpha a=0.5")
    persona.undo(added, command="undo")
    shown = [(one.command, one.undone) for one in persona.op_log(added)]
    assert shown == [("undo", False), ("alpha a=0.5", True), ("commit runs/a", False), ("init", False)]
    persona.redo(added, command="redo")
    assert not any(one.undone for one in persona.op_log(added))
    assert len(persona.op_log(added, limit=2)) == 2


def test_an_operation_has_the_refs_that_it_moved(added: persona.Repository) -> None:
    (newest, first) = persona.op_log(added)
    assert dict(newest.refs) == {"refs/heads/main": (added.resolve("HEAD~1"), added.head())}
    assert set(first.refs) == {"HEAD", "refs/heads/main"}
    assert (newest.undoes, newest.redoes) == (None, None)
    undone = persona.undo(added)
    assert persona.op_log(added, limit=1)[0].undoes == newest.operation
    assert undone.command == newest.command
