"""Decoding picture files, and resizing frames.

Pillow decodes, because it turns damaged files into exceptions: OpenCV returns half-grey pictures
for cut JPEG files and writes its complaints to the terminal. Both are equally fast on PNG.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

# Pillow refuses what is larger, and warns from half of it on, which aerial pictures have.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_RGB_MODES = frozenset({"RGB", "RGBA", "L", "P", "1", "CMYK", "YCbCr", "LA", "PA", "RGBX"})


class FrameError(Exception):
    """One file cannot be used; collected and shown with all others in one DataError."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


def read_rgb(path: Path, bits: int = 8, *, turned: bool = True) -> np.ndarray:
    """Return a picture as uint8 of (H, W, 3) in RGB.

    Args:
        path: The file.
        bits: Bits of a channel that hold something, 8 to 16; a camera's 12 bits come in files of
            16. The upper 8 of them are kept. Files of 8 bits are read as they are.
        turned: Turn it as its EXIF note says, which is how viewers show it.

    Raises:
        FrameError: The file is no picture, is cut off, or has more than 8 bits a channel and
            ``bits`` does not say how many.
    """
    with _decoding(path) as picture:
        if picture.mode.startswith("I") or _stored_bits(path, picture) == 16:
            image = _deep_rgb(path, bits)
        elif picture.mode in _RGB_MODES:
            image = np.asarray(picture.convert("RGB"))
        else:
            raise FrameError(path, f"mode {picture.mode!r}; images must have 8 bits a channel")
        turn = _TURNS.get(exif_turn(picture)) if turned else None
        return image if turn is None else np.ascontiguousarray(turn(image))


def _deep_rgb(path: Path, bits: int) -> np.ndarray:
    """A picture of 16 bits a channel, of which Pillow would give the upper 8."""
    found = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None or found.dtype != np.uint16:
        raise FrameError(path, "has more than 8 bits a channel in a form that cannot be read")
    highest = int(found.max())
    if bits == 8 or highest >= 1 << bits:
        used = max(9, highest.bit_length())
        raise FrameError(
            path,
            f"has 16 bits a channel and values up to {highest}, which take {used} bits; "
            f"`image_bits: {used}` in the `data:` section reads them",
        )
    image = (found >> (bits - 8)).astype(np.uint8)
    if image.ndim == 2:
        return np.repeat(image[..., None], 3, axis=2)
    return np.ascontiguousarray(image[..., 2::-1])


def needed_bits(images: Sequence[Path]) -> int:
    """Return the bits of a channel that images of 16 bits use at most; 8 if the first has no more.

    What cannot be read is left out here, and named with all others where frames are decoded.
    """
    first = next(filter(None, map(_size_and_bits, images)), None)
    if first is None or first[1] != 16:
        return 8
    highest = 0
    for path in images:
        if _size_and_bits(path) is not None:
            found = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
            highest = max(highest, 0 if found is None else int(found.max()))
    return max(8, highest.bit_length())


def usual_size(images: Iterable[Path]) -> tuple[int, int] | None:
    """Return the most frequent (height, width) of pictures, of those that can be opened."""
    found = Counter(seen[0] for seen in map(_size_and_bits, images) if seen is not None)
    return found.most_common(1)[0][0] if found else None


def _size_and_bits(path: Path) -> tuple[tuple[int, int], int] | None:
    """(height, width) and bits of a channel as stored; ``None`` if it is no picture."""
    try:
        with _decoding(path, load=False) as picture:
            return (picture.height, picture.width), _stored_bits(path, picture)
    except FrameError:
        return None


def exif_turn(picture: Image.Image) -> int:
    """Return what the EXIF note says of how a picture lies: 1 is upright."""
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # notes are damaged more often than pictures
        return 1


def is_turned(path: Path, content: bytes) -> bool:
    """Return whether a picture's EXIF note says that it does not lie upright."""
    if content.startswith(_PNG) and b"eXIf" not in content:
        return False  # Pillow would decode the file to find out
    with _decoding(path, load=False) as picture:
        return exif_turn(picture) in _TURNS


_PNG = b"\x89PNG\r\n\x1a\n"
_ORIENTATION, _BITS_PER_SAMPLE = 0x0112, 258
# What brings a picture upright, by its EXIF orientation.
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: image.swapaxes(0, 1)[:, ::-1],
    7: lambda image: image.swapaxes(0, 1)[::-1, ::-1],
    8: lambda image: image.swapaxes(0, 1)[::-1],
}


def read_mask(path: Path) -> np.ndarray:
    """Return the values of a mask file: uint8 of (H, W), or of (H, W, 3) for a coloured one.

    The pixels of a palette file are its indices, not its colours (see :func:`mask_palette`); those
    of a grey file of fewer than 8 bits are as stored.

    Raises:
        FrameError: The file is no picture, is cut off, or holds ids above 255.
    """
    with _decoding(path) as picture:
        depth, kind = _png_kind(path)
        if picture.mode.startswith("I"):
            return _small_ids(path, np.asarray(picture))
        if _stored_bits(path, picture) == 16:
            raise FrameError(path, "has 16 bits a channel; masks must have 8")
        if picture.mode == "L" and kind == 0 and depth in (2, 4):
            # Pillow stretches them to 0 … 255, as for a photograph.
            return np.asarray(picture) // (85 if depth == 2 else 17)
        if picture.mode in ("L", "P", "RGB"):
            return np.asarray(picture)
        if picture.mode == "1":
            return np.asarray(picture.convert("L")) // 255
        if picture.mode in ("RGBA", "RGBX"):
            return np.asarray(picture)[..., :3]
        if picture.mode in ("LA", "PA"):
            return np.asarray(picture)[..., 0]
        raise FrameError(path, f"mode {picture.mode!r}; masks must have 8 bits a channel")


def _small_ids(path: Path, ids: np.ndarray) -> np.ndarray:
    if ids.size and (ids.max() > 255 or ids.min() < 0):
        raise FrameError(
            path, f"holds ids up to {ids.max()}; ids of classes are below 256 (8 bits a channel)"
        )
    return ids.astype(np.uint8)


def mask_palette(path: Path) -> np.ndarray | None:
    """Return the colours stored in a palette mask, uint8 of (num_colours, 3), or ``None``."""
    with _decoding(path, load=False) as picture:
        if picture.mode not in ("P", "PA"):
            return None
        stored = picture.palette
        if stored is not None and stored.mode == "RGB" and stored.rawmode in (None, "RGB"):
            return np.frombuffer(bytes(stored.palette), np.uint8).reshape(-1, 3)  # not decoded
        colours = picture.getpalette()
        return None if colours is None else np.array(colours, np.uint8).reshape(-1, 3)


def _stored_bits(path: Path, picture: Image.Image) -> int:
    """Bits of a channel in a PNG or TIFF file, of which Pillow may keep the upper 8; else 0."""
    tags = getattr(picture, "tag_v2", {})
    return max(_png_kind(path)[0], *tags.get(_BITS_PER_SAMPLE, (0,)))


def _png_kind(path: Path) -> tuple[int, int]:
    """Bits of a channel and colour type of a PNG file (0 is grey); zeros for other files."""
    with path.open("rb") as stream:
        head = stream.read(26)
    is_png = head.startswith(_PNG) and len(head) == 26
    return (head[24], head[25]) if is_png else (0, 0)


class _decoding:  # noqa: N801  (reads as a verb at its call sites)
    """Opens and decodes a picture; whatever goes wrong becomes a :class:`FrameError`."""

    def __init__(self, path: Path, *, load: bool = True) -> None:
        self._path = path
        self._load = load

    def __enter__(self) -> Image.Image:
        try:
            self._stream = self._path.open("rb")
        except FileNotFoundError:
            raise FrameError(self._path, "is not there") from None
        except OSError as error:
            raise FrameError(self._path, f"cannot be opened ({error.strerror})") from None
        try:
            return self._opened()
        except BaseException:
            self._stream.close()
            raise

    def _opened(self) -> Image.Image:
        try:
            picture = Image.open(self._stream)
            if self._load:
                picture.load()
        except Image.DecompressionBombError as error:
            # Pillow says so before it takes the memory.
            pixels, most = (f"{int(n):,}" for n in re.findall(r"\d+", str(error))[:2])
            raise FrameError(
                self._path, f"has {pixels} pixels; at most {most} are read: resize it"
            ) from None
        except Image.UnidentifiedImageError:
            size = self._path.stat().st_size
            raise FrameError(self._path, "is no picture" if size else "is an empty file") from None
        # Pillow's decoders raise OSError, SyntaxError, ValueError, EOFError, struct.error, …
        # for damaged input; each of them is a damaged file and none a mistake of ours.
        except Exception as error:
            raise FrameError(self._path, f"cannot be decoded ({error})") from None
        return picture

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def resize_image(image_HWC: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes a photograph: area averages when it shrinks, linear interpolation otherwise."""
    height, width = image_HWC.shape[:2]
    if (height, width) == size:
        return image_HWC
    shrinks = size[0] <= height and size[1] <= width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image_HWC, (size[1], size[0]), interpolation=method)


def resize_labels(labels_HW: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes labels: each pixel takes the label found at its centre.

    This keeps every class's share of the pixels on average. A majority vote would fit the
    area-averaged image a little better, but it erases poles and road lines that are thinner than
    half a pixel; OpenCV's ``INTER_NEAREST`` takes corners instead of centres and so shifts labels
    against the image by up to half a (large) pixel.
    """
    height, width = labels_HW.shape
    if (height, width) == size:
        return labels_HW
    rows = ((np.arange(size[0]) + 0.5) * (height / size[0])).astype(np.intp)
    columns = ((np.arange(size[1]) + 0.5) * (width / size[1])).astype(np.intp)
    return labels_HW[rows[:, None], columns]
