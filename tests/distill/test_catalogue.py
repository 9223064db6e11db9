"""The catalogue says of every loss what there is to say."""

from __future__ import annotations

import io
import json
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from kdsweep.distill import LOSSES
from kdsweep.distill.catalogue import HEADINGS, catalogue, look_up, short_taps
from kdsweep.distill.show import show_all, show_one
from kdsweep.errors import ConfigError

EVERY = sorted(LOSSES)


def printed(width: int, name: str | None = None) -> str:
    console = Console(file=io.StringIO(), width=width)
    if name is None:
        show_all(catalogue(), console)
    else:
        show_one(look_up(name), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_loss_has_its_keys_and_every_key_its_loss() -> None:
    assert sorted(entry.name for entry in catalogue()) == EVERY


@pytest.mark.parametrize("name", EVERY)
def test_entries_are_whole(name: str) -> None:
    entry = look_up(name)
    assert tuple(entry.sections) == HEADINGS
    assert all(len(text) > 20 for text in entry.sections.values())
    assert "``" in entry.formula
    assert entry.compares.endswith(".")
    assert re.fullmatch(r"\d{4}\.\d{4,5}|[A-Z]+ \d{4}", entry.paper)
    # What the docstring says of the default weight is the weight that the schema has.
    weight = f"{entry.default('weight'):g}"
    assert re.search(rf"(?<![\d.]){re.escape(weight)}(?![\d.]*\d)", entry.sections["Defaults"])


@pytest.mark.parametrize("width", [80, 200])
def test_everything_fits_and_is_there(width: int) -> None:
    text = printed(width)
    assert all(cell_len(line) <= width for line in text.splitlines())
    for entry in catalogue():
        assert re.search(rf"^{entry.name} .*{re.escape(entry.paper)}", text, re.MULTILINE)
        whole = printed(width, entry.name)
        assert all(cell_len(line) <= width for line in whole.splitlines())
        assert "``" not in whole
        words = " ".join(whole.split())
        for part in (entry.formula, *(entry.sections[h] for h in HEADINGS)):
            assert " ".join(part.replace("``", "").split()) in words
        for key in entry.keys:
            assert re.search(rf"^{key.name} ", whole, re.MULTILINE)


def test_unknown_losses_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown distillation loss") as caught:
        look_up("pixel_ls")
    assert "did you mean `pixel_kl`?" in str(caught.value)


def test_json_has_defaults_and_text() -> None:
    entry = json.loads(json.dumps(look_up("attention").to_json()))
    assert entry["defaults"]["taps"] == ["encoder.3", "encoder.4"]
    assert entry["paper"] == "1612.03928"
    assert entry["sections"]["Args"] == "taps: Where the features are taken."
    assert entry["sections"]["Averaged over"] == look_up("attention").sections["Averaged over"]


def test_taps_are_short() -> None:
    assert short_taps(("encoder.1", "encoder.2", "encoder.3")) == "encoder.1–3"
    assert short_taps(("encoder.1", "encoder.3")) == "encoder.1, encoder.3"
    assert short_taps(("encoder.4",)) == "encoder.4"
    assert short_taps(("encoder.4", "decoder")) == "encoder.4, decoder"
