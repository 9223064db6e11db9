"""Given jobs, each with several seeds, in place of a search space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from kdsweep.config.architectures import Architecture
from kdsweep.config.checking import check
from kdsweep.config.job import Job, all_labels_of
from kdsweep.config.ranges import Scalar, Suggest
from kdsweep.config.space import Draw
from kdsweep.config.sweep import ResourcesConfig, SweepConfig
from kdsweep.config.tracking import TrackingConfig
from kdsweep.errors import ConfigError

JOB, SEED = "job", "train.seed"


@dataclass(frozen=True)
class JobList:
    """Jobs to train with several seeds, as a sweep takes them: a grid of jobs and seeds.

    All jobs come with the first seed before any comes with the second.

    Attributes:
        name: Name of the sweep.
        jobs: The jobs by name, without a seed of their own.
        seeds: Seeds of each.
        sweep: The ``sweep`` section; its sampler is ``grid``.
        origin: Where the jobs come from, for the record; JSON-able.
        until_settled: Whether a job gets seeds only until its gain is settled.
    """

    score_test: ClassVar[bool] = True
    first: ClassVar[tuple[dict[str, Scalar], ...]] = ()
    is_conditional: ClassVar[bool] = False

    name: str
    jobs: Mapping[str, Job]
    seeds: tuple[int, ...]
    sweep: SweepConfig
    resources: ResourcesConfig
    tracking: TrackingConfig
    origin: Mapping[str, Any]
    text: str | None = None
    until_settled: bool = False

    def draw(self, suggest: Suggest) -> Draw:
        """Draw one job with one seed."""
        params: dict[str, Scalar] = {
            JOB: suggest.suggest_categorical(JOB, list(self.jobs)),
            SEED: suggest.suggest_categorical(SEED, list(self.seeds)),
        }
        return Draw(params, dict(params), self._job(params))

    def num_points(self) -> int:
        """Jobs times seeds."""
        return len(self.jobs) * len(self.seeds)

    def grid(self) -> Iterator[dict[str, Scalar]]:
        """``params`` of every point, the seed changing slowest."""
        for seed in self.seeds:
            for name in self.jobs:
                yield {JOB: name, SEED: seed}

    def num_siblings(self, draw: Draw) -> int:
        """None but itself."""
        return 1

    def siblings(self, draw: Draw) -> Iterator[dict[str, Scalar]]:
        """None but itself."""
        yield draw.params

    def corners(self) -> Iterator[Job]:
        """Every job."""
        return (self._job({JOB: name, SEED: self.seeds[0]}) for name in self.jobs)

    def jobs_to_check(self) -> list[Job]:
        """Every job, with the first seed."""
        jobs = [self._job({JOB: name, SEED: self.seeds[0]}) for name in self.jobs]
        return [*jobs, *all_labels_of(jobs, self.sweep.further_controls)]

    def num_students(self) -> int | None:
        """Of no meaning: nothing is stopped."""
        return None

    def controls(self) -> list[Job]:
        """No shared ones: each job has its own beside it."""
        return []

    def locate(self, error: ConfigError) -> ConfigError:
        """The error as it is: no file was written by hand."""
        return error

    def architectures(self) -> list[Architecture]:
        """None: what is confirmed has kept to the bounds already."""
        return []

    def resolved(self) -> dict[str, Any]:
        """Everything, as :meth:`from_resolved` takes it; JSON-able."""
        return {
            "name": self.name,
            "origin": dict(self.origin),
            "seeds": list(self.seeds),
            **({"until_settled": True} if self.until_settled else {}),
            "jobs": {name: job.model_dump(mode="json") for name, job in self.jobs.items()},
            "sweep": self.sweep.model_dump(mode="json"),
            "resources": self.resources.model_dump(mode="json"),
            "tracking": self.tracking.model_dump(mode="json"),
        }

    @classmethod
    def from_resolved(cls, resolved: Mapping[str, Any]) -> JobList:
        """The list that :meth:`resolved` wrote.

        Raises:
            ConfigError: It is not valid (any more).
        """
        return cls(
            name=resolved["name"],
            jobs={name: check(Job, job) for name, job in resolved["jobs"].items()},
            seeds=tuple(resolved["seeds"]),
            sweep=check(SweepConfig, resolved["sweep"]),
            resources=check(ResourcesConfig, resolved["resources"]),
            tracking=check(TrackingConfig, resolved["tracking"]),
            origin=resolved["origin"],
            until_settled=resolved.get("until_settled", False),
        )

    def _job(self, params: Mapping[str, Any]) -> Job:
        job = self.jobs[params[JOB]]
        train = job.train.model_copy(update={"seed": params[SEED]})
        return job.model_copy(update={"train": train})
