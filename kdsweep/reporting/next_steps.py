"""What to do next, as commands and in words."""

from __future__ import annotations

from pathlib import Path

from kdsweep.ledger import Experiment
from kdsweep.reporting import formats
from kdsweep.reporting.results import Results
from kdsweep.reporting.status import Status
from kdsweep.reporting.verdict import verdict

# A budget counts all sessions, so going on needs a larger one.
_BUDGET_FLAGS = {"max_hours": " --max-hours N", "max_gpu_hours": " --max-gpu-hours N"}


def resume_command(experiment: Path, reason: str | None) -> str:
    """Return the command that goes on with an experiment, by why it paused, if it did."""
    return f"kdsweep resume {formats.short_path(experiment)}{_BUDGET_FLAGS.get(reason or '', '')}"


def next_commands(results: Results) -> list[tuple[str, str]]:
    """Return commands worth running now, each with what it does."""
    summary = results.summary
    if summary.experiment is None:
        return []
    folder = Path(summary.experiment)
    commands = []
    if summary.state in ("paused", "died"):
        resume = resume_command(folder, summary.pause_reason)
        commands.append((resume, "resume where it stopped"))
    elif summary.state == "done" and summary.num_failed_trials:
        failed = formats.counted(summary.num_failed_trials, "failed trial")
        commands.append((f"{resume_command(folder, None)} --retry-failed", f"try {failed} again"))
    commands.append((f"kdsweep report {formats.short_path(folder)}", "all tables, also as files"))
    confirmed = summary.confirmed_by
    if confirmed:
        path = formats.short_path(Path(confirmed[-1].experiment))
        commands.append((f"kdsweep report {path}", "what its confirmation found"))
    if summary.best is not None:
        job = Experiment(folder).trial(summary.best.number).job_yaml
        again = f"kdsweep train {formats.short_path(job)}"
        # On CPUs sums depend on how many threads share them.
        if summary.cpus_per_trial and not summary.gpu_hours:
            again += f" --threads {summary.cpus_per_trial}"
        commands.append((again, "train the best trial again"))
        answer = verdict(results)
        settling = None if answer is None else answer.settling
        if settling is not None and summary.state == "done" and not confirmed:
            about = f"about {formats.duration(settling.hours)} of training"
            purpose = f"does a teacher help? trial {settling.trial} on fresh seeds, {about}"
            commands.append((settling.command, purpose))
        if summary.state == "done":
            export = f"kdsweep export {formats.short_path(folder)}"
            commands.append((export, "write the best student as ONNX (needs kdsweep[deploy])"))
    return commands


def what_now(seen: Status) -> list[str]:
    """Return who drives an experiment, or how to resume it."""
    who = "A process"
    if seen.session is not None:
        who = f"process {seen.session.pid} on {seen.session.host}"
    resume = resume_command(Path(seen.path), seen.reason)
    if seen.state == "running" and seen.session is None:
        return ["It was asked for more trials; its next session starts now."]
    if seen.state == "running" and seen.driven is None:
        return [
            f"Whether {who} still runs it cannot be told from here; Ctrl-C there pauses it.",
            f"If it is gone, resume with: {resume}",
        ]
    if seen.state == "running":
        return [f"{who} runs it; Ctrl-C there pauses it."]
    if seen.state == "starting":
        return [f"{who} has taken it over and continues it now."]
    if seen.state == "died":
        who = "Its process" if seen.session is None else who
        return [f"{who} is gone. Resume with: {resume}", *_retry_line(seen, resume)]
    if seen.driven:
        return [f"{who} holds it: it is starting or ending now."]
    if seen.state == "done":
        return _retry_line(seen, resume)
    if seen.state == "paused":
        return [f"Resume with: {resume}", *_retry_line(seen, resume)]
    return [f"It has not started. Start with: {resume}"]


def _retry_line(seen: Status, resume: str) -> list[str]:
    if not seen.num_to_retry:
        return []
    failed = formats.counted(seen.num_to_retry, "trial")
    return [f"{failed} failed. Try again with: {resume} --retry-failed"]
