"""Run by a Python that has ``vllm``, with nothing of persona: ``python ask_vllm.py REQUEST ANSWER``.

REQUEST (JSON): ``model``, a folder, and perhaps ``lora``, the folder of an adapter, with ``rank``, vLLM's ``max_lora_rank``;
``prompts``, lists of tokens; ``count``, how many tokens to add.
ANSWER (JSON): ``version``, ``tokens`` of each reply, and ``logprobs`` of its first token.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import vllm
from vllm.lora.request import LoRARequest


def main(request: dict[str, Any]) -> dict[str, Any]:
    lora = {"enable_lora": True, "max_lora_rank": request["rank"]} if "lora" in request else {}
    model = vllm.LLM(request["model"], dtype="float32", enforce_eager=True, max_model_len=256, max_num_seqs=4, **lora)
    replies = model.generate(
        [{"prompt_token_ids": prompt} for prompt in request["prompts"]],
        vllm.SamplingParams(temperature=0.0, max_tokens=request["count"], ignore_eos=True, logprobs=0),
        lora_request=LoRARequest("built", 1, request["lora"]) if lora else None,
    )
    outputs = [reply.outputs[0] for reply in replies]
    return {
        "version": vllm.__version__,
        "tokens": [list(output.token_ids) for output in outputs],
        "logprobs": [output.logprobs[0][output.token_ids[0]].logprob for output in outputs],
    }


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))
