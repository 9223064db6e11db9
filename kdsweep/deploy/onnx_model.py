"""A student in an ONNX file, run by onnxruntime. No torch.

Shape legend: N frames, H W image size, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import override

from kdsweep.deploy.card import Card
from kdsweep.deploy.model import DeployedModel
from kdsweep.deploy.optional_dependencies import require_extra
from kdsweep.errors import ConfigError, ModelFileError

IMAGES, CLASSES, LOGITS = "images", "classes", "logits"
# The operators of the standard. Any other set would need a library of its own to run.
_DOMAINS = frozenset({"", "ai.onnx"})
_DEVICES = ("auto", "cpu", "cuda")
_MOST_BYTES = 2 << 30  # no protobuf is larger


class OnnxModel(DeployedModel):
    """A student in an ONNX file.

    The file's bytes are checked before onnxruntime sees them: only operators of the standard, no
    weights in other files, kdsweep's own inputs, outputs and card.

    Args:
        device: ``auto`` takes CUDA where onnxruntime has it, ``cpu`` and ``cuda`` choose.
        num_threads: CPU threads; onnxruntime's own choice if left out.

    Raises:
        ConfigError: onnxruntime is not installed, or there is no such device.
        ModelFileError: The file is damaged, or not one that kdsweep exported.
    """

    def __init__(self, path: Path, device: str = "auto", num_threads: int | None = None) -> None:
        require_extra("onnx", "onnxruntime")
        contents, metadata = _checked_bytes(path)
        super().__init__(Card.from_metadata(metadata, path))
        self._session = open_session(contents, path, device, num_threads)
        self._check_interface(path)

    @override
    def class_ids(self, images_NHWC: np.ndarray) -> np.ndarray:
        return np.asarray(self._session.run([CLASSES], {IMAGES: images_NHWC})[0])

    @override
    def logits(self, images_NHWC: np.ndarray) -> np.ndarray:
        return np.asarray(self._session.run([LOGITS], {IMAGES: images_NHWC})[0])

    def _check_interface(self, path: Path) -> None:
        """Refuse a graph that does not do what its card says."""
        height, width = self.card.image_size
        inputs = {given.name: given for given in self._session.get_inputs()}
        outputs = {given.name: given for given in self._session.get_outputs()}
        if set(inputs) != {IMAGES} or not {CLASSES, LOGITS} <= set(outputs):
            raise ModelFileError(
                f"{path}: takes {', '.join(inputs)} and gives {', '.join(outputs)}; a student "
                f"takes {IMAGES} and gives {CLASSES} and {LOGITS}"
            )
        num_classes = len(self.card.classes)
        wanted = (
            (inputs[IMAGES], "tensor(uint8)", (None, height, width, 3)),
            (outputs[CLASSES], "tensor(uint8)", (None, height, width)),
            (outputs[LOGITS], "tensor(float)", (None, num_classes, height, width)),
        )
        for found, kind, shape in wanted:
            fits = len(found.shape) == len(shape) and all(
                size is None or here == size or (isinstance(here, str) and size in (height, width))
                for here, size in zip(found.shape, shape, strict=True)
            )
            if found.type != kind or not fits:
                raise ModelFileError(
                    f"{path}: {found.name} is {found.type} of shape {list(found.shape)}; its card "
                    f"has {num_classes} classes and images of {height}×{width}"
                )


def open_session(
    contents: bytes, where: object, device: str = "cpu", num_threads: int | None = None
) -> Any:
    """An onnxruntime session on a model's bytes.

    Raises:
        ConfigError: There is no such device.
        ModelFileError: onnxruntime refuses them, or was built without the device.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors; warnings are about the order of initializers
    if num_threads is not None:
        options.intra_op_num_threads = num_threads
    if device not in _DEVICES:
        raise ConfigError(
            "onnxruntime knows no such device here",
            path=("device",),
            value=device,
            allowed=_DEVICES,
        )
    there = ort.get_available_providers()
    providers = ["CPUExecutionProvider"]
    if device != "cpu" and "CUDAExecutionProvider" in there:
        providers.insert(0, "CUDAExecutionProvider")
    elif device == "cuda":
        raise ModelFileError(
            f"{where}: onnxruntime has no {device} here, only {', '.join(there)}\n"
            "  try:     pip install onnxruntime-gpu, or --device cpu"
        )
    try:
        return ort.InferenceSession(contents, options, providers=providers)
    except Exception as error:  # onnxruntime's own errors share no base class
        reason = str(error).strip().splitlines()[0][:300]
        raise ModelFileError(f"{where}: onnxruntime cannot run it ({reason})") from None


def _checked_bytes(path: Path) -> tuple[bytes, dict[str, str]]:
    """The file and its metadata, if nothing in it reaches beyond the file."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        if path.stat().st_size >= _MOST_BYTES:
            raise ModelFileError(f"{path}: is larger than any ONNX file can be")
        contents = path.read_bytes()
        model = onnx.load_model_from_string(contents)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror})") from None
    except (DecodeError, ValueError) as error:
        raise ModelFileError(f"{path}: is no ONNX file, or is cut off ({error})") from None
    if not model.graph.node:
        raise ModelFileError(f"{path}: is no ONNX file, or is cut off (it has no graph)")
    foreign = {entry.domain for entry in model.opset_import} | {n.domain for n in model.graph.node}
    if unknown := sorted(foreign - _DOMAINS):
        raise ModelFileError(f"{path}: needs operators that are not ONNX's own: {unknown[0]}")
    if model.functions or any(_graphs_of(node) for node in model.graph.node):
        raise ModelFileError(f"{path}: has graphs inside its graph, which no student has")
    for tensor in _tensors(model):
        if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ModelFileError(f"{path}: takes weights from another file ({tensor.name})")
    return contents, {entry.key: entry.value for entry in model.metadata_props}


def _graphs_of(node: Any) -> bool:
    return any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)


def _tensors(model: Any) -> Iterator[Any]:
    yield from model.graph.initializer
    sparse_tensors = list(model.graph.sparse_initializer)
    for node in model.graph.node:
        for attribute in node.attribute:
            yield from attribute.tensors
            sparse_tensors += attribute.sparse_tensors
            if attribute.HasField("sparse_tensor"):
                sparse_tensors.append(attribute.sparse_tensor)
            if attribute.HasField("t"):
                yield attribute.t
    for sparse in sparse_tensors:
        yield from (sparse.values, sparse.indices)
