"""The forward passes of a model that somebody else runs: where in a sequence each stands, and which tokens are real.

A pass is one call of the module that owns the blocks. Under ``generate`` the first pass reads the prompt, and each later
one a token more: alone, where keys and values are kept, or all of it again where they are not. Any other pass is a prompt.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona.errors import UsageError
from persona.inference.blocks import Blocks, find_blocks
from persona.readout.folder import MANIFEST, is_readout, read_readout
from persona.readout.model import Readout

if TYPE_CHECKING:
    import torch

Hook = Callable[[Any, Any, Any], Any]


@dataclass(frozen=True)
class Pass:
    """One forward pass: its tokens are columns ``start`` and following of its sequence, whose first ``prompt`` were
    not generated.

    ``mask`` [batch, tokens] is true at real tokens, None where nothing was said of padding; ``ids`` are token ids, None
    where embeddings were given.
    """

    start: int
    prompt: int
    mask: torch.Tensor | None
    ids: torch.Tensor | None


class Passes:
    """Follows a model's passes; ``now`` is the one that is running, None between them."""

    def __init__(self, owner: Any, on_end: Callable[[Pass], None] | None) -> None:
        self._signature = inspect.signature(owner.forward)
        self._on_end = on_end
        self._first: torch.Tensor | None = None
        self._tokens = 0
        self._prompt = 0
        self.now: Pass | None = None

    def begin(self, _owner: Any, args: Any, kwargs: Any) -> None:
        """Hook before a pass."""
        import torch

        if torch.compiler.is_compiling():
            raise UsageError(*COMPILED)
        said: dict[str, Any] = {**self._signature.bind_partial(*args).arguments, **kwargs}
        ids, embeddings = said.get("input_ids"), said.get("inputs_embeds")
        tokens = (embeddings if ids is None else ids).shape[1]  # type: ignore[union-attr]
        start = _length(said.get("past_key_values"))
        self._follow(ids, start, tokens)
        self.now = Pass(start, self._prompt, _mask(said.get("attention_mask"), tokens), ids)

    def end(self, _owner: Any, _args: Any, _output: Any) -> None:
        """Hook after a pass, also one that raised."""
        ended, self.now = self.now, None
        if ended is not None and self._on_end is not None:
            self._on_end(ended)

    def _follow(self, ids: torch.Tensor | None, start: int, tokens: int) -> None:
        """Whether this pass continues the sequence of the one before, and so where its prompt ends."""
        continues = self._grows(ids, tokens) if start == 0 else tokens == 1
        if not continues:
            self._first, self._prompt = ids, start + tokens
        self._tokens = start + tokens

    def _grows(self, ids: torch.Tensor | None, tokens: int) -> bool:
        """Whether it is the pass before with one token more, as ``generate`` makes it without a cache."""
        import torch

        if ids is None or self._first is None or tokens != self._tokens + 1 or len(ids) != len(self._first):
            return False
        return torch.equal(ids[:, : self._first.shape[1]], self._first)


COMPILED = (
    "the model is compiled, and compiled code does not run hooks",
    "Give the model as it was before torch.compile; to generate with a static cache, say disable_compile=True.",
)


def _length(cache: Any) -> int:
    """How many tokens a cache of keys and values holds."""
    if cache is None:
        return 0
    if hasattr(cache, "get_seq_length"):
        return int(cache.get_seq_length())
    return int(cache[0][0].shape[-2]) if len(cache) else 0


def _mask(said: Any, tokens: int) -> torch.Tensor | None:
    """The mask of the tokens of this pass, where it is one of tokens: those of attention are of no use here."""
    dim = getattr(said, "dim", None)
    return said[:, -tokens:].bool() if dim is not None and dim() == 2 else None


@contextmanager
def following(
    model: Any, blocks: Blocks, hook: Callable[[int, Passes], Hook], layers: Sequence[int],
    *, first: bool, on_end: Callable[[Pass], None] | None = None,
) -> Iterator[Passes]:  # fmt: skip
    """A hook on each of some blocks, for a while; they go whatever happens.

    ``first`` puts them before the hooks that are there: who changes a stream comes before those who read it.
    """
    owner = model.get_submodule(blocks.path.rpartition(".")[0])
    passes = Passes(owner, on_end)
    handles = []
    try:
        handles.append(owner.register_forward_pre_hook(passes.begin, with_kwargs=True, prepend=True))
        handles.append(owner.register_forward_hook(passes.end, always_call=True))
        for layer in layers:
            handles.append(blocks[layer].register_forward_hook(hook(layer, passes), prepend=first))
        yield passes
    finally:
        for handle in handles:
            handle.remove()


def fitting(model: Any, readout: Readout, path: str | None) -> Blocks:
    """The model's blocks, if it can be hooked, has the readout's layers, and its stream is as wide."""
    refuse_compiled(model)
    blocks = find_blocks(model, path)
    blocks.checked(readout.layers)
    if readout.hidden != blocks.hidden:
        raise UsageError(
            f"the readout is {readout.hidden} wide, and the model's residual stream is {blocks.hidden}",
            "A readout fits the base that it was trained on, and what was made of it.",
        )
    return blocks


def refuse_compiled(model: Any) -> None:
    """Raise if a part of the model was compiled: its hooks would be passed over in silence."""
    for module in model.modules():
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
            raise UsageError(*COMPILED)


def readout_for(model: Any, said: Readout | Path | str | None) -> Readout:
    """A readout itself, that of a folder, or (None, or its name) one that lies beside the weights of the model."""
    if isinstance(said, Readout):
        return said
    if said is not None and (isinstance(said, Path) or is_readout(Path(said))):
        return read_readout(Path(said))
    beside = _beside(model)
    if said is None and len(beside) == 1:
        return read_readout(beside[0])
    for folder in beside:
        if folder.name == said:
            return read_readout(folder)
    names = ", ".join(f"'{folder.name}'" for folder in beside)
    there = f"Beside the model there is: {names}." if beside else "Give a Readout, or the folder of one."
    raise UsageError("which readout?" if said is None else f"there is no readout '{said}'", there)


def _beside(model: Any) -> Sequence[Path]:
    """Folders of readouts in the folder that the model was loaded from, or one level below."""
    place = getattr(getattr(model, "config", None), "_name_or_path", "")
    if not place or not Path(place).is_dir():
        return []
    found = {path.parent for depth in ("", "*/", "*/*/") for path in Path(place).glob(f"{depth}{MANIFEST}")}
    return sorted(folder for folder in found if is_readout(folder))
