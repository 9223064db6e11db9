"""Commands for trained students: score, improve, export, use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdsweep.cli import completion
from kdsweep.cli.app import app
from kdsweep.cli.options import (
    LATEST_EXPERIMENT,
    AcceptData,
    Data,
    Device,
    OneJson,
    ProtocolName,
    Quiet,
    Stride,
    Student,
    TeacherFolder,
    Threads,
    TrialNumber,
    Window,
)
from kdsweep.cli.output import SOME_FAILED, relative, say_warning, terminal
from kdsweep.cli.progress import step_progress
from kdsweep.plain_text import counted

if TYPE_CHECKING:
    from kdsweep.deploy.export import Format

_LONGEST_NAME = 40


@app.command()
def evaluate(
    student: Student = LATEST_EXPERIMENT,
    trial: TrialNumber = None,
    split: Annotated[str, typer.Option(help="val, test (score it once) or train.")] = "val",
    data: Data = None,
    postprocess: Annotated[
        str | None,
        typer.Option(
            metavar="STEPS|auto",
            help="Post-processing, e.g. flip,regions:0.001; auto: what `postprocess` has chosen.",
            show_default=False,
        ),
    ] = None,
    teacher: TeacherFolder = None,
    protocol: ProtocolName = None,
    window: Window = None,
    stride: Stride = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of CSV and JSON; left out: in the experiment, under evaluation."),
    ] = None,
    device: Device = "auto",
    accept_changed_data: AcceptData = False,
    as_json: OneJson = False,
) -> None:
    """Score a student: IoU, boundaries, calibration, each with its interval over frames."""
    from kdsweep.deploy.evaluation_display import show_evaluation, show_written
    from kdsweep.deploy.scoring import score
    from kdsweep.deploy.windows import parse_windows

    with step_progress("opening the student", quiet=as_json) as advance:
        scored = score(
            student,
            trial=trial,
            split=split,  # type: ignore[arg-type]
            data=data or (),
            postprocess=postprocess,
            teacher=teacher,
            out=out,
            device=device,
            accept_changed_data=accept_changed_data,
            protocol=protocol,  # type: ignore[arg-type]
            windows=parse_windows(window, stride),
            warn=say_warning,
            advance=advance,
        )
    if as_json:
        print(json.dumps(scored.evaluation.to_json(), ensure_ascii=False))
        return
    show_evaluation(scored.evaluation, terminal())
    show_written([relative(path) for path in scored.written], terminal())


@app.command()
def postprocess(
    student: Student = LATEST_EXPERIMENT,
    trial: TrialNumber = None,
    data: Data = None,
    teacher: TeacherFolder = None,
    device: Device = "auto",
    accept_changed_data: AcceptData = False,
    as_json: OneJson = False,
) -> None:
    """Try post-processing on validation frames, and say which of it pays and what it costs."""
    from kdsweep.deploy.evaluation_display import show_search, show_written
    from kdsweep.deploy.scoring import search

    with step_progress("trying post-processing", quiet=as_json) as advance:
        searched = search(
            student,
            trial=trial,
            data=data or (),
            teacher=teacher,
            device=device,
            accept_changed_data=accept_changed_data,
            warn=say_warning,
            say=lambda done, total: advance("trying post-processing", done, total),
        )
    if as_json:
        print(json.dumps(searched.search.to_json(), ensure_ascii=False))
        return
    show_search(searched.search, terminal())
    show_written([relative(path) for path in searched.written], terminal())


@app.command()
def export(
    student: Student = LATEST_EXPERIMENT,
    trial: TrialNumber = None,
    format_: Annotated[
        str,
        typer.Option(
            "--format", help="onnx, int8 (ONNX in 8 bits), or torch (safetensors, card, job)."
        ),
    ] = "onnx",
    out: Annotated[
        Path | None,
        typer.Option(
            help="New folder to write; one under EXPERIMENT/exports if left out.",
            show_default=False,
        ),
    ] = None,
    data: Data = None,
    max_loss: Annotated[
        float, typer.Option(min=0, help="Points of mIoU that int8 may lose.")
    ] = 2.0,
    as_json: OneJson = False,
) -> None:
    """Export a trained student, checked on validation frames, with a model card."""
    from typing import cast

    from kdsweep.api import export as export_student
    from kdsweep.deploy.export_display import show_export

    with step_progress("looking", quiet=as_json) as advance:
        exported = export_student(
            student,
            trial=trial,
            format=cast("Format", format_),
            out=out,
            data=data or (),
            max_loss=max_loss,
            advance=advance,
        )
    if as_json:
        facts = exported.written.to_json() | exported.check.to_json()
        found = {"model": str(exported.model), **facts}
        print(json.dumps(found, ensure_ascii=False))
    else:
        show_export(exported, relative(exported.model), terminal())


@app.command()
def predict(
    model: Annotated[
        Path,
        typer.Argument(
            help="An exported student (ONNX file or folder), a trial, or an experiment.",
            show_default=False,
            autocompletion=completion.experiments,
        ),
    ],
    inputs: Annotated[
        list[Path], typer.Argument(help="Pictures, folders, videos.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="New or empty folder to write.", show_default=False)],
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Write pictures with the classes laid over them too.")
    ] = False,
    window: Window = None,
    stride: Stride = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Write a mask for each picture or frame; exit code 3 if an input had to be skipped."""
    from kdsweep.deploy import load
    from kdsweep.deploy.inputs import Input, total_frames
    from kdsweep.deploy.predicting import predict as predict_files
    from kdsweep.deploy.windows import parse_windows

    windows = parse_windows(window, stride)
    total = done_frames = 0

    def begin(found: list[Input]) -> None:
        nonlocal total
        total = total_frames(found) or 0

    def advance(given: Input) -> None:
        nonlocal done_frames
        done_frames += 1
        show(given.path.name[-_LONGEST_NAME:], done_frames, total)

    with step_progress("loading the model", quiet=quiet) as show:
        loaded = load(model, device=device, num_threads=threads)
        done = predict_files(
            loaded, inputs, out, overlay=overlay, windows=windows, begin=begin, advance=advance
        )
    for problem in done.problems:
        say_warning(f"skipped {problem}")
    if not quiet:
        print(f"{counted(done.num_frames, 'frame')} predicted: {relative(done.out)}")
    raise typer.Exit(SOME_FAILED if done.problems else 0)
