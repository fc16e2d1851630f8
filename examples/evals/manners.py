"""A measure of one's own: what share of a model's replies ask something, and what share tell people what to do.

``manners.toml`` names this function. It gets the model, the rows of its data and a seed, and gives a number for each row.
"""

from __future__ import annotations

from typing import Any

import torch

TELLING = ("you should", "you could", "try ", "why not", "instead")


def judge(live: Any, rows: list[dict[str, Any]], seed: int) -> dict[str, list[float]]:
    replies = [reply(live, str(row["prompt"])).lower() for row in rows]
    return {
        "asks": [float("?" in text) for text in replies],
        "tells": [float(any(word in text for word in TELLING)) for text in replies],
    }


@torch.inference_mode()
def reply(live: Any, prompt: str, tokens: int = 40) -> str:
    """What the model says next, the likeliest word each time."""
    asked = live.tokenizer(prompt, return_tensors="pt").to(live.device)
    said = live.model.generate(**asked, max_new_tokens=tokens, do_sample=False)
    text: str = live.tokenizer.decode(said[0, asked["input_ids"].shape[1] :], skip_special_tokens=True)
    return text
