"""Data in the shapes that people have: each is read as its owner means it, or named."""

from __future__ import annotations

import struct
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import make_data
import numpy as np
import pytest
from PIL import Image

from kdsweep.config.data import CamvidData, CityscapesData, FolderData
from kdsweep.data import SegmentationData, open_data
from kdsweep.data.sources.camvid import CamvidSource
from kdsweep.errors import ConfigError, DataError
from kdsweep.labels import VOID

STEMS = [f"f{i:02d}" for i in range(10)]
NAMED = "names: [road, car, sky]\n"
COLOURS = np.array([(128, 64, 128), (0, 0, 142), (70, 130, 180)], np.uint8)
COLOURED = NAMED + f"palette: {COLOURS.tolist()}\n"


def read(root: Path, cache: Path, **keys: Any) -> SegmentationData:
    size = make_data.SIZE
    section = FolderData(source="folder", path=str(root), image_size=size, cache=str(cache), **keys)
    return open_data(section)


def labels(data: SegmentationData) -> dict[str, np.ndarray]:
    """Labels of all frames by name."""
    splits = [data.train, data.val, *([data.test] if data.test else [])]
    return {n: np.array(a) for s in splits for n, a in zip(s.names, s.labels_NHW, strict=True)}


def check_plain(data: SegmentationData, stems: list[str] = STEMS) -> None:
    """Every frame has the labels it was made with."""
    found = labels(data)
    assert sorted(found) == sorted(stems)
    for number, stem in enumerate(stems):
        assert (found[stem] == make_data.ids(number, 3)).all(), stem


def remade_masks(root: Path, make: Callable[[int, np.ndarray], Image.Image]) -> Path:
    for number, stem in enumerate(STEMS):
        make(number, make_data.ids(number, 3)).save(root / "masks" / f"{stem}.png")
    return root


def as_own_palette(number: int, mask: np.ndarray) -> Image.Image:
    """Indices in an order of each file's own, as an image tool saves colours."""
    order = np.random.default_rng(number).permutation(3)
    picture = Image.fromarray(np.argsort(order).astype(np.uint8)[mask])
    picture.putpalette(COLOURS[order].ravel().tolist())
    return picture


def test_colours_saved_with_a_palette_of_each_file(tmp_path: Path, cache: Path) -> None:
    root = remade_masks(make_data.folder(tmp_path, STEMS, classes=COLOURED), as_own_palette)
    check_plain(read(root, cache))


def test_palettes_that_differ_stand_for_no_ids(tmp_path: Path, cache: Path) -> None:
    root = remade_masks(make_data.folder(tmp_path, STEMS, classes=NAMED), as_own_palette)
    with pytest.raises(DataError, match=r"the palettes of the masks .* differ"):
        read(root, cache)
    assert read(root, cache, accept=["differing_palettes"]).num_classes == 3


def test_a_palette_for_display_leaves_the_ids(tmp_path: Path, cache: Path) -> None:
    def picture(number: int, mask: np.ndarray) -> Image.Image:
        found = Image.fromarray(mask)
        found.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
        return found

    root = remade_masks(make_data.folder(tmp_path, STEMS, classes=COLOURED), picture)
    check_plain(read(root, cache))


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_of_few_bits_is_as_stored(tmp_path: Path, cache: Path, bits: int) -> None:
    root = make_data.folder(tmp_path, STEMS)
    for number, stem in enumerate(STEMS):
        path = root / "masks" / f"{stem}.png"
        write_grey(path, make_data.ids(number, 3), bits)
    check_plain(read(root, cache))


def write_grey(path: Path, mask: np.ndarray, bits: int) -> None:
    """A grey PNG of so few bits, which neither library writes."""
    cells = np.pad(mask, ((0, 0), (0, -mask.shape[1] % (8 // bits))))
    cells = cells.reshape(len(mask), -1, 8 // bits)
    shifts = np.arange(8 - bits, -1, -bits)
    rows = (cells << shifts).sum(-1).astype(np.uint8)
    body = b"".join(b"\0" + row.tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", mask.shape[1], mask.shape[0], bits, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(body)), (b"IEND", b"")]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))
            for tag, data in chunks
        )
    )


def test_masks_of_0_and_255_are_explained(tmp_path: Path, cache: Path) -> None:
    def picture(number: int, mask: np.ndarray) -> Image.Image:
        return Image.fromarray(np.where(mask == 1, 255, 0).astype(np.uint8))

    root = remade_masks(make_data.folder(tmp_path, STEMS), picture)
    with pytest.raises(DataError, match=r"names: \{0: background, 255: foreground\}"):
        read(root, cache)
    (root / "classes.yaml").write_text("names: {0: background, 255: foreground}\n")
    assert set(np.unique(labels(read(root, cache))[STEMS[0]])) == {0, 1}


def test_ids_of_no_class_are_void_if_that_is_accepted(tmp_path: Path, cache: Path) -> None:
    root = make_data.folder(tmp_path, STEMS, classes="names: [road, car]\n")
    with pytest.raises(DataError, match="holds id 2 outside the 2 classes"):
        read(root, cache)
    data = read(root, cache, accept=["unknown_ids"])
    expected = np.array([0, 1, VOID], np.uint8)[make_data.ids(0, 3)]
    assert (labels(data)[STEMS[0]] == expected).all()
    assert data.source is not None
    assert "void, as was accepted" in data.source.caveats[0]
    colours = remade_masks(root, lambda number, mask: Image.fromarray(COLOURS[mask]))
    (colours / "classes.yaml").write_text(f"names: [road]\npalette: [{COLOURS[0].tolist()}]\n")
    found = labels(read(colours, cache, accept=["unknown_ids"]))[STEMS[0]]
    assert (found == np.where(make_data.ids(0, 3) == 0, 0, VOID)).all()


def test_gaps_between_ids_are_said(tmp_path: Path, cache: Path) -> None:
    def picture(number: int, mask: np.ndarray) -> Image.Image:
        return Image.fromarray(np.array([0, 7, 11], np.uint8)[mask])

    data = read(remade_masks(make_data.folder(tmp_path, STEMS), picture), cache)
    assert data.num_classes == 12
    assert data.source is not None
    said = " ".join(data.source.remarks)
    assert "the masks hold the ids 0, 7, 11" in said
    assert "9 of 12 ids occur in no mask" in said
    assert "names: {0: class_0, 7: class_7, 11: class_11}" in said


def test_an_image_lies_as_its_mask_does(tmp_path: Path, cache: Path) -> None:
    root = make_data.folder(tmp_path, STEMS, classes=NAMED)
    turned, raw = (make_data.picture(50 + n) for n in range(2))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right
    for stem, picture in ((STEMS[0], np.rot90(turned)), (STEMS[1], raw)):
        (root / "images" / f"{stem}.jpg").unlink()
        image = Image.fromarray(np.ascontiguousarray(picture))
        image.save(root / "images" / f"{stem}.png", exif=exif)
    data = read(root, cache, split={"val": 0.5, "block": 1})
    images = {
        n: np.array(i)
        for s in (data.train, data.val)
        for n, i in zip(s.names, s.images_NHWC, strict=True)
    }
    assert (images[STEMS[0]] == turned).all()
    # Turned it would not fit its mask: that was drawn on what is stored.
    assert (images[STEMS[1]] == raw).all()


def test_a_folder_with_its_own_split(tmp_path: Path, cache: Path) -> None:
    stems = [f"train/{i}" for i in range(6)] + [f"valid/{i}" for i in range(3)]
    root = make_data.folder(tmp_path, [*stems, "test/0", "test/1"], classes=NAMED)
    for number in range(2):
        (root / "masks" / "test" / f"{number}.png").unlink()
    data = read(root, cache)
    assert (len(data.train), len(data.val), data.test) == (6, 3, None)
    assert all(name.startswith("valid/") for name in data.val.names)
    assert data.source is not None
    assert "the split is the folder's own" in data.source.remarks
    assert any("2 images have no mask" in remark for remark in data.source.remarks)
    held_out = read(root, cache, split={"val": 0.2})
    assert {name.split("/")[0] for name in held_out.train.names} == {"train", "valid"}


def test_images_without_masks_are_left_out_only_if_that_is_said(
    tmp_path: Path, cache: Path
) -> None:
    root = make_data.folder(tmp_path, STEMS, classes=NAMED)
    (root / "masks" / f"{STEMS[-1]}.png").unlink()
    with pytest.raises(DataError, match="skip_unlabelled: true"):
        read(root, cache)
    check_plain(read(root, cache, skip_unlabelled=True), STEMS[:-1])


def test_links_are_followed_and_hidden_copies_are_not(tmp_path: Path, cache: Path) -> None:
    store = make_data.folder(tmp_path / "store", [f"day/{stem}" for stem in STEMS])
    root = tmp_path / "data"
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
        (root / kind / "day").symlink_to(store / kind / "day")
        make_data.save(root / kind / ".ipynb_checkpoints" / "f00-checkpoint.png", COLOURS[None])
    (root / "classes.yml").write_text(NAMED)
    check_plain(read(root, cache), [f"day/{stem}" for stem in STEMS])


def test_a_link_to_a_folder_around_it_ends(tmp_path: Path, cache: Path) -> None:
    root = make_data.folder(tmp_path, STEMS, classes=NAMED)
    (root / "images" / "again").symlink_to(root / "images")
    check_plain(read(root, cache))


def test_names_that_look_equal_are_equal(tmp_path: Path, cache: Path) -> None:
    root = make_data.folder(tmp_path, STEMS, classes=NAMED)
    for kind, form in (("images", "NFC"), ("masks", "NFD")):
        for path in list((root / kind).iterdir()):
            path.rename(path.with_name(unicodedata.normalize(form, f"Köln_{path.name}")))  # type: ignore[arg-type]
    check_plain(read(root, cache), [f"Köln_{stem}" for stem in STEMS])


@pytest.mark.parametrize(("kind", "key"), [("masks", "mask_suffix"), ("images", "image_suffix")])
def test_suffixes_are_named_and_taken(tmp_path: Path, cache: Path, kind: str, key: str) -> None:
    root = make_data.folder(tmp_path, STEMS, classes=NAMED)
    for path in list((root / kind).iterdir()):
        path.rename(path.with_name(f"{path.stem}_x{path.suffix}"))
    with pytest.raises(DataError, match=f"try: *{key}: _x"):
        read(root, cache)
    check_plain(read(root, cache, **{key: "_x"}))


def test_masks_as_jpeg_are_refused_for_what_jpeg_does(tmp_path: Path, cache: Path) -> None:
    root = make_data.folder(tmp_path, STEMS)
    for path in list((root / "masks").iterdir()):
        path.rename(path.with_suffix(".jpg"))
    with pytest.raises(DataError, match="JPEG changes the ids"):
        read(root, cache)


def test_a_list_of_pairs(tmp_path: Path, cache: Path) -> None:
    root = make_data.folder(tmp_path, STEMS, classes=NAMED)
    rows = [f"images/{s}.jpg,masks/{s}.png,{'val' if s > 'f06' else 'train'}" for s in STEMS]
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("\ufeffimage,mask,split\r\n" + "\r\n".join(rows))
    data = read(root, cache, pairs=str(pairs))
    assert (len(data.train), len(data.val)) == (7, 3)
    pairs.write_text("image,mask\nimages/f00.jpg,masks/none.png\nimages/f01.jpg,masks/f01.png")
    with pytest.raises(DataError, match=r"named in line 2 of pairs.csv, but is not there"):
        read(root, cache, pairs=str(pairs))
    pairs.write_text("image,mask\n" + "\n".join(rows).replace("/", "\\").replace(",train", ""))
    assert len(labels(read(root, cache, pairs=str(pairs)))) == 10  # as Windows writes paths
    pairs.write_text("image,mask\nimages/f00.jpg\n")
    with pytest.raises(DataError, match="line 2 names no mask"):
        read(root, cache, pairs=str(pairs))
    pairs.write_text("picture,mask\na,b\n")
    with pytest.raises(DataError, match="allowed: image, mask"):
        read(root, cache, pairs=str(pairs))


def test_classes_of_a_section_say_what_ids_mean(tmp_path: Path, cache: Path) -> None:
    root = make_data.folder(tmp_path, STEMS)
    data = read(root, cache, classes={"ground": [0, 2], "car": 1, "void": [9, 255]})
    assert data.classes == ("ground", "car")
    expected = np.array([0, 1, 0], np.uint8)[make_data.ids(0, 3)]
    assert (labels(data)[STEMS[0]] == expected).all()


def test_classes_are_merged_renamed_and_left_out_by_name(tmp_path: Path, cache: Path) -> None:
    root = make_data.folder(tmp_path, STEMS, classes=COLOURED)
    data = read(root, cache, classes={"other": ["car"], "void": "sky"})
    assert data.classes == ("road", "other")
    assert data.palette.tolist() == COLOURS[:2].tolist()
    expected = np.array([0, 1, VOID], np.uint8)[make_data.ids(0, 3)]
    assert (labels(data)[STEMS[0]] == expected).all()


@pytest.mark.parametrize(
    ("classes", "problem"),
    [
        ({"vehicle": ["cars"]}, "the data has no such class"),
        ({"a": ["car"], "b": ["car"]}, "went into a already"),
        ({"road": ["car"]}, "a class of that name stays as it is"),
        ({"void": ["car", "sky"]}, "no class"),
        ({"x": [1, 2]}, "merged by name"),
        ({"x": [300]}, "not something that a class is made of"),
    ],
)
def test_mistakes_in_merging_are_explained(
    tmp_path: Path, cache: Path, classes: dict[str, Any], problem: str
) -> None:
    root = make_data.folder(tmp_path, STEMS, classes=NAMED)
    with pytest.raises((ConfigError, ValueError), match=problem):
        read(root, cache, classes=classes)


def test_classes_yaml_and_labelmap_may_list_members(tmp_path: Path, cache: Path) -> None:
    root = make_data.folder(tmp_path, STEMS, classes="classes: {a: [0, 1], b: 2}\n")
    assert read(root, cache).classes == ("a", "b")
    (root / "classes.yaml").unlink()
    remade_masks(root, lambda number, mask: Image.fromarray(COLOURS[mask]))
    lines = ["# label:color_rgb:parts:actions", "road:128,64,128::", "car:0,0,142::"]
    (root / "labelmap.txt").write_text("\n".join([*lines, "sky:70,130,180::"]))
    check_plain(read(root, cache))


def camvid(root: Path, cache: Path, **keys: Any) -> SegmentationData:
    section = CamvidData(
        source="camvid", path=str(root), image_size=make_data.SIZE, cache=str(cache), **keys
    )
    return open_data(section)


def test_camvid_with_its_original_colours(tmp_path: Path, cache: Path) -> None:
    root = make_data.camvid(tmp_path, lists=False)
    colours = np.vstack([CamvidSource.palette, [[0, 0, 0]]]).astype(np.uint8)
    colours[4] = (128, 128, 192)  # RoadShoulder is pavement
    expected = labels(camvid(root, cache))
    for path in (*root.glob("*annot/*.png"),):
        ids = np.asarray(Image.open(path))
        Image.fromarray(colours[ids]).save(path)
    found = labels(camvid(root, cache))
    assert all((found[name] == expected[name]).all() for name in expected)


def test_camvid_names_a_suffix_and_takes_it(tmp_path: Path, cache: Path) -> None:
    root = make_data.camvid(tmp_path, lists=False)
    expected = labels(camvid(root, cache))
    for path in (*root.glob("*annot/*.png"),):
        path.rename(path.with_name(f"{path.stem}_L.png"))
    with pytest.raises(DataError, match="mask_suffix: _L"):
        camvid(root, cache)
    found = labels(camvid(root, cache, mask_suffix="_L"))
    assert all((found[name] == expected[name]).all() for name in expected)


def test_camvid_lists_with_a_mark_and_blanks(tmp_path: Path, cache: Path) -> None:
    root = make_data.camvid(tmp_path)
    expected = labels(camvid(root, cache))
    for split in ("train", "val"):
        lines = [
            f"C:\\My Data\\{split}\\{path.name} C:\\My Data\\{split}annot\\{path.name}"
            for path in sorted((root / split).iterdir())
        ]
        (root / f"{split}.txt").write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    found = labels(camvid(root, cache))
    assert all((found[name] == expected[name]).all() for name in expected)


def test_cityscapes_with_train_ids_only(tmp_path: Path, cache: Path) -> None:
    root = make_data.cityscapes(tmp_path)
    for number, path in enumerate(sorted(root.glob("gtFine/*/*/*.png"))):
        path.unlink()
        name = path.name.replace("labelIds", "labelTrainIds")
        make_data.save(path.with_name(name), make_data.ids(number, 19))
    section = CityscapesData(
        source="cityscapes", path=str(root), image_size=make_data.SIZE, cache=str(cache)
    )
    data = open_data(section)
    first = labels(data)["train/aachen/aachen_000000_000019"]
    assert (first == make_data.ids(0, 19)).all()
