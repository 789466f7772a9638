"""Options of the commands on the updates of an app of one's own."""

from pathlib import Path
from typing import Annotated

import typer

from fedinv.commands.options import ENGINE

Recording = Annotated[
    str, typer.Argument(metavar="RECORDING", help="The folder that fedinv record, import or tap made.")
]
Network = Annotated[
    str | None, typer.Option(metavar="MODULE:NAME", help="What makes the network, as app.task:Net.", show_default=False)
]
Project = Annotated[
    Path | None, typer.Option("--app", help="The folder that is imported from.", show_default="the current one")
]
Example = Annotated[
    str | None,
    typer.Option(metavar="MODULE:NAME", help="A batch of the network's inputs.", show_default="made-up records"),
]
Knows = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Records of the kind, .csv or .npz, or app.task:mine: which inputs are categories, and numbers' range.",
        show_default="nothing",
    ),
]
Seconds = Annotated[float, typer.Option(min=0.1, help="Seconds of an attack on an update.", rich_help_panel=ENGINE)]
TRAINING = "How clients train"
"""Heading of the options on the clients' training."""
LossName = Annotated[
    str | None,
    typer.Option(
        "--loss",
        metavar="LOSS",
        help="cross-entropy, bce, bce-with-logits or mse, with keys, or app.task:loss.",
        rich_help_panel=TRAINING,
        show_default="cross-entropy, binary of one output",
    ),
]
OptimizerName = Annotated[
    str | None,
    typer.Option(
        "--optimizer",
        metavar="OPTIMIZER",
        help="As sgd:lr=0.1,momentum=0.9, or app.task:optimizer.",
        rich_help_panel=TRAINING,
        show_default="one step of plain SGD of any length",
    ),
]
Train = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:NAME",
        help="The app's own local training of a network and a loader, as app.task:train.",
        rich_help_panel=TRAINING,
        show_default=False,
    ),
]
TrainWith = Annotated[
    str | None,
    typer.Option(
        metavar="KEY=VALUE,...",
        help="Values of its other parameters, and batch, the records of a local batch; as epochs=1,lr=0.1,batch=32.",
        rich_help_panel=TRAINING,
        show_default=False,
    ),
]
