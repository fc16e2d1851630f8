"""Answers prompts greedily with vLLM. Run by the interpreter of an environment that has vLLM, and nothing of persona.

Reads ``{"model", "adapter", "rank", "prompts": [[token id]], "tokens"}`` as JSON from standard input; ``adapter`` may be null. Writes
``{"version", "answers": [[token id]]}`` to the file that is named on the command line, because vLLM prints to standard output.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

if __name__ == "__main__":
    import vllm
    from vllm.lora.request import LoRARequest

    asked = json.load(sys.stdin)
    adapter = asked["adapter"]
    model = vllm.LLM(
        model=asked["model"], dtype="float32", max_model_len=256, enforce_eager=True, seed=0,
        enable_lora=adapter is not None, max_lora_rank=asked["rank"],
    )  # fmt: skip
    found = model.generate(
        [vllm.TokensPrompt(prompt_token_ids=tokens) for tokens in asked["prompts"]],
        vllm.SamplingParams(temperature=0.0, max_tokens=asked["tokens"]),
        lora_request=LoRARequest("persona", 1, adapter) if adapter else None,
    )
    answers = [list(one.outputs[0].token_ids) for one in found]
    Path(sys.argv[1]).write_text(json.dumps({"version": vllm.__version__, "answers": answers}))
