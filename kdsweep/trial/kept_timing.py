"""Times of steps, kept for an hour: ``init``, ``plan``, ``run --hours`` ask for the same ones."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdsweep.data.fingerprint import default_cache, fingerprint
from kdsweep.ledger.atomic import write_json
from kdsweep.ledger.provenance import installed_versions
from kdsweep.training.step_cost import StepCost

if TYPE_CHECKING:
    from kdsweep.config.job import Job

KEPT_S = 3600.0


class KeptTimes:
    """The file with the times of some jobs, in the cache.

    Args:
        jobs: The jobs.
        how: What else the times depend on.
    """

    def __init__(self, jobs: Sequence[Job], how: dict[str, Any]) -> None:
        facts = {
            "jobs": [_facts(job) for job in jobs],
            "how": how,
            # A home folder, and the cache with it, may be that of many machines.
            "machine": socket.gethostname(),
            "versions": installed_versions(["kdsweep", "torch"]),
        }
        self._path: Path = default_cache() / "steps" / f"{fingerprint(facts)}.json"

    def read(self) -> list[StepCost] | None:
        """Return the costs, job by job; ``None`` if there are none of the last hour."""
        try:
            age_s = max(0.0, time.time() - self._path.stat().st_mtime)
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            costs = [replace(StepCost.from_json(cost), age_s=age_s) for cost in kept]
        except (OSError, ValueError, TypeError):
            return None
        return costs if age_s < KEPT_S else None

    def write(self, costs: Sequence[StepCost]) -> None:
        """Keep what was measured now, and remove what is too old; where it cannot, never mind."""
        home = self._path.parent
        with suppress(OSError, ValueError):  # JSON has no word for what is not finite
            home.mkdir(parents=True, exist_ok=True)
            for old in home.glob("*.json"):
                if time.time() - old.stat().st_mtime > KEPT_S:
                    old.unlink()
            write_json(self._path, [cost.to_json() for cost in costs])


def _facts(job: Job) -> dict[str, Any]:
    """What of a job the times depend on: not its name, and not for how long it trains."""
    tree = job.model_dump(mode="json")
    tree.pop("name")
    tree["train"].pop("epochs")
    tree["distill"]["head_start_epochs"] = job.distill.head_start_epochs > 0
    return tree
