"""Commands that show what experiments have found, and how they stand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from kdsweep.cli import completion
from kdsweep.cli.app import app
from kdsweep.cli.options import LATEST_EXPERIMENT, Experiment, Json
from kdsweep.cli.output import relative, terminal
from kdsweep.cli.progress import step_progress


@app.command()
def report(
    experiment: Experiment = LATEST_EXPERIMENT,
    top: Annotated[int, typer.Option(min=1, help="Rows in each table.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    files: Annotated[
        bool,
        typer.Option(
            "--files/--no-files", help="Write the tables as CSV, Parquet, Markdown and LaTeX too."
        ),
    ] = True,
    page: Annotated[
        bool, typer.Option("--page/--no-page", help="Draw the report's page, report/index.html.")
    ] = True,
) -> None:
    """Show what a sweep has found, also while it runs or after a crash.

    Writes to the experiment's report/: a page (index.html), tables as CSV and Parquet, and tables
    for papers (Markdown, LaTeX).
    """
    from kdsweep.ledger import Experiment as ExperimentFolder
    from kdsweep.reporting import load, render, to_json, write_page, write_tables

    with step_progress("reading the ledger", quiet=as_json) as advance:
        results = load(experiment)
        folder = ExperimentFolder.open(experiment)
        if files:
            advance("writing tables", 0, 0)
        written = write_tables(results, folder.report, top) if files else []
        if page:
            advance("drawing the page", 0, 0)
        drawn = write_page(results, folder.report) if page else None
    if as_json:
        print(json.dumps(to_json(results), indent=2, ensure_ascii=False))
        return
    console = terminal()
    render(results, console, top)
    if written:
        where = relative(written[0].parent)
        console.print(f"Tables: {where} (CSV, Parquet, Markdown, LaTeX)", markup=False)
    if drawn is not None:
        console.print(f"Page:   {relative(drawn)} (open it in a browser)", markup=False)


@app.command()
def compare(
    experiments: Annotated[
        list[Path],
        typer.Argument(
            help="Experiments with one metric on one data set.",
            autocompletion=completion.experiments,
        ),
    ],
    as_json: Json = False,
) -> None:
    """Show experiments side by side: best student, gain, size, cost."""
    from kdsweep.reporting import compare as compare_experiments
    from kdsweep.reporting import render_comparison

    found = compare_experiments(experiments)
    if as_json:
        for one in found:
            print(json.dumps(one.to_json(), ensure_ascii=False))
    else:
        render_comparison(found, terminal())


@app.command("list")
def list_experiments(
    folder: Annotated[Path, typer.Argument(help="Folder of experiments.")] = Path("experiments"),
    as_json: Json = False,
) -> None:
    """List experiments, newest first: state, trials, best student, time."""
    from kdsweep.errors import ExperimentError
    from kdsweep.ledger.object_store import cache_of, experiments_at, fetched, uri_of
    from kdsweep.reporting import read_all_statuses, render_list

    uri = uri_of(folder)
    if uri is not None:
        folder = cache_of(uri)
        for name in experiments_at(uri):
            fetched(f"{uri}/{name}", "ledger", folder)
    if not folder.is_dir():
        raise ExperimentError(
            f"{folder}: there is no such folder\n"
            "  try:     kdsweep run SPACE.yaml makes one; kdsweep list FOLDER looks elsewhere"
        )
    found = read_all_statuses(folder)
    if as_json:
        for one in found:
            print(json.dumps(one.to_json(), ensure_ascii=False))
    else:
        render_list(found, folder, terminal())


@app.command()
def status(
    experiment: Experiment = LATEST_EXPERIMENT,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Keep showing it until it ends; Ctrl-C leaves.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show how an experiment stands: what runs, what ended, best so far, budgets."""
    from kdsweep.reporting import read_status, render_status
    from kdsweep.reporting.watch import watch_json, watch_terminal

    if watch:
        (watch_json if as_json else watch_terminal)(experiment, terminal())
    elif as_json:
        print(json.dumps(read_status(experiment).to_json(), ensure_ascii=False))
    else:
        render_status(read_status(experiment), terminal())


@app.command()
def dashboard(
    experiment: Experiment = LATEST_EXPERIMENT,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on this machine; 0 takes a free one.")
    ] = 8080,
) -> None:
    """Serve Optuna's page of the search (optuna-dashboard), also while it runs; Ctrl-C ends it.

    On this machine only, and only for looking. Needs `pip install 'kdsweep[dashboard]'`.
    """
    from kdsweep.api import dashboard as open_dashboard

    with open_dashboard(experiment, port=port) as opened:
        what = "Optuna's page of the search, only on this machine; Ctrl-C ends it"
        print(f"{opened.address}  ({what})", flush=True)
        opened.serve()
