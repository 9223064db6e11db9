"""Files that are damaged, hostile or of something else are refused, and run nothing."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdsweep import deploy
from kdsweep.errors import ConfigError, ModelFileError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

Get = Callable[[str], Path]


class Hostile:
    """Touches a file when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.witness,)


@pytest.fixture
def copy(exported: Get, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of an export that may be spoilt; gives the model's file."""

    def make(format: str) -> Path:
        folder = shutil.copytree(exported(format), tmp_path / format)
        return folder / ("student.safetensors" if format == "torch" else "student.onnx")

    return make


def change_metadata(file: Path, **changes: Any) -> None:
    model = onnx.load(file)
    for entry in model.metadata_props:
        if entry.key in changes:
            entry.value = json.dumps(changes[entry.key])
    file.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("format", ["onnx", "torch"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_truncated_files(copy: Get, format: str, share: float) -> None:
    file = copy(format)
    contents = file.read_bytes()
    file.write_bytes(contents[: int(share * len(contents))])
    with pytest.raises(ModelFileError):
        deploy.load(file)


@pytest.mark.parametrize("format", ["onnx", "torch"])
def test_a_pickle_under_another_name_is_not_run(copy: Get, format: str, tmp_path: Path) -> None:
    file, witness = copy(format), tmp_path / "witness"
    hostile = pickle.dumps(Hostile(witness))
    pickle.loads(hostile)
    assert witness.exists()  # it would do harm
    witness.unlink()
    file.write_bytes(hostile)
    with pytest.raises(ModelFileError):
        deploy.load(file)
    assert not witness.exists()


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".ckpt"])
def test_pickles_are_not_even_opened(tmp_path: Path, suffix: str) -> None:
    file, witness = tmp_path / f"model{suffix}", tmp_path / "witness"
    file.write_bytes(pickle.dumps(Hostile(witness)))
    with pytest.raises(ModelFileError, match="kdsweep never does"):
        deploy.load(file)
    assert not witness.exists()


WRONG = {
    "classes": (["one", "two"], ["one", "two", "three", "four"], [], "abc", [1, 2, 3], None),
    "palette": ([[0, 0, 0]], [[0, 0, 256]] * 3, [[0, 0]] * 3, "red"),
    "image_size": ([0, 64], [64, 10**9], [64], "64", [64.5, 64]),
    "mean": ([0.5, 0.5], ["a", "b", "c"], [1e9, 0, 0]),
    "std": ([0.0, 0.2, 0.2], [-1, 1, 1]),
    "model": ({"encoder": "resnet18", "surprise": 1}, 3),
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, vs in WRONG.items() for v in vs])
def test_wrong_metadata(copy: Get, key: str, value: Any) -> None:
    file = copy("onnx")
    change_metadata(file, **{key: value})
    with pytest.raises(ModelFileError):
        deploy.load(file)


def test_classes_that_the_graph_does_not_have(copy: Get) -> None:
    file = copy("onnx")
    change_metadata(file, classes=["one", "two"], palette=[[0, 0, 0]] * 2)
    with pytest.raises(ModelFileError, match="its card has 2 classes"):
        deploy.load(file)


def test_onnx_without_metadata_is_not_ours(copy: Get) -> None:
    file = copy("onnx")
    model = onnx.load(file)
    del model.metadata_props[:]
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match="kdsweep did not export it"):
        deploy.load(file)


def test_onnx_that_reads_other_files(copy: Get, tmp_path: Path) -> None:
    file = copy("onnx")
    (tmp_path / "secret").write_bytes(bytes(4096))
    model = onnx.load(file)
    tensor = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match="takes weights from another file"):
        deploy.load(file)


def test_onnx_with_operators_of_its_own(copy: Get) -> None:
    file = copy("onnx")
    model = onnx.load(file)
    model.graph.node[0].domain = "evil.example"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match=r"not ONNX's own: evil\.example"):
        deploy.load(file)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": ["one"], "palette": [[0, 0, 0]]}, "1 classes"),
        ({"model": {"arch": "unet", "encoder": "resnet34"}}, "no weights of a unet with resnet34"),
        ({"model": {"arch": "unet", "encoder": "tu-hf_hub:evil/net"}}, "unknown timm encoder"),
        ({"model": {"arch": "os.system"}}, "unknown architecture"),
        ({"std": [float("nan")] * 3}, "std"),
    ],
)
def test_cards_of_another_network(copy: Get, changes: dict[str, Any], said: str) -> None:
    file = copy("torch")
    card = file.with_name("student.json")
    card.write_text(json.dumps(json.loads(card.read_text()) | changes))
    with pytest.raises(ModelFileError, match=said):
        deploy.load(file)


def test_a_card_cannot_ask_for_any_amount_of_memory(copy: Get) -> None:
    file = copy("torch")
    card = file.with_name("student.json")
    tree = json.loads(card.read_text())
    tree["model"]["options"]["decoder_channels"] = [10**6] * 3  # 36 terabytes
    card.write_text(json.dumps(tree))
    with pytest.raises(ModelFileError, match="has shape"):
        deploy.load(file)


def test_a_file_without_most_weights_is_refused_before_the_network_is_built(
    copy: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file, save_file

    file = copy("torch")
    weights = load_file(file)
    save_file(dict([weights.popitem()]), file)
    monkeypatch.setattr("kdsweep.deploy.torch_model.build_network", None)
    with pytest.raises(ModelFileError, match=r"is missing, and \d+ more"):
        deploy.load(file)


def test_onnx_that_reads_other_files_as_sparse_constants(copy: Get) -> None:
    file = copy("onnx")
    model = onnx.load(file)
    values = onnx.helper.make_tensor("secret", onnx.TensorProto.FLOAT, [1], [1.0])
    indices = onnx.helper.make_tensor("indices", onnx.TensorProto.INT64, [1], [0])
    sparse = onnx.helper.make_sparse_tensor(values, indices, [4])
    sparse.values.ClearField("float_data")
    sparse.values.data_location = onnx.TensorProto.EXTERNAL
    sparse.values.external_data.add(key="location", value="../secret")
    node = onnx.helper.make_node("Constant", [], ["constant"], sparse_value=sparse)
    model.graph.node.insert(0, node)
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match="takes weights from another file"):
        deploy.load(file)


def test_onnx_that_no_memory_holds_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "student.onnx"
    with file.open("wb") as stream:
        stream.truncate(1 << 40)  # takes no room on the disk
    with pytest.raises(ModelFileError, match="larger than any ONNX file"):
        deploy.load(file)


@pytest.mark.parametrize("format", ["onnx", "torch"])
def test_devices_that_are_not_there_are_refused(exported: Get, format: str) -> None:
    with pytest.raises(ConfigError, match="no such device") as caught:
        deploy.load(exported(format), device="bogus")
    assert caught.value.path == ("device",)


@pytest.mark.parametrize(
    "what", ["nothing", "text.txt", "folder", "student.safetensors", "student.json"]
)
def test_what_is_no_model(tmp_path: Path, what: str) -> None:
    path = tmp_path / what
    if what == "folder":
        path.mkdir()
    elif what != "nothing":
        path.write_text("hello")
    with pytest.raises(ModelFileError):
        deploy.load(path)


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8), [1]],
)
def test_what_is_no_picture(exported: Get, image: Any) -> None:
    with pytest.raises(ConfigError, match="no picture"):
        deploy.load(exported("onnx"))(image)


def test_onnx_needs_neither_torch_nor_ray_and_reports_to_nobody(
    exported: Get, tmp_path: Path
) -> None:
    program = (
        "import sys, numpy as np\n"
        "from kdsweep import deploy\n"
        "import kdsweep.deploy.predicting, kdsweep.cli.progress\n"
        f"model = deploy.load({str(exported('onnx'))!r})\n"
        "assert model(np.zeros((20, 30, 3), np.uint8)).shape == (20, 30)\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
        | {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")},
    )
    assert not {"torch", "ray", "pandas", "optuna", "wandb"} & set(done.stdout.split())
    # onnxruntime keeps an identifier of the machine, and events to send, in Microsoft's folder.
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name]
