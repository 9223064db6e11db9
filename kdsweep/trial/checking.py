"""What can be said about a job before anything starts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kdsweep.config.architectures import architecture_key
from kdsweep.config.job import data_section
from kdsweep.data import (
    Progress,
    SegmentationData,
    listed_classes,
    open_data,
)
from kdsweep.data.augment.pipeline import check_pipeline
from kdsweep.data.health import look_through
from kdsweep.errors import ConfigError, DataError, check_all
from kdsweep.ledger import TrialFolder
from kdsweep.models import (
    SegmentationNetwork,
    are_here,
    check_taps,
    fetch_weights,
    inspect_model,
    inspect_weights,
)
from kdsweep.models.inference_cost import static_cost
from kdsweep.models.pretrained import weights_file
from kdsweep.trial.compiling import check_compiler
from kdsweep.trial.given_teachers import score_teachers
from kdsweep.trial.supervision import class_weights
from kdsweep.trial.trained_model import check_checkpoint
from kdsweep.trial.training_memory import module_bytes

if TYPE_CHECKING:
    from kdsweep.config.job import Job
    from kdsweep.config.model import ModelConfig
    from kdsweep.models.weights_file import Fit

Inspected = dict[tuple[Any, ...], SegmentationNetwork]

# Of each network that this process has looked at, so that none is built twice to know it.
_network_bytes: dict[str, int] = {}


def check_jobs(jobs: Iterable[Job]) -> None:
    """:func:`check_job` for several jobs; a network that several of them use is built once.

    Raises:
        ConfigError: All that are wrong, so that none is met only after the others are put right.
    """
    inspected: Inspected = {}
    check_all(lambda job: check_job(job, inspected), jobs)


def check_job(job: Job, inspected: Inspected | None = None) -> None:
    """Refuse a job whose networks, taps, sizes or augmentation do not fit together.

    Networks are built without memory for their weights and run on images without pixels, so this
    takes a fraction of a second whatever their size.

    Args:
        job: The job.
        inspected: Networks that were looked at already; grows.

    Raises:
        ConfigError: With the place in the job.
    """
    networks = {}
    known: Inspected = {} if inspected is None else inspected

    def look_at(network: tuple[str, ModelConfig | None]) -> None:
        role, model = network
        if model is None:
            return
        sizes = (job.data.image_size, job.data.train_size)
        key = (model.model_dump_json(), *sizes, job.train.batch_size)
        try:
            if key not in known:
                known[key] = _inspect(job, model)
            networks[role] = known[key]
        except ConfigError as error:
            if error.path and error.path[0] in type(model).model_fields:
                error.path = (role, *error.path)
            raise

    check_all(look_at, (("teacher", job.teacher), ("student", job.student)))
    if not isinstance(job.data.augment, str):
        check_pipeline(job.data.augment, job.data.image_size)
    classes = listed_classes(job.data)
    check_checkpoint(job, classes)
    check_compiler(job)
    if classes is not None:
        _check_num_classes(job, classes)
    for name, term in job.distill.terms().items():
        term.load_implementation(("distill", name))
        taps = getattr(term, "taps", ())
        for role, network in networks.items():
            check_taps(taps, network.tap_channels(), role, ("distill", name, "taps"))


def _inspect(job: Job, model: ModelConfig) -> SegmentationNetwork:
    network, _ = _with_weights(job, model)
    _network_bytes[model.model_dump_json()] = module_bytes(network)
    stride = network.stride
    for name, size in (("image_size", job.data.image_size), ("crop", job.data.train_size)):
        if any(side % stride for side in size):
            near = [max(stride, round(side / stride) * stride) for side in size]
            raise ConfigError(
                f"{model.arch} with encoder {model.encoder} needs sizes that are multiples of "
                f"{stride}",
                path=("data", name),
                value=list(size),
                hint=f"{name}: [{near[0]}, {near[1]}]",
            )
    height, width = job.data.train_size
    trained = "image_size" if job.data.crop is None else "crop"
    try:
        with torch.no_grad():
            shape = (job.train.batch_size, height, width, 3)
            network.train()(torch.zeros(shape, dtype=torch.uint8, device="meta"))
    except (ValueError, RuntimeError, AssertionError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if isinstance(error, AssertionError):
            hint = "another encoder, or another image_size"
        else:
            hint = "a larger image_size, or a train.batch_size above 1"
        raise ConfigError(
            f"{model.arch} with encoder {model.encoder} cannot train on batches of "
            f"{job.train.batch_size} images of {height}×{width}: {reason}",
            path=("data", trained),
            value=[height, width],
            hint=hint,
        ) from error
    return network


def _with_weights(job: Job, model: ModelConfig) -> tuple[SegmentationNetwork, Fit | None]:
    return inspect_weights(
        model.arch,
        model.encoder,
        # Not known before the data are opened, and it does not matter here.
        num_classes=2,
        encoder_weights=model.encoder_weights,
        options=model.options,
        image_size=job.data.image_size,
    )


def network_bytes(jobs: Sequence[Job]) -> tuple[int, int]:
    """Return the bytes of the largest teacher and of the largest student that were checked here."""

    def largest(models: Iterable[ModelConfig | None]) -> int:
        texts = (model.model_dump_json() for model in models if model is not None)
        return max((_network_bytes.get(text, 0) for text in texts), default=0)

    return largest(job.teacher for job in jobs), largest(job.student for job in jobs)


def static_costs(jobs: Sequence[Job], num_classes: int) -> list[dict[str, float]]:
    """Return what each job's student costs by its architecture alone, by metric."""
    known: dict[str, dict[str, float]] = {}
    for job in jobs:
        key = architecture_key(job)
        if key not in known:
            network = inspect_model(job.student, num_classes, job.data.image_size)
            cost = static_cost(network, job.data.image_size)
            known[key] = {f"student/{name}": value for name, value in cost.items()}
    return [known[architecture_key(job)] for job in jobs]


def _check_num_classes(job: Job, classes: Sequence[str]) -> None:
    """Refuse losses that mean nothing for so few classes."""
    for name, term in job.distill.terms().items():
        if len(classes) < term.min_classes:
            raise ConfigError(
                f"{name} needs {term.min_classes} classes, and the data have {len(classes)} "
                f"({', '.join(classes)})",
                path=("distill", name),
                allowed=f"{name} with {term.min_classes} classes or more",
                hint=f"use pixel_kl, or set distill.{name} to null",
            )


def prepare_one(job: Job, folder: TrialFolder, *, device: str = "auto") -> dict[str, Any]:
    """Do the same for a job that trains on its own, and refuse data that it should not train on.

    A trained teacher is scored before it teaches for the first time.

    Args:
        job: The job.
        folder: Where it trains; a training that has begun there goes on with the data it has.
        device: Where it trains.

    Raises:
        DataError: Also where something is wrong with the data.
    """
    found = prepare([job])
    refusal = found.pop("refusal")
    if refusal is not None:
        if not folder.checkpoint.exists():
            raise DataError(refusal)
        found["remarks"].append(f"warning: {refusal}")
    if not folder.checkpoint.exists() and (teachers := score_teachers([job], device=device)):
        found["teachers"] = teachers
    return found


def weights_notes(jobs: Iterable[Job], *, files_alone: bool = False) -> list[str]:
    """Return which pretrained weights jobs begin with, and whether this machine has them.

    Args:
        jobs: The jobs, which were checked.
        files_alone: Leave out what is not read from a file, but fetched.
    """
    notes: dict[tuple[str, str], str | None] = {}
    for job in jobs:
        for model in (job.teacher, job.student):
            if model is None or model.encoder_weights is None:
                continue
            key = (model.encoder, model.encoder_weights)
            if key not in notes:
                notes[key] = _weights_note(job, model, files_alone)
    return [note for note in dict.fromkeys(notes.values()) if note is not None]


def _weights_note(job: Job, model: ModelConfig, files_alone: bool) -> str | None:
    assert model.encoder_weights is not None
    said = f"{model.encoder} from {model.weights_name}"
    if weights_file(model.encoder, model.encoder_weights) is not None:
        return f"{said}: {_with_weights(job, model)[1]}"
    here = are_here(model.encoder, model.encoder_weights)
    told = f"{said}: {'here' if here else 'not on this machine, fetched before training'}"
    return None if files_alone else told


def prepare(jobs: Sequence[Job], progress: Progress | None = None) -> dict[str, Any]:
    """Do once what all trials would do: build decode caches, fetch pretrained weights.

    Args:
        jobs: Jobs that together show every data set and encoder of a sweep; at least one.
        progress: Called with what is being done, how many are done and how many there are.

    Returns:
        What the ledger keeps of the first job's data: source, classes, palette, sizes; of all
        data ``caveats`` for reports; and ``weights``, what was found in files of weights. Beside
        it, not for the ledger: ``remarks`` to be said now, ``refusal``, why nothing new should be
        trained on them, and ``identities``, what the data of each section are, as JSON.

    Raises:
        DataError: A data set is missing or damaged.
        WeightsError: Pretrained weights cannot be had.
        ConfigError: A job asks for what the data do not have.
    """
    opened: dict[str, SegmentationData] = {}
    identities: dict[str, str] = {}
    for job in jobs:
        key = job.data.model_dump_json()
        if key not in opened:
            opened[key] = open_data(job.data, progress)
        data = opened[key]
        if data.identity is not None:
            section = data_section(job.data.model_dump(mode="json"))
            # As text: Ray Tune would look into each of the frames.
            identities.setdefault(section, json.dumps(data.identity.to_json()))
        class_weights(job, data)
        check_checkpoint(job, data.classes)
        _check_num_classes(job, data.classes)
        if len(data.train) < 1:
            raise ConfigError("no training frames", path=("data",))
    wanted = {
        (model.encoder, model.encoder_weights)
        for job in jobs
        for model in (job.teacher, job.student)
        if model is not None and model.encoder_weights is not None
    }
    for done, (encoder, weights) in enumerate(sorted(wanted)):
        assert weights is not None
        if progress is not None:
            progress("weights of encoders", done, len(wanted))
        fetch_weights(encoder, weights)
    notes = weights_notes(jobs, files_alone=True)
    first = opened[jobs[0].data.model_dump_json()]
    sections = {job.data.model_dump_json(): job.data for job in jobs}
    looks = [(look_through(opened[key]), sections[key].accept) for key in opened]
    refusals = [text for health, accept in looks if (text := health.refusal(accept)) is not None]
    return {
        "source": jobs[0].data.source,
        "embedded": first.embedded,
        "notice": first.notice,
        "refusal": "\n".join(dict.fromkeys(refusals)) or None,
        "remarks": list(dict.fromkeys(text for health, _ in looks for text in health.remarks)),
        "caveats": list(dict.fromkeys(text for health, _ in looks for text in health.caveats)),
        "classes": list(first.classes),
        "palette": np.asarray(first.palette).tolist(),
        "num_train": len(first.train),
        **({} if first.unlabelled is None else {"num_unlabelled": len(first.unlabelled)}),
        "num_val": len(first.val),
        "num_test": 0 if first.test is None else len(first.test),
        "image_size": list(jobs[0].data.image_size),
        "identities": identities,
        **({"weights": notes} if notes else {}),
    }
