"""What a shell offers at the tab key: experiments, spaces, losses, encoders. Loads no torch.

Where nothing is offered, shells go on with the names of files.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

EXPERIMENTS = Path("experiments")


def spaces(incomplete: str) -> list[str]:
    """Return YAML files that are here, and the spaces that come with kdsweep."""
    here = sorted(path.name for path in Path().glob("*.y*ml"))
    return _beginning(incomplete, here) + shipped(incomplete)


def shipped(incomplete: str) -> list[str]:
    """Return the spaces that come with kdsweep."""
    from kdsweep.config.shipped import shipped_files

    return _beginning(incomplete, [*shipped_files()])


def experiments(incomplete: str) -> list[str]:
    """Return the experiments below ``experiments``, the newest first."""
    found = [path.parent for path in EXPERIMENTS.glob("*/ledger.jsonl")]
    # Names begin with a time; `latest` comes before them all.
    return _beginning(incomplete, sorted(map(str, found), reverse=True))


def losses(incomplete: str) -> list[str]:
    """Return the distillation losses, those of other packages too."""
    from kdsweep.config.losses import LOSSES

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a line on a broken package would garble the prompt
        return _beginning(incomplete, LOSSES.names())


def encoders(incomplete: str) -> list[str]:
    """Return encoders as their libraries' source names them: importing those takes seconds."""
    names = _own_encoders()
    if incomplete.startswith("tu"):
        names = (f"tu-{name}" for name in _timm_encoders())
    return _beginning(incomplete, sorted(names))


def _own_encoders() -> Iterator[str]:
    for text in _sources("segmentation_models_pytorch", "encoders"):
        for table in re.findall(r"^\w*encoders = \{(.*?)^\}", text, re.MULTILINE | re.DOTALL):
            yield from re.findall(r'^    "([\w-]+)": ', table, re.MULTILINE)


def _timm_encoders() -> Iterator[str]:
    for text in _sources("timm", "models"):
        yield from re.findall(r"^@register_model\s+def (\w+)", text, re.MULTILINE)


def _sources(package: str, folder: str) -> Iterator[str]:
    spec = find_spec(package)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for file in (Path(place) / folder).rglob("*.py"):
            yield file.read_text(encoding="utf-8")


def _beginning(incomplete: str, names: list[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
