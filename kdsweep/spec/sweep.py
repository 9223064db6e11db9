"""The ``sweep:``, ``resources:`` and ``tracking:`` sections of a search space."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt

from kdsweep.spec.base import Spec, broken_rule

# Only what a control has as well: a gain compares the two.
MetricName = Literal["student/miou", "student/pixel_accuracy", "student/seed_compat_iou"]


def _share_or_whole(gpus: float) -> float:
    if gpus > 1 and not gpus.is_integer():
        raise broken_rule(
            "more than one GPU, but not a whole number of them",
            allowed="a fraction up to 1, or a whole number",
        )
    return gpus


Gpus = Annotated[PositiveFloat, AfterValidator(_share_or_whole)]


class SweepSpec(Spec):
    """What is searched, with what, for how long.

    Attributes:
        trials: Trials drawn from the space; controls come on top.
        metric: Key of an epoch report that is maximised.
        sampler: Optuna sampler that draws the trials (``grid`` walks all combinations).
        scheduler: ``asha`` stops weak trials at rungs, ``none`` lets all run to the end.
        grace_period: First rung, in epochs.
        reduction_factor: At each rung about one trial in this many goes on.
        controls: ``shared`` trains each student architecture of the space once without a teacher.
        seed: Seed of the sampler.
        max_hours: Wall-clock budget; the sweep then pauses and can be resumed.
        max_gpu_hours: Budget of GPU-hours; likewise.
        max_concurrent: Trials at a time; as many as fit if left out.
        crash_retries: How often a crashed trial starts again from its checkpoint.
    """

    trials: PositiveInt = 20
    metric: MetricName = "student/miou"
    sampler: Literal["tpe", "random", "grid", "cmaes", "gp"] = "tpe"
    scheduler: Literal["asha", "none"] = "asha"
    grace_period: PositiveInt = 1
    reduction_factor: int = Field(default=3, ge=2)
    controls: Literal["shared", "none"] = "shared"
    seed: NonNegativeInt = 0
    max_hours: PositiveFloat | None = None
    max_gpu_hours: PositiveFloat | None = None
    max_concurrent: PositiveInt | None = None
    crash_retries: NonNegativeInt = 2


class ResourcesSpec(Spec):
    """What one trial gets.

    Attributes:
        gpus_per_trial: GPUs; a fraction packs several trials on one. Ignored where there is no GPU.
        cpus_per_trial: CPU cores; shared out evenly among the trials that fit if left out.
    """

    gpus_per_trial: Gpus = 1.0
    cpus_per_trial: PositiveInt | None = None


class WandbSpec(Spec):
    """Weights & Biases.

    Attributes:
        mode: ``auto`` is online where an account is set up and offline elsewhere.
        project: Project name.
        entity: User or team; the account's default if left out.
    """

    mode: Literal["auto", "online", "offline", "off"] = "auto"
    project: str = "kdsweep"
    entity: str | None = None


class TrackingSpec(Spec):
    """Where epoch reports are sent besides the ledger.

    Attributes:
        wandb: Weights & Biases.
    """

    wandb: WandbSpec = Field(default_factory=WandbSpec)
