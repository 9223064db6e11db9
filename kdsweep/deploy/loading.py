"""From a path to a student that predicts."""

from __future__ import annotations

from pathlib import Path

from kdsweep.deploy.card import Card
from kdsweep.deploy.model import DeployedModel
from kdsweep.errors import ModelFileError
from kdsweep.ledger import Experiment
from kdsweep.ledger.layout import CARD, WEIGHTS

_ONNX = ".onnx"
_PICKLED = frozenset({".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin"})
_ALLOWED = (
    f"an ONNX file of kdsweep export, a folder with {WEIGHTS} and {CARD}, a trial's folder, or an "
    "experiment"
)


def load(
    path: Path | str, *, device: str = "auto", num_threads: int | None = None
) -> DeployedModel:
    """A trained or exported student, as a function from a picture to class ids.

    Nothing is unpickled, and a file is checked before it is used. ONNX files need neither torch nor
    the experiment.

    Args:
        path: An ONNX file that ``kdsweep export`` wrote; a folder with ``student.safetensors`` and
            ``student.json`` (an export, or ``best`` of a trial); a trial's folder; or an
            experiment, for its best student.
        device: ``auto`` takes CUDA where there is any, ``cpu`` and ``cuda`` choose.
        num_threads: CPU threads.

    Returns:
        Called with a uint8 RGB array of height × width × 3, it gives uint8 class ids of the same
        height and width; its ``card`` has class names and colours.

    Raises:
        ModelFileError: There is no such file, or it is damaged or none of kdsweep's.
        ExperimentError: The experiment has no student yet.
    """
    path = Path(path).expanduser()
    found = _file_of(path)
    if found.suffix == _ONNX:
        from kdsweep.deploy.onnx_model import OnnxModel

        return OnnxModel(found, device, num_threads)
    card_file = found.parent / CARD
    try:
        card = Card.from_json(card_file.read_bytes(), card_file)
    except OSError as error:
        raise ModelFileError(f"{card_file}: cannot be read ({error.strerror})") from None
    from kdsweep.deploy.torch_model import TorchModel

    return TorchModel(card, found, device, num_threads)


def _file_of(path: Path) -> Path:
    """The ONNX or safetensors file that is meant."""
    if not path.exists():
        raise ModelFileError(f"{path}: there is no such model\n  allowed: {_ALLOWED}")
    if path.is_dir():
        return _file_in(path)
    if path.suffix in _PICKLED:
        raise ModelFileError(
            f"{path}: is a pickle by its name; reading one can run any code, so kdsweep never does"
            f"\n  allowed: {_ALLOWED}"
        )
    if path.name == CARD:
        return path.with_name(WEIGHTS)
    if path.suffix == _ONNX or path.name == WEIGHTS:
        return path
    raise ModelFileError(f"{path}: is no model\n  allowed: {_ALLOWED}")


def _file_in(folder: Path) -> Path:
    if (folder / CARD).is_file():
        return folder / WEIGHTS
    exported = sorted(folder.glob(f"*{_ONNX}"))
    if len(exported) == 1:
        return exported[0]
    if exported:
        names = ", ".join(file.name for file in exported)
        raise ModelFileError(f"{folder}: holds several models\n  allowed: one of {names}")
    if (folder / "best" / CARD).is_file() or Experiment(folder).ledger.is_file():
        from kdsweep.deploy.choosing import choose_student

        return choose_student(folder).weights
    raise ModelFileError(f"{folder}: holds no model\n  allowed: {_ALLOWED}")
