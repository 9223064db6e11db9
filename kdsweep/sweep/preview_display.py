"""A preview of a sweep, for people to read."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdsweep.config.halving import num_spared
from kdsweep.config.sampling import sampler_of
from kdsweep.labels import training_frames
from kdsweep.plain_text import counted
from kdsweep.sweep.forecast import Effort
from kdsweep.sweep.outcome import duration
from kdsweep.sweep.preview import Estimate, Preview

_NAME = 40  # terminal cells that a range's name has before the values give way


def show_preview(preview: Preview, console: Console) -> None:
    """Print what would be trained, and what it would take."""
    _show_sweep(preview, console)
    for line in preview.hours_lines:
        _say(console, line, "bold" if line == preview.hours_lines[0] else "")
    if preview.hours_lines:
        console.print()
    _show_ranges(preview, console)
    _show_cohorts(preview, console)
    if preview.samples:
        _show_samples(preview, console)
        _show_estimates(preview, console)
        _show_confidence(preview, console)
    else:
        _say(console, "Nothing was measured, so nothing is said of hours and memory.")
    for note in preview.notes:
        _say(console, f"Note: {note}", "yellow")


def _show_sweep(preview: Preview, console: Console) -> None:
    sweep = preview.space.sweep
    head = Text(preview.space.name, style="bold")
    head.append("  a plan: nothing was trained", style="dim")
    console.print(head)
    parts = [counted(preview.num_trials, "trial")]
    if preview.num_controls:
        # Siblings that differ in their losses alone have one control.
        shares = sweep.controls == "paired" and sweep.students_per_teacher != 1
        number = counted(preview.num_controls, "control")
        parts[0] += f" and {'up to ' if shares else ''}{number} ({sweep.controls})"
    fewest, most = preview.epochs
    parts.append(counted(most, "epoch") if fewest == most else f"{fewest} to {most} epochs")
    samplers = (sampler_of(preview.space, n) for n in (0, preview.num_trials - 1))
    parts.append(f"sampler {', then '.join(dict.fromkeys(samplers))}")
    metrics = [objective.key for objective in sweep.objectives]
    parts.append(f"metric{'' if len(metrics) == 1 else 's'} {', '.join(metrics)}")
    parts += [f"{metric} {bound}" for metric, bound in sweep.constraints.items()]
    _say(console, " · ".join(parts))
    if preview.rungs:
        rungs = ", ".join(map(str, preview.rungs))
        epochs = "epoch" if len(preview.rungs) == 1 else "epochs"
        spares = num_spared(preview.space, preview.num_trials)
        _say(
            console,
            f"ASHA stops weak trials after {epochs} {rungs}; about one in "
            f"{sweep.reduction_factor} continues"
            f"{', and the best of each student so far' if spares else ''}",
        )
    else:
        _say(console, "all trials run to their end")
    for row in preview.data:
        height, width = row.image_size
        _say(
            console,
            f"data: {row.source}, {training_frames(row.num_train, row.num_unlabelled)}, "
            f"{row.num_val} validation frames, "
            f"{height}×{width} pixels (height × width)",
        )
    for note in preview.weights:
        _say(console, f"weights: {note}")
    for note in preview.teachers:
        _say(console, f"teacher: {note}")
    for notice in dict.fromkeys(row.notice for row in preview.data if row.notice):
        _say(console, f"Note: {notice}", "yellow")
    console.print()


def _show_ranges(preview: Preview, console: Console) -> None:
    if not preview.ranges:
        _say(console, "No ranges: one job.")
        console.print()
        return
    table = _table("range", ("values", "left"), "number", ("per", "left"))
    table.columns[0].overflow = table.columns[1].overflow = "fold"
    table.columns[2].no_wrap = table.columns[3].no_wrap = True
    table.columns[0].min_width = min(max(len(row.name) for row in preview.ranges), _NAME)
    for row in preview.ranges:
        number = "∞" if row.num_values is None else str(row.num_values)
        table.add_row(
            Text(row.name), Text(row.values), number, "teacher" if row.shared else "student"
        )
    console.print(table)
    points = preview.num_points
    _say(
        console,
        "infinitely many different jobs" if points is None else f"{points} different jobs in all",
        "dim",
    )
    for place, setting in enumerate(preview.space.sweep.try_first, start=1):
        told = ", ".join(f"{name} = {value}" for name, value in setting.items())
        _say(console, f"tried first, {place}: {told}")
    console.print()


def _show_cohorts(preview: Preview, console: Console) -> None:
    asked = preview.space.sweep.students_per_teacher
    size = next((e.students_per_teacher for e in preview.estimates if e.asked), asked)
    if size == 1:
        text = "each trial trains a teacher of its own"
    elif size == "auto":
        text = "as many trials share a teacher as pay; a few measured steps tell"
    else:
        text = f"{size} trials share a teacher, which is trained once for them"
    _say(console, f"Cohorts: {text} (sweep.students_per_teacher: {asked})")
    plan = preview.resources
    share = counted(plan.cpus_per_trial, "CPU core")
    if plan.gpus_per_trial:
        share = f"{plan.gpus_per_trial:g} GPU{'' if plan.gpus_per_trial <= 1 else 's'}, {share}"
    what = "trial" if size == 1 else "cohort"
    _say(console, f"Slots:   {counted(plan.slots, what)} at a time, {share} each")
    if preview.packed is not None:
        _say(console, f"Memory:  {preview.packed}")
    console.print()


def _show_samples(preview: Preview, console: Console) -> None:
    smallest, largest = preview.samples
    alike = smallest.cost == largest.cost
    shown = [largest] if alike else [smallest, largest]
    titles = ["the job"] if alike else ["smallest job", "largest job"]
    table = _table("measured", *titles)
    table.columns[0].no_wrap = True
    rows = [
        ("teacher → student", [sample.job.label for sample in shown]),
        ("teacher, a batch", [_short(s.cost.teacher_s) for s in shown]),
        ("student, a batch", [_short(s.cost.student_s) for s in shown]),
        ("control, a batch", [_short(s.cost.control_s) for s in shown]),
        ("batches an epoch", [str(s.cost.num_batches) for s in shown]),
        (
            "epoch of a pair",
            [_short(s.cost.teacher_epoch_s + s.cost.student_epoch_s) for s in shown],
        ),
    ]
    for name, cells in rows:
        table.add_row(name, *(Text(cell) for cell in cells))
    console.print(table)
    console.print()


def _show_estimates(preview: Preview, console: Console) -> None:
    unit = "GPU-hours" if preview.resources.gpus_per_trial else "slot-hours"
    headers = ["with\nASHA", unit, "without\nASHA", unit, "memory\nof each"]
    table = _table("students\nper teacher", *headers)
    table.columns[0].no_wrap = True
    for estimate in preview.estimates:
        cells = [f"{estimate.students_per_teacher}{_marks(preview, estimate)}"]
        for efforts in (estimate.asha, estimate.complete):
            cells += [_hours(efforts), _slot_hours(preview, efforts)]
        cells.append(_gigabytes(estimate.memory_bytes))
        table.add_row(*cells, style="bold" if estimate.asked else "")
    console.print(table)
    expected = preview.expected
    assert expected is not None
    share = f"{100 * expected[1].epochs_share:.0f} % of the trials' epochs"
    tail = f", {share} trained" if preview.space.sweep.stops_early else ""
    _say(console, f"Expected: {_hours(expected)}{tail}", "bold")
    console.print()


def _marks(preview: Preview, estimate: Estimate) -> str:
    marks = []
    if estimate.asked:
        marks.append("asked")
    if estimate.chosen:
        marks.append("auto")
    return f" ({', '.join(marks)})" if marks else ""


def _show_confidence(preview: Preview, console: Console) -> None:
    cost = max((sample.cost for sample in preview.samples), key=lambda cost: cost.spread)
    when = f", {duration(cost.age_s)} ago (--measure times them again)" if cost.age_s else ""
    company = "" if cost.num_processes == 1 else f" in {cost.num_processes} processes side by side"
    frames = (
        ""
        if all(s.cost.num_frames >= s.job.train.batch_size for s in preview.samples)
        else ", partly on smaller batches"
    )
    _say(
        console,
        f"How sure: {counted(cost.num_rounds, 'round')} of steps on {cost.device} with "
        f"{counted(cost.threads, 'thread')}{company}{frames}{when}; "
        f"the middle half of them lay within {100 * cost.spread:.0f} % of the median. "
        "The range goes from a sweep of smallest jobs to one of largest. Not counted: starting "
        "Ray, decoding frames the first time, fetching weights. What else the machine does "
        "then makes it longer.",
        "dim",
    )


def _table(*columns: str | tuple[str, str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for number, column in enumerate(columns):
        header, side = column if isinstance(column, tuple) else (column, "right")
        table.add_column(header, justify="left" if number == 0 or side == "left" else "right")
    return table


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style))


def _short(seconds: float) -> str:
    if seconds < 0.0995:
        return f"{1000 * seconds:.3g} ms"
    return f"{seconds:.2g} s" if seconds < 99.5 else duration(seconds)


def _hours(efforts: Sequence[Effort]) -> str:
    return _span([duration(hours * 3600) for hours in sorted(e.hours for e in efforts)])


def _slot_hours(preview: Preview, efforts: Sequence[Effort]) -> str:
    share = preview.resources.gpus_per_trial or 1.0
    return _span([f"{hours * share:.2g}" for hours in sorted(e.slot_hours for e in efforts)])


def _gigabytes(sizes: Sequence[int]) -> str:
    return _span([f"{size / 1e9:.2g} GB" for size in sorted(sizes)])


def _span(ends: Sequence[str]) -> str:
    """``3–5 min``; the unit once where it is the same."""
    low, high = ends
    if low == high:
        return low
    number, _, unit = low.partition(" ")
    return f"{number}–{high}" if unit == high.partition(" ")[2] else f"{low}–{high}"
