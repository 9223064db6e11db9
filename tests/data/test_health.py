"""What is wrong with data that can be read."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import cv2
import make_data
import numpy as np
import pytest
from PIL import Image

from kdsweep.config.data import CamvidData, FolderData, LyftData
from kdsweep.data import SegmentationData, Split, open_data
from kdsweep.data.fit import MOVES, OTHERS, fits_of, misfit
from kdsweep.data.health import Health, look_through
from kdsweep.data.layouts import recognise
from kdsweep.data.look import look_at_folder
from kdsweep.data.mask_values import look_at
from kdsweep.data.sheet import write_sheet
from kdsweep.errors import DataError

STEMS = [f"f{i:02d}" for i in range(10)]
NAMED = "names: [road, car, sky]\n"


def read(root: Path, cache: Path, **keys: Any) -> SegmentationData:
    size = make_data.SIZE
    section = FolderData(source="folder", path=str(root), image_size=size, cache=str(cache), **keys)
    return open_data(section)


def problems(health: Health) -> list[str]:
    return [finding.problem for finding in health.findings if finding.problem is not None]


def save_masks(root: Path, make: Any) -> None:
    for number, path in enumerate(sorted((root / "masks").rglob("*.png"))):
        Image.fromarray(make(make_data.ids(number, 3)).astype(np.uint8)).save(path)


def test_healthy_data_has_no_problem(tmp_path: Path, cache: Path) -> None:
    health = look_through(read(make_data.folder(tmp_path, STEMS, classes=NAMED), cache))
    assert problems(health) == []
    assert health.refusal(()) is None
    train = health.splits["train"]
    pixels = np.stack([make_data.ids(STEMS.index(n), 3) for n in health.data.train.names])
    assert train.shares_K == pytest.approx(np.bincount(pixels.ravel(), minlength=3) / pixels.size)
    assert train.sizes == {make_data.SIZE: len(health.data.train)}


def test_a_class_that_is_255_in_the_masks(tmp_path: Path, cache: Path) -> None:
    root = make_data.folder(tmp_path, STEMS, classes="names: [background, road]\n")
    save_masks(root, lambda mask: np.where(mask == 1, 255, 0))
    health = look_through(read(root, cache))
    refusal = health.refusal(())
    assert refusal is not None
    assert f"no labelled pixel in the {len(health.data.train)} training frames: road" in refusal
    assert "names: {0: background, 255: road}" in refusal
    assert "accept: [empty_class]" in refusal
    assert health.refusal(["empty_class"]) is None
    assert any("road" in text for text in health.caveats)


def test_void_and_one_class_for_nearly_all(tmp_path: Path, cache: Path) -> None:
    root = make_data.folder(tmp_path, STEMS, classes=NAMED)

    def make(mask: np.ndarray) -> np.ndarray:
        found = np.full_like(mask, 255)
        found[:4] = 0
        found[0, :2] = 1, 2
        return found

    save_masks(root, make)
    assert problems(look_through(read(root, cache))) == ["mostly_void"]
    save_masks(root, lambda mask: np.where(np.arange(mask.size).reshape(mask.shape) < 2, mask, 0))
    assert problems(look_through(read(root, cache))) == ["one_class"]


def test_frames_of_two_splits_by_content(tmp_path: Path, cache: Path) -> None:
    root = make_data.folder(tmp_path, ["a/1", "a/2", "a/3", "b/1", "b/2"], classes=NAMED)
    for kind, suffix in (("images", ".jpg"), ("masks", ".png")):
        (root / kind / "b" / f"2{suffix}").write_bytes(
            (root / kind / "a" / f"3{suffix}").read_bytes()
        )
    health = look_through(read(root, cache, split={"train": ["a"], "val": ["b"]}))
    assert problems(health) == ["overlap"]
    assert "1 of 2 validation frames are training frames: b/2 is a/3" in str(health.refusal(()))


def test_lists_that_name_frames_twice(tmp_path: Path, cache: Path) -> None:
    root = make_data.camvid(tmp_path)
    (root / "val.txt").write_text((root / "train.txt").read_text())
    section = CamvidData(
        source="camvid", path=str(root), image_size=make_data.SIZE, cache=str(cache)
    )
    assert problems(look_through(open_data(section))) == ["overlap"]


def test_published_classes_that_are_absent_are_said_only(tmp_path: Path, cache: Path) -> None:
    root = make_data.lyft_part(tmp_path / "dataA", [f"02_00_{i:03d}" for i in range(4)]).parent
    for path in root.glob("dataA/CameraSeg/*.png"):
        mask = np.asarray(Image.open(path)) % 5
        Image.fromarray(mask.astype(np.uint8)).save(path)
    section = LyftData(source="lyft", path=str(root), image_size=make_data.SIZE, cache=str(cache))
    health = look_through(open_data(section))
    assert problems(health) == []
    assert any("no labelled pixel" in text and "Vehicles" in text for text in health.caveats)


def test_a_class_that_validation_lacks(tmp_path: Path, cache: Path) -> None:
    root = make_data.folder(tmp_path, ["a/1", "a/2", "b/1"], classes=NAMED)
    Image.fromarray(np.minimum(make_data.ids(2, 3), 1)).save(root / "masks" / "b" / "1.png")
    health = look_through(read(root, cache, split={"train": ["a"], "val": ["b"]}))
    assert problems(health) == []
    assert "no labelled pixel in the only validation frame, so not scored: sky" in health.caveats


def scene(number: int, size: tuple[int, int] = (60, 80)) -> tuple[np.ndarray, np.ndarray]:
    """A picture whose colours go with its labels: ground below, boxes on it."""
    rng = np.random.default_rng((7, number))
    mask = np.zeros(size, np.uint8)
    mask[int(rng.integers(20, 40)) :] = 1
    for k in (2, 3, 4):
        top, left = rng.integers(5, 40), rng.integers(0, 30)
        mask[top : top + rng.integers(8, 20), left : left + rng.integers(10, 30)] = k
    colours = np.array([[90, 150, 220], [110, 100, 105], [180, 40, 40], [60, 140, 60], [200] * 3])
    image = colours[mask] + rng.normal(0, 12, (*size, 1)) + rng.normal(0, 15, 3)
    return image.clip(0, 255).astype(np.uint8), mask


def scenes(num: int, move: str | None = None) -> Split:
    images, masks = (np.stack(found) for found in zip(*map(scene, range(num)), strict=True))
    return Split(images, masks if move is None else MOVES[move](masks), tuple(map(str, range(num))))


def test_labels_that_fit(tmp_path: Path) -> None:
    fits = fits_of(scenes(24), 5)
    assert fits is not None
    assert misfit(fits) is None
    assert max(fits, key=lambda name: fits[name].contrast) == ""
    assert fits_of(scenes(11), 5) is None  # too few to tell


OPPOSITE = {"down": "up", "up": "down", "left": "right", "right": "left", "in": "out", "out": "in"}


@pytest.mark.parametrize("move", MOVES)
def test_labels_that_were_moved(move: str) -> None:
    fits = fits_of(scenes(24, move), 5)
    assert fits is not None
    words = move.split()
    back = move if move == "upside down" else " ".join(OPPOSITE.get(w, w) for w in words)
    assert misfit(fits) == f"their images better {back}"


def test_labels_of_other_images() -> None:
    split = scenes(24)
    strange = Split(split.images_NHWC, np.roll(split.labels_NHW, 5, axis=0), split.names)
    fits = fits_of(strange, 5)
    assert fits is not None
    assert misfit(fits) in ("other images as well as their own", f"their images better {OTHERS}")


def test_real_photographs_fit_their_labels(real_camvid: Path, cache: Path) -> None:
    section = CamvidData(
        source="camvid", path=str(real_camvid), image_size=(96, 128), cache=str(cache), num_train=60
    )
    health = look_through(open_data(section))
    assert health.fits
    assert health.findings == ()


@pytest.mark.parametrize(
    ("folders", "section"),
    [
        (("images", "masks"), {}),
        (("img_dir", "ann_dir"), {"images": "img_dir", "masks": "ann_dir"}),
        (
            ("images/10k", "labels/sem_seg/masks"),
            {"images": "images/10k", "masks": "labels/sem_seg/masks"},
        ),
        (
            ("JPEGImages", "SegmentationClass"),
            {"images": "JPEGImages", "masks": "SegmentationClass"},
        ),
        (("rgb", "labels"), {"images": "rgb", "masks": "labels"}),
    ],
)
def test_layouts_of_two_folders(
    tmp_path: Path, folders: tuple[str, str], section: dict[str, str]
) -> None:
    for number, stem in enumerate(STEMS):
        make_data.save(tmp_path / folders[0] / f"{stem}.jpg", make_data.picture(number))
        make_data.save(tmp_path / folders[1] / f"{stem}_id.png", make_data.ids(number, 3))
    found = recognise(tmp_path).section
    assert found == {"source": "folder", **section, "mask_suffix": "_id"}


def test_splits_above_the_folders(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split in ("training", "validation"):
        for number, stem in enumerate(STEMS):
            folder = tmp_path / "vistas" / split
            shift = 100 * (split == "training")
            make_data.save(folder / "images" / f"{stem}.jpg", make_data.picture(number + shift))
            make_data.save(folder / "v1.2" / "labels" / f"{stem}.png", make_data.ids(number, 3))
    monkeypatch.setenv("KDSWEEP_CACHE", str(cache))
    look = look_at_folder(tmp_path / "vistas", make_data.SIZE)
    assert {name: split.num_frames for name, split in look.health.splits.items()} == {
        "train": 10,
        "val": 10,
    }


@pytest.fixture
def own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDSWEEP_CACHE", str(cache))


@pytest.mark.usefixtures("own_cache")
def test_a_table_names_what_any_mask_holds(tmp_path: Path) -> None:
    for number in range(401):
        mask = np.zeros((4, 4, 3), np.uint8)
        mask[0] = (9, 8, 7)
        mask[1, number % 4] = (number // 256, number % 256, 1)  # a colour of its own
        if number > 150:
            mask[1] = 0
        make_data.save(tmp_path / f"images/{number}.png", make_data.picture(number, (4, 4)))
        make_data.save(tmp_path / f"masks/{number}.png", mask)
    look = look_at_folder(tmp_path, (32, 32))
    assert len(look.values.colours) == 2 + 151
    assert look.values.colours[(9, 8, 7)] == 401 * 4
    assert look.values.colours[(0, 150, 1)] == 1


@pytest.mark.usefixtures("own_cache")
def test_masks_of_void_alone_are_named(tmp_path: Path) -> None:
    root = make_data.folder(tmp_path, STEMS)
    for stem in STEMS:
        make_data.save(root / "masks" / f"{stem}.png", np.full(make_data.SIZE, 255, np.uint8))
    with pytest.raises(DataError, match=r"no labelled pixel in 10 masks .* nothing but 255"):
        look_at_folder(root)


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("deep", [False, True])
def test_empty_images_are_named_together(tmp_path: Path, deep: bool) -> None:
    root = make_data.folder(tmp_path, STEMS)
    for number, stem in enumerate(STEMS):
        image = make_data.picture(number)[..., 0].astype(np.uint16) << 3
        path = root / "images" / f"{stem}.jpg"
        if deep:
            path.unlink()
            path = make_data.save(path.with_suffix(".png"), image)
        if number in (0, 4):
            path.write_bytes(b"")
    with pytest.raises(DataError, match=r"(?s)2 of 20 files.*f00.*is an empty file.*f04"):
        look_at_folder(root)


@pytest.mark.usefixtures("own_cache")
def test_bits_of_tiff_images_are_found(tmp_path: Path) -> None:
    root = make_data.folder(tmp_path, STEMS)
    for number, stem in enumerate(STEMS):
        (root / "images" / f"{stem}.jpg").unlink()
        deep = make_data.picture(number).astype(np.uint16) << 4
        assert cv2.imwrite(str(root / "images" / f"{stem}.tif"), deep)
    assert look_at_folder(root).section["image_bits"] == 12


def test_lists_without_validation_are_no_split(tmp_path: Path) -> None:
    root = make_data.folder(tmp_path, STEMS)
    (root / "images").rename(root / "JPEGImages")
    (root / "masks").rename(root / "SegmentationClass")
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("\n".join(STEMS[:7]))
    assert recognise(root).rows == []
    (lists / "val.txt").write_text("\n".join(STEMS[7:]))
    assert [row[2] for row in recognise(root).rows] == ["train"] * 7 + ["val"] * 3


def test_what_is_no_data_set_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    with pytest.raises(DataError, match=r"there: *notes"):
        recognise(tmp_path)
    with pytest.raises(DataError, match="is not there"):
        recognise(tmp_path / "none")


def test_a_sheet_shows_every_class(tmp_path: Path, cache: Path) -> None:
    health = look_through(read(make_data.folder(tmp_path, STEMS, classes=NAMED), cache))
    sheet = tmp_path / "sheet.png"
    assert 1 <= write_sheet(health, sheet) <= 3
    picture = np.asarray(Image.open(sheet))
    for colour in health.data.palette:
        assert (picture == colour).all(-1).any()


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from typer.testing import CliRunner

    from kdsweep.cli import app

    root = make_data.folder(tmp_path / "mine", STEMS)
    for number, stem in enumerate(STEMS):
        colours = np.array([(128, 64, 128), (0, 0, 142), (70, 130, 180)], np.uint8)
        make_data.save(root / "masks" / f"{stem}.png", colours[make_data.ids(number, 3)])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDSWEEP_CACHE", str(tmp_path / "cache"))
    runner = CliRunner()

    def call(*arguments: str) -> tuple[int, str]:
        done = runner.invoke(app, ["data", str(root), *arguments])
        return done.exit_code, done.stdout

    code, text = call("--json")
    found = json.loads(text)
    assert (code, found["masks"], found["data"]["source"]) == (0, {"colour": 10}, "folder")
    # Colours that published data sets agree on have names.
    assert {"road", "car", "sky"} == set(found["classes"])
    (root / "classes.yaml").symlink_to(root / "none" / "classes.yaml")
    assert call("--write")[0] != 0  # it cannot be written
    assert not (tmp_path / "data.yaml").exists()
    (root / "classes.yaml").unlink()
    code, text = call("--write", "--image-size", "32,64")
    assert code == 0
    assert "there is no classes.yaml" in text
    assert (root / "classes.yaml").is_file()
    again, _ = call("--write")
    assert again != 0  # data.yaml is there: nothing is overwritten
    for sheet in ("sheet.txt", "none/sheet.png"):
        code, text = call("--sheet", sheet)
        assert (code != 0, text) == (True, "")  # refused before anything is looked at
    job = tmp_path / "job.yaml"
    job.write_text((tmp_path / "data.yaml").read_text() + "student: {}\ntrain: {epochs: 1}\n")
    from kdsweep.config import load_job

    data = open_data(load_job(job).data)
    assert (data.train.image_size, set(data.classes)) == ((32, 64), {"road", "car", "sky"})
    code, text = call("--json", "--set", "data.classes={ground: [road], void: [sky]}")
    assert (code, set(json.loads(text)["classes"])) == (0, {"ground", "car"})
    pairs = [f"images/{stem}.jpg,masks/{stem}.png" for stem in STEMS]
    (tmp_path / "some.csv").write_text("\n".join(["image,mask", *pairs[:6]]))
    code, text = call("--json", "--set", "data.pairs=some.csv")
    splits = json.loads(text)["splits"]
    assert sum(split["frames"] for split in splits.values()) == 6
    wrong, _ = call("--set", "data.skip=true")
    assert wrong != 0
    (root / "classes.yaml").write_text("names: [a, b]\npalette: [[128, 64, 128], [1, 2, 3]]\n")
    code, _ = call()
    assert code != 0


@pytest.mark.parametrize(
    ("colours", "names"),
    [
        ([(128, 64, 128), (0, 0, 142)], {"road", "car"}),
        ([(128, 0, 0), (128, 128, 0)], {"Building", "Tree"}),
        # Pascal VOC's aeroplane and boat: one colour of them is CamVid's building.
        ([(128, 0, 0), (0, 0, 128)], {"class_0", "class_1"}),
    ],
)
def test_colours_are_named_by_one_palette_that_has_them_all(
    tmp_path: Path, colours: list[tuple[int, int, int]], names: set[str]
) -> None:
    mask = np.array([[*colours, (0, 0, 0)]], np.uint8).repeat(4, 1)
    table = look_at([make_data.save(tmp_path / "a.png", mask)]).table()
    assert set(table["names"]) == names
    assert table["void"] == [[0, 0, 0]]
    assert sorted(table["palette"]) == sorted(list(colour) for colour in colours)


def test_what_decoding_saw_is_read_when_it_is_asked_for(tmp_path: Path, cache: Path) -> None:
    data = read(make_data.folder(tmp_path, STEMS, classes=NAMED), cache)
    again = pickle.loads(pickle.dumps(data.train))  # as a loader process gets it
    assert "facts" not in vars(again)
    assert again.facts is not None
    assert len(again.facts.looks_N) == len(data.train)
