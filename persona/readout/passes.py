"""Follow the forward passes of a model that other code runs: the position of each in its sequence, and its real tokens.

A pass is one call of the module that owns the blocks. Under `generate`, the first pass reads the prompt and each later
one reads one more token: alone with a key-value cache, or with all previous tokens without one. Any other pass counts as
a prompt.
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
    """One forward pass.

    Its tokens start at column `start` of the sequence, whose first `prompt` tokens were not generated. `mask`
    [batch, tokens] is true at real tokens, or None if the model got no mask; `ids` are token ids, or None if the model
    got embeddings.
    """

    start: int
    prompt: int
    mask: torch.Tensor | None
    ids: torch.Tensor | None


class Passes:
    """Follows a model's passes; `now` is the running one, or None."""

    def __init__(self, owner: Any, on_end: Callable[[Pass], None] | None) -> None:
        self._signature = inspect.signature(owner.forward)
        self._on_end = on_end
        self._first: torch.Tensor | None = None
        self._tokens = 0
        self._prompt = 0
        self.now: Pass | None = None

    def begin(self, _owner: Any, args: Any, kwargs: Any) -> None:
        """Run as a hook before each pass."""
        import torch

        if torch.compiler.is_compiling():
            raise UsageError(*COMPILED)
        inputs: dict[str, Any] = {**self._signature.bind_partial(*args).arguments, **kwargs}
        ids, embeddings = inputs.get("input_ids"), inputs.get("inputs_embeds")
        tokens = (embeddings if ids is None else ids).shape[1]  # type: ignore[union-attr]
        start = _length(inputs.get("past_key_values"))
        self._follow(ids, start, tokens)
        self.now = Pass(start, self._prompt, _mask(inputs.get("attention_mask"), tokens), ids)

    def end(self, _owner: Any, _args: Any, _output: Any) -> None:
        """Run as a hook after each pass, even if it raised."""
        ended, self.now = self.now, None
        if ended is not None and self._on_end is not None:
            self._on_end(ended)

    def _follow(self, ids: torch.Tensor | None, start: int, tokens: int) -> None:
        """Update the end of the prompt, unless this pass continues the previous sequence."""
        continues = self._grows(ids, tokens) if start == 0 else tokens == 1
        if not continues:
            self._first, self._prompt = ids, start + tokens
        self._tokens = start + tokens

    def _grows(self, ids: torch.Tensor | None, tokens: int) -> bool:
        """Whether this is the previous pass with one more token, as `generate` does without a cache."""
        import torch

        if ids is None or self._first is None or tokens != self._tokens + 1 or len(ids) != len(self._first):
            return False
        return torch.equal(ids[:, : self._first.shape[1]], self._first)


COMPILED = (
    "the model is compiled, and compiled code does not run hooks",
    "Pass the model before torch.compile; to generate with a static cache, set disable_compile=True.",
)


def _length(cache: Any) -> int:
    """Number of tokens in a key-value cache."""
    if cache is None:
        return 0
    if hasattr(cache, "get_seq_length"):
        return int(cache.get_seq_length())
    return int(cache[0][0].shape[-2]) if len(cache) else 0


def _mask(given: Any, tokens: int) -> torch.Tensor | None:
    """The padding mask of the pass's tokens; None if the model got a 4-D attention mask or none."""
    dim = getattr(given, "dim", None)
    return given[:, -tokens:].bool() if dim is not None and dim() == 2 else None


@contextmanager
def following(
    model: Any, blocks: Blocks, hook: Callable[[int, Passes], Hook], layers: Sequence[int],
    *, first: bool, on_end: Callable[[Pass], None] | None = None,
) -> Iterator[Passes]:  # fmt: skip
    """Hook some blocks until the block ends.

    Args:
        blocks: The model's blocks.
        hook: Called with a layer and the `Passes`; returns the hook for that layer.
        layers: 0-based block indices.
        first: Run before existing hooks: hooks that change a stream must run before those that read it.
        on_end: Called after each pass.
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
    """Find the blocks of a model and check that the readout fits it.

    Args:
        path: Where the list of blocks is in the model, such as "model.layers"; None to find it.

    Raises:
        UsageError: the model is compiled, has no blocks that can be found, or differs in depth or width.
    """
    refuse_compiled(model)
    blocks = find_blocks(model, path)
    blocks.checked(readout.layers)
    if readout.hidden != blocks.hidden:
        raise UsageError(
            f"the readout is {readout.hidden} wide, but the model's residual stream is {blocks.hidden} wide",
            "Use a readout with the base it was trained on, or a model made from that base.",
        )
    return blocks


def refuse_compiled(model: Any) -> None:
    """Raise UsageError if a part of the model is compiled, because its hooks would silently not run."""
    for module in model.modules():
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
            raise UsageError(*COMPILED)


def readout_for(model: Any, spec: Readout | Path | str | None) -> Readout:
    """Find a readout for a model.

    Args:
        spec: A readout, its folder, its name in the model's folder, or None for the only one in the model's folder.

    Raises:
        UsageError: there is no such readout, or several.
    """
    if isinstance(spec, Readout):
        return spec
    if spec is not None and (isinstance(spec, Path) or is_readout(Path(spec))):
        return read_readout(Path(spec))
    beside = _beside(model)
    if spec is None and len(beside) == 1:
        return read_readout(beside[0])
    for folder in beside:
        if folder.name == spec:
            return read_readout(folder)
    names = ", ".join(f"'{folder.name}'" for folder in beside)
    hint = f"The model's folder has: {names}." if beside else "Pass a Readout, or the folder of one."
    raise UsageError("no readout given" if spec is None else f"no readout '{spec}'", hint)


def _beside(model: Any) -> Sequence[Path]:
    """Readouts in the folder that the model was loaded from, up to two levels deep."""
    place = getattr(getattr(model, "config", None), "_name_or_path", "")
    if not place or not Path(place).is_dir():
        return []
    folders = {path.parent for depth in ("", "*/", "*/*/") for path in Path(place).glob(f"{depth}{MANIFEST}")}
    return sorted(folder for folder in folders if is_readout(folder))
