"""Pictures of validation frames for trackers that know no masks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kdsweep.tracking.base import TrialDetails

if TYPE_CHECKING:
    from PIL import Image

COLUMNS = ("image", "truth", "student", "teacher")
_GAP = 4


def rows_of(details: TrialDetails) -> Iterator[tuple[int, Image.Image]]:
    """Each frame as one picture: the photograph, the truth, and what the networks see.

    Yields:
        The frame's number and the picture in RGB, in which class ids have their colours.
    """
    from PIL import Image

    for frame, files in details.frames.items():
        parts = [Image.open(files[what]).convert("RGB") for what in COLUMNS if what in files]
        if not parts:
            continue
        width = sum(part.width for part in parts) + _GAP * (len(parts) - 1)
        row = Image.new("RGB", (width, max(part.height for part in parts)), "white")
        left = 0
        for part in parts:
            row.paste(part, (left, 0))
            left += part.width + _GAP
        yield frame, row
