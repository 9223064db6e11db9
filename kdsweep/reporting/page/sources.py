"""What the page takes from the experiment's folder besides the ledger: provenance."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdsweep.ledger import Experiment
from kdsweep.ledger.given_teachers import teacher_scores
from kdsweep.plain_text import printable
from kdsweep.reporting import formats
from kdsweep.reporting.results import Results
from kdsweep.reporting.trial_files import measured_on


@dataclass(frozen=True)
class Document:
    """A file or some facts with a title, that can be unfolded."""

    title: str
    text: str


def facts(results: Results) -> list[tuple[str, str]]:
    """Return what the sweep ran with and on, as name and value."""
    summary, environment = results.summary, _environment(results)
    data, best = summary.data, summary.best
    code = environment.get("code") or {}
    packages = environment.get("packages") or {}
    seeds = {**(environment.get("seeds") or {})}
    found = [
        ("experiment", summary.experiment),
        ("command", shlex.join(environment.get("command") or [])),
        ("started", environment.get("time")),
        ("data", _data_text(data, summary.protocol)),
        ("trained teacher", "; ".join(teacher_scores(data))),
        ("data fingerprint", ", ".join(data.get("fingerprints", ()))),
        ("sampler", summary.sampler),
        ("scheduler", summary.scheduler),
        ("metric", summary.metric),
        ("seeds", ", ".join(f"{name} {seed}" for name, seed in seeds.items())),
        ("commit", _commit(code)),
        ("Python", environment.get("python")),
        ("versions", ", ".join(f"{name} {version}" for name, version in packages.items())),
        ("system", environment.get("platform")),
        ("CPU cores", environment.get("num_cpus")),
        ("GPUs", _gpus(environment)),
        ("latency measured on", None if best is None else measured_on(results, best.number)),
    ]
    return [(name, printable(str(value))) for name, value in found if value not in (None, "")]


def documents(results: Results) -> list[Document]:
    """Return the search space as given and as understood, and the best trial's job."""
    folder = results.summary.experiment
    if folder is None:
        return []
    experiment = Experiment(Path(folder))
    files = [
        ("Search space as given", experiment.space_yaml),
        ("Search space as understood, with defaults", experiment.spec_json),
    ]
    if results.summary.best is not None:
        number = results.summary.best.number
        files.append((f"Job of the best trial ({number})", experiment.trial(number).job_yaml))
    return [Document(title, text) for title, path in files if (text := _read(path)) is not None]


def _gpus(environment: dict[str, Any]) -> str | None:
    machines = environment.get("machines")
    if machines:
        told = [f"{name}: {', '.join(gpus) or 'none'}" for name, gpus in machines.items()]
        return "; ".join(told)
    return "; ".join(environment.get("gpus") or []) or ("none" if environment else None)


def _environment(results: Results) -> dict[str, Any]:
    folder = results.summary.experiment
    text = None if folder is None else _read(Experiment(Path(folder)).environment_json)
    try:
        found = json.loads(text) if text else {}
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None


def _data_text(data: dict[str, Any], protocol: str) -> str | None:
    if not data.get("source"):
        return None
    counts = [] if data.get("num_train") is None else [formats.training_frames(data)]
    counts += [
        f"{data[key]} {name}"
        for key, name in (("num_val", "validation"), ("num_test", "test"))
        if data.get(key) is not None
    ]
    parts = [str(data["source"])]
    if counts:
        parts.append(f"{', '.join(counts)} frames")
    if data.get("image_size"):
        parts.append(f"{formats.frame_size(data['image_size'])} (height × width)")
        parts.append(f"scored at {formats.scored_at(protocol)}")
    if data.get("classes"):
        parts.append(f"{len(data['classes'])} classes")
    return "; ".join(parts)


def _commit(code: dict[str, Any]) -> str | None:
    if not code.get("commit"):
        return None
    return f"{code['commit']}{', with uncommitted changes' if code.get('dirty') else ''}"
