"""The student architectures of a space: what a student costs before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kdsweep.config.corners import taking
from kdsweep.config.job import Job
from kdsweep.config.ranges import Scalar
from kdsweep.config.searchable import must_be_finite
from kdsweep.config.template import Branch, Node, Pick, combinations, ranges

# Turns a job into that of a student on its own.
NO_TEACHER: dict[str, Any] = {"teacher": None, "distill": {}}
_COST_NOTHING = ("encoder_weights", "encoder_pixels")


@dataclass(frozen=True)
class Architecture:
    """A student's network and the size of its images.

    Attributes:
        key: As :func:`architecture_key` gives it.
        params: What is drawn for it, and for nothing else of a job.
        job: A job with it; all else in it is of no meaning.
    """

    key: str
    params: dict[str, Scalar]
    job: Job


def architecture_key(job: Job | Mapping[str, Any]) -> str:
    """Return what a job shares with all whose students cost as much: network and image size."""
    plain = job.model_dump(mode="json") if isinstance(job, Job) else job
    student = {key: v for key, v in plain["student"].items() if key not in _COST_NOTHING}
    return json.dumps([student, *plain["data"]["image_size"]], sort_keys=True)


def architectures_of(root: Branch, job_of: Callable[[Pick], Job]) -> Iterator[Architecture]:
    """Every draw of a student's network and image size; several may have the same key.

    Args:
        root: The space.
        job_of: Makes the job of a student on its own.

    Raises:
        ConfigError: There are infinitely many.
    """
    part = Branch((), {"student": root.children["student"], "data": _image_size(root)})
    must_be_finite(
        part,
        "infinitely many student architectures, each of which must be measured before anything is "
        "trained",
        "use `values`, or bound student/latency_ms, which is measured later",
    )
    for options in combinations(part, lambda range_: range_.options()):
        job = job_of(taking(options, lambda range_: range_.middle()))
        own = (r.param(options[r.name]) for r, _ in ranges(part) if r.name in options)
        yield Architecture(architecture_key(job), dict(own), job)


def _image_size(root: Branch) -> Node:
    data = root.children["data"]
    if not isinstance(data, Branch):  # a choice between whole sections
        return data
    # What else a data section draws does not matter.
    return Branch(data.path, {"image_size": data.children["image_size"]})
