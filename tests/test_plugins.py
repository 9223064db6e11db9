"""Losses and sources from other packages, which are installed beside kdsweep and change nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tiny_job import SMALL

from kdsweep.errors import ConfigError
from kdsweep.registry import PluginWarning, Registry

EXAMPLE = Path(__file__).parents[1] / "examples" / "kdsweep-extra"
# Several commands in one process: importing torch takes longer than they do.
MAIN = """
import contextlib, io, json, sys
from kdsweep.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["kdsweep", *arguments]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the example package is installed in."""
    home = tmp_path_factory.mktemp("installed")
    shutil.copytree(EXAMPLE, home / "source")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target"]
    command = [sys.executable, "-m", "pip", "install", *options, str(home / "site")]
    subprocess.run([*command, str(home / "source")], check=True, capture_output=True)
    return home / "site"


def kdsweep(site: Path, *commands: list[str]) -> list[tuple[int, str, str]]:
    """What commands answer with a package installed: exit code, output, errors of each."""
    paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-c", MAIN, json.dumps(commands)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "100"},
        cwd=site,
    )
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def space(data: Path, **distill: Any) -> dict[str, Any]:
    rule = {"weight": {"min": 0.5, "max": 4.0}, "centred": {"values": [True, False]}}
    return {
        "name": "extra",
        "data": {
            "source": "pairs",
            "path": str(data),
            "names": ["red", "green"],
            "every": {"values": [3, 4]},
            "image_size": [32, 32],
            "cache": str(data.parent / "cache"),
            "augment": "none",
        },
        "teacher": {"encoder": "resnet18", "options": SMALL},
        "student": {"encoder": "mobilenet_v2", "options": SMALL},
        "distill": distill or {"cosine": rule},
        "train": {"epochs": 1, "batch_size": 4, "lr": 3e-3},
    }


def write(path: Path, tree: dict[str, Any]) -> str:
    path.write_text(json.dumps(tree))
    return str(path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Eight pairs of a picture and its labels."""
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(8):
        labels = rng.integers(0, 2, (32, 32), np.uint8)
        image = np.stack([labels * 0, labels * 200, 200 - labels * 200], axis=2)
        cv2.imwrite(str(folder / f"{index}_image.png"), image)
        cv2.imwrite(str(folder / f"{index}_labels.png"), labels)
    return folder


def test_an_installed_loss_and_source_are_as_good_as_ones_own(
    installed: Path, data: Path, tmp_path: Path
) -> None:
    slips = space(data, cosin={})
    slips["data"]["source"] = "pears"
    job = space(data, cosine={"centred": True})
    job["data"]["every"] = 4
    losses, schema, valid, slipped, bad, trained = kdsweep(
        installed,
        ["losses", "--json"],
        ["schema"],
        ["validate", write(tmp_path / "space.yaml", space(data))],
        ["validate", write(tmp_path / "slips.yaml", slips)],
        ["validate", write(tmp_path / "bad.yaml", space(data, cosine={"stride": 0}))],
        ["train", write(tmp_path / "job.yaml", job), "--out", str(tmp_path / "out"), "--json"],
    )
    code, out, err = losses
    entry = [json.loads(line) for line in out.splitlines()][-1]
    assert (code, err) == (0, "")
    assert (entry["name"], entry["defaults"]["weight"]) == ("cosine", 2.0)
    assert entry["formula"].startswith("``1 − cos(s, t)``")
    assert "centred: Subtract each pixel's mean score first." in entry["sections"]["Args"]

    definitions = json.loads(schema[1])["$defs"]
    assert "Subtract" in definitions["CosineConfig"]["properties"]["centred"]["description"]
    assert "names" in definitions["PairsData"]["required"]

    assert (valid[0], valid[2]) == (0, "")
    assert "5 training and 3 validation frames found" in valid[1]
    assert "6 training and 2 validation frames found" in valid[1]
    assert slipped[0] == bad[0] == 2
    assert "did you mean `cosine`?" in slipped[2]
    assert "did you mean `pairs`?" in slipped[2]
    assert "distill.cosine.stride: too small" in bad[2]

    assert trained[0] == 0, trained[2]
    (report,) = [json.loads(line) for line in trained[1].splitlines()]
    values = {key: value for key, value in report["metrics"].items() if "cosine" in key}
    assert len(values) >= 3  # the value, weighted, its share of the gradient
    assert all(0 <= value < 10 for value in values.values())

    # Without the package it is an unknown key.
    ((code, _, err),) = kdsweep(tmp_path, ["validate", str(tmp_path / "job.yaml")])
    assert code == 2
    assert "distill.cosine: unknown key" in err
    assert "data.source: unknown source" in err


BROKEN = {
    "kdsweep.losses": {
        "absent": "no_such_module:Config",
        "teacher": "kdsweep_bad:GoodConfig",
        "wrong": "kdsweep_bad:NoConfig",
        "lame": "kdsweep_bad:LameConfig",
    },
    "kdsweep.sources": {"other": "kdsweep_bad:OtherData"},
    "kdsweep.trackers": {"gone": "no_such_module:Config"},
}
BAD_KEYS = """
from typing import Literal
from kdsweep.config.data import BaseDataConfig
from kdsweep.config.losses import LossConfig
NoConfig = dict
class GoodConfig(LossConfig):
    implementation = "kdsweep_bad:nothing"
class LameConfig(LossConfig):
    "A loss whose own module cannot be imported."
    implementation = "kdsweep_lame:Loss"
    weight: float = 1.0
class OtherData(BaseDataConfig):
    implementation = "kdsweep_bad:nothing"
    source: Literal["another"]
"""


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A folder with a package that is broken in every way, as pip would have installed it."""
    site = tmp_path / "site"
    facts = site / "kdsweep_bad-0.2.dist-info"
    facts.mkdir(parents=True)
    (site / "kdsweep_bad.py").write_text(BAD_KEYS)
    (site / "kdsweep_lame.py").write_text("raise ImportError('built for another torch')")
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: kdsweep-bad\nVersion: 0.2\n")
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in members.items())
        for group, members in BROKEN.items()
    ]
    (facts / "entry_points.txt").write_text("\n".join(groups))
    return site


def test_a_broken_package_is_named_and_stops_only_what_needs_it(
    broken: Path, data: Path, tmp_path: Path
) -> None:
    fine = space(data, pixel_kl={})
    fine["data"] = {"source": "roadscenes", "image_size": [32, 32]}
    uses = {
        "absent": {"distill": {"absent": {}}},
        "lame": {"distill": {"lame": {}}},
        "other": {"data": {"source": "other", "image_size": [32, 32]}},
        "gone": {"tracking": {"gone": {}}},
    }
    files = [write(tmp_path / f"{name}.yaml", {**fine, **use}) for name, use in uses.items()]
    helped, listed, valid, explained, *refused = kdsweep(
        broken,
        ["--help"],
        ["losses"],
        ["validate", write(tmp_path / "fine.yaml", fine)],
        ["losses", "absent"],
        *(["validate", file] for file in files),
    )
    assert (helped[0], helped[2]) == (0, "")
    package = "of the package kdsweep-bad 0.2 cannot be loaded"
    warnings = listed[2].splitlines()
    for words in (
        f"the distillation loss absent {package}: ModuleNotFoundError: No module named",
        f"the distillation loss teacher {package}: ValueError: this name cannot be used here",
        f"the distillation loss wrong {package}: TypeError: <class 'dict'> does not inherit from "
        "kdsweep.config.losses.LossConfig",
        f'the data source other {package}: TypeError: OtherData.source is not Literal["other"]',
        f"the tracker gone {package}: ModuleNotFoundError",
        "lame: kdsweep_lame:Loss cannot be loaded: ImportError: built for another torch",
    ):
        (line,) = [line for line in warnings if words in line]
        assert line.startswith("warning: ")
    assert len(warnings) == 6
    assert listed[0] == 0
    assert "A loss whose own module" in listed[1]
    assert (valid[0], valid[2]) == (0, "")  # it was said once
    assert [code for code, _, _ in (explained, *refused)] == [2] * 5
    assert f"absent {package}" in explained[2]
    for (_, _, err), words in zip(
        refused,
        (
            f"distill.absent: the distillation loss absent {package}",
            "distill.lame: kdsweep_lame:Loss cannot be loaded: ImportError",
            f"data: the data source other {package}",
            f"tracking.gone: the tracker gone {package}",
        ),
        strict=True,
    ):
        assert words in err
        assert "mend or uninstall the package" in err


def test_names_are_taken_once() -> None:
    registry: Registry[int] = Registry("thing")
    registry.register("a")(1)
    with pytest.raises(ValueError, match="thing 'a' is registered twice"):
        registry.register("a")(2)
    assert registry.members() == {"a": 1}
    with pytest.raises(ConfigError, match="unknown thing"):
        registry.get("b")


def test_of_two_packages_with_one_name_the_first_is_used(
    broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("first", "os:sep"), ("second", "os:linesep")):
        facts = broken / f"{name}-1.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (facts / "entry_points.txt").write_text(f"[kdsweep.things]\nboth = {value}\n")
    monkeypatch.syspath_prepend(broken)
    registry: Registry[Any] = Registry("thing", "kdsweep.things")
    with pytest.warns(PluginWarning, match=r"second 1.0 adds a thing both, which first 1.0 has"):
        assert registry.get("both") == os.sep
    assert registry.package("both") == "first 1.0"
