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
from persona.evaluate.trust import Allow

Bounds = tuple[float, float]
"""Lowest and highest value."""

MOST_TRIALS = 10_000


def option(default: Any, text: str, **about: Any) -> Any:
    """A field that is a command-line option.

    Args:
        default: Default value; ``dict`` for an empty mapping.
        text: Help text.
        about: ``metavar``, ``choices``, ``min``, ``max``, ``min_open``, ``repeat`` (it may be given several times),
            ``is_flag`` (it takes no value) or ``flag`` (the option's name, if it is not the field's).
    """
    metadata = {"help": text, **about}
    if default is dict:
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class MeasureOptions:
    """How to measure a model.

    Results are kept separately for each dtype, seed and limit. Device and batch size only affect rounding. ``allow_code``
    says whether suites may run the Python code beside them: True, False, or a function that is asked (see
    ``persona.evaluate.trust``).
    """

    device: str = option("cpu", "Device to run the model on: cpu, cuda, cuda:N or mps.", metavar="DEVICE")
    dtype: str | None = option(
        None, "Data type to run the model in. [default: as stored]", choices=("bf16", "fp16", "fp32")
    )
    batch_size: int = option(8, "Number of texts per batch.", metavar="N", min=1)
    seed: int = option(0, "Random seed for sampling and bootstrap intervals.", metavar="N", min=0)
    limit: int | None = option(None, "Use only the first N examples of each measure.", metavar="N", min=1)
    allow_code: Allow = option(False, "Run Python code beside a suite without asking.", is_flag=True)

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
    active vectors vary. The method and its density vary only if ``methods`` or ``density`` is given. The scale of
    the merge varies if ``scale`` is given. ``by`` lists the measures to optimize (``MEASURE`` or ``MEASURE NAME``; ``gain`` is
    the share of each vector's own effect that is left), and ``keep`` says by how much others may get worse.
    ``keep_base`` says by how much measures may be worse than the base's. ``check`` names a suite of other data that the
    chosen trial is also measured by.
    """

    vary: Mapping[str, Bounds | None] = option(
        dict, "Vary the alpha of this vector. [default: all active vectors]", metavar="NAME[=LOW:HIGH]", repeat=True
    )
    alphas: Bounds | None = option(
        None, "Range of alphas to try. [default: 0:1.5, or -1.5:0 for a negative alpha]", metavar="LOW:HIGH"
    )
    methods: Sequence[str] = option((), "Also try these merge methods.", metavar="NAME,...", flag="--method")
    density: Bounds | None = option(None, "Range of densities to try, if the method has one.", metavar="LOW:HIGH")
    scale: Bounds | None = option(None, "Range of scales of the merge to try.", metavar="LOW:HIGH")
    by: Sequence[str] = option(
        (),
        "Measure to optimize, or gain; repeat for several objectives. [default: the suite's first measure]",
        metavar="MEASURE",
        repeat=True,
    )
    keep: Mapping[str, float] = option(
        dict, "Let this measure get worse by at most X. [default: 0]", metavar="MEASURE[=X]", repeat=True
    )
    keep_base: Mapping[str, float] = option(
        dict,
        "Let this measure be worse than the base's by at most X. [default: 0]",
        metavar="MEASURE[=X]",
        repeat=True,
    )
    trials: int = option(30, "Number of trials.", metavar="N", min=1, max=MOST_TRIALS)
    minutes: float | None = option(
        None, "Stop starting new trials after this many minutes.", metavar="M", min=0, min_open=True
    )
    check: str | Path | None = option(
        None, "Also measure the chosen trial by this suite of other data.", metavar="NAME|FILE"
    )
    pick: int | None = option(None, "Choose this trial instead of the best one.", metavar="TRIAL", min=1)

    def check_budget(self) -> None:
        """Raise UsageError if ``trials``, ``minutes`` or ``pick`` is out of range."""
        if not 1 <= self.trials <= MOST_TRIALS:
            raise UsageError(f"invalid number of trials: {self.trials}", f"Give a number from 1 to {MOST_TRIALS}.")
        if self.minutes is not None and not self.minutes > 0:
            raise UsageError(f"invalid number of minutes: {self.minutes:g}", "Give a number above 0.")
        if self.pick is not None and not 1 <= self.pick <= self.trials:
            raise UsageError(f"there is no trial {self.pick} to pick", f"Give a number from 1 to {self.trials}.")
