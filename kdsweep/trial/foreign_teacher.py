"""A trained teacher of segmentation-models-pytorch: a saved model, or its weights alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from kdsweep.config.model import WEIGHTS_SUFFIXES
from kdsweep.errors import ConfigError
from kdsweep.models import inspect_model
from kdsweep.models.architectures import ARCHITECTURES, option_defaults
from kdsweep.models.weights_file import fit_file

if TYPE_CHECKING:
    from kdsweep.config.job import Job
    from kdsweep.config.model import ModelConfig

_PLACE = ("distill", "checkpoint")
_CONFIG, _SAVED = "config.json", "model.safetensors"


def is_foreign(checkpoint: str) -> bool:
    """Return whether a checkpoint is not of kdsweep, but a model or file of weights."""
    return (Path(checkpoint) / _CONFIG).is_file() or checkpoint.endswith(WEIGHTS_SUFFIXES)


def check_foreign(job: Job, model: ModelConfig, checkpoint: str, num_classes: int | None) -> None:
    """Refuse a model that is not the teacher's, by its config and by its weights.

    Args:
        job: The job.
        model: Its teacher.
        checkpoint: Folder that ``save_pretrained`` wrote, or a file of weights.
        num_classes: K of the data, where it is known; without it weights are not looked at.

    Raises:
        ConfigError: With its place in the job.
    """
    config = Path(checkpoint) / _CONFIG
    if config.is_file():
        _compare(_read(config, checkpoint), model, checkpoint, num_classes)
    if num_classes is not None:
        network = inspect_model(model, num_classes, job.data.image_size)
        _fit(network.get_submodule("model"), model, checkpoint)


def load_foreign(model: nn.Module, checkpoint: str, config: ModelConfig) -> None:
    """Give a model of segmentation-models-pytorch the weights of a checkpoint.

    Raises:
        ConfigError: They cannot be read, or are not of this model.
    """
    model.load_state_dict(_fit(model, config, checkpoint), strict=False)


def _fit(model: nn.Module, config: ModelConfig, checkpoint: str) -> dict[str, Any]:
    path = Path(checkpoint)
    file = path / _SAVED if path.is_dir() else path
    try:
        return fit_file(model, config.label, file, checkpoint, least=1.0, what="network").tensors
    except ConfigError as error:
        error.path = _PLACE
        raise


def _compare(
    saved: dict[str, Any], model: ModelConfig, checkpoint: str, num_classes: int | None
) -> None:
    name = ARCHITECTURES[model.arch].__name__
    wanted: dict[str, Any] = {"_model_class": name, "encoder_name": model.encoder}
    wanted |= option_defaults(model.arch) | model.options
    if num_classes is not None:
        wanted["classes"] = num_classes
    for key, value in wanted.items():
        found = saved.get(key, value)
        if _listed(found) != _listed(value):
            raise ConfigError(
                f"this model is another network: its {key} is {found!r}, the teacher's {value!r}",
                path=_PLACE,
                value=checkpoint,
                allowed=f"a trained {model.label} of as many classes as the data",
            )


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _read(config: Path, checkpoint: str) -> dict[str, Any]:
    try:
        tree = json.loads(config.read_text(encoding="utf-8"))
        if not isinstance(tree, dict):
            raise ValueError("no mapping")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the {_CONFIG} of this model cannot be read: {error}",
            path=_PLACE,
            value=checkpoint,
            allowed=f"a folder that save_pretrained wrote, with {_CONFIG} and {_SAVED}",
        ) from None
    return tree
