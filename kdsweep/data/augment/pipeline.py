"""A pipeline of the user's own, in the form in which albumentations saves one.

It is applied on the CPU, frame by frame, and draws for itself, from the numbers of the frame. Only
what albumentations itself exports is built from a file: no code, no class from elsewhere. The one
module that imports albumentations, which takes seconds, and does so when it has to.
"""

from __future__ import annotations

import functools
import json
import os
import random
import re
import warnings
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from kdsweep.data.augment.draws import frame_numbers
from kdsweep.errors import ConfigError, ConfigPath
from kdsweep.labels import VOID

_PLACE: ConfigPath = ("data", "augment")
_CLASS = "__class_fullname__"
_NUM_TRIES = 12
_SAVED = "what albumentations.save writes for a Compose"
_HOW = "A.save(A.Compose([…]), 'augment.yaml', data_format='yaml'), with albumentations as A"


class PipelineAugmenter:
    """Augments frames by a pipeline; a frame's augmentation depends on (seed, epoch, index) alone.

    Args:
        pipeline: As albumentations saves it.
        seed: First part of every frame's seed.

    Raises:
        ConfigError: It is no such pipeline.
    """

    def __init__(self, pipeline: Mapping[str, Any], seed: int) -> None:
        # One thread per process: frames are small, and the cores belong to training.
        cv2.setNumThreads(0)
        self._pipeline = _build(pipeline)
        self._seed = seed

    def __call__(
        self, image_HWC: np.ndarray, labels_HW: np.ndarray, epoch: int, index: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the frame as epoch ``epoch`` shows it, as an ``on_cpu.Augmenter`` does.

        Raises:
            ConfigError: The frame has another size or type after it.
        """
        numbers = frame_numbers(self._seed, epoch, index)
        # All transforms share these: with generators of their own, seeded alike, they would draw
        # the same, and for example only flipped frames would be blurred.
        self._pipeline.set_random_state(np.random.default_rng(numbers.getrandbits(64)), numbers)
        # Copies, because some transforms write into what they are given.
        done = self._pipeline(image=image_HWC.copy(), mask=labels_HW.copy())
        for before, after in ((image_HWC, done["image"]), (labels_HW, done["mask"])):
            if (after.shape, after.dtype) != (before.shape, before.dtype):
                raise ConfigError(
                    f"the pipeline made {after.dtype} of {after.shape} out of {before.dtype} of "
                    f"{before.shape}, in epoch {epoch}, frame {index}",
                    path=_PLACE,
                    hint="end it with Resize to data.image_size, and leave Normalize and the like "
                    "out",
                )
        return done["image"], done["mask"]


def check_pipeline(pipeline: Mapping[str, Any], image_size: tuple[int, int]) -> None:
    """Refuse a pipeline that cannot augment a job's frames.

    It is tried on a few frames: as it is, and with all that may be done done.

    Args:
        pipeline: The value of ``data.augment``.
        image_size: (height, width) of the frames.

    Raises:
        ConfigError: With the place in the job.
    """
    _check(json.dumps(pipeline), image_size)


@functools.lru_cache(maxsize=16)  # many jobs of a sweep share theirs
def _check(text: str, image_size: tuple[int, int]) -> None:
    pipeline = json.loads(text)
    for variant in (pipeline, _certain(pipeline)):
        _try(_build(variant), image_size)


def _albumentations() -> Any:
    # Before the first import: albumentations otherwise asks the network for its newest version.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations


def _build(pipeline: Mapping[str, Any]) -> Any:
    A = _albumentations()
    tree = pipeline.get("transform")
    if not isinstance(tree, Mapping):
        raise ConfigError(
            "not a saved pipeline", path=_PLACE, value=dict(pipeline), allowed=_SAVED, hint=_HOW
        )
    place = (*_PLACE, "transform")
    _check_transform(tree, place, _allowed_classes())
    built = _built(tree, place)
    if not isinstance(built, A.Compose):
        raise ConfigError(
            "not a Compose", path=place, value=str(tree[_CLASS]), allowed=_SAVED, hint=_HOW
        )
    return built


def _allowed_classes() -> dict[str, Any]:
    A = _albumentations()
    kinds = (A.BaseCompose, A.ImageOnlyTransform, A.DualTransform)
    return {
        name: found
        for name, found in vars(A).items()
        if isinstance(found, type(A.BaseCompose))
        and issubclass(found, kinds)
        and not issubclass(found, A.Transform3D)
        and found not in kinds
        and not issubclass(found, A.ReplayCompose)
        and found.is_serializable()  # a Lambda is not
    }


def _check_transform(tree: Any, place: ConfigPath, known: Mapping[str, Any]) -> None:
    """Refuse a transform, or one inside of it, that is not among the known, or cannot be built."""
    if not isinstance(tree, Mapping) or not isinstance(tree.get(_CLASS), str):
        raise ConfigError(
            "not a saved transform",
            path=place,
            value=tree,
            allowed=f"a mapping with {_CLASS}",
            hint=_HOW,
        )
    name = tree[_CLASS]
    if name.startswith("albumentations."):  # the long form of older versions
        name = name.rpartition(".")[2]
    if name not in known:
        raise ConfigError(
            "not a transform that kdsweep applies",
            path=(*place, _CLASS),
            value=name,
            allowed=known,
            hint="a Lambda is code, which is not read from files" if name == "Lambda" else None,
        )
    if "transforms" in tree:
        inner = tree["transforms"]
        if not isinstance(inner, list):
            raise ConfigError(
                "not a list", path=(*place, "transforms"), value=inner, allowed="a list"
            )
        for number, one in enumerate(inner):
            _check_transform(one, (*place, "transforms", number), known)
        return
    if tree.get("mask_interpolation") not in (None, cv2.INTER_NEAREST, cv2.INTER_NEAREST_EXACT):
        raise ConfigError(
            "labels must not be interpolated: between two classes lies a third",
            path=(*place, "mask_interpolation"),
            value=tree["mask_interpolation"],
            allowed=f"{cv2.INTER_NEAREST} (nearest)",
        )
    if "p" not in tree:  # it would take 0.5, whatever the transform's own default
        raise ConfigError("missing", path=(*place, "p"), allowed="a probability from 0 to 1")
    built = _built(tree, place)
    for needed in built.targets_as_params:
        if needed not in ("image", "mask"):
            raise _needs(name, needed, place)
    arguments = built.to_dict()["transform"]
    for key in tree:
        if key not in arguments:
            raise ConfigError("unknown argument", path=(*place, key), value=key, allowed=arguments)


def _built(tree: Mapping[str, Any], place: ConfigPath) -> Any:
    try:
        with warnings.catch_warnings():
            # It warns of what it writes itself: RGBShift knows only half of its saved arguments.
            warnings.simplefilter("ignore")
            return _albumentations().from_dict({"transform": dict(tree)})
    except Exception as error:  # whatever a constructor makes of its arguments
        raise _failed(tree[_CLASS], error, place) from error


def _needs(name: str, what: str, place: ConfigPath) -> ConfigError:
    return ConfigError(
        f"{name} needs {what}, which kdsweep does not give",
        path=place,
        allowed="transforms of an image and its mask",
        hint="take it out of the pipeline",
    )


def _failed(name: str, error: Exception, place: ConfigPath) -> ConfigError:
    text = re.sub(r"For further information visit \S+", "", str(error))
    reason = " ".join(text.split()) or type(error).__name__
    return ConfigError(
        f"albumentations refuses {name}: {reason}",
        path=place,
        hint="try the pipeline in Python, on one frame of the size of data.image_size, and save it "
        "again",
    )


def _certain(tree: Any) -> Any:
    """The pipeline with every transform as probable as can be that is not switched off."""
    if isinstance(tree, list):
        return [_certain(one) for one in tree]
    if not isinstance(tree, dict):
        return tree
    always = {"p": 1.0} if _CLASS in tree and tree.get("p") else {}
    return {key: _certain(value) for key, value in tree.items()} | always


def _try(pipeline: Any, image_size: tuple[int, int]) -> None:
    """Refuse a pipeline that fails, or whose frames are not of the kind that they were."""
    image_HWC, labels_HW = _example(image_size)
    known = {*np.unique(labels_HW).tolist(), VOID}
    for number in range(_NUM_TRIES):
        pipeline.set_random_state(np.random.default_rng(number), random.Random(number))
        data = {"image": image_HWC.copy(), "mask": labels_HW.copy()}
        seen = [_aspects(data, known)]
        names = []
        for step in pipeline:
            names.append(type(step).__name__)
            place = (*_PLACE, "transform", "transforms", len(seen) - 1)
            try:
                data = step(**data)
            except KeyError as error:
                raise _needs(names[-1], str(error.args[0]), place) from error
            except Exception as error:  # whatever a transform makes of its arguments
                raise _failed(names[-1], error, place) from error
            seen.append(_aspects(data, known))
        for aspect, (problem, allowed, hint) in enumerate(_UNFIT):
            before, after = seen[0][aspect], seen[-1][aspect]
            if before != after:
                # The last that changed it: what an earlier one does may be undone on purpose.
                last = max(n for n in range(len(names)) if seen[n][aspect] != seen[n + 1][aspect])
                raise ConfigError(
                    f"{names[last]} {problem.format(before=before, after=after)}",
                    path=(*_PLACE, "transform", "transforms", last),
                    allowed=allowed,
                    hint=hint,
                )
    try:
        pipeline(image=image_HWC.copy(), mask=labels_HW.copy())
    except Exception as error:  # what the pipeline as a whole asks for
        raise _failed("Compose", error, (*_PLACE, "transform")) from error


def _example(image_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A frame in squares whose labels are so far apart that any mixture of two is another."""
    rows, columns = np.ogrid[: image_size[0], : image_size[1]]
    labels_HW = (40 + 50 * ((rows // 8 + 3 * (columns // 8)) % 4)).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (*image_size, 3), np.uint8)
    return cv2.GaussianBlur(noise, (5, 5), 1.0), labels_HW


def _aspects(data: Mapping[str, Any], known: set[int]) -> tuple[str, str, str]:
    """Size, type and unknown labels of a frame, in words."""
    image, labels = data["image"], data["mask"]
    size = "×".join(map(str, image.shape[:2]))
    if labels.shape != image.shape[:2]:
        size += f" with labels of {'×'.join(map(str, labels.shape))}"
    channels = image.shape[2] if image.ndim == 3 else 1
    kind = f"{image.dtype} images of {channels} channels with {labels.dtype} labels"
    unknown = sorted(set(np.unique(labels).tolist()) - known)
    return size, kind, ", ".join(map(str, unknown[:5]))


_UNFIT = (
    (
        "gives frames of {after}, and data.image_size is {before}",
        "pipelines whose frames are as large after as before",
        "crop with RandomResizedCrop or RandomSizedCrop to data.image_size, or end with Resize",
    ),
    (
        "gives {after}",
        "uint8 images of 3 channels with uint8 labels",
        "leave Normalize, ToFloat and the like out: each network normalises its input",
    ),
    (
        "gives labels that the frame does not have: {after}",
        f"the frame's labels and {VOID} (void)",
        f"write fill_mask: {VOID} where pixels come from outside or are dropped",
    ),
)
