"""Building on a GPU, through torch, one whole tensor at a time.

Each worker thread decodes its tensor on the CPU and has its own stream on the device, so one tensor is copied and
computed while another is decoded. The sparsify family and low-rank products are elementwise fp32 operations in the
CPU's order and give the CPU's bits wherever the device rounds according to IEEE. The other methods run their torch
reference, whose sums over whole tensors may differ in the last place. The receipt names the device.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from persona import methods
from persona.building.lengths import Lengths
from persona.building.plan import Output, Plan
from persona.building.streams import Delta, DenseDelta, LowRankDelta, Stream, SumDelta
from persona.errors import UsageError
from persona.methods.parts.sizes import Sizes
from persona.store.nouns import Source, SumSpec, TensorSpec

if TYPE_CHECKING:
    import torch

    from persona.checkpoints.dtypes import Bits

CPU = "cpu"
"""The engine's own loops; this module is not used."""

TORCH = "torch"
"""torch on the CPU, for comparisons and for tests without a GPU."""


@dataclass(frozen=True)
class Device:
    """A torch device that is available."""

    name: str

    @property
    def label(self) -> str:
        """Its name in a receipt."""
        import torch

        if self.name == TORCH:
            return "cpu, torch"
        return f"{self.name}, {torch.cuda.get_device_name(self.name)}"

    @property
    def software(self) -> str:
        """The library that computes, with its version."""
        import torch

        return f"torch {torch.__version__}"

    @property
    def torch(self) -> torch.device:
        """The device as torch knows it."""
        import torch

        return torch.device(CPU if self.name == TORCH else self.name)


def find(name: str) -> Device | None:
    """Look up a device by name; None for ``cpu``.

    Raises:
        UsageError: it is unknown or not available.
    """
    if name == CPU:
        return None
    if name != TORCH:
        _check_cuda(name)
    return Device(name)


def _check_cuda(name: str) -> None:
    kind, _, number = name.partition(":")
    if kind != "cuda" or not (number.isdigit() or (number == "" and name == kind)):
        raise UsageError(f"unknown device '{name}'", "Use cpu, cuda, cuda:N, or torch (PyTorch on the CPU).")
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number or 0) >= count:
        raise UsageError(
            f"no device '{name}': torch sees {count} CUDA device{'' if count == 1 else 's'}",
            "Build on the CPU (--device cpu), or check the driver.",
        )


def changed_rows(
    device: Device,
    plan: Plan,
    output: Output,
    base: TensorSpec,
    deltas: list[Delta],
    before: Stream,
    weights: list[Stream],
    block: int,
    lengths: Lengths | None = None,
) -> Iterator[Bits]:
    """Compute the rows that the base has; yields W in blocks, rounded to the output's dtype.

    Args:
        device: Where to compute.
        plan: The method and its parameters.
        output: The tensor.
        base: The base's tensor.
        deltas: One τ for each term of the output, read from the front.
        before: The base's entries, read from the front.
        weights: The terms' Fisher diagonals; empty if the method weighs nothing.
        block: Entries per block.
        lengths: Where to add the lengths of what is merged.
    """
    import torch

    with torch.inference_mode(), _own_stream(device.torch):
        w = _moved(before.take(base.entries), base, device.torch)
        pairs = zip(output.terms, deltas, strict=True)
        taus = [_tau(term.source, delta, w, base, device.torch) for term, delta in pairs]
        weighed = zip([term.weight for term in output.terms if term.weight], weights, strict=True)
        counts = [_moved(stream.take(base.entries), weight.source, device.torch) for weight, stream in weighed]
        added = (
            _square(_sum((term.alpha, tau) for term, tau in zip(output.terms, taus, strict=True))) if lengths else 0.0
        )
        merged = _merged(plan, output, w, taus, counts)
        if lengths is not None:
            lengths.add(output.name, Sizes(_square(merged), added), base.entries)
        if plan.scale != 1.0:
            merged = merged * plan.scale
        bits = _bits(merged + w, output)
        del w, taus, counts, merged
    for start in range(0, base.entries, block):
        yield bits[start : start + block]


@contextlib.contextmanager
def _own_stream(device: torch.device) -> Iterator[None]:
    import torch

    if device.type != "cuda":
        yield
        return
    with torch.cuda.device(device), torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
        yield
        torch.cuda.current_stream().synchronize()


def _dtypes() -> dict[str, torch.dtype]:
    import torch

    return {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64}


def _moved(bits: Any, spec: TensorSpec, device: torch.device) -> torch.Tensor:
    """Copy bits to the device as they are, which is less to transfer, and widen them to fp32 there."""
    import numpy as np
    import torch

    width = {2: np.int16, 4: np.int32, 8: np.int64}[bits.itemsize]
    host = torch.from_numpy(np.array(bits).view(width)).view(_dtypes()[spec.dtype])
    if device.type == "cuda":
        host = host.pin_memory()
    return host.to(device, non_blocking=True).float()


def _tau(source: Source | None, delta: Delta, w: torch.Tensor, base: TensorSpec, device: torch.device) -> torch.Tensor:
    import torch

    if isinstance(delta, SumDelta):
        assert isinstance(source, SumSpec)
        pairs = zip(source.parts, delta.parts, strict=True)
        return _sum((c, _tau(spec, part, w, base, device)) for (c, spec), (_, part) in pairs)
    if isinstance(delta, DenseDelta):
        assert isinstance(source, TensorSpec)
        return _moved(delta.stream.take(base.entries), source, device) - w
    if isinstance(delta, LowRankDelta):
        left, right = (torch.from_numpy(factor).to(device) for factor in delta.factors)
        return _product(left, right, delta.scale)
    return torch.zeros_like(w)


def _sum(parts: Iterable[tuple[float, torch.Tensor]]) -> torch.Tensor:
    """Σ cᵢ·τᵢ as defined by ``streams.weighted_sum``: each product and each sum rounded, in this order."""
    import numpy as np

    total: torch.Tensor | None = None
    for coefficient, tau in parts:
        scaled = tau if coefficient == 1.0 else tau * float(np.float32(coefficient))
        total = scaled if total is None else total + scaled
    assert total is not None, "a sum has a part"
    return total


def _square(values: torch.Tensor) -> float:
    return float(values.double().square().sum())


def _product(left: torch.Tensor, right: torch.Tensor, scale: float) -> torch.Tensor:
    """s · L · R as defined by ``methods/parts/lowrank.py``: k ascending, each product and each sum rounded."""
    import torch

    if not len(right):
        return torch.zeros(left.shape[0] * right.shape[1], device=left.device)
    total = left[:, :1] * right[:1]
    for k in range(1, len(right)):
        total += left[:, k : k + 1] * right[k : k + 1]
    return (total * scale).reshape(-1)


def _merged(
    plan: Plan, output: Output, w: torch.Tensor, taus: list[torch.Tensor], counts: list[torch.Tensor]
) -> torch.Tensor:
    from persona.methods.parts import spectrum

    assert output.base is not None
    method = methods.load(plan.method)
    shares = [term.share for term in output.terms]
    kind = getattr(method, "FAMILY", None)
    if kind is not None:
        from persona.methods.parts import family_torch

        shape = output.base.shape
        columns = shape[-1] if len(shape) > 1 else max(1, output.base.entries)
        return family_torch.combine(kind, taus, shares, plan.parameters, columns)
    if methods.takes_matrices(method) and len(output.base.shape) == 2:
        spectrum.check_finite(output.name, all(bool(tau.isfinite().all()) for tau in taus))
    shaped = [values.reshape(output.base.shape) for values in (w, *taus)]
    weights = [[values.reshape(output.base.shape) for values in counts]] if methods.weighs(method) else []
    return method.reference(shaped[0], shaped[1:], shares, plan.parameters, *weights).reshape(-1)


def _bits(values: torch.Tensor, output: Output) -> Any:
    """Round on the device, with every NaN the positive quiet one, and copy the bits back."""
    import numpy as np
    import torch

    from persona.building.rounding import refuse_overflow

    values = torch.where(values.isnan(), torch.tensor(float("nan"), device=values.device), values)
    narrow = values.to(_dtypes()[output.dtype])
    if output.dtype == "F16" and bool((narrow.isinf() & values.isfinite()).any()):
        refuse_overflow(output)
    width = {2: torch.int16, 4: torch.int32, 8: torch.int64}[narrow.element_size()]
    host: Any = narrow.view(width).cpu().numpy()
    return host.view(np.dtype(f"<u{narrow.element_size()}"))
