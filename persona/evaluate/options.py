"""The options of the measuring commands, each declared once.

The command line is made from these fields: their metadata holds the help text, placeholder and range as plain data,
and ``persona.cli.running`` turns it into click options.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from persona.errors import UsageError

Bounds = tuple[float, float]
"""Lowest and highest value."""

MOST_TRIALS = 10_000


def _about(text: str, **more: Any) -> dict[str, Any]:
    """Metadata of an option: its help, and any of ``metavar``, ``choices``, ``min``, ``max``, ``min_open``, ``repeat``
    (it may be given several times) and ``flag`` (its name, if not the field's)."""
    return {"help": text, **more}


@dataclass(frozen=True)
class MeasureOptions:
    """How to measure a model.

    Results are kept separately for each dtype, seed and limit. Device and batch size only affect rounding.
    """

    device: str = field(
        default="cpu", metadata=_about("Where to run the model: cpu, cuda, cuda:1, mps.", metavar="DEVICE")
    )
    dtype: str | None = field(
        default=None,
        metadata=_about("Data type to run the model in. [default: as stored]", choices=("bf16", "fp16", "fp32")),
    )
    batch_size: int = field(default=8, metadata=_about("Number of texts per batch.", metavar="N", min=1))
    seed: int = field(
        default=0, metadata=_about("Random seed for sampling and bootstrap intervals.", metavar="N", min=0)
    )
    limit: int | None = field(
        default=None, metadata=_about("Use only the first N examples of each measure.", metavar="N", min=1)
    )

    def checked(self) -> MeasureOptions:
        """Return the options with the dtype's canonical name.

        Raises:
            UsageError: unknown device or dtype, or a batch size or limit below 1.
        """
        from persona.inference.load import checked_device, checked_dtype

        checked_device(self.device)
        for name, value in (("batch size", self.batch_size), ("limit", self.limit)):
            if value is not None and value < 1:
                raise UsageError(f"invalid {name}: {value}", "Give 1 or more.")
        return replace(self, dtype=checked_dtype(self.dtype))


@dataclass(frozen=True)
class SearchOptions:
    """What ``persona tune`` varies, what it optimizes, and when it stops.

    ``vary`` maps vectors to their range of alphas, or to None for the common range ``alphas``; if it is empty, all
    active vectors vary. The method and its density vary only if ``methods`` or ``density`` is given. ``by`` lists the
    measures to optimize (``MEASURE`` or ``MEASURE NAME``), and ``keep`` says by how much others may get worse.
    ``check`` names a suite of other data that the chosen trial is also measured by.
    """

    vary: Mapping[str, Bounds | None] = field(
        default_factory=dict,
        metadata=_about(
            "Vary the alpha of this vector. [default: all active vectors]", metavar="NAME[=LOW:HIGH]", repeat=True
        ),
    )
    alphas: Bounds | None = field(
        default=None,
        metadata=_about("Range of alphas to try. [default: 0:1.5, or -1.5:0 for a negative alpha]", metavar="LOW:HIGH"),
    )
    methods: Sequence[str] = field(
        default=(), metadata=_about("Also try these merge methods.", metavar="NAME,...", flag="--method")
    )
    density: Bounds | None = field(
        default=None, metadata=_about("Range of densities to try, if the method has one.", metavar="LOW:HIGH")
    )
    by: Sequence[str] = field(
        default=(),
        metadata=_about(
            "Measure to optimize; repeat for several objectives. [default: the suite's first measure]",
            metavar="MEASURE",
            repeat=True,
        ),
    )
    keep: Mapping[str, float] = field(
        default_factory=dict,
        metadata=_about("Let this measure get worse by at most X. [default: 0]", metavar="MEASURE[=X]", repeat=True),
    )
    trials: int = field(default=30, metadata=_about("Number of trials.", metavar="N", min=1, max=MOST_TRIALS))
    minutes: float | None = field(
        default=None,
        metadata=_about("Stop starting new trials after this many minutes.", metavar="M", min=0, min_open=True),
    )
    check: str | Path | None = field(
        default=None, metadata=_about("Also measure the chosen trial by this suite of other data.", metavar="NAME|FILE")
    )
    pick: int | None = field(
        default=None, metadata=_about("Choose this trial instead of the best one.", metavar="TRIAL", min=1)
    )

    def check_budget(self) -> None:
        """Raise UsageError if ``trials``, ``minutes`` or ``pick`` is out of range."""
        if not 1 <= self.trials <= MOST_TRIALS:
            raise UsageError(f"invalid number of trials: {self.trials}", f"Give a number from 1 to {MOST_TRIALS}.")
        if self.minutes is not None and not self.minutes > 0:
            raise UsageError(f"invalid number of minutes: {self.minutes:g}", "Give a number above 0.")
        if self.pick is not None and not 1 <= self.pick <= self.trials:
            raise UsageError(f"there is no trial {self.pick} to pick", f"Give a number from 1 to {self.trials}.")
