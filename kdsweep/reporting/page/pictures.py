"""Validation frames as the best students see them: image, truth, predictions, errors.

Shape legend: H W image size, C colour channels.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from kdsweep.ledger.trials import title
from kdsweep.plain_text import printable
from kdsweep.reporting import formats
from kdsweep.reporting.results import Results
from kdsweep.reporting.tables import plain
from kdsweep.reporting.trial_files import control_of, trial_folder

COLUMNS = ("image", "truth", "teacher", "student", "control", "errors")
_MOST_SHEETS = 3
_MOST_TRIALS = 20  # looked at in search of them
_MOST_BYTES = 4_000_000  # of all pictures together, far below the page's limit
_LARGEST_PNG = 50_000  # of one photograph; above it JPEG does
_WIDEST = 400  # pixels
_MOST_PIXELS = 50_000_000
_VOID = 255
_WRONG, _VOID_COLOUR = (214, 39, 40), (0, 0, 0)


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        what: One of :data:`COLUMNS`.
        address: The picture itself as a ``data:`` address; empty where there is none.
        note: A few words beneath it.
        width, height: In pixels.
    """

    what: str
    address: str = ""
    note: str = ""
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class Sheet:
    """The frames of one student.

    Attributes:
        title: Which trial it is.
        columns: What each frame shows.
        frames: By number of the frame in the validation split its pictures, one a column.
    """

    title: str
    columns: tuple[str, ...]
    frames: Mapping[int, tuple[Picture, ...]]


@dataclass(frozen=True)
class Gallery:
    """All pictures of the page.

    Attributes:
        sheets: Best student first.
        legend: Name and CSS colour of each class that is to be seen.
        cut: Whether frames were left out to keep the page small.
    """

    sheets: list[Sheet] = field(default_factory=list)
    legend: list[tuple[str, str]] = field(default_factory=list)
    cut: bool = False


@dataclass(frozen=True, eq=False)
class _Labels:
    """A picture of class ids and its colours."""

    ids_HW: np.ndarray
    palette_KC: np.ndarray


def gallery(results: Results) -> Gallery:
    """Return the pictures that the best trial of each of the best students has left.

    What a trial is writing just now, or has never written, is left out.
    """
    sheets: list[Sheet] = []
    seen: dict[int, tuple[int, int, int]] = {}
    used = 0
    for number, named in _best_of_each_student(results):
        frames: dict[int, tuple[Picture, ...]] = {}
        for index, files in _files(results, number).items():
            pictures = _pictures(files, seen)
            size = sum(len(picture.address) for picture in pictures)
            if not pictures or used + size > _MOST_BYTES:
                continue
            used += size
            frames[index] = pictures
        if frames:
            sheets.append(Sheet(named, *_without_empty_columns(frames)))
        if len(sheets) == _MOST_SHEETS:
            break
    return Gallery(sheets, _legend(results, seen), cut=used > 0.9 * _MOST_BYTES)


def _best_of_each_student(results: Results) -> Iterator[tuple[int, str]]:
    best = results.ranked().drop_duplicates("student").head(_MOST_TRIALS)
    for row in best.to_dict("records"):
        named = title(row["label"], row["student"], plain(row["teacher"]))
        short = formats.after(row["epochs"], row["planned_epochs"])
        score = formats.score(row["value"]) + (f", {short}" if short else "")
        yield row["number"], printable(f"Trial {row['number']}, {named}: {score}")


def _files(results: Results, number: int) -> dict[int, dict[str, Path]]:
    """Return the files of a trial's frames, and its control's predictions for the same frames."""
    folder = trial_folder(results, number)
    frames = {} if folder is None else folder.frame_pictures()
    control = control_of(results, number)
    folder = None if control is None else trial_folder(results, control)
    others = {} if folder is None else folder.frame_pictures()
    for index, files in frames.items():
        if "student" in others.get(index, {}):
            files["control"] = others[index]["student"]
    return frames


def _pictures(
    files: Mapping[str, Path], seen: dict[int, tuple[int, int, int]]
) -> tuple[Picture, ...]:
    """Return the pictures of one frame; none without a truth and a student's prediction.

    Args:
        files: By what they show.
        seen: Classes and their colours; those of this frame are added.
    """
    truth, image = _labels(files.get("truth")), _image(files.get("image"))
    if truth is None or image is None or image.shape[:2] != truth.ids_HW.shape:
        return ()
    pictures = {
        "image": _picture("image", Image.fromarray(image)),
        "truth": _picture("truth", _coloured(truth.ids_HW, truth.palette_KC)),
    }
    labelled_HW = truth.ids_HW != _VOID
    for what in ("teacher", "student", "control"):
        predicted = _labels(files.get(what))
        if predicted is None or predicted.ids_HW.shape != truth.ids_HW.shape:
            continue
        # What is void in the labels is not scored, so it is not shown either.
        ids_HW = np.where(labelled_HW, predicted.ids_HW, _VOID)
        right_HW = ids_HW == truth.ids_HW
        note = ""
        if labelled_HW.any():
            note = f"{formats.percent(right_HW[labelled_HW].mean())} % right"
        pictures[what] = _picture(what, _coloured(ids_HW, truth.palette_KC), note)
        _remember(seen, ids_HW, truth.palette_KC)
        if what == "student":
            errors = Image.fromarray(_errors(image, labelled_HW, right_HW))
            pictures["errors"] = _picture("errors", errors, "of the student")
    if "student" not in pictures:
        return ()
    _remember(seen, truth.ids_HW, truth.palette_KC)
    return tuple(pictures.get(what, Picture(what)) for what in COLUMNS)


def _without_empty_columns(
    frames: Mapping[int, tuple[Picture, ...]],
) -> tuple[tuple[str, ...], dict[int, tuple[Picture, ...]]]:
    filled = [any(row[place].address for row in frames.values()) for place in range(len(COLUMNS))]

    def kept(row: tuple[Picture, ...]) -> tuple[Picture, ...]:
        return tuple(picture for picture, is_filled in zip(row, filled, strict=True) if is_filled)

    columns = tuple(what for what, is_filled in zip(COLUMNS, filled, strict=True) if is_filled)
    return columns, {index: kept(row) for index, row in frames.items()}


def _errors(image_HWC: np.ndarray, labelled_HW: np.ndarray, right_HW: np.ndarray) -> np.ndarray:
    """Return the frame in pale grey, wrong pixels red, void black."""
    grey_HW1 = image_HWC.mean(axis=2, keepdims=True) * 0.5 + 110
    picture_HWC = np.repeat(grey_HW1, 3, axis=2).astype(np.uint8)
    picture_HWC[~right_HW] = _WRONG
    picture_HWC[~labelled_HW] = _VOID_COLOUR
    return picture_HWC


def _coloured(ids_HW: np.ndarray, palette_KC: np.ndarray) -> Image.Image:
    picture = Image.fromarray(ids_HW.astype(np.uint8))
    picture.putpalette(palette_KC.astype(np.uint8).tobytes())
    return picture


def _picture(what: str, image: Image.Image, note: str = "") -> Picture:
    if image.width > _WIDEST:
        size = (_WIDEST, max(1, round(image.height * _WIDEST / image.width)))
        # Classes cannot be averaged, colours can.
        way = Image.Resampling.NEAREST if image.mode == "P" else Image.Resampling.LANCZOS
        image = image.resize(size, way)
    packed = io.BytesIO()
    image.save(packed, "PNG", optimize=True)
    kind, data = "png", packed.getvalue()
    if image.mode == "RGB" and len(data) > _LARGEST_PNG:
        packed = io.BytesIO()
        image.save(packed, "JPEG", quality=82)
        kind, data = "jpeg", packed.getvalue()
    address = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    return Picture(what, address, note, image.width, image.height)


def _remember(
    seen: dict[int, tuple[int, int, int]], ids_HW: np.ndarray, palette_KC: np.ndarray
) -> None:
    for index in np.unique(ids_HW).tolist():
        red, green, blue = palette_KC[index].tolist()
        seen.setdefault(index, (red, green, blue))


def _legend(results: Results, seen: Mapping[int, tuple[int, int, int]]) -> list[tuple[str, str]]:
    classes = list(results.summary.data.get("classes") or [])
    legend = []
    for index in sorted(seen):
        name = classes[index] if index < len(classes) else f"class {index}"
        name = "void, not scored" if index == _VOID else printable(str(name))
        legend.append((name, "rgb({}, {}, {})".format(*seen[index])))
    return legend


def _labels(path: Path | None) -> _Labels | None:
    """Return class ids, or ``None`` if there is no picture of them that is whole."""
    image = _opened(path)
    if image is None or image.mode != "P":
        return None
    palette = np.zeros((256, 3), np.uint8)
    colours = np.array(image.getpalette() or [], np.uint8).reshape(-1, 3)
    palette[: len(colours)] = colours
    return _Labels(np.asarray(image), palette)


def _image(path: Path | None) -> np.ndarray | None:
    image = _opened(path)
    return None if image is None else np.asarray(image.convert("RGB"))


def _opened(path: Path | None) -> Image.Image | None:
    if path is None:
        return None
    try:
        with Image.open(io.BytesIO(path.read_bytes()), formats=("PNG",)) as image:
            if image.width * image.height > _MOST_PIXELS:
                return None
            image.load()
            return image.copy()
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError):
        # A trial that is writing just now, or whose machine failed, has no picture to show.
        return None
