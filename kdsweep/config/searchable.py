"""Whether a space can be searched as it asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdsweep.config.sweep import ALL_LABELS
from kdsweep.config.template import Node, ranges
from kdsweep.errors import ConfigError

if TYPE_CHECKING:
    from kdsweep.config.space import Space


def must_be_finite(
    root: Node,
    problem: str = "a grid needs a finite space, and this range has infinitely many values",
    hint: str = "use `values` or distribution: q_uniform, or another sampler",
) -> None:
    """Raise a ConfigError if a space, or a part of one, has infinitely many points."""
    for range_, _ in ranges(root):
        if range_.num_options() is None:
            raise ConfigError(problem, path=range_.path, hint=hint)


def check_search(space: Space) -> None:
    """Raise a ConfigError unless the sampler and the controls can do with the space."""
    if len({job.train.validate_at for job in space.jobs_to_check()}) > 1:
        raise ConfigError(
            "trials that are scored at different sizes cannot be ranked",
            path=("train", "validate_at"),
            allowed="resized or native, the same for the whole sweep",
            hint="kdsweep evaluate --protocol native scores any student at the other size",
        )
    if len({job.train.select for job in space.jobs_to_check()}) > 1:
        raise ConfigError(
            "trials of which the best epoch counts cannot be ranked with trials of the last one",
            path=("train", "select"),
            allowed="best or last, the same for the whole sweep",
        )
    if space.sweep.sampler == "grid":
        must_be_finite(space.root)
    if space.sweep.controls == "shared":
        space.controls()
    leaves_out = any(job.data.leaves_labels_out for job in space.jobs_to_check())
    if ALL_LABELS in space.sweep.further_controls and not leaves_out:
        raise ConfigError(
            "a control with all labels, but no labels are left out",
            path=("sweep", "further_controls"),
            value=ALL_LABELS,
            hint="leave it out; or data.labelled, num_labelled or unlabelled_scenes",
        )
    if space.sweep.static_bounds:
        space.architectures()
    wanted = space.sweep.students_per_teacher
    if wanted not in (1, "auto") and all(shared for _, shared in space.ranges()):
        raise ConfigError(
            "several students for each teacher, but no range by which they could differ",
            path=("sweep", "students_per_teacher"),
            value=wanted,
            allowed="1 or auto; or a range in student, distill or train.student",
        )
