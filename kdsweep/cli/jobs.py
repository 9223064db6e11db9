"""Commands for single jobs, and for what jobs and spaces may say."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdsweep.cli import completion
from kdsweep.cli.app import app
from kdsweep.cli.options import AcceptData, Data, Device, Json, Quiet, Set, Threads
from kdsweep.cli.output import INTERRUPTED, relative, say_error, say_warning, terminal
from kdsweep.errors import ConfigError, DataError
from kdsweep.labels import training_frames
from kdsweep.plain_text import counted

if TYPE_CHECKING:
    from rich.console import Console

    from kdsweep.config import Job
    from kdsweep.training.report import EpochReport


@app.command()
def train(
    job: Annotated[Path, typer.Argument(help="A job (YAML).", show_default=False)],
    data: Data = None,
    set_: Set = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the training; an interrupted one is resumed.",
            show_default=False,
        ),
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    wandb: Annotated[
        bool, typer.Option("--wandb", help="Log to Weights & Biases, also under `wandb agent`.")
    ] = False,
    accept_changed_data: AcceptData = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train one job here, without Ray.

    On a CPU it gives the numbers of the sweep that the job is from, with the sweep's --threads,
    which the report says.
    """
    from kdsweep.api import new_single_folder
    from kdsweep.config import read_job
    from kdsweep.ledger import TrialFolder
    from kdsweep.ledger.given_teachers import teacher_doubts, teacher_notes
    from kdsweep.tracking import Trackers, agents_run, open_job_tracker
    from kdsweep.trial import check_job, note_data, prepare_one, run_job, tracked

    file = read_job(job, set_ or (), data or ())
    loaded = file.job
    # Agents may begin several runs of a sweep in one second.
    name = "-".join([loaded.name, *agents_run()]) if wandb else loaded.name
    folder = TrialFolder(out or new_single_folder(name))
    try:
        check_job(loaded)
        data_facts = prepare_one(loaded, folder, device=device)
    except ConfigError as error:
        raise file.locate(error) from None
    name_of_data = note_data(folder, data_facts, accept_changed_data, say_warning)
    show = _EpochLines(loaded, terminal()) if not (quiet or as_json) else None
    if show:
        notices = [data_facts["notice"]] if data_facts["notice"] else []
        notices += [f"weights: {note}" for note in data_facts.get("weights", ())]
        notices += [f"teacher: {note}" for note in teacher_notes(data_facts)]
        for text in [*notices, *(f"data: {remark}" for remark in data_facts["remarks"])]:
            show.console.print(text, style="yellow", markup=False)
    else:
        for doubt in teacher_doubts(data_facts):
            say_warning(doubt)
    tracker = open_job_tracker(folder, say_warning) if wandb else Trackers()
    reports = run_job(loaded, folder, device=device, num_threads=threads)
    try:
        told = tracked(reports, tracker, loaded, folder, data_facts["classes"], name_of_data)
        with closing(told) as epochs:
            for epoch in epochs:
                if as_json:
                    print(json.dumps(epoch.to_json()), flush=True)
                elif show:
                    show.print(epoch)
    except KeyboardInterrupt:
        if show:
            again = f"kdsweep train {relative(folder.job_yaml)} --out {relative(folder.path)}"
            show.console.print(f"Interrupted. Resume with: {again}", markup=False)
        raise typer.Exit(INTERRUPTED) from None
    if show:
        which = "student of the last epoch" if loaded.train.select == "last" else "best student"
        show.console.print(f"The {which} is in {relative(folder.best)}", markup=False)


class _EpochLines:
    """One line an epoch, with what is watched while a job trains."""

    def __init__(self, job: Job, console: Console) -> None:
        self.console = console
        self._epochs = job.train.epochs
        self._best = -1.0
        console.print(f"{job.label}, {counted(self._epochs, 'epoch')}", style="bold", markup=False)

    def print(self, report: EpochReport) -> None:
        """Show a report."""
        from kdsweep.config.metrics import MIOU, TEACHER_MIOU

        metrics = report.metrics
        miou = metrics[MIOU]
        mark = "best" if miou > self._best else "    "
        self._best = max(self._best, miou)
        teacher = f"  teacher {metrics[TEACHER_MIOU]:.3f}" if TEACHER_MIOU in metrics else ""
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
        list[Path],
        typer.Argument(
            help="Search spaces or jobs (YAML), or names of spaces that come with kdsweep.",
            show_default=False,
            autocompletion=completion.spaces,
        ),
    ],
    data: Data = None,
    set_: Set = None,
    skip_data: Annotated[
        bool, typer.Option("--skip-data", help="Do not look for the data; they may be elsewhere.")
    ] = False,
) -> None:
    """Check search spaces or jobs without training anything; exit code 2 if one is not valid.

    Looks for the frames of the data too, where a folder is given, and decodes none of them.
    """
    from kdsweep.config import load_space
    from kdsweep.ledger.given_teachers import coming_notes
    from kdsweep.trial import check_jobs, weights_notes

    num_bad = 0
    for file in files:
        try:
            space = load_space(file, set_ or (), data or ())
            try:
                jobs = space.jobs_to_check()
                check_jobs(jobs)
                weights = weights_notes(jobs)
                frames = "data not looked for" if skip_data else _frames(jobs)
            except ConfigError as error:
                raise space.locate(error) from None
        except ConfigError as error:
            num_bad += 1
            say_error(error)
        except DataError as error:
            num_bad += 1
            say_error(DataError(f"{file}: {error}"))
        else:
            print(f"{file}: valid, {_extent(space.num_points())} ({frames})")
            for note in weights:
                print(f"  weights: {note}")
            for note in coming_notes(jobs):
                print(f"  teacher: {note}")
            sys.stdout.flush()  # the next one may take long, and a pipe waits for more
    raise typer.Exit(ConfigError.exit_code if num_bad else 0)


def _frames(jobs: Sequence[Job]) -> str:
    """Return what there is of the data of some jobs.

    Raises:
        DataError: A folder is missing or laid out differently.
        ConfigError: The data do not have what a job asks for.
    """
    from kdsweep.config import distinct_data
    from kdsweep.config.data import RoadscenesData
    from kdsweep.data import count_frames

    found = []
    for config in distinct_data(jobs):
        is_generated = isinstance(config, RoadscenesData)
        if config.path is None and not is_generated:
            found.append(f"no data: {config.source} needs --data {config.source}=PATH")
            continue
        seen = count_frames(config)
        if is_generated:
            found.append("scenes are generated when it runs")
        else:
            training = training_frames(seen.num_train, seen.num_unlabelled)
            found.append(f"{training} and {seen.num_val} validation frames found")
    return "; ".join(dict.fromkeys(found))


def _extent(num_points: int | None) -> str:
    if num_points is None:
        return "a continuous space"
    return "one job" if num_points == 1 else f"{num_points} combinations"


@app.command()
def schema() -> None:
    """Print the JSON Schema of search spaces, for editors that complete and check YAML."""
    from kdsweep.config.reference import json_schema

    print(json.dumps(json_schema(), indent=2))


@app.command()
def losses(
    name: Annotated[
        str | None,
        typer.Argument(
            help="One loss, to read all about it.",
            show_default=False,
            autocompletion=completion.losses,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the distillation losses, or explain one: formula, averages, defaults, taps, paper."""
    from kdsweep.distill.catalogue import catalogue, look_up
    from kdsweep.distill.show import show_all, show_one

    entries = catalogue() if name is None else [look_up(name)]
    if as_json:
        for entry in entries:
            print(json.dumps(entry.to_json(), ensure_ascii=False))
    elif name is None:
        show_all(entries, terminal())
    else:
        show_one(entries[0], terminal())


@app.command()
def encoders(
    word: Annotated[
        str | None,
        typer.Argument(
            help="What is in their names; also searches timm's.",
            show_default=False,
            autocompletion=completion.encoders,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List encoders: parameters, and whether pretrained weights are on this machine.

    Parameters are counted where 40 encoders or fewer are listed.
    """
    from kdsweep.models.encoders import encoders as find_encoders
    from kdsweep.models.encoders_display import show_encoders

    found = find_encoders(word or "")
    if as_json:
        for one in found:
            print(json.dumps(vars(one)))
    else:
        show_encoders(found, terminal(), complete=word is not None)
