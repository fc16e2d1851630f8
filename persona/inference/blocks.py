"""Where a model's blocks are, found by structure, and the residual stream in what a block returns.

A causal language model of d layers has one list of d blocks of one kind, whatever its modules are called: ``model.layers``
(Llama, Qwen, Gemma …), ``transformer.h`` (GPT-2), ``gpt_neox.layers``, ``model.decoder.layers`` (OPT). Layer i is block i,
counted from 0, and its residual stream is what the block returns: the sum after its last addition. The last entry of
transformers' ``hidden_states`` is that of the last block *after the final norm*, and is not used here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from persona.errors import UsageError

if TYPE_CHECKING:
    import torch

Module = Any  # torch.nn.Module; torch is loaded only where a model is


@dataclass(frozen=True)
class Blocks:
    """The list of blocks, and where in the model it is."""

    path: str
    modules: Sequence[Module]
    hidden: int

    def __len__(self) -> int:
        return len(self.modules)

    def __getitem__(self, layer: int) -> Module:
        return self.modules[layer]

    def checked(self, layers: Sequence[int]) -> tuple[int, ...]:
        """``layers``, ascending, if the model has all of them."""
        wrong = [layer for layer in layers if not 0 <= layer < len(self)]
        if wrong:
            raise UsageError(
                f"the model has no layer {', '.join(map(str, wrong[:8]))}{', …' if len(wrong) > 8 else ''}",
                f"Its {len(self)} blocks are layers 0 to {len(self) - 1} ({self.path}).",
            )
        return tuple(sorted(set(layers)))


def find_blocks(model: Module, path: str | None = None) -> Blocks:
    """The model's blocks: at ``path`` (``model.layers``) if given, else the one list that can be they."""
    lists = dict(_lists(model))
    depth = getattr(_text_config(model), "num_hidden_layers", None)
    if path is not None:
        if path not in lists:
            raise UsageError(f"the model has no list of blocks at '{path}'", _hint(lists))
        return _blocks(model, path, lists[path])
    fitting = {name: found for name, found in lists.items() if len(found) == depth} or lists
    outer = {n: f for n, f in fitting.items() if not any(n.startswith(f"{o}.") for o in fitting if o != n)}
    if len(outer) != 1:
        what = "no list" if not outer else f"{len(outer)} lists ({', '.join(outer)})"
        raise UsageError(
            f"{type(model).__name__} has {what} of blocks that {'could be its' if outer else 'looks like its'} layers",
            f"Say which: --blocks PATH. {_hint(lists)}",
        )
    ((name, found),) = outer.items()
    return _blocks(model, name, found)


def _blocks(model: Module, path: str, found: Sequence[Module]) -> Blocks:
    hidden = getattr(_text_config(model), "hidden_size", None)
    return Blocks(path, found, int(hidden) if hidden else int(model.get_input_embeddings().weight.shape[1]))


def _lists(model: Module) -> Iterator[tuple[str, Sequence[Module]]]:
    """Lists of modules that have weights: blocks, and what else comes in lists, such as experts."""
    from torch.nn import ModuleList

    for name, module in model.named_modules():
        if isinstance(module, ModuleList) and len(module) and any(True for _ in module[0].parameters()):
            yield name, cast("Sequence[Module]", module)


def _hint(lists: dict[str, Sequence[Module]]) -> str:
    return f"It has lists of modules at: {', '.join(lists)}." if lists else "It has no list of modules at all."


def _text_config(model: Module) -> Any:
    config: Any = getattr(model, "config", None)
    return config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config


def stream_of(output: Any) -> torch.Tensor:
    """The residual stream [batch, tokens, hidden] in what a block returns: itself, or the first of a tuple."""
    stream: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return stream


def with_stream(output: Any, stream: torch.Tensor) -> Any:
    """What a block returns, with another residual stream in it."""
    return (stream, *output[1:]) if isinstance(output, tuple) else stream
