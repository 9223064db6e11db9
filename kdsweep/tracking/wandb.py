"""Weights & Biases, from the driver's side.

What is special about it here: runs belong to a W&B sweep, whose id is kept in a file, and nothing
of a run that the driver may itself be part of must reach ours.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from typing_extensions import override

from kdsweep.ledger.atomic import write_json
from kdsweep.tracking.base import SweepSummary
from kdsweep.tracking.sidecar import Sidecar

# Of the environment's run and sweep nothing must reach ours: wandb prefers it to its arguments.
_FOREIGN = (
    "WANDB_RUN_ID",
    "WANDB_RUN_GROUP",
    "WANDB_NAME",
    "WANDB_NOTES",
    "WANDB_JOB_TYPE",
    "WANDB_RESUME",
    "WANDB_SERVICE",
    "WANDB_SWEEP_ID",
    "WANDB_SWEEP_PARAM_PATH",
    "WANDB_TAGS",
    "WANDB_MODE",
    "WANDB_DIR",
)
# By these an agent tells the process it starts which run of which sweep that is.
_AGENTS = ("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH")
# wandb logs no more rows of a table than these.
MAX_ROWS = 10_000


class WandbTracker(Sidecar):
    """Writes trials as wandb runs, offline or online.

    Args:
        mode: ``online`` or ``offline``.
        entity: User or team; the account's default if ``None``.
        group: Name that the runs of a sweep share; with a trial's number it makes a run's id, so
            that a resumed sweep continues its runs.
        folder: Where runs are written. wandb insists on a folder of its own name: one called
            ``wandb`` is used as it is, any other gets it below.
        sweep: Configuration of a W&B sweep that the trials belong to; none if left out. No other
            sweep of the project has its name.
        sweep_file: Where the sweep's id is kept. A sweep whose id is there is not created again;
            where the file has none, it is looked up by its name first.
        agent: Whether this process was started by ``wandb agent``, for one run of its sweep.
        init_seconds: How long a server may take to open a run.
        warn, close_seconds, queue_size: As for a :class:`~kdsweep.tracking.sidecar.Sidecar`.
    """

    def __init__(
        self,
        mode: str,
        project: str,
        entity: str | None,
        group: str,
        folder: Path,
        *,
        sweep: Mapping[str, Any] | None = None,
        sweep_file: Path | None = None,
        agent: bool = False,
        warn: Callable[[str], None] | None = None,
        init_seconds: float = 30.0,
        close_seconds: float = 20.0,
        queue_size: int = 10_000,
    ) -> None:
        place = str(folder.parent if folder.name == "wandb" else folder)
        options = {
            "mode": mode,
            "agent": agent,
            "sweep": sweep,
            "sweep_id": None if sweep_file is None else _read_sweep(sweep_file),
            # The file is there before the sweep is: a process that dies in between leaves it
            # without an id, and the next one looks for the sweep before it creates another.
            "sweep_begun": sweep_file is not None and sweep_file.exists(),
            "project": project,
            "entity": entity,
            "group": group,
            "dir": place,
            "init_seconds": init_seconds,
        }
        super().__init__(
            "Weights & Biases",
            "kdsweep.tracking.wandb_writer:WandbWriter",
            options,
            left=f"what is left stays on the disk; send it with: kdsweep wandb sync {place}",
            # wandb's own process writes down what it could not send when it finds ours gone.
            kill=True,
            environ=_environ(agent),
            warn=warn,
            close_seconds=close_seconds,
            queue_size=queue_size,
        )
        self._sweep_file = sweep_file

    @override
    def summary(self, summary: SweepSummary) -> None:
        for name, rows in summary.tables.items():
            if len(rows) > MAX_ROWS:
                self._fail(f"of the table {name} only the first {MAX_ROWS} rows are sent")
        tables = {name: rows[:MAX_ROWS] for name, rows in summary.tables.items()}
        super().summary(replace(summary, tables=tables))

    def _begin(self) -> None:
        if self._options["sweep"] is not None and not self._options["sweep_begun"]:
            self._keep_sweep(None)

    def _answered(self, answer: Mapping[str, Any]) -> None:
        if "sweep" in answer:
            self._keep_sweep(answer["sweep"])

    def _keep_sweep(self, sweep: str | None) -> None:
        """Write down the sweep's id; ``None`` while it is about to be created."""
        path = self._sweep_file
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"sweep": sweep, "project": self._options["project"]})
        except OSError as error:
            self._fail(f"the sweep's id could not be kept ({error}); a resume creates another one")


def _read_sweep(path: Path) -> str | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["sweep"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def _environ(agent: bool) -> dict[str, str]:
    foreign = [name for name in _FOREIGN if not (agent and name in _AGENTS)]
    environ = {name: value for name, value in os.environ.items() if name not in foreign}
    environ |= {"WANDB_SILENT": "true", "WANDB_CONSOLE": "off"}
    # wandb reports its own errors to its makers, also when it is offline.
    environ.setdefault("WANDB_ERROR_REPORTING", "false")
    return environ
