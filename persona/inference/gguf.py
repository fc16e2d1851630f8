"""Loading GGUF files as transformers does: every weight dequantized to fp32."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona import files
from persona.errors import CheckpointError
from persona.inference.load import quiet

if TYPE_CHECKING:
    import torch


def load_gguf(file: Path) -> tuple[dict[str, torch.Tensor], dict[str, bytes]]:
    """The weights, by their names in transformers, and the configuration and tokenizer files.

    Raises:
        CheckpointError: the gguf package is missing, or transformers cannot load the file.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import is_gguf_available

    if not is_gguf_available():
        raise CheckpointError(f"{file} is a GGUF file, which needs the gguf package", "Install it: pip install gguf")
    try:
        with quiet(), redirect_stderr(io.StringIO()), files.temporary_folder() as place:  # which has a progress bar
            model, loading = AutoModelForCausalLM.from_pretrained(
                file.parent,
                gguf_file=file.name,
                dtype=torch.float32,
                local_files_only=True,
                output_loading_info=True,
            )
            _check_complete(file, loading)
            if hasattr(model.config, "quantization_config"):
                del model.config.quantization_config  # it says that the weights are in the GGUF file
            model.config.architectures = [type(model).__name__]
            model.config.save_pretrained(place)
            if model.generation_config is not None:
                model.generation_config.save_pretrained(place)
            AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True).save_pretrained(
                place
            )
            small = {path.name: path.read_bytes() for path in sorted(place.iterdir())}
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{file} cannot be loaded: {_first_line(error)}", _HINT) from error
    except Exception as error:  # transformers raises whatever its code for an architecture meets
        raise CheckpointError(f"{file}: transformers cannot load it: {_first_line(error)}", _HINT) from error
    tensors: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen:  # a tied head is saved once
            tensors[name] = tensor
        seen.add(tensor.data_ptr())
    return tensors, small


def _check_complete(file: Path, loading: Mapping[str, Any]) -> None:
    """Raise if transformers found no values in the file for a weight, and made some up."""
    absent = sorted(map(str, loading.get("missing_keys", ())))
    if absent:
        some = ", ".join(absent[:3]) + (f" and {len(absent) - 3} others" if len(absent) > 3 else "")
        raise CheckpointError(f"{file} has no values for {some}", _HINT)


_HINT = "Use the checkpoint that the GGUF file was made from: its weights are not quantized."


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
