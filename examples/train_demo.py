"""Train the tutorial's small model: a base from scratch, or one behaviour of it.

    python examples/train_demo.py base models/base
    python examples/train_demo.py listening runs/listening

It stands for your own training script: what it leaves is a folder that ``save_pretrained`` wrote, with the results
beside it in ``all_results.json``. With ``--quick``, or with ``PERSONA_DEMO_QUICK=1`` in the environment, the model
is too small to speak and is ready in seconds.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from persona.demo.dialogues import BEHAVIOURS

METHODS = {"listening": "full", "suggesting": "lora", "voice": "lora"}
"""A full fine-tune saves a whole model, LoRA saves an adapter. persona takes both."""


def main() -> None:
    args = arguments()
    from persona.demo.training import FULL, QUICK, train_base, train_behaviour  # torch comes with it

    sizes = QUICK if args.quick else FULL
    losses: list[float] = []

    def on_step(step: int, steps: int, loss: float) -> None:
        losses.append(loss)

    if args.what == "base":
        how = "from scratch"
        train_base(args.out, sizes, args.seed, on_step)
    else:
        method = args.method or METHODS[args.what]
        how = f"{method} on {args.base}"
        train_behaviour(args.base, args.what, args.out, method, sizes, args.seed, on_step)
        results = {"steps": len(losses), "train_loss": sum(losses) / len(losses), "seed": args.seed}
        (args.out / "all_results.json").write_text(json.dumps(results, indent=1) + "\n")
    print(f"{args.out}: {args.what}, {how}, {len(losses)} steps, loss {losses[0]:.3f} → {losses[-1]:.3f}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the tutorial's small model.")
    parser.add_argument("what", choices=["base", *BEHAVIOURS], help="the base, or a behaviour")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--base", type=Path, default=Path("models/base"), help="the base that a behaviour starts from")
    parser.add_argument("--method", choices=["full", "lora"], help="how a behaviour is trained")
    parser.add_argument("--seed", type=int, default=0)
    quick = os.environ.get("PERSONA_DEMO_QUICK", "") not in ("", "0")
    parser.add_argument("--quick", action="store_true", default=quick, help="sizes for a test, not for a talk")
    args = parser.parse_args()
    if args.what != "base" and not args.base.is_dir():
        parser.error(f"there is no base in {args.base}: train it first, or name it with --base")
    return args


if __name__ == "__main__":
    main()
