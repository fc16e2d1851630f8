"""Run by a Python that has ``llama-cpp-python``, with nothing of persona: ``python ask_llama.py REQUEST ANSWER``.

REQUEST (JSON): ``model`` and perhaps ``lora``, GGUF files; ``prompts``, lists of tokens; ``count``, how many tokens to add;
perhaps ``push``, what to add to each layer but the first, as llama.cpp's own loader of control vectors lays it out.
ANSWER (JSON): ``version``, ``tokens`` of each reply, and ``logits`` after each prompt.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np


def answer(model: llama_cpp.Llama, prompt: list[int], count: int) -> tuple[list[int], list[float]]:
    model.reset()
    model.eval(prompt)
    first = logits = np.array(model.scores[model.n_tokens - 1])
    tokens: list[int] = []
    while len(tokens) < count:
        tokens.append(int(logits.argmax()))
        model.eval(tokens[-1:])
        logits = np.array(model.scores[model.n_tokens - 1])
    return tokens, first.tolist()


def steer(model: llama_cpp.Llama, push: list[float], width: int) -> None:
    data = (ctypes.c_float * len(push))(*push)
    layers = len(push) // width
    if llama_cpp.llama_set_adapter_cvec(model.ctx, data, len(push), width, 1, layers):
        raise SystemExit("llama.cpp does not take the control vector")


def main(request: dict[str, Any]) -> dict[str, Any]:
    model = llama_cpp.Llama(
        request["model"], lora_path=request.get("lora"), logits_all=True, n_ctx=256, n_threads=1, verbose=False
    )
    if "push" in request:
        steer(model, request["push"], model.n_embd())
    answers = [answer(model, prompt, request["count"]) for prompt in request["prompts"]]
    return {
        "version": llama_cpp.__version__,
        "tokens": [tokens for tokens, _ in answers],
        "logits": [logits for _, logits in answers],
    }


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))
