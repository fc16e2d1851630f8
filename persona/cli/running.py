"""How a model is run: the options of every command that runs one, each declared here and nowhere else."""

from __future__ import annotations

import click

from persona.cli.app import F

device_option = click.option(
    "--device", default="cpu", show_default=True, metavar="DEVICE", help="Where the model runs: cpu, cuda, cuda:1, mps."
)
dtype_option = click.option(
    "--dtype",
    type=click.Choice(("bf16", "fp16", "fp32")),
    help="What the model runs in; that of its weights otherwise.",
)
batch_option = click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    metavar="N",
    help="Texts that the model reads at a time.",
)
blocks_option = click.option(
    "--blocks", metavar="PATH", help="Where in the model its list of blocks is, such as model.layers."
)


def measuring_options(function: F) -> F:
    """How suites are run, on every command that measures by them."""
    for option in reversed(
        [
            device_option,
            dtype_option,
            batch_option,
            click.option(
                "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of intervals and samples."
            ),
            click.option(
                "--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N examples of each measure."
            ),
        ]
    ):
        function = option(function)
    return function
