"""From a student to an ONNX graph that takes plain pixels.

The graph takes ``images`` (uint8 RGB, N×H×W×3) and gives ``classes`` (uint8 ids, N×H×W) and
``logits`` (float32, N×K×H×W); normalisation and the change of layout are inside. Batch and image
size are free, the latter in multiples of the architecture's stride.

Shape legend: N frames, H W image size, K classes.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from kdsweep.deploy.card import Card
from kdsweep.deploy.onnx_model import CLASSES, IMAGES, LOGITS
from kdsweep.errors import KdsweepError
from kdsweep.models import SegmentationNetwork

OPSET = 18
_BATCH = 2  # one frame would be taken for a fixed batch of one


class _Shipped(nn.Module):
    """What is exported: from pixels to class ids and logits."""

    def __init__(self, network: SegmentationNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images_NHWC: Tensor) -> tuple[Tensor, Tensor]:
        logits_NKHW = self.network(images_NHWC).logits_BKHW
        return logits_NKHW.argmax(1).to(torch.uint8), logits_NKHW


def to_onnx(network: SegmentationNetwork, card: Card) -> tuple[Any, str | None]:
    """The ONNX model of a student, with its card as metadata.

    Args:
        network: The student in float32, in evaluation mode on the CPU.
        card: What it says of itself.

    Returns:
        The model (``onnx.ModelProto``), and why its image size is fixed, if it is.

    Raises:
        KdsweepError: PyTorch cannot export this network.
    """
    images = torch.zeros(_BATCH, *card.image_size, 3, dtype=torch.uint8)
    # NCHW from here on: how weights lie in memory is no part of ONNX.
    shipped = _Shipped(network.to(memory_format=torch.contiguous_format)).eval()
    fixed = None
    try:
        model = _export(shipped, images, {0: "N", 1: "H", 2: "W"})
    except Exception as free_size:  # the exporter's errors share no base class
        fixed = _first_line(free_size)
        try:
            model = _export(shipped, images, {0: "N"})
        except Exception as error:
            raise KdsweepError(
                f"{card.model.label}: PyTorch cannot export this network to ONNX: "
                f"{_first_line(error)}\n  try:     --format torch"
            ) from error
    for key, value in card.to_metadata().items():
        model.metadata_props.add(key=key, value=value)
    model.producer_name = "kdsweep"
    model.producer_version = str(card.provenance.get("kdsweep", ""))
    return model, fixed


def _export(shipped: nn.Module, images: Tensor, free: dict[int, str]) -> Any:
    dims = dict.fromkeys(free, torch.export.Dim.DYNAMIC)
    with _quiet():
        program = torch.onnx.export(
            shipped,
            (images,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[IMAGES],
            output_names=[CLASSES, LOGITS],
            dynamic_shapes=(dims,),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _name_axes(model, free)
    _drop_traces(model)
    return model


def _name_axes(model: Any, free: dict[int, str]) -> None:
    """Give free axes names that people know; PyTorch calls them s77 and the like.

    Sizes of outputs follow from the graph (``32*((H - 1)//32) + 32``); they are those of the input
    whenever this is allowed at all.
    """
    places = {IMAGES: (0, 1, 2), CLASSES: (0, 1, 2), LOGITS: (0, None, 1, 2)}
    for value in (*model.graph.input, *model.graph.output):
        for dim, axis in zip(value.type.tensor_type.shape.dim, places[value.name], strict=False):
            if axis in free and dim.WhichOneof("value") == "dim_param":
                dim.dim_param = free[axis]
    del model.graph.value_info[:]  # speaks of the old names


def _drop_traces(model: Any) -> None:
    """Leave out where in the source each node came from: paths of the machine it was made on."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
        value.doc_string = ""
    del model.graph.metadata_props[:]
    del model.metadata_props[:]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's words on what it tries; what fails is an error."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else ''}"
