"""What of a model is trained, and in which arithmetic."""

from __future__ import annotations

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit

from persona.training.adapting import trainable
from persona.training.settings import Settings
from tests.models import tiny_llama

WIDE = {"hidden_size": 64, "intermediate_size": 128}
"""No narrower than the 64 entries that share a scale: bitsandbytes (0.50, on a CPU) reads those wrongly."""

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_qlora_keeps_matrices_in_4_bits_and_answers_as_they_say(dtype: str) -> None:
    """The model in 4 bits is the model with each matrix rounded to 16 values, 64 entries sharing a scale."""
    base, same = tiny_llama(torch.bfloat16, **WIDE), tiny_llama(torch.bfloat16, **WIDE).float()
    model, kept = trainable(base, Settings(method="qlora", rank=2, targets=("q_proj", "up_proj"), dtype=dtype))
    assert kept == {}
    assert {one.device.type for one in base.parameters()} == {"meta"}  # it is not kept beside the small one
    learnt = {name for name, one in model.named_parameters() if one.requires_grad}
    assert learnt
    assert all(".lora_" in name for name in learnt)
    with torch.no_grad():
        small = dict(model.base_model.model.named_modules())
        quantised = 0
        for name, module in same.named_modules():
            if isinstance(module, torch.nn.Linear) and name != "lm_head":
                there = small[name]
                weight = getattr(there, "base_layer", there).weight
                assert weight.dtype == torch.uint8
                assert weight.numel() == (module.weight.numel() + 1) // 2
                rounded = dequantize_4bit(weight, weight.quant_state).float()
                widest = module.weight.abs().max()
                assert not torch.equal(rounded, module.weight)
                assert (rounded - module.weight).abs().max() <= 0.16 * widest  # NF4's widest gap is 0.304, halved
                module.weight.copy_(rounded)
                quantised += 1
        assert quantised == 7 * same.config.num_hidden_layers
        tokens = torch.arange(24).reshape(2, 12)
        wanted = same.to(torch.bfloat16 if dtype == "bf16" else torch.float32)(input_ids=tokens).logits
        found = model.eval()(input_ids=tokens).logits
    bound = 0.05 if dtype == "bf16" else 1e-4  # of sums in 8 and in 24 bits
    assert (found.float() - wanted.float()).abs().max() <= bound * wanted.abs().max()


def test_the_dtype_is_what_is_asked_for() -> None:
    for asked, dtype in {"auto": torch.float32, "fp32": torch.float32, "bf16": torch.bfloat16}.items():
        model, _ = trainable(tiny_llama(torch.bfloat16), Settings(rank=2, targets=("q_proj",), dtype=asked))
        assert model.get_input_embeddings().weight.dtype == dtype
