"""Arguments and options that several commands have."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kdsweep.cli import completion
from kdsweep.errors import ConfigError


def _say_latest(context: typer.Context, parameter: typer.CallbackParam, value: Path) -> Path:
    """Say which experiment is meant where none was named."""
    source = context.get_parameter_source(str(parameter.name))
    is_default = source is not None and source.name == "DEFAULT"
    if context.resilient_parsing:  # a shell asks what could follow
        return value
    # Those that were given are known before those that were not.
    if is_default and value.is_symlink() and not context.params.get("quiet"):
        print(f"experiment: {value.parent / value.readlink().name}", file=sys.stderr)
    return value


def _need_space(context: typer.Context, value: Path) -> Path:
    """Name the spaces that come with kdsweep where none was named."""
    if value == NO_SPACE:
        from kdsweep.config.shipped import shipped_files

        raise ConfigError(
            "no search space was named",
            allowed=f"a file, or one that comes with kdsweep: {', '.join(shipped_files())}",
            hint=f"`{context.command_path} backbones`; `kdsweep spaces` says what each is for",
        )
    return value


NO_SPACE = Path("SPACE")
# The ledger's layout spells it too; importing that would make `--help` read all of the schema.
LATEST_EXPERIMENT = completion.EXPERIMENTS / "latest"
"""What commands take that are not told an experiment."""

SpaceFile = Annotated[
    Path,
    typer.Argument(
        help="A search space: a file (YAML), or the name of one that comes with kdsweep.",
        show_default=False,
        callback=_need_space,
        autocompletion=completion.spaces,
    ),
]
Experiment = Annotated[
    Path,
    typer.Argument(
        help="An experiment.", callback=_say_latest, autocompletion=completion.experiments
    ),
]
Student = Annotated[
    Path,
    typer.Argument(
        help="An experiment (its best trial), a trial's folder, or its `best` folder.",
        metavar="EXPERIMENT|CHECKPOINT",
        callback=_say_latest,
        autocompletion=completion.experiments,
    ),
]
TrialNumber = Annotated[
    int | None,
    typer.Option("--trial", min=0, help="Another trial than the best.", show_default=False),
]
TeacherFolder = Annotated[
    Path | None,
    typer.Option(
        "--teacher",
        help="Folder of a trained network, for the step `teacher`.",
        show_default=False,
    ),
]
Window = Annotated[
    str | None,
    typer.Option(
        "--window",
        metavar="H,W",
        help="Look at images at their own resolution, in windows; left out: resized and whole.",
        show_default=False,
    ),
]
Stride = Annotated[
    str | None,
    typer.Option(
        "--stride",
        metavar="H,W",
        help="From one window to the next; two thirds of it if left out.",
        show_default=False,
    ),
]
ProtocolName = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        metavar="native|resized",
        help="Score at the labels' own size or at image_size; left out: as the training did.",
        show_default=False,
    ),
]
Data = Annotated[
    list[str] | None,
    typer.Option(
        "--data", metavar="SOURCE=PATH", help="Where a data set lies, e.g. camvid=~/CamVid."
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change any leaf, e.g. train.epochs=3."),
]
Out = Annotated[Path, typer.Option(help="Folder that gets the experiment's folder.")]
Address = Annotated[
    str | None,
    typer.Option(
        envvar="RAY_ADDRESS", help="A Ray cluster to join ('auto': the one running here)."
    ),
]
ImageSize = Annotated[
    str | None,
    typer.Option(
        "--image-size",
        metavar="H,W",
        help="Size that frames are resized to; left out: that of most frames (`init` lowers it to "
        "fit the hours).",
        show_default=False,
    ),
]
DataKeys = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="data.KEY=VALUE",
        help="A key of the data section that is known, e.g. data.skip_unlabelled=true.",
    ),
]
Listen = Annotated[
    bool,
    typer.Option("--listen", help="Let other machines reach the Ray started here, by its token."),
]
Storage = Annotated[
    str | None,
    typer.Option(
        help="Keep a copy of the experiment below this address (s3://, gs://, az://, file:///).",
        metavar="URI",
        show_default=False,
    ),
]
AcceptData = Annotated[
    bool,
    typer.Option(
        "--accept-changed-data", help="Continue although the data have changed since the training."
    ),
]
Hours = Annotated[
    float | None,
    typer.Option(
        "--hours",
        min=0,
        help="End in so many hours: it chooses epochs, students per teacher and trials by that.",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line, for scripts.")]
OneJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
