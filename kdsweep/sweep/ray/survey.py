"""A look at each machine of a cluster before anything trains there.

What a sweep needs may lack on one machine of many: the same kdsweep, the data, a GPU that torch
sees, disk space. A trial placed there would fail, and the next one too. So a task looks at each
machine first; one that lacks something is named, and gets no trial. The task also tells whether the
machine sees the experiment's folder: the driver has left word there, and the task leaves some for
the driver.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from kdsweep.errors import KdsweepError
from kdsweep.ledger.provenance import visible_gpus
from kdsweep.sweep.resources import Node

MIN_FREE_BYTES = 1 << 30
# A machine that was just started may have to import from a cold disk and decode a data set.
PATIENCE_SECONDS = 1800.0
_COMPARED = ("kdsweep", "torch", "timm", "segmentation-models-pytorch")
_COUNT_GPUS = "import torch; print(torch.cuda.device_count())"


@dataclass(frozen=True)
class Word:
    """What the driver leaves in a folder, for who sees it: a text that no other sweep has."""

    folder: str
    text: str

    @classmethod
    def leave(cls, folder: Path) -> Word:
        """Write it."""
        word = cls(str(folder), secrets.token_hex(16))
        word.path.write_text(word.text, encoding="utf-8")
        return word

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.folder) / "word"

    def is_seen(self) -> bool:
        """Return whether this machine sees the folder, and can write there."""
        try:
            return self.path.read_text(encoding="utf-8") == self.text and os.access(
                self.folder, os.W_OK
            )
        except OSError:
            return False

    def answer(self, name: str) -> bool:
        """Leave an answer beside it, if this machine sees it; return whether."""
        try:
            if self.is_seen():
                (Path(self.folder) / f"seen-{name}").write_text(self.text, encoding="utf-8")
                return True
        except OSError:
            pass
        return False

    def is_answered(self, name: str) -> bool:
        """Return whether the answer of a machine is seen here."""
        try:
            return (Path(self.folder) / f"seen-{name}").read_text(encoding="utf-8") == self.text
        except OSError:
            return False


@dataclass(frozen=True)
class Seen:
    """What was found on a machine.

    Attributes:
        node: The machine.
        problem: Why no trial can run there; ``None`` if one can.
        shares_folder: Whether it sees the experiment's folder.
        data: Fingerprints of the data there, by their section.
        gpus: Name, memory and driver of each of its GPUs.
    """

    node: Node
    problem: str | None
    shares_folder: bool = False
    data: Mapping[str, str] = field(default_factory=dict)
    gpus: Sequence[str] = ()


class Survey:
    """Looks at the machines of a cluster, each once.

    Args:
        word: Left in a folder beside the experiment's.
        runner: Module that holds ``prepare``.
        jobs: Jobs that together show all data, as JSON.

    Attributes:
        seen: What was found, by the machine's id.
    """

    def __init__(self, word: Word, runner: str, jobs: Sequence[dict[str, Any]]) -> None:
        self._word, self._runner = word, runner
        self._jobs = [json.dumps(job) for job in jobs]
        self._asked: dict[Any, Node] = {}
        self.seen: dict[str, Seen] = {}

    def ask(self, nodes: Iterable[Node]) -> None:
        """Begin to look at those machines that were not looked at."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        asked = {node.id for node in self._asked.values()}
        versions = versions_here()
        task = ray.remote(num_cpus=0, max_retries=1)(look)
        for node in nodes:
            if node.id in self.seen or node.id in asked:
                continue
            strategy = NodeAffinitySchedulingStrategy(node.id, soft=False)
            there = task.options(scheduling_strategy=strategy).remote(
                self._word, node.id, versions, int(node.gpus), self._runner, self._jobs
            )
            self._asked[there] = node

    def collect(self) -> list[Seen]:
        """Return what has been found since the last call."""
        import ray

        if not self._asked:
            return []
        done, _ = ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0)
        found = []
        for ref in done:  # each is compared with those before it
            found.append(self._answered(self._asked.pop(ref), ref))
            self.seen[found[-1].node.id] = found[-1]
        return found

    @property
    def is_waiting(self) -> bool:
        """Whether a machine has not answered."""
        return bool(self._asked)

    def give_up(self) -> list[Seen]:
        """Return those that have not answered."""
        found = [
            Seen(node, f"it has not answered within {PATIENCE_SECONDS / 60:.0f} minutes")
            for node in self._asked.values()
        ]
        self._asked.clear()
        self.seen |= {seen.node.id: seen for seen in found}
        return found

    def _answered(self, node: Node, ref: Any) -> Seen:
        import ray

        try:
            told = ray.get(ref)
        except Exception as error:
            return Seen(node, _why(error))
        shares = bool(told["sees"]) and self._word.is_answered(node.id)
        problem = told["problem"]
        if problem is None:
            problem = other_data(told["data"], self.seen.values())
        return Seen(node, problem, shares, told["data"], told["gpus"])


def other_data(here: Mapping[str, str], seen: Iterable[Seen]) -> str | None:
    """Return in what a machine's data differ from those of the first to answer that has some."""
    first = next((s for s in seen if s.problem is None and s.data), None)
    if first is None or first.data == here:
        return None
    return (
        f"its data are others: fingerprint {_short(here)} there, {_short(first.data)} on "
        f"{first.node.name}"
    )


def look(
    word: Word, name: str, versions: Mapping[str, str], gpus: int, runner: str, jobs: Sequence[str]
) -> dict[str, Any]:
    """Return what there is on this machine; runs as a task there.

    Args:
        word: What the driver has left.
        name: The machine's id.
        versions: What the driver runs with.
        gpus: GPUs that Ray says it has.
        runner: Module that holds ``prepare``.
        jobs: Jobs that together show all data, as JSON.

    Returns:
        ``problem``, ``sees``, ``data`` and ``gpus``, as :class:`Seen` has them.
    """
    found: dict[str, Any] = {
        "problem": None,
        "sees": word.answer(name),
        "data": {},
        "gpus": visible_gpus(),
    }
    try:
        found["problem"] = (
            _other_versions(versions)
            or _little_space(Path(word.folder) if found["sees"] else Path(tempfile.gettempdir()))
            or (_hidden_gpus(gpus) if gpus else None)
        )
        if found["problem"] is None:
            found["data"] = _fingerprints(runner, jobs)
    except KdsweepError as error:
        found["problem"] = str(error)
    except Exception as error:
        found["problem"] = f"{type(error).__name__}: {error}"
    return found


def versions_here() -> dict[str, str]:
    """Return the versions that the machines of a sweep have in common."""
    found = {"Python": platform.python_version()}
    for package in _COMPARED:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "missing"
    return found


def _other_versions(wanted: Mapping[str, str]) -> str | None:
    here = versions_here()
    others = [
        f"{name} {here.get(name, 'missing')}, not {version}"
        for name, version in wanted.items()
        if _decisive(name, here.get(name, "missing")) != _decisive(name, version)
    ]
    return "; ".join(others) or None


def _decisive(name: str, version: str) -> str:
    # Bug fixes of Python change no training.
    return ".".join(version.split(".")[:2]) if name == "Python" else version


def _little_space(folder: Path) -> str | None:
    free = shutil.disk_usage(folder).free
    if free >= MIN_FREE_BYTES:
        return None
    return f"{free / 1e9:.1f} GB are free in {folder}, {MIN_FREE_BYTES / 1e9:.1f} GB are needed"


def _hidden_gpus(gpus: int) -> str | None:
    """Return what is wrong if torch does not see the GPUs that Ray hands out."""
    # Ray shows a task without GPUs none of them; a process of its own may look.
    shown = {name: v for name, v in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    told = subprocess.run(
        [sys.executable, "-c", _COUNT_GPUS], env=shown, capture_output=True, text=True, timeout=300
    )
    count = int(told.stdout.strip() or 0) if told.returncode == 0 else 0
    return None if count >= gpus else f"Ray says it has {gpus} GPUs, torch sees {count}"


def _fingerprints(runner: str, jobs: Sequence[str]) -> dict[str, str]:
    from kdsweep.config import Job
    from kdsweep.data.identity import Identity
    from kdsweep.sweep.ray.preflight import load_runner

    prepared = load_runner(runner).prepare([Job.model_validate_json(job) for job in jobs])
    return {
        section: Identity.from_json(json.loads(text)).fingerprint
        for section, text in prepared.get("identities", {}).items()
    }


def _short(data: Mapping[str, str]) -> str:
    return ", ".join(fingerprint[:4] for fingerprint in data.values())


def _why(error: Exception) -> str:
    text = str(error)
    if "No module named" in text:
        return text[text.index("No module named") :].splitlines()[0] + "; install kdsweep there"
    return (text.strip().splitlines() or [type(error).__name__])[-1]


def left_out(found: Iterable[Seen], note: Callable[[str], None]) -> None:
    """Say which machines get no trial, and why."""
    for seen in found:
        if seen.problem is not None:
            note(f"warning: {seen.node.name} gets no trials: {seen.problem}")
