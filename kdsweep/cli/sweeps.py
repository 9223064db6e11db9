"""Commands that run sweeps."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdsweep.cli import completion
from kdsweep.cli.app import app
from kdsweep.cli.options import (
    LATEST_EXPERIMENT,
    NO_SPACE,
    AcceptData,
    Address,
    Data,
    Experiment,
    Hours,
    Json,
    Listen,
    OneJson,
    Out,
    ProtocolName,
    Quiet,
    Set,
    SpaceFile,
    Storage,
)
from kdsweep.cli.output import INTERRUPTED, relative, say_warning, terminal
from kdsweep.cli.progress import step_progress
from kdsweep.errors import ConfigError

if TYPE_CHECKING:
    from kdsweep.reporting import Results
    from kdsweep.sweep import Outcome
    from kdsweep.sweep.progress import Mode


@app.command()
def run(
    space: SpaceFile = NO_SPACE,
    data: Data = None,
    set_: Set = None,
    hours: Hours = None,
    out: Out = Path("experiments"),
    address: Address = None,
    listen: Listen = False,
    storage: Storage = None,
    best_of: Annotated[
        list[Path] | None,
        typer.Option(
            help="Try the 3 best settings of this experiment first.",
            metavar="EXP",
            autocompletion=completion.experiments,
        ),
    ] = None,
    prior: Annotated[
        list[Path] | None,
        typer.Option(
            help="Let the sampler begin with this experiment's trials, where jobs and data match; "
            "else as --best-of.",
            metavar="EXP",
            autocompletion=completion.experiments,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would take, as `kdsweep plan` does.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a whole sweep, and say which pair is best.

    Draws the report's page (report/index.html) at the end. Ctrl-C pauses it, and `kdsweep resume`
    continues it.
    """
    from kdsweep.api import sweep_summary
    from kdsweep.config import load_space
    from kdsweep.sweep import run_sweep
    from kdsweep.sweep.earlier import Earlier

    if dry_run:
        if address is not None:
            say_warning("a plan is for this machine; kdsweep plan --slots N tells it of others")
        if best_of or prior:
            Earlier(load_space(space, set_ or (), data or ()), best_of or (), prior or ())
        plan(space, data, set_, hours, out, as_json=as_json)
        return
    if hours is not None and address is not None:
        say_warning("--hours chooses trials for this machine; a cluster may take less time")
    loaded = load_space(space, set_ or (), data or ())
    outcome = run_sweep(
        loaded,
        experiments=out,
        address=address,
        listen=listen,
        progress=_mode(quiet, as_json),
        command=sys.argv,
        make_summary=sweep_summary,
        best_of=best_of or (),
        priors=prior or (),
        hours=hours,
        storage=storage,
    )
    _finish(outcome, quiet, as_json)


@app.command()
def plan(
    space: SpaceFile = NO_SPACE,
    data: Data = None,
    set_: Set = None,
    hours: Hours = None,
    out: Out = Path("experiments"),
    slots: Annotated[
        int | None,
        typer.Option(
            min=1, help="Trials at a time; as many as fit here if left out.", show_default=False
        ),
    ] = None,
    measure: Annotated[
        bool | None,
        typer.Option(
            "--measure/--no-measure",
            help="Time a few steps, for hours and memory; left out: unless that was done within "
            "the last hour.",
            show_default=False,
        ),
    ] = None,
    as_json: OneJson = False,
) -> None:
    """Say what a sweep would train, and what it would take on this machine; trains nothing."""
    from kdsweep.api import plan as make_plan

    # Times that are kept are not taken again.
    doing = "timing a few steps" if measure else "planning"
    with step_progress(doing, quiet=as_json):
        found = make_plan(
            space,
            data=data or (),
            overrides=set_ or (),
            measure=measure,
            slots=slots,
            experiments=out,
            hours=hours,
        )
    if as_json:
        print(json.dumps(found.to_json(), ensure_ascii=False))
    else:
        from kdsweep.sweep.preview_display import show_preview

        show_preview(found, terminal())


@app.command()
def resume(
    experiment: Experiment = LATEST_EXPERIMENT,
    address: Address = None,
    listen: Listen = False,
    max_hours: Annotated[
        float | None, typer.Option(min=0, help="New budget of hours, all sessions counted.")
    ] = None,
    max_gpu_hours: Annotated[
        float | None, typer.Option(min=0, help="New budget of GPU-hours, likewise.")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Train failed trials again, from the beginning.")
    ] = False,
    accept_changed_data: AcceptData = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Resume a sweep that was interrupted, paused or killed.

    No finished epoch is trained again. Data that have changed meanwhile stop it.
    """
    budgets = {"max_hours": max_hours, "max_gpu_hours": max_gpu_hours}
    options = {"accept_changed_data": accept_changed_data, "retry_failed": retry_failed}
    _go_on(experiment, address, listen, quiet, as_json, **options, **budgets)


@app.command()
def extend(
    trials: Annotated[int, typer.Option(min=1, help="Trials to draw on top.", show_default=False)],
    experiment: Experiment = LATEST_EXPERIMENT,
    address: Address = None,
    listen: Listen = False,
    accept_changed_data: AcceptData = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Let a sweep draw more trials: same sampler, same rungs, same folder."""
    options = {"more_trials": trials, "accept_changed_data": accept_changed_data}
    _go_on(experiment, address, listen, quiet, as_json, **options)


@app.command()
def confirm(
    experiment: Experiment = LATEST_EXPERIMENT,
    top: Annotated[
        int | None,
        typer.Option(min=1, help="How many of the best, or of the front.", show_default="3"),
    ] = None,
    trial: Annotated[
        list[int] | None, typer.Option(min=0, help="This one in place of the best; repeatable.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Fresh seeds of each.", show_default="5")
    ] = None,
    until_settled: Annotated[
        bool, typer.Option("--until-settled", help="Seeds only until the gain is settled.")
    ] = False,
    max_seeds: Annotated[
        int | None,
        typer.Option(min=1, help="Most seeds of each, with --until-settled.", show_default="20"),
    ] = None,
    equal_time: Annotated[
        bool,
        typer.Option("--equal-time", help="A control more, trained for as long as its pair took."),
    ] = False,
    protocol: ProtocolName = None,
    out: Out = Path("experiments"),
    address: Address = None,
    listen: Listen = False,
    accept_changed_data: AcceptData = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train the best jobs again on fresh seeds, each beside its exact control.

    Makes an experiment of its own, which `resume` and `report` take like any other.
    With `--until-settled` it looks after every seed whether the gain is settled, by a test that
    allows for that, and ends there. With `--equal-time` a second control trains beside each seed,
    without a teacher for more epochs: as many as fit into the time that the pair takes.
    """
    from kdsweep.api import sweep_summary
    from kdsweep.sweep import jobs_to_confirm, run_sweep

    if (seeds if until_settled else max_seeds) is not None:
        raise ConfigError(
            "--seeds is a fixed number of seeds, --max-seeds the most of --until-settled",
            hint="--until-settled --max-seeds N, or --seeds N alone",
        )
    if trial and top is not None:
        raise ConfigError("--top takes the best, --trial those you name", hint="one of the two")
    wanted = len(trial) if trial else top or 3
    jobs = jobs_to_confirm(
        experiment,
        top=wanted,
        trials=trial or (),
        seeds=(max_seeds or 20) if until_settled else (seeds or 5),
        protocol=protocol,
        until_settled=until_settled,
        equal_time=equal_time,
    )
    if len(jobs.jobs) < wanted:
        say_warning(f"{experiment} has {len(jobs.jobs)} different jobs to confirm, not {wanted}")
    outcome = run_sweep(
        jobs,
        experiments=out,
        address=address,
        listen=listen,
        progress=_mode(quiet, as_json),
        command=sys.argv,
        make_summary=sweep_summary,
        accept_changed_data=accept_changed_data,
    )
    _finish(outcome, quiet, as_json)


def _go_on(
    experiment: Path,
    address: str | None,
    listen: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    from kdsweep.api import sweep_summary
    from kdsweep.sweep import resume_sweep

    outcome = resume_sweep(
        experiment,
        address=address,
        listen=listen,
        progress=_mode(quiet, as_json),
        command=sys.argv,
        make_summary=sweep_summary,
        **options,
    )
    _finish(outcome, quiet, as_json)


def _mode(quiet: bool, as_json: bool) -> Mode:
    return "json" if as_json else "quiet" if quiet else "auto"


def _finish(outcome: Outcome, quiet: bool, as_json: bool) -> None:
    if outcome.experiment is not None and not quiet and not as_json:
        from kdsweep.reporting import load, render_best

        results = load(outcome.experiment)
        # Who interrupts a sweep waits for the prompt.
        page = None if outcome.exit_code == INTERRUPTED else _page(results, outcome.experiment)
        console = terminal()
        render_best(results, console)
        if page is not None:
            console.print(
                f"\nPage:   {relative(page)} (open it in a browser)", markup=False, soft_wrap=True
            )
    raise typer.Exit(outcome.exit_code)


def _page(results: Results, experiment: Path) -> Path | None:
    """The report's page, drawn now unless W&B has been given a newer one than the last event."""
    from kdsweep.ledger import Experiment as ExperimentFolder
    from kdsweep.reporting import write_page
    from kdsweep.reporting.page.page import PAGE

    folder = ExperimentFolder.open(experiment)
    page = folder.report / PAGE
    try:
        if page.is_file() and page.stat().st_mtime > folder.ledger.stat().st_mtime:
            return page
        # 1.2 s of CPU for four trials, 3 to 4 s for 10,000; tables are left to `kdsweep report`.
        with step_progress("drawing the page"):
            return write_page(results, folder.report)
    except Exception as error:  # the sweep is over and safe, whatever a page stumbles on
        say_warning(f"the report's page could not be drawn: {type(error).__name__}: {error}")
        return None
