"""Static quantisation to 8 bits, by onnxruntime.

Weights are int8 with a scale for each output channel, activations uint8 with ranges from
calibration frames. The graph stays plain ONNX (pairs of QuantizeLinear and DequantizeLinear), with
the same inputs, outputs and metadata.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kdsweep.deploy.onnx_model import CLASSES, IMAGES

CALIBRATION_FRAMES = 64


class _Frames:
    """Calibration frames, one at a time; what onnxruntime asks for them."""

    def __init__(self, images_NHWC: np.ndarray) -> None:
        self._images = images_NHWC
        self.rewind()

    def rewind(self) -> None:
        self._left: Iterator[np.ndarray] = iter(self._images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        frame = next(self._left, None)
        return None if frame is None else {IMAGES: np.ascontiguousarray(frame[None])}


def calibration_frames(images_NHWC: np.ndarray, most: int = CALIBRATION_FRAMES) -> np.ndarray:
    """Frames spread evenly over a training split."""
    count = min(most, len(images_NHWC))
    picked = np.linspace(0, len(images_NHWC) - 1, count).round().astype(int)
    return np.asarray(images_NHWC[picked])


def quantize(model: Any, images_NHWC: np.ndarray) -> Any:
    """A statically quantised copy of a model.

    Args:
        model: What :func:`~kdsweep.deploy.onnx_writing.to_onnx` gave.
        images_NHWC: Calibration frames, uint8, of the training split.

    Returns:
        ``onnx.ModelProto``.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="kdsweep-int8-") as folder, _quiet():
        plain, ready, done = (Path(folder) / f"{name}.onnx" for name in ("plain", "ready", "done"))
        onnx.save(model, plain)
        # Folds batch norm into convolutions, so that each is one step in int8 as well.
        quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
        prepared = onnx.load(ready)
        quantize_static(
            prepared,
            str(done),
            _Frames(images_NHWC),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=_outside(prepared),
        )
        quantized = onnx.load(done)
    # onnxruntime lists every set of operators it knows; files name what they use.
    used = {node.domain for node in quantized.graph.node}
    for entry in [entry for entry in quantized.opset_import if entry.domain not in used]:
        quantized.opset_import.remove(entry)
    del quantized.metadata_props[:]
    quantized.metadata_props.extend(model.metadata_props)
    quantized.producer_name, quantized.producer_version = (
        model.producer_name,
        model.producer_version,
    )
    return quantized


def _outside(model: Any) -> list[str]:
    """Names of the nodes that stay in float: normalisation, and the choice of the class."""
    consumers: dict[str, list[Any]] = {}
    producer: dict[str, Any] = {}
    for node in model.graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
        for name in node.output:
            producer[name] = node
    outside, ahead = [], [IMAGES]
    while ahead:  # from the pixels to the first weights
        for node in consumers.get(ahead.pop(), []):
            if node.op_type in ("Transpose", "Cast", "Sub", "Mul") and node.name not in outside:
                outside.append(node.name)
                ahead += node.output
    name = CLASSES
    while (node := producer.get(name)) is not None and node.op_type in ("Cast", "ArgMax"):
        outside.append(node.name)
        name = node.input[0]
    return outside


class _quiet:  # noqa: N801  (reads as a verb at its call site)
    """Without onnxruntime's remarks on the root logger."""

    def __enter__(self) -> None:
        self._before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")

    def __exit__(self, *error: Any) -> None:
        self._warnings.__exit__(*error)
        logging.disable(self._before)
