"""A run under the names of its base.

The same model can have other names in a run than in its base: a wrapper of the training library left its own
(:mod:`persona.checkpoints.wrappers`), the run was saved with or without the leading ``model.``, or transformers renamed
modules, and stacked the experts of a mixture in one tensor, when it loaded the base. Names that agree are never
touched. The others are tried in this order, and a tensor is only renamed if its shape fits:

1. without wrappers, which new tensors then lose as well;
2. with more or fewer leading parts, if exactly one of the base's remaining names fits;
3. by transformers: both files' tensors become parameters of the model, and the base's tensors are those that the
   parameters become when they are saved under the base's names. This imports transformers.

What is left is new in the run, or missing from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from persona.checkpoints.computed import Conversion, Latest, same_but_rows
from persona.checkpoints.folder import Checkpoint
from persona.checkpoints.tensorfile import TensorInfo, TensorSource
from persona.checkpoints.wrappers import OUTERMOST, unwrapped, without_leading
from persona.errors import CheckpointError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from persona.checkpoints.conversions import Group
    from persona.checkpoints.modules import Modules

    Shape = tuple[int, ...]
    Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Aligned:
    """A checkpoint under its base's names.

    Attributes:
        ignored: Tensors of the base that the run lacks because the model's class does not load them (``mtp.…``).
        notes: What was renamed or converted, in words.
    """

    checkpoint: Checkpoint
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def aligned(
    checkpoint: Checkpoint, base: Mapping[str, Shape], tied: Mapping[str, str], config: Mapping[str, Any]
) -> Aligned:
    """Bring a run under the names of its base.

    Args:
        base: Shapes of the base's tensors, by name.
        tied: Names that share one of them → its name.
        config: The base's ``config.json``.

    Raises:
        CheckpointError: two of the run's tensors have the same name in the base.
    """
    known = {**base, **{alias: base[name] for alias, name in tied.items() if name in base}}
    shapes = {name: info.shape for name, info in checkpoint.tensors.items()}
    names = _by_wrapper(shapes, known)
    names |= _by_prefix({old: shapes[old] for old in shapes if names.get(old, old) not in known}, known, names)
    if any(old != unwrapped(old) for old, new in names.items() if new in known and old not in known):
        names |= {old: _plain(old, known) for old in shapes if names.get(old, old) not in known}
    _swap_tied(names, shapes, base, tied)
    moved = {old: new for old, new in names.items() if old != new}
    checkpoint = _renamed(checkpoint, moved)
    notes = [_says("renamed {} to the base's names", moved)] if moved else []
    gone = [name for name in base if name not in checkpoint.infos]
    if not gone:
        return Aligned(checkpoint, (), tuple(notes))
    return _by_model(checkpoint, base, known, config, notes)


def _by_wrapper(shapes: Mapping[str, Shape], known: Mapping[str, Shape]) -> dict[str, str]:
    """Run names → names of the base that they are without wrappers."""
    plain = {name: name if name in known else _plain(name, known) for name in shapes}
    return {old: new for old, new in plain.items() if new in known}


def _plain(name: str, known: Mapping[str, Shape]) -> str:
    """``name`` without wrappers, and without those around inner modules if the base then has it."""
    outer = unwrapped(name)
    inner = ".".join(part for part in outer.split(".") if part != OUTERMOST)
    return inner if inner in known else outer


def _by_prefix(left: Mapping[str, Shape], known: Mapping[str, Shape], names: Mapping[str, str]) -> dict[str, str]:
    """Run names → the only remaining base name that has more or fewer leading parts."""
    taken = set(names.values())
    ends: dict[str, list[str]] = {}
    for name in known:
        if name not in taken:
            for end in (name, *without_leading(name)):
                ends.setdefault(end, []).append(name)
    found: dict[str, str] = {}
    for old, shape in left.items():
        plain = _plain(old, known)
        fits = {new for new in ends.get(plain, ()) if same_but_rows(shape, known[new])}
        fits |= {
            end
            for end in without_leading(plain)
            if end in known and end not in taken and same_but_rows(shape, known[end])
        }
        if len(fits) == 1:
            found[old] = fits.pop()
    doubtful = _twice(found.values())
    return {old: new for old, new in found.items() if new not in doubtful}


def _swap_tied(
    names: dict[str, str], shapes: Mapping[str, Shape], base: Mapping[str, Shape], tied: Mapping[str, str]
) -> None:
    """Give a shared tensor its name in the base where the run saved it under another of its names only."""
    owner = {names.get(old, old): old for old in shapes}
    for alias, name in tied.items():
        if alias in owner and name not in owner and name in base:
            old = owner.pop(alias)
            names[old] = name
            owner[name] = old


def _renamed(checkpoint: Checkpoint, names: Mapping[str, str]) -> Checkpoint:
    if not names:
        return checkpoint
    order = [(old, names.get(old, old)) for old in checkpoint.infos]
    if double := _twice(new for _, new in order):
        first, second = [old for old, new in order if new in double][:2]
        raise CheckpointError(
            f"{checkpoint.folder}: '{first}' and '{second}' are both the base's tensor '{names.get(first, first)}'",
            "Save the model without the wrapper, once: model.module.save_pretrained or unwrap_model(model).",
        )
    owner = {new: checkpoint.owner[old] for old, new in order}
    infos = {new: replace(checkpoint.infos[old], name=new) for old, new in order}
    return replace(checkpoint, owner=owner, infos=infos)


def _twice(names: Iterable[str]) -> set[str]:
    seen: set[str] = set()
    return {name for name in names if name in seen or seen.add(name)}  # type: ignore[func-returns-value]


def _by_model(
    checkpoint: Checkpoint,
    base: Mapping[str, Shape],
    known: Mapping[str, Shape],
    config: Mapping[str, Any],
    notes: list[str],
) -> Aligned:
    """Convert what is left by the renamings and conversions of transformers."""
    from persona.checkpoints.modules import Modules

    theirs, ours = Modules.of(config), Modules.of(checkpoint.config)
    theirs, ours = theirs or ours, ours or theirs
    if theirs is None or ours is None:
        return Aligned(checkpoint, (), tuple(notes))
    targets = theirs.groups(base)
    ignored = tuple(sorted({*base} - {file for group in targets for file in group.files}))
    sources: dict[str, Group] = {}
    if new := {name for name in checkpoint.infos if name not in known}:
        checkpoint = _renamed(checkpoint, _as_loaded(checkpoint, new, ours))
        groups = ours.groups({name: info.shape for name, info in checkpoint.infos.items()})
        sources = {name: group for group in groups for name in group.parameters}
    made: dict[str, tuple[TensorInfo, TensorSource]] = {}
    used, latest = set[str](), Latest()
    for group in targets:
        missing = [file for file in group.files if file not in checkpoint.infos]
        parts = [sources.get(name) for name in group.parameters]
        if not missing or any(part is None for part in parts):
            continue
        of = tuple(dict.fromkeys(part for part in parts if part is not None))
        conversion = Conversion(checkpoint, group, of, latest)
        made |= conversion.tensors(base)
        used |= conversion.used
    kept = {name: info for name, info in checkpoint.infos.items() if name not in used}
    owner = {name: checkpoint.owner[name] for name in kept} | {name: source for name, (_, source) in made.items()}
    infos = kept | {name: info for name, (info, _) in made.items()}
    if made:
        notes.append(_says("converted {} from the names of the loaded model", made))
    lacking = tuple(name for name in ignored if name not in infos)
    return Aligned(replace(checkpoint, owner=owner, infos=infos), lacking, tuple(notes))


def _as_loaded(checkpoint: Checkpoint, new: Set[str], ours: Modules) -> dict[str, str]:
    """Run names that transformers does not load → those that it does: without wrappers, with more or fewer leading parts."""
    plain = {old: _plain(old, ours.parameters) for old in sorted(new)}
    plain = {old: name for old, name in plain.items() if name != old and name not in checkpoint.infos}
    groups = ours.groups({plain.get(name, name): info.shape for name, info in checkpoint.infos.items()})
    loaded = {file for group in groups for file in group.files}
    names = plain if not loaded.isdisjoint(plain.values()) else {}
    left = {old: checkpoint.infos[old].shape for old in sorted(new) if names.get(old, old) not in loaded}
    found = {name for group in groups for name in group.parameters}
    return names | _by_prefix(left, {name: s for name, s in ours.parameters.items() if name not in found}, {})


def _says(text: str, names: Mapping[str, object]) -> str:
    return text.format(f"{len(names)} tensor{'s' if len(names) != 1 else ''}")
