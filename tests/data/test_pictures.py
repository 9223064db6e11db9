"""Decoding and resizing."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from zlib import compress, crc32

import cv2
import make_data
import numpy as np
import pytest
from PIL import Image, ImageOps

from kdsweep.data.pictures import (
    FrameError,
    mask_palette,
    read_mask,
    read_rgb,
    resize_image,
    resize_labels,
)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_pictures_of_all_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(make_data.picture(0)).convert(mode).save(path)
    image = read_rgb(path)
    assert image.shape == (*make_data.SIZE, 3)
    assert image.dtype == np.uint8


@pytest.mark.parametrize("channels", [(), (3,), (4,)])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_say_how_many_they_hold(
    tmp_path: Path, channels: tuple[int, ...], suffix: str
) -> None:
    deep = np.arange(64, dtype=np.uint16).reshape(8, 8) * 64  # to 4032: 12 bits
    deep = np.broadcast_to(deep.reshape(8, 8, *[1] * len(channels)), (8, 8, *channels))
    path = tmp_path / f"a{suffix}"
    assert cv2.imwrite(str(path), deep)
    with pytest.raises(FrameError, match=r"values up to 4032, .*`image_bits: 12`"):
        read_rgb(path)
    image = read_rgb(path, 12)
    assert image.dtype == np.uint8
    assert image.tolist() == (np.arange(64).reshape(8, 8, 1) * 4).repeat(3, 2).tolist()
    with pytest.raises(FrameError, match=r"`image_bits: 12`"):
        read_rgb(path, 11)


def test_sixteen_bit_masks_hold_small_ids(tmp_path: Path) -> None:
    ids = np.array([[0, 7], [11, 255]], np.uint16)
    assert read_mask(make_data.save(tmp_path / "a.png", ids)).tolist() == ids.tolist()
    with pytest.raises(FrameError, match="holds ids up to 26001"):
        read_mask(make_data.save(tmp_path / "b.png", ids * 0 + 26001))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_their_exif_note_says(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(make_data.picture(0)).save(path, exif=exif)
    with Image.open(path) as picture:
        upright = np.asarray(ImageOps.exif_transpose(picture))
    assert (read_rgb(path) == upright).all()
    assert (read_rgb(path, turned=False) == make_data.picture(0)).all()


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_cut_off_files_are_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = make_data.save(tmp_path / f"a{suffix}", make_data.picture(0, (64, 64)))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(FrameError, match=rf"a{suffix}: .*(decoded|is an empty file|is no picture)"):
        read_rgb(path)


@pytest.mark.parametrize("read", [read_rgb, read_mask])
def test_a_small_file_of_a_huge_picture_is_refused_before_it_takes_memory(
    tmp_path: Path, read: Callable[[Path], np.ndarray]
) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    file = tmp_path / "bomb.png"
    file.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", compress(bytes(180_001)))
        + chunk(b"IEND", b"")
    )
    with pytest.raises(FrameError, match=r"has 3,600,000,000 pixels; at most 178,956,970 are"):
        read(file)


def test_a_large_picture_is_read_without_a_word(tmp_path: Path) -> None:
    file = tmp_path / "large.png"
    Image.new("1", (10_000, 9_500)).save(file)
    read = "import sys, pathlib; from kdsweep.data.pictures import read_mask as r"
    code = f"{read}; print(r(pathlib.Path(sys.argv[1])).shape)"
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("(9500, 10000)\n", "")


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_text("no picture")
    with pytest.raises(FrameError, match="is no picture"):
        read_mask(path)
    with pytest.raises(FrameError, match="is not there"):
        read_mask(tmp_path / "b.png")


def test_palette_masks_give_their_indices(tmp_path: Path) -> None:
    mask = make_data.ids(0, 3)
    path = make_data.save(tmp_path / "a.png", mask, [9, 9, 9, 1, 2, 3, 4, 5, 6] + [0] * 759)
    assert (read_mask(path) == mask).all()
    palette = mask_palette(path)
    assert palette is not None
    assert palette[1].tolist() == [1, 2, 3]
    assert mask_palette(make_data.save(tmp_path / "b.png", mask)) is None


def test_shrinking_averages_images_and_takes_labels_at_centres() -> None:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    small = resize_image(image, (2, 2))
    assert np.abs(small[0, 0] - image[:2, :2].mean(axis=(0, 1))).max() <= 0.5
    labels = np.arange(36, dtype=np.uint8).reshape(6, 6)
    assert resize_labels(labels, (2, 2)).tolist() == [[7, 10], [25, 28]]


def test_sizes_that_fit_are_left_alone() -> None:
    image, labels = make_data.picture(0), make_data.ids(0, 5)
    assert resize_image(image, make_data.SIZE) is image
    assert resize_labels(labels, make_data.SIZE) is labels


def test_labels_keep_every_class_share() -> None:
    labels = np.zeros((300, 400), np.uint8)
    labels[:, ::40] = 1  # lines of one pixel in forty: a majority vote would erase them
    small = resize_labels(labels, (96, 128))
    assert small.mean() == pytest.approx(labels.mean(), abs=0.01)


@pytest.mark.parametrize("size", [(7, 9), (24, 32), (5, 40)])
def test_image_and_labels_stay_aligned(size: tuple[int, int]) -> None:
    # A picture whose brightness is its label: resized alike, they still agree.
    ramp = np.linspace(0, 200, 16).astype(np.uint8)[None].repeat(12, 0)
    image = resize_image(ramp[..., None].repeat(3, 2), size)
    labels = resize_labels(ramp, size)
    assert np.abs(image[..., 0].astype(int) - labels).max() <= 14
