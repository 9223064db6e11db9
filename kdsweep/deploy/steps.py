"""The steps of post-processing, each one word on the command line: ``flip,regions:0.001``.

Some change how networks look at a frame, some refine probabilities, some clean up labels. Filters
are scikit-image's and OpenCV's.

Shape legend: H W image size, C colour channels, K classes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from kdsweep.deploy.tta import Views
from kdsweep.errors import ConfigError
from kdsweep.registry import Registry

Filter = Callable[[np.ndarray, np.ndarray, np.ndarray, float], tuple[np.ndarray, np.ndarray]]
"""Takes a frame (uint8 RGB, H×W×C), probabilities (H×W×K), labels (H×W) and the step's amount;
returns new probabilities and labels."""

STAGES = ("views", "ensemble", "edges", "smoothing", "regions")
"""In this order steps are applied, whatever order they are named in."""

_SCIKIT_IMAGE = ("watershed", "majority", "opening", "regions")
_PLACE = ("postprocess",)
_GUIDE_EPS = 1e-3  # of colours from 0 to 1: He et al.'s range for smoothing


@dataclass(frozen=True)
class Kind:
    """A kind of step.

    Attributes:
        stage: One of :data:`STAGES`; a chain has one step a stage, but ``views`` has two kinds that
            go together.
        what: What it does, for people.
        amount: What its amount is; ``None`` where it has none.
        low, high: Least and largest amount.
        tried: Amounts that a search tries.
        views: Changes how networks look at a frame.
        filter: Changes probabilities or labels.
    """

    stage: str
    what: str
    amount: str | None = None
    low: float = 0.0
    high: float = 0.0
    tried: tuple[float, ...] = ()
    views: Callable[[Views, float], Views] | None = None
    filter: Filter | None = None


KINDS: Registry[Kind] = Registry("step of post-processing")


@dataclass(frozen=True)
class Step:
    """A kind of step with its amount.

    Attributes:
        name: Name of the kind.
        amount: Its amount; 0 where the kind has none.
    """

    name: str
    amount: float = 0.0

    @property
    def kind(self) -> Kind:
        """Its kind."""
        return KINDS.get(self.name)

    def __str__(self) -> str:
        return self.name if self.kind.amount is None else f"{self.name}:{self.amount:g}"


Steps = tuple[Step, ...]


def parse_steps(text: str) -> Steps:
    """Steps from ``flip,scale:1.25,regions:0.001``; ``none`` is no step at all.

    Raises:
        ConfigError: An unknown step, an amount that is missing or out of range, or two steps that
            exclude each other.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if words == ["none"]:
        return ()
    return in_order([_parse(word) for word in words])


def in_order(steps: Sequence[Step]) -> Steps:
    """The steps in the order in which they are applied.

    Raises:
        ConfigError: Two of one stage exclude each other.
    """
    for stage in STAGES:
        same = [step for step in steps if step.kind.stage == stage]
        names = [step.name for step in same]
        if len(same) > 1 and (stage != "views" or len(set(names)) < len(names)):
            raise ConfigError(
                "steps that exclude each other",
                path=_PLACE,
                value=", ".join(map(str, same)),
                allowed="one of them",
            )
    return tuple(sorted(steps, key=lambda step: (STAGES.index(step.kind.stage), step.name)))


def step_text(steps: Sequence[Step]) -> str:
    """The steps as :func:`parse_steps` reads them."""
    return ",".join(map(str, steps)) or "none"


def views_of(steps: Sequence[Step]) -> Views:
    """How networks look at a frame under some steps."""
    views = Views()
    for step in steps:
        if step.kind.views is not None:
            views = step.kind.views(views, step.amount)
    return views


def missing_for(name: str) -> str | None:
    """Return what has to be installed for a kind of step, if something has."""
    if name in _SCIKIT_IMAGE and importlib.util.find_spec("skimage") is None:
        return "it needs scikit-image: pip install 'kdsweep[deploy]'"
    return None


def _parse(word: str) -> Step:
    name, _, given = word.partition(":")
    kind = KINDS.get(name, _PLACE)
    if kind.amount is None:
        if given:
            raise ConfigError("this step has no amount", path=_PLACE, value=word, allowed=name)
        return Step(name)
    try:
        amount = float(given)
    except ValueError:
        amount = float("nan")
    if not kind.low <= amount <= kind.high:
        raise ConfigError(
            f"this step needs an amount: {kind.amount}",
            path=_PLACE,
            value=word,
            allowed=f"{name}:NUMBER from {kind.low:g} to {kind.high:g}",
            hint=f"{name}:{kind.tried[0]:g}",
        )
    missing = missing_for(name)
    if missing is not None:
        raise ConfigError("this step cannot be used here", path=_PLACE, value=word, hint=missing)
    return Step(name, amount)


def _guided(
    image_HWC: np.ndarray, told_HWK: np.ndarray, labels_HW: np.ndarray, amount: float
) -> tuple[np.ndarray, np.ndarray]:
    """The guided filter (He, Sun & Tang, TPAMI 2013), which is a few of OpenCV's box filters.

    OpenCV has one of its own only in its contrib build, which cannot be installed beside the build
    that albumentations brings.
    """
    # Not scikit-image's bilateral filter: with a frame's colours as guide it took 4 to 10 times as
    # long, and it weights distances by the number of channels.

    def mean(map_HWX: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.boxFilter(map_HWX, -1, (side, side), borderType=cv2.BORDER_REFLECT))

    height, width, channels = image_HWC.shape
    side = 2 * int(amount) + 1
    guide_HWC = image_HWC.astype(np.float32) / 255.0
    mean_HWC = mean(guide_HWC)
    products_HWCC = guide_HWC[..., :, None] * guide_HWC[..., None, :]
    covariance_HWCC = mean(products_HWCC.reshape(height, width, -1)).reshape(products_HWCC.shape)
    covariance_HWCC -= mean_HWC[..., :, None] * mean_HWC[..., None, :]
    inverse_HWCC = np.linalg.inv(covariance_HWCC + _GUIDE_EPS * np.eye(channels, dtype=np.float32))
    smooth = []
    for map_HW in np.moveaxis(told_HWK, 2, 0):
        mean_HW = mean(np.ascontiguousarray(map_HW))
        shared_HWC = mean(guide_HWC * map_HW[..., None]) - mean_HWC * mean_HW[..., None]
        slope_HWC = np.einsum("hwcd,hwd->hwc", inverse_HWCC, shared_HWC)
        offset_HW = mean_HW - np.einsum("hwc,hwc->hw", slope_HWC, mean_HWC)
        smooth.append(np.einsum("hwc,hwc->hw", mean(slope_HWC), guide_HWC) + mean(offset_HW))
    told_HWK = np.clip(np.stack(smooth, axis=2), 1e-6, None)
    told_HWK /= told_HWK.sum(axis=2, keepdims=True)
    return told_HWK, told_HWK.argmax(axis=2).astype(np.uint8)


def _watershed(
    image_HWC: np.ndarray, told_HWK: np.ndarray, labels_HW: np.ndarray, amount: float
) -> tuple[np.ndarray, np.ndarray]:
    from skimage.color import rgb2gray
    from skimage.filters import sobel
    from skimage.segmentation import watershed

    sure_HW = told_HWK.max(axis=2) >= amount
    if not sure_HW.any():
        return told_HWK, labels_HW
    markers_HW = np.where(sure_HW, labels_HW.astype(np.int32) + 1, 0)
    flooded_HW = watershed(sobel(rgb2gray(image_HWC)), markers_HW)
    return told_HWK, (flooded_HW - 1).astype(np.uint8)


def _majority(
    image_HWC: np.ndarray, told_HWK: np.ndarray, labels_HW: np.ndarray, amount: float
) -> tuple[np.ndarray, np.ndarray]:
    from skimage.filters.rank import majority
    from skimage.morphology import disk

    # Copied, for it takes only arrays that could be written to.
    return told_HWK, majority(labels_HW.copy(), disk(int(amount))).astype(np.uint8)


def _opening(
    image_HWC: np.ndarray, told_HWK: np.ndarray, labels_HW: np.ndarray, amount: float
) -> tuple[np.ndarray, np.ndarray]:
    side = 2 * int(amount) + 1
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    kept_HW = np.zeros(labels_HW.shape, bool)
    for k in np.unique(labels_HW):
        mask_HW = (labels_HW == k).astype(np.uint8)
        kept_HW |= cv2.morphologyEx(mask_HW, cv2.MORPH_OPEN, element) > 0
    return told_HWK, _filled(labels_HW, kept_HW)


def _regions(
    image_HWC: np.ndarray, told_HWK: np.ndarray, labels_HW: np.ndarray, amount: float
) -> tuple[np.ndarray, np.ndarray]:
    from skimage.measure import label

    regions_HW = label(labels_HW.astype(np.int32), background=-1, connectivity=1)
    sizes = np.bincount(regions_HW.ravel())
    return told_HWK, _filled(labels_HW, sizes[regions_HW] >= amount * labels_HW.size)


def _filled(labels_HW: np.ndarray, kept_HW: np.ndarray) -> np.ndarray:
    """The labels that are kept, and everywhere else the nearest of them."""
    from skimage.segmentation import expand_labels

    if kept_HW.all() or not kept_HW.any():
        return labels_HW
    marked_HW = np.where(kept_HW, labels_HW.astype(np.int32) + 1, 0)
    return (expand_labels(marked_HW, distance=sum(labels_HW.shape)) - 1).astype(np.uint8)


for _name, _kind in {
    "flip": Kind(
        "views",
        "mean over the frame and its mirror image",
        views=lambda views, amount: replace(views, flip=True),
    ),
    "scale": Kind(
        "views",
        "mean over the frame, enlarged and reduced",
        amount="the factor",
        low=1.05,
        high=2.0,
        tried=(1.25,),
        views=lambda views, amount: replace(views, scale=amount),
    ),
    "teacher": Kind(
        "ensemble",
        "mean with the teacher's probabilities",
        amount="the teacher's weight",
        low=0.01,
        high=0.99,
        tried=(0.25, 0.5),
        views=lambda views, amount: replace(views, teacher=amount),
    ),
    "guided": Kind(
        "edges",
        "guided filter: probabilities follow the edges of the frame",
        amount="radius in pixels",
        low=1,
        high=64,
        tried=(2, 4),
        filter=_guided,
    ),
    "watershed": Kind(
        "edges",
        "labels below a confidence are flooded anew, up to the edges of the frame",
        amount="the confidence",
        low=0.05,
        high=0.999,
        tried=(0.5, 0.7),
        filter=_watershed,
    ),
    "majority": Kind(
        "smoothing",
        "the commonest label of a disc",
        amount="its radius in pixels",
        low=1,
        high=15,
        tried=(1, 2),
        filter=_majority,
    ),
    "opening": Kind(
        "smoothing",
        "what is thinner than a disc takes its neighbours' label",
        amount="its radius in pixels",
        low=1,
        high=15,
        tried=(1,),
        filter=_opening,
    ),
    "regions": Kind(
        "regions",
        "small regions take their neighbours' label",
        amount="their largest size, as a share of the frame",
        low=1e-5,
        high=0.1,
        tried=(0.0005, 0.002),
        filter=_regions,
    ),
}.items():
    KINDS.register(_name)(_kind)
