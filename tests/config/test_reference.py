"""The user's guide, the JSON Schema, the shipped spaces and the W&B form follow the schema."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from drawing import SPACE, RandomSuggest

from kdsweep.config import load_space
from kdsweep.config.data import BaseDataConfig
from kdsweep.config.document import parse_document, read_document
from kdsweep.config.grammar import DISTRIBUTIONS
from kdsweep.config.reference import all_sections, json_schema, meanings, with_tables
from kdsweep.config.wandb_sweep import to_wandb
from kdsweep.errors import ConfigError

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "search-spaces.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
SCHEMA = jsonschema.Draft202012Validator(json_schema())


def test_the_tables_of_the_reference_are_up_to_date() -> None:
    assert with_tables(REFERENCE) == REFERENCE, (
        "run: python -m kdsweep.config.reference docs/reference.md"
    )


def test_the_reference_has_every_key() -> None:
    shown = dict(re.findall(r"<!-- keys of (\w+)(?: beyond (\w+))? -->", REFERENCE))
    for name, section in all_sections().items():
        if name in shown or not section.model_fields:
            continue
        assert issubclass(section, BaseDataConfig), f"{name} has no table"
        assert section.model_fields.keys() == BaseDataConfig.model_fields.keys()
    assert all(distribution in GUIDE for distribution in DISTRIBUTIONS)


def test_every_key_has_a_meaning() -> None:
    for name, section in all_sections().items():
        texts = meanings(section)
        assert texts.keys() == section.model_fields.keys(), name
        assert all(texts.values()), name


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(name:.*?)```", GUIDE, re.DOTALL))
def test_examples_of_the_guide_are_valid(block: str) -> None:
    tree = parse_document(block, "guide").tree
    SCHEMA.validate(tree)
    assert load_space(tree).num_points() is None


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(distill:.*?)```", GUIDE, re.DOTALL))
def test_pieces_of_the_guide_are_valid(block: str) -> None:
    tree = {**space_tree(), **parse_document(block, "guide").tree}
    SCHEMA.validate(tree)
    names = {
        name for seed in range(20) for name in load_space(tree).draw(RandomSuggest(seed)).params
    }
    assert "distill[1].pixel_kl.weight" in names


def test_the_changes_in_the_guide_work() -> None:
    changes = re.findall(r"^--set (\S+|'.*?')(?: +#.*)?$", GUIDE, re.MULTILINE)
    assert len(changes) == 6
    for change in changes:
        load_space(space_tree(), [change.strip("'")])


@pytest.mark.parametrize(
    "file", sorted((ROOT / "search_spaces").glob("*.yaml")), ids=lambda f: f.name
)
def test_the_spaces_that_come_along_are_valid(file: Path) -> None:
    space = load_space(file)
    assert space.name == file.stem
    assert file.read_text(encoding="utf-8").startswith("# ")
    SCHEMA.validate(read_document(file).tree)


def space_tree() -> dict[str, Any]:
    return parse_document(SPACE, "space.yaml").tree


def test_the_json_schema_is_a_schema_and_takes_the_small_space() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    SCHEMA.validate(space_tree())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("temperature", "temprature"),
        ("sweep:", "swep:"),
        ("epochs: 4", "epochs: four"),
        ("epochs: 4", "epochs: {min: 1, mx: 4}"),
        ("epochs: 4", "epochs: {values: [1, two]}"),
        ("epochs: 4", "epochs: 4\n  optimizer: {min: 1, max: 2}"),
        ("epochs: 4\n", ""),
        ("{trials: 8}", "{trials: {values: [1, 2]}}"),
        ("roadscenes", "roadscene"),
        ("[1, 2, 4]", "[]"),
        ("name: backbones", "name: {values: [a, b]}"),
    ],
)
def test_the_json_schema_refuses_what_is_wrong(old: str, new: str) -> None:
    assert old in SPACE
    assert not SCHEMA.is_valid(parse_document(SPACE.replace(old, new), "space.yaml").tree)


def test_wandb_gets_the_ranges_as_they_stand() -> None:
    config = to_wandb(load_space(space_tree()))
    assert config["name"] == "backbones"
    assert config["method"] == "bayes"
    assert config["metric"] == {"name": "student/miou", "goal": "maximize"}
    assert config["run_cap"] == 8
    assert config["early_terminate"] == {"type": "hyperband", "min_iter": 1, "eta": 3}
    train = config["parameters"]["train"]["parameters"]
    assert train["lr"] == {"min": 1e-4, "max": 1e-2, "distribution": "log_uniform_values"}
    assert train["epochs"] == {"value": 4}
    assert train["supervised"]["parameters"]["ce"]["parameters"]["weight"] == {"value": 1.0}
    student = config["parameters"]["student"]["parameters"]
    assert student["encoder"] == {"values": ["resnet18", "mobilenet_v2"]}
    assert student["options"] == {"value": {}}


def test_wandb_knows_no_ranges_in_ranges() -> None:
    tree = space_tree()
    tree["distill"] = {"values": [{}, tree["distill"]]}
    with pytest.raises(ConfigError, match="no ranges inside of choices") as caught:
        to_wandb(load_space(tree))
    assert caught.value.path[0] == "distill"


def test_the_package_is_light() -> None:
    code = (
        "import sys, kdsweep.config;"
        "heavy = {'torch', 'ray', 'pandas', 'numpy', 'optuna', 'wandb', 'ruamel.yaml'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_guide_is_renewed_in_place(tmp_path: Path) -> None:
    stale = tmp_path / "guide.md"
    stale.write_text("# Guide\n<!-- keys of DiceConfig -->\nold\n<!-- end -->\nrest\n")
    command = [sys.executable, "-m", "kdsweep.config.reference", str(stale)]
    subprocess.run(command, check=True)
    assert stale.read_text() == (
        "# Guide\n<!-- keys of DiceConfig -->\n"
        "| key | default | allowed | meaning |\n|---|---|---|---|\n"
        "| `weight` | `1.0` | a number > 0 | Weight of the term. |\n"
        "<!-- end -->\nrest\n"
    )
