"""Finding a model's blocks by structure, and the residual stream in a block's output.

A causal language model with d layers has one list of d similar blocks, whatever its name: ``model.layers`` (Llama,
Qwen, Gemma …), ``transformer.h`` (GPT-2), ``gpt_neox.layers``, ``model.decoder.layers`` (OPT). Layer i is block i,
counted from 0, and its residual stream is the block's output, after its last addition. The last entry of transformers'
``hidden_states`` is not used here, because it comes after the final norm.
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
    """A model's list of blocks, its path in the model, and the hidden size."""

    path: str
    modules: Sequence[Module]
    hidden: int

    def __len__(self) -> int:
        return len(self.modules)

    def __getitem__(self, layer: int) -> Module:
        return self.modules[layer]

    def checked(self, layers: Sequence[int]) -> tuple[int, ...]:
        """Sort ``layers`` and check that the model has them.

        Raises:
            UsageError: it does not have one of them.
        """
        wrong = [layer for layer in layers if not 0 <= layer < len(self)]
        if wrong:
            raise UsageError(
                f"the model has no layer {', '.join(map(str, wrong[:8]))}{', …' if len(wrong) > 8 else ''}",
                f"Its {len(self)} blocks are layers 0 to {len(self) - 1} ({self.path}).",
            )
        return tuple(sorted(set(layers)))


def find_blocks(model: Module, path: str | None = None) -> Blocks:
    """Find the model's blocks.

    Args:
        model: A causal language model.
        path: Where they are, such as ``model.layers``. By default, the list that has as many modules as
            the model has layers.

    Raises:
        UsageError: there is no list at ``path``, or not exactly one candidate.
    """
    lists = dict(_lists(model))
    depth = getattr(_text_config(model), "num_hidden_layers", None)
    if path is not None:
        if path not in lists:
            raise UsageError(f"the model has no list of blocks at '{path}'", _hint(lists))
        return _blocks(model, path, lists[path])
    fitting = {name: modules for name, modules in lists.items() if len(modules) == depth} or lists
    outer = {n: f for n, f in fitting.items() if not any(n.startswith(f"{o}.") for o in fitting if o != n)}
    if len(outer) != 1:
        what = "no list" if not outer else f"{len(outer)} lists ({', '.join(outer)})"
        raise UsageError(
            f"{type(model).__name__} has {what} of blocks that could be its layers",
            f"Choose one with --blocks PATH. {_hint(lists)}",
        )
    ((name, modules),) = outer.items()
    return _blocks(model, name, modules)


def _blocks(model: Module, path: str, modules: Sequence[Module]) -> Blocks:
    hidden = getattr(_text_config(model), "hidden_size", None)
    return Blocks(path, modules, int(hidden) if hidden else int(model.get_input_embeddings().weight.shape[1]))


def _lists(model: Module) -> Iterator[tuple[str, Sequence[Module]]]:
    """Lists of modules that have weights: blocks, and others such as experts."""
    from torch.nn import ModuleList

    for name, module in model.named_modules():
        if isinstance(module, ModuleList) and len(module) and any(True for _ in module[0].parameters()):
            yield name, cast("Sequence[Module]", module)


def _hint(lists: dict[str, Sequence[Module]]) -> str:
    return f"It has lists of modules at: {', '.join(lists)}." if lists else "It has no list of modules."


def _text_config(model: Module) -> Any:
    config: Any = getattr(model, "config", None)
    return config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config


def stream_of(output: Any) -> torch.Tensor:
    """The residual stream [batch, tokens, hidden] in a block's output: the output itself, or the first of a tuple."""
    stream: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return stream


def with_stream(output: Any, stream: torch.Tensor) -> Any:
    """A block's output with its residual stream replaced."""
    return (stream, *output[1:]) if isinstance(output, tuple) else stream
