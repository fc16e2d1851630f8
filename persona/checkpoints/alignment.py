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

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from persona.checkpoints.folder import Checkpoint
from persona.checkpoints.tensorfile import CHUNK, TensorInfo, TensorSource
from persona.checkpoints.wrappers import OUTERMOST, unwrapped
from persona.errors import CheckpointError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from persona.checkpoints.conversions import Group
    from persona.checkpoints.modules import Modules

    Shape = tuple[int, ...]
    Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Computed:
    """A tensor that is made of tensors of a checkpoint when it is read."""

    path: Path
    make: Callable[[], Bytes] = field(repr=False)

    def read(self, info: TensorInfo, start: int, stop: int, out: Bytes | None = None) -> Bytes:
        """The tensor's plain bytes from start to stop."""
        return self.make()[start:stop]

    def data(self, info: TensorInfo) -> Bytes:
        """All of the tensor's plain bytes."""
        return self.make()

    def chunks(self, info: TensorInfo) -> Iterator[Bytes]:
        """The tensor's plain bytes in pieces of at most ``CHUNK``."""
        data = self.make()
        for start in range(0, len(data), CHUNK):
            yield data[start : start + CHUNK]

    def lazy(self, info: TensorInfo) -> Bytes:
        """All of the tensor's plain bytes."""
        return self.make()

    def held(self, info: TensorInfo) -> Computed:
        """The same with its bytes in memory."""
        data = self.make()
        return Computed(self.path, lambda: data)


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


def same_but_rows(shape: Shape, wanted: Shape) -> bool:
    """Whether two shapes agree up to the number of rows (tokens), which are the columns of a matrix with one row."""
    if len(shape) == len(wanted) == 2 and shape[0] == wanted[0] == 1:
        return True
    return shape == wanted or (len(shape) == len(wanted) in (1, 2) and shape[1:] == wanted[1:])


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
            for end in (name, *_ends(name)):
                ends.setdefault(end, []).append(name)
    found: dict[str, str] = {}
    for old, shape in left.items():
        plain = _plain(old, known)
        fits = {new for new in ends.get(plain, ()) if same_but_rows(shape, known[new])}
        fits |= {end for end in _ends(plain) if end in known and end not in taken and same_but_rows(shape, known[end])}
        if len(fits) == 1:
            found[old] = fits.pop()
    doubtful = _twice(found.values())
    return {old: new for old, new in found.items() if new not in doubtful}


def _ends(name: str) -> Iterator[str]:
    """``name`` without one, two, … leading parts; a module and its tensor remain, and no layer number goes."""
    parts = name.split(".")
    for at in range(1, len(parts) - 1):
        if parts[at - 1].isdigit():
            return
        if not parts[at].isdigit():
            yield ".".join(parts[at:])


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
    used, latest = set[str](), _Latest()
    for group in targets:
        missing = [file for file in group.files if file not in checkpoint.infos]
        parts = [sources.get(name) for name in group.parameters]
        if not missing or any(part is None for part in parts):
            continue
        of = tuple(dict.fromkeys(part for part in parts if part is not None))
        conversion = _Conversion(checkpoint, group, of, latest)
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


class _Latest:
    """What the latest conversion made, which several tensors are taken from one after the other."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._conversion: _Conversion | None = None
        self._made: dict[str, torch.Tensor] = {}

    def of(self, conversion: _Conversion) -> dict[str, torch.Tensor]:
        """What a conversion makes."""
        with self._lock:
            if conversion is not self._conversion:
                self._conversion, self._made = None, {}  # before the next one takes memory
                self._made = conversion.convert()
                self._conversion = conversion
            return self._made


class _Conversion:
    """Tensors of a base that are made of a run's, by way of the loaded model's parameters."""

    def __init__(self, checkpoint: Checkpoint, target: Group, sources: tuple[Group, ...], latest: _Latest) -> None:
        self.checkpoint, self.target, self.sources, self._latest = checkpoint, target, sources, latest
        self.used = {file for source in sources for file in source.files}

    def tensors(self, base: Mapping[str, Shape]) -> dict[str, tuple[TensorInfo, TensorSource]]:
        """The base's tensors of this group; none if the run's do not convert to the base's shapes."""
        infos = [self.checkpoint.infos[name] for name in self.used]
        dtypes = {info.dtype for info in infos}
        try:
            shapes = {name: tuple(tensor.shape) for name, tensor in self._through(self._empty).items()}
        except ValueError:
            return {}
        if len(dtypes) != 1 or any(not same_but_rows(shapes.get(name, ()), base[name]) for name in self.target.files):
            return {}
        if self._plain:
            return self._as_stored()
        dtype, path = dtypes.pop(), self.checkpoint.owner[infos[0].name].path
        size = sum(info.nbytes for info in infos) // max(1, sum(_count(s) for s in shapes.values()))
        made: dict[str, tuple[TensorInfo, TensorSource]] = {}
        for name in self.target.files:
            info = TensorInfo(name, dtype, shapes[name], 0, _count(shapes[name]) * size)
            made[name] = (info, Computed(path, partial(self._bytes, name)))
        return made

    @property
    def _plain(self) -> bool:
        """Whether one tensor is only renamed."""
        return self.target.converter is None and all(source.converter is None for source in self.sources)

    def _as_stored(self) -> dict[str, tuple[TensorInfo, TensorSource]]:
        (old,), (new,) = self.sources[0].files, self.target.files
        return {new: (replace(self.checkpoint.infos[old], name=new), self.checkpoint.owner[old])}

    def _bytes(self, name: str) -> Bytes:
        import torch

        data: Bytes = self._latest.of(self)[name].contiguous().reshape(-1).view(torch.uint8).numpy()
        return data

    def convert(self) -> dict[str, torch.Tensor]:
        """The base's tensors of this group."""
        return self._through(self._read)

    def _through(self, read: Callable[[str], torch.Tensor]) -> dict[str, torch.Tensor]:
        parameters: dict[str, torch.Tensor] = {}
        for source in self.sources:
            parameters |= source.convert({name: read(name) for name in source.files})
        return self.target.revert({name: parameters[name] for name in self.target.parameters})

    def _empty(self, name: str) -> torch.Tensor:
        import torch

        return torch.empty(self.checkpoint.infos[name].shape, device="meta", dtype=torch.uint8)

    def _read(self, name: str) -> torch.Tensor:
        import numpy as np
        import torch

        info = self.checkpoint.infos[name]
        data = np.array(self.checkpoint.owner[name].data(info))
        dtype = getattr(torch, _TORCH[info.dtype])
        return torch.from_numpy(data).view(dtype).reshape(info.shape)


_TORCH = {
    "BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "U8": "uint8", "I8": "int8",
}  # fmt: skip


def _count(shape: Shape) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _says(text: str, names: Mapping[str, object]) -> str:
    return text.format(f"{len(names)} tensor{'s' if len(names) != 1 else ''}")
