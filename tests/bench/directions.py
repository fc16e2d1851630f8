"""Builds by methods over singular directions: of adapters, which are merged by their cores, and of full fine-tunes.

    python -m tests.bench.directions DIR [--rounds 3] [--before REVISION] [--full 90M] [--methods tsv_m,wudi]

Writes a base in the shapes of SmolLM2-135M and three adapters of rank 8 of all its linear layers into DIR. With
``--before``, the same builds by the code of an earlier revision of this repository, in turn. With ``--full``, three full
fine-tunes of that size (``tests.bench.checkpoints``), beside ``ties``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.bench import checkpoints
from tests.bench.measure import HEAD, Took, middle, row, run

HIDDEN, INTER, LAYERS, KEYS, VOCABULARY, RANK = 576, 1536, 30, 192, 49152, 8
METHODS = ("tsv_m", "iso_c", "svc", "wudi")
MODULES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (KEYS, HIDDEN), "self_attn.v_proj": (KEYS, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN), "mlp.gate_proj": (INTER, HIDDEN), "mlp.up_proj": (INTER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INTER),
}  # fmt: skip
NAMES = [(f"model.layers.{layer}.{module}", shape) for layer in range(LAYERS) for module, shape in MODULES.items()]


def main() -> None:
    """Print a table for adapters, and one for full fine-tunes if asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", metavar="REVISION", help="also build with the code of this revision")
    parser.add_argument("--full", choices=checkpoints.SIZES, help="also build full fine-tunes of this size")
    parser.add_argument("--methods", default=",".join(METHODS))
    args = parser.parse_args()
    folder, chosen = args.folder.absolute(), args.methods.split(",")
    codes = {"": Path.cwd()} | ({f", {args.before}": archive(args.before, folder)} if args.before else {})
    write_adapters(folder / "thin")
    repo = repository(folder / "thin", [f"lora{n}" for n in range(3)])
    known = {f"{method}{name}": (method, code) for method in chosen for name, code in codes.items()}
    if args.before:
        earlier = (codes[f", {args.before}"] / "persona/methods").glob("*.py")
        names = {path.stem for path in earlier}
        known = {name: one for name, one in known.items() if one[1] == Path.cwd() or one[0] in names}
    table("three adapters of rank 8", repo, {"linear": ("linear", Path.cwd()), **known}, args.rounds)
    if args.full:
        checkpoints.make(folder / args.full, args.full)
        repo = repository(folder / args.full, ["ft0", "ft1", "ft2"])
        every = {name: (name, Path.cwd()) for name in ("ties", *chosen)}
        table(f"three full fine-tunes, {args.full}", repo, every, args.rounds)


def archive(revision: str, folder: Path) -> Path:
    """Unpack the code of a revision."""
    place = folder / "before"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    packed = subprocess.run(["git", "archive", revision, "persona"], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", place], input=packed, check=True)
    return place


def persona(code: Path, *arguments: object) -> list[str]:
    """A command of persona, by this code."""
    return ["env", f"PYTHONPATH={code}", sys.executable, "-m", "persona", *map(str, arguments)]


def write_adapters(folder: Path) -> None:
    """Write base and adapters, unless they are there."""
    if (folder / "lora2" / "adapter_config.json").exists():
        return
    rng = torch.Generator().manual_seed(0)
    base = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN), "model.norm.weight": (HIDDEN,)}
    base |= {f"{name}.weight": shape for name, shape in NAMES}
    for layer in range(LAYERS):
        base |= {f"model.layers.{layer}.{norm}_layernorm.weight": (HIDDEN,) for norm in ("input", "post_attention")}
    (folder / "base").mkdir(parents=True, exist_ok=True)
    weights = {name: (torch.randn(shape, generator=rng) * 0.02).bfloat16() for name, shape in base.items()}
    save_file(weights, folder / "base" / "model.safetensors", {"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": INTER,
        "num_hidden_layers": LAYERS, "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": VOCABULARY,
        "tie_word_embeddings": True,
    }  # fmt: skip
    (folder / "base" / "config.json").write_text(json.dumps(config))
    said = {"peft_type": "LORA", "r": RANK, "lora_alpha": 16, "bias": "none"}
    said |= {"target_modules": [module.split(".")[1] for module in MODULES]}
    for number in range(3):
        place, factors = folder / f"lora{number}", {}
        place.mkdir()
        for name, (rows, columns) in NAMES:
            key = f"base_model.model.{name}"
            factors[f"{key}.lora_A.weight"] = torch.randn(RANK, columns, generator=rng) * 0.02
            factors[f"{key}.lora_B.weight"] = torch.randn(rows, RANK, generator=rng) * 0.002
        save_file(factors, place / "adapter_model.safetensors")
        (place / "adapter_config.json").write_text(json.dumps(said))


def repository(folder: Path, vectors: list[str]) -> Path:
    """Commit the vectors at alpha 1."""
    place = folder / "repo"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    run(persona(Path.cwd(), "init", "--base", folder / "base"), place)
    for vector in vectors:
        run(persona(Path.cwd(), "commit", folder / vector, "--as", vector), place)
    return place


def table(title: str, repo: Path, contestants: dict[str, tuple[str, Path]], rounds: int) -> None:
    """One uncounted turn each unless there is only one, then as many as asked for, A B A B …"""
    took: dict[str, list[Took]] = {name: [] for name in contestants}
    for turn in range(rounds + (rounds > 1)):
        for name, (method, code) in contestants.items():
            recipe, out = repo / "persona.toml", repo.parent / "out"
            recipe.write_text(recipe.read_text().split("\n[merge]")[0] + f'\n[merge]\nmethod = "{method}"\n')
            shutil.rmtree(out, ignore_errors=True)
            os.sync()
            one = run(persona(code, "build", "-o", out), repo)
            took[name] += [one] if turn or rounds == 1 else []
    print(f"\n**{title}**, median of {rounds}\n\n{HEAD}")
    for name, runs in took.items():
        print(row(name, middle(runs)), flush=True)


if __name__ == "__main__":
    main()
