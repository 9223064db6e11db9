"""What a report says of parameters that the sampler could not learn."""

from __future__ import annotations

from typing import Any

import pytest
from experiments_on_disk import results_of

from kdsweep.reporting import to_json
from kdsweep.reporting.caveats import notes, warnings_of


@pytest.mark.parametrize("drawn", [[], ["teacher.encoder", "student.encoder"]])
def test_parameters_drawn_at_random_are_a_caveat(story: Any, drawn: list[str]) -> None:
    story.sweep(sampler="gp").session().trial(0, at_random=drawn[:1]).trial(1, at_random=drawn)
    results = results_of(story.run(0, [0.4]).run(1, [0.5]).add("done").events)
    for said in (notes(results), warnings_of(results)):
        found = [text for text in said if "at random" in text]
        assert len(found) == bool(drawn)
        assert all("gp" in text and "teacher.encoder, student.encoder" in text for text in found)
    assert to_json(results)["summary"].get("at_random", []) == drawn
