"""The command line. Bodies import locally, so that ``--help`` is fast.

Exit codes: 0 done, 1 error, 2 bad input, 3 done but trials failed, 4 budget reached,
130 interrupted.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdsweep import __version__
from kdsweep.errors import KdsweepError, SpecError

if TYPE_CHECKING:
    from rich.console import Console

    from kdsweep.spec import Job
    from kdsweep.sweep import Outcome
    from kdsweep.sweep.progress import Mode
    from kdsweep.training.report import EpochReport

INTERRUPTED = 130

app = typer.Typer(
    name="kdsweep",
    help="Find small, accurate road-scene segmentation networks by online knowledge distillation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

SpaceFile = Annotated[Path, typer.Argument(help="A search space (YAML).", show_default=False)]
Experiment = Annotated[
    Path,
    typer.Argument(help="An experiment, e.g. experiments/latest.", show_default=False),
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
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line, for scripts.")]


def main() -> None:
    """Entry point: errors that kdsweep raises on purpose become one message and an exit code."""
    try:
        app()
    except KdsweepError as error:
        _say_error(error)
        sys.exit(error.exit_code)


def _say_error(error: KdsweepError) -> None:
    # Plain text, not markup: messages hold file names and YAML with brackets.
    style = "\033[1;31m" if sys.stderr.isatty() else ""
    reset = "\033[0m" if style else ""
    print(f"{style}error:{reset} {error}", file=sys.stderr)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"kdsweep {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find small, accurate road-scene segmentation networks by online knowledge distillation."""


@app.command()
def run(
    space: SpaceFile,
    data: Data = None,
    set_: Set = None,
    out: Out = Path("experiments"),
    address: Address = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a whole sweep, and say which pair is best."""
    from kdsweep.spec import load_space
    from kdsweep.sweep import run_sweep

    loaded = load_space(space, set_ or (), data or ())
    outcome = run_sweep(
        loaded, experiments=out, address=address, progress=_mode(quiet, as_json), command=sys.argv
    )
    _finish(outcome, quiet, as_json)


@app.command()
def resume(
    experiment: Experiment,
    address: Address = None,
    max_hours: Annotated[
        float | None, typer.Option(min=0, help="New budget of hours, all sessions counted.")
    ] = None,
    max_gpu_hours: Annotated[
        float | None, typer.Option(min=0, help="New budget of GPU-hours, likewise.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Go on with a sweep that was interrupted, paused or killed."""
    from kdsweep.sweep import resume_sweep

    outcome = resume_sweep(
        experiment,
        address=address,
        progress=_mode(quiet, as_json),
        command=sys.argv,
        max_hours=max_hours,
        max_gpu_hours=max_gpu_hours,
    )
    _finish(outcome, quiet, as_json)


def _mode(quiet: bool, as_json: bool) -> Mode:
    return "json" if as_json else "quiet" if quiet else "auto"


def _finish(outcome: Outcome, quiet: bool, as_json: bool) -> None:
    if outcome.experiment is not None and not quiet and not as_json:
        from kdsweep.reporting import load, render_best

        render_best(load(outcome.experiment), _console())
    raise typer.Exit(outcome.exit_code)


@app.command()
def report(
    experiment: Experiment,
    top: Annotated[int, typer.Option(min=1, help="Rows in each table.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    files: Annotated[
        bool, typer.Option("--files/--no-files", help="Write the tables as CSV and Parquet too.")
    ] = True,
) -> None:
    """Show what a sweep has found, also while it runs or after a crash."""
    from kdsweep.reporting import load, render, to_json, write_tables
    from kdsweep.store import Experiment as ExperimentFolder

    results = load(experiment)
    written = write_tables(results, ExperimentFolder.open(experiment).report) if files else []
    if as_json:
        print(json.dumps(to_json(results)))
        return
    console = _console()
    render(results, console, top)
    if written:
        console.print(f"Tables: {_relative(written[0].parent)} (CSV and Parquet)", markup=False)


@app.command()
def train(
    job: Annotated[Path, typer.Argument(help="A job (YAML).", show_default=False)],
    data: Data = None,
    set_: Set = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the training; one that was started goes on.", show_default=False
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train one job here, without Ray."""
    from kdsweep.api import new_single_folder
    from kdsweep.spec import read_job
    from kdsweep.store import TrialFolder
    from kdsweep.trial import check_job, prepare, run_job

    file = read_job(job, set_ or (), data or ())
    loaded = file.job
    try:
        check_job(loaded)
        data_facts = prepare([loaded])
    except SpecError as error:
        raise file.locate(error) from None
    folder = TrialFolder(out or new_single_folder(loaded.name))
    show = _EpochLines(loaded, _console()) if not (quiet or as_json) else None
    if show and data_facts["notice"]:
        show.console.print(data_facts["notice"], style="yellow", markup=False)
    try:
        for epoch in run_job(loaded, folder, device=device, num_threads=threads):
            if as_json:
                print(json.dumps(epoch.to_json()), flush=True)
            elif show:
                show.print(epoch)
    except KeyboardInterrupt:
        if show:
            again = f"kdsweep train {_relative(folder.job_yaml)} --out {_relative(folder.path)}"
            show.console.print(f"Interrupted. Go on with: {again}", markup=False)
        raise typer.Exit(INTERRUPTED) from None
    if show:
        show.console.print(f"The best student is in {_relative(folder.best)}", markup=False)


class _EpochLines:
    """One line an epoch, with what is watched while a job trains."""

    def __init__(self, job: Job, console: Console) -> None:
        self.console = console
        self._epochs = job.train.epochs
        self._best = -1.0
        epochs = "1 epoch" if self._epochs == 1 else f"{self._epochs} epochs"
        console.print(f"{job.label}, {epochs}", style="bold", markup=False)

    def print(self, report: EpochReport) -> None:
        """Show a report."""
        metrics = report.metrics
        miou = metrics["student/miou"]
        mark = "best" if miou > self._best else "    "
        self._best = max(self._best, miou)
        teacher = f"  teacher {metrics['teacher/miou']:.3f}" if "teacher/miou" in metrics else ""
        width = len(str(self._epochs))
        self.console.print(
            f"epoch {report.epoch:{width}}/{self._epochs}  student mIoU {miou:.3f} {mark}{teacher}"
            f"  loss {metrics['student/loss']:.3f}  {report.seconds:.1f} s",
            markup=False,
            highlight=False,
        )


@app.command()
def validate(
    files: Annotated[
        list[Path], typer.Argument(help="Search spaces or jobs (YAML).", show_default=False)
    ],
    data: Data = None,
    set_: Set = None,
) -> None:
    """Check search spaces or jobs without training anything; exit code 2 if one is not valid."""
    from kdsweep.spec import load_space
    from kdsweep.trial import check_jobs

    num_bad = 0
    for file in files:
        try:
            space = load_space(file, set_ or (), data or ())
            try:
                check_jobs(space.jobs_to_check())
            except SpecError as error:
                raise space.locate(error) from None
        except SpecError as error:
            num_bad += 1
            _say_error(error)
        else:
            print(f"{file}: valid, {_extent(space.num_points())} (data were not looked at)")
    raise typer.Exit(SpecError.exit_code if num_bad else 0)


def _extent(num_points: int | None) -> str:
    if num_points is None:
        return "a continuous space"
    return "one job" if num_points == 1 else f"{num_points} combinations"


@app.command()
def schema() -> None:
    """Print the JSON Schema of search spaces, for editors that complete and check YAML."""
    from kdsweep.spec.reference import json_schema

    print(json.dumps(json_schema(), indent=2))


def _console() -> Console:
    from rich.console import Console

    return Console()


def _relative(path: Path) -> Path:
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path
