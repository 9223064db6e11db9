"""Which students of a space keep to its bounds, by what their architecture alone decides."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from kdsweep.config import Job, JobList, Space
from kdsweep.config.architectures import Architecture, architecture_key
from kdsweep.config.objectives import excess
from kdsweep.errors import ConfigError

Costs = Mapping[str, Mapping[str, float]]


class Feasibility:
    """What a space's bounds leave of it, before anything is trained.

    Args:
        costs: Static costs of each architecture, by its key; not needed without static bounds.

    Attributes:
        architectures: Those that keep to the static bounds; empty without such bounds.

    Raises:
        ConfigError: No student of the space keeps to them.
    """

    def __init__(self, space: Space | JobList, costs: Costs) -> None:
        self._space = space
        self._bounds = space.sweep.static_bounds
        self._costs = costs
        self.architectures: list[Architecture] = []
        self._excluded: list[frozenset[tuple[str, Any]]] = []
        if not self._bounds:
            return
        known = space.architectures()
        for architecture in known:
            if self._breaks(architecture.key):
                self._excluded.append(frozenset(architecture.params.items()))
            else:
                self.architectures.append(architecture)
        if known and not self.architectures:
            raise self._nothing_left(known)

    @property
    def is_limiting(self) -> bool:
        """Whether there is anything that may not be trained."""
        return bool(self._excluded)

    def excess(self, job: Job) -> dict[str, float]:
        """By how much a job exceeds each static bound, relative to it; negative if it does not."""
        costs = self._costs.get(architecture_key(job), {})
        return excess(costs, self._bounds)

    def is_feasible(self, params: Mapping[str, Any]) -> bool:
        """Return whether a draw with these parameters keeps to the bounds."""
        items = params.items()
        return not any(excluded <= items for excluded in self._excluded)

    def num_points(self, most: int) -> int:
        """Return how many different jobs there are to train; counts no further than ``most``."""
        num_points = self._space.num_points()
        if num_points is None:
            return most
        if not self._excluded:
            return min(num_points, most)
        feasible = (1 for point in self._space.grid() if self.is_feasible(point))
        return sum(itertools.islice(feasible, most))

    def to_train(self, jobs: Sequence[Job]) -> list[Job]:
        """Those of some jobs that may be trained; if none may, all with a student that may."""
        if not self._excluded:
            return list(jobs)
        found = [job for job in jobs if all(v <= 0 for v in self.excess(job).values())]
        if found:
            return found
        first = self.architectures[0].job
        size = {"image_size": first.data.image_size}
        return [
            job.model_copy(
                update={"student": first.student, "data": job.data.model_copy(update=size)}
            )
            for job in jobs
        ]

    def allows(self, control: Job) -> bool:
        """Return whether some student that may be trained is built like a control's."""
        wanted = control.student
        return not self._excluded or any(a.job.student == wanted for a in self.architectures)

    def _breaks(self, key: str) -> bool:
        return any(value > 0 for value in excess(self._costs[key], self._bounds).values())

    def _nothing_left(self, known: list[Architecture]) -> ConfigError:
        metric, most = next(iter(self._bounds.items()))
        for metric, most in self._bounds.items():
            if all(self._costs[a.key][metric] > most for a in known):
                break
        least = min(known, key=lambda a: self._costs[a.key][metric])
        value = self._costs[least.key][metric]
        return ConfigError(
            f"no student of the space keeps to this bound; the least, {least.job.student.label} at "
            f"{'×'.join(map(str, least.job.data.image_size))}, has {value:.3g}",
            path=("sweep", "constraints", metric),
            value=f"<= {most:g}",
            hint="smaller students, or a higher bound",
        )
