"""Watch a model while it replies, and push it along a readout meanwhile.

    python examples/watch_and_steer.py models/base readouts/mood "I feel sad about the garden." --steer warmth=4 coldness=-2

Prints the reply as it is and as it is steered, with what each reads as in the model that is not steered, and a line for
each token of the steered one. Strengths are in standard deviations of the readout.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

import persona


def main() -> None:
    parser = argparse.ArgumentParser(description="Watch a model, and steer it.")
    parser.add_argument("model", help="the folder of a causal language model, such as persona build writes")
    parser.add_argument("readout", help="the folder of a readout")
    parser.add_argument("prompt")
    parser.add_argument("--steer", nargs="+", required=True, metavar="CONCEPT=STRENGTH")
    parser.add_argument("--layer", type=int, help="the one layer to steer at; all of the readout's otherwise")
    parser.add_argument("--max-tokens", type=int, default=40)
    args = parser.parse_args()
    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype="auto")
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    strengths = {name: float(alpha) for name, _, alpha in (one.partition("=") for one in args.steer)}
    try:
        readout = persona.readout.read_readout(args.readout)
        compare(model, tokenizer, readout, args.prompt, strengths, args.layer, args.max_tokens)
    except persona.PersonaError as error:
        sys.exit(f"{error.message}\n{error.hint}")


def compare(
    model: Any,
    tokenizer: Any,
    readout: persona.readout.Readout,
    prompt: str,
    strengths: dict[str, float],
    layer: int | None,
    most: int,
) -> None:
    inputs = asked(tokenizer, prompt)
    start = inputs["input_ids"].shape[1]
    layers = None if layer is None else [layer]

    plain = model.generate(**inputs, max_new_tokens=most, do_sample=False)
    with (
        persona.readout.steer(model, strengths, readout, layers=layers),
        persona.readout.watch(model, readout) as during,
    ):
        steered = model.generate(**inputs, max_new_tokens=most, do_sample=False)

    for what, out in (("as it is", plain), ("steered", steered)):
        with torch.inference_mode(), persona.readout.watch(model, readout) as r:
            model(out)  # once more, without steering: only what the text itself says
        means = r.whole("std")[readout.layers[-1]][0, start:].mean(0)
        read = ", ".join(f"{name} {value:+.2f}" for name, value in zip(r.concepts, means.tolist(), strict=True))
        print(f"{what}: {tokenizer.decode(out[0, start:], skip_special_tokens=True).strip()}\n    {read}")
    print(f"\nwhile it was steered, at layer {readout.layers[-1]}:\n{during.table(tokenizer, units='std')}")


def asked(tokenizer: Any, prompt: str) -> Any:
    if tokenizer.chat_template is None:
        return tokenizer(prompt, return_tensors="pt")
    turns = [{"role": "user", "content": prompt}]
    return tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True, return_tensors="pt")


if __name__ == "__main__":
    main()
