"""Names that wrappers change, against the wrappers themselves where they run on one machine."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from persona.checkpoints.wrappers import unwrapped


def plain() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Sequential(torch.nn.Linear(2, 2)))


def inner() -> torch.nn.Module:
    model = plain()
    model[1] = torch.compile(checkpoint_wrapper(model[1]))
    return model


@pytest.mark.parametrize(
    "wrapped",
    [lambda: torch.compile(plain()), lambda: torch.nn.DataParallel(plain()), lambda: checkpoint_wrapper(plain()), inner,
     lambda: torch.nn.DataParallel(torch.compile(plain())), plain],
)  # fmt: skip
def test_torchs_own_wrappers(wrapped: object) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = wrapped().state_dict()  # type: ignore[operator]
    assert [unwrapped(name) for name in made] == list(plain().state_dict())


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("module.module.model.norm.weight", "model.norm.weight"),
        ("_fsdp_wrapped_module.model.layers.0._fsdp_wrapped_module._checkpoint_wrapped_module.w", "model.layers.0.w"),
        ("model.module.weight", "model.module.weight"),  # a module of the model's own
        ("module", "module"),
        ("my_orig_mod.weight", "my_orig_mod.weight"),
    ],
)
def test_names(name: str, wanted: str) -> None:
    assert unwrapped(name) == wanted
