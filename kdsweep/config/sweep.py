"""The ``sweep:`` and ``resources:`` sections of a search space."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from kdsweep.config.base import Config, broken_rule
from kdsweep.config.metrics import MIOU, Metric, metric_of
from kdsweep.config.objectives import (
    STATIC_COSTS,
    Bounds,
    Objectives,
    ScoreName,
    most_allowed,
)
from kdsweep.config.ranges import Scalar
from kdsweep.errors import did_you_mean
from kdsweep.registry import Registry


def _share_or_whole(gpus: float) -> float:
    if gpus > 1 and not gpus.is_integer():
        raise broken_rule(
            "more than one GPU, but not a whole number of them",
            allowed="a fraction up to 1, or a whole number",
        )
    return gpus


ASHA: Final = "asha"
PER_STUDENT: Final = "asha_per_student"
SCHEDULERS: Registry[Any] = Registry("scheduler", "kdsweep.schedulers")
"""Rules that stop weak trials: classes that inherit from
:class:`kdsweep.sweep.schedulers.base.Scheduler`, or where one is, as ``module:name``."""

SCHEDULERS.register(ASHA)("kdsweep.sweep.schedulers.asha:Asha")
SCHEDULERS.register(PER_STUDENT)("kdsweep.sweep.schedulers.asha_per_student:AshaPerStudent")
SCHEDULERS.register("none")("kdsweep.sweep.schedulers.none:RunToTheEnd")


def _known_scheduler(name: str) -> str:
    if name not in SCHEDULERS:
        names = SCHEDULERS.names()
        raise broken_rule(
            "unknown scheduler", allowed=", ".join(names), hint=did_you_mean(name, names)
        )
    return name


SchedulerName = Annotated[str, AfterValidator(_known_scheduler)]
SELF: Final = "self"
AUTO: Final = "auto"
EQUAL_TIME: Final = "equal_time"
ALL_LABELS: Final = "all_labels"
FurtherControl = Literal["self", "all_labels", "equal_time"]
# They train on their own: longer than their pair, or on other frames.
_APART = (EQUAL_TIME, ALL_LABELS)
Gpus = Annotated[PositiveFloat, AfterValidator(_share_or_whole)]


class SweepConfig(Config):
    """What is searched, with what, for how long.

    Attributes:
        trials: Trials drawn from the space; controls come on top.
        metric: Key of an epoch report, or a list of them to search for the best compromises. The
            first is a score, by which the best epoch is kept and weak trials are stopped. Scores
            are maximised, costs minimised.
        constraints: Most that a student may cost, as in ``student/params_m: "<= 8"``. A student
            with more parameters or MACs is never trained; one that is too slow or too large when
            it is measured ends with its first epoch.
        sampler: Optuna sampler that draws the trials (``gp`` is a Gaussian process, ``grid`` walks
            all combinations, ``nsga2`` is NSGA-II). ``auto`` is ``gp`` for the first 200 trials of
            a space of infinitely many jobs whose trials all have the same ranges, with one metric
            and no constraints; else ``tpe``.
        scheduler: ``asha`` stops weak trials at rungs, ``none`` lets all run to the end.
            ``asha_per_student`` is ASHA, but the best trial of each student so far goes on, as
            networks learn at different paces; with fewer than eight trials for each student it is
            ``asha``. With several metrics a trial that no other beats in all of them goes on. Other
            packages may add rules.
        grace_period: First rung, in epochs. ``auto`` is a ninth of ``train.epochs``, and no earlier
            than the end of the warm-up of learning rates and losses.
        reduction_factor: At each rung about one trial in this many goes on.
        controls: ``shared`` trains each student architecture of the space once without a teacher;
            ``paired`` trains beside each trial its exact control, on the same batches from the same
            initial weights, for as long as the trial.
        further_controls: ``self`` trains beside each control the same student taught by its own
            average: where there are unlabelled frames, it tells what they give without a teacher.
            ``all_labels`` trains the same student with the labels that ``data`` leaves out, for as
            many steps: it tells how much there is to gain from those frames (headroom).
            ``equal_time`` is for confirmations alone (``kdsweep confirm --equal-time``).
        students_per_teacher: Trials that train as one cohort: their teacher and whatever else they
            share is drawn and trained once, the students differ in ``student``, ``distill`` and
            ``train.student``. ``auto`` measures a few steps and picks the number that pays.
        try_first: Settings to run before the sampler chooses freely: mappings of ranges, named as
            ``plan`` and the tables name them, to values or labels of choices. Ranges that one
            leaves out are drawn; one inside a choice brings that choice along.
        seed: Seed of the sampler.
        max_hours: Wall-clock budget; the sweep then pauses and can be resumed.
        max_gpu_hours: Budget of GPU-hours; likewise.
        max_concurrent: Trials at a time; as many as fit if left out.
        crash_retries: How often a crashed trial starts again from its checkpoint.
        hang_minutes: How long a trial may do nothing before its worker is ended and it is tried
            again from its checkpoint, once. Three times that where it does something for the first
            time. ``auto`` is 10 minutes, or 20 times what a step usually takes if that is more;
            ``none`` waits for ever.
    """

    trials: PositiveInt = 20
    metric: ScoreName | Objectives = MIOU
    constraints: Bounds = Field(default_factory=dict)
    sampler: Literal["auto", "tpe", "random", "grid", "cmaes", "gp", "nsga2"] = AUTO
    scheduler: SchedulerName = PER_STUDENT
    grace_period: PositiveInt | Literal["auto"] = AUTO
    reduction_factor: int = Field(default=3, ge=2)
    controls: Literal["shared", "paired", "none"] = "shared"
    further_controls: Annotated[tuple[FurtherControl, ...], Field(strict=False)] = ()
    students_per_teacher: PositiveInt | Literal["auto"] = 1
    try_first: Annotated[tuple[dict[str, Scalar], ...], Field(strict=False)] = ()
    seed: NonNegativeInt = 0
    max_hours: PositiveFloat | None = None
    max_gpu_hours: PositiveFloat | None = None
    max_concurrent: PositiveInt | None = None
    crash_retries: NonNegativeInt = 2
    hang_minutes: PositiveFloat | Literal["auto", "none"] = AUTO

    @property
    def num_paired(self) -> int:
        """Controls that each trial has of its own."""
        return 1 + len(self.further_controls) if self.controls == "paired" else 0

    def num_riding(self, students: int = 1, *, one_control: bool = False) -> int:
        """Return how many controls train beside so many students of a teacher, in their cohort.

        Args:
            students: The students.
            one_control: Whether they have the one without a teacher in common.
        """
        if self.controls != "paired":
            return 0
        further = [kind for kind in self.further_controls if kind not in _APART]
        return (1 if one_control else students) + students * len(further)

    @property
    def objectives(self) -> tuple[Metric, ...]:
        """What is optimised, the score that decides on epochs first."""
        metrics = (self.metric,) if isinstance(self.metric, str) else self.metric
        return tuple(metric_of(metric) for metric in metrics)

    @property
    def score(self) -> str:
        """The metric by which epochs are compared and trials are stopped."""
        return self.objectives[0].key

    @property
    def stops_early(self) -> bool:
        """Whether weak trials may end before their last epoch."""
        return self.scheduler != "none"

    @property
    def bounds(self) -> dict[str, float]:
        """Most that a student may cost, by metric."""
        return {metric: most_allowed(bound) for metric, bound in self.constraints.items()}

    @property
    def static_bounds(self) -> dict[str, float]:
        """Those of the bounds of which a job's architecture alone decides."""
        return {metric: most for metric, most in self.bounds.items() if metric in STATIC_COSTS}

    @model_validator(mode="after")
    def _stands_beside_a_control(self) -> SweepConfig:
        if self.further_controls and self.controls == "none":
            raise broken_rule(
                "further controls, but none to stand beside",
                at=("further_controls",),
                allowed="[]; or controls: shared or paired",
            )
        if len(set(self.further_controls)) < len(self.further_controls):
            raise broken_rule("one of them twice", at=("further_controls",))
        return self

    @model_validator(mode="after")
    def _fits_sampler(self) -> SweepConfig:
        if self.sampler == "cmaes" and len(self.objectives) > 1:
            raise broken_rule(
                "CMA-ES knows one objective only",
                at=("sampler",),
                allowed="tpe, nsga2, gp, random or grid with several metrics",
            )
        return self


class ResourcesConfig(Config):
    """What one trial gets.

    Attributes:
        gpus_per_trial: GPUs; a fraction packs several trials on one. Ignored where there is no GPU.
        cpus_per_trial: CPU cores; shared out evenly among the trials that fit if left out.
    """

    gpus_per_trial: Gpus = 1.0
    cpus_per_trial: PositiveInt | None = None
