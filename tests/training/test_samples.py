"""Pictures that people look at, and that reports read back."""

import io

import numpy as np
from PIL import Image

from kdsweep.labels import VOID
from kdsweep.training.samples import image_png, label_png

PALETTE = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]], np.uint8)


def test_labels_keep_their_class_ids_and_show_their_colours():
    labels = np.array([[0, 1], [2, VOID]], np.uint8)
    picture = Image.open(io.BytesIO(label_png(labels, PALETTE)))
    assert np.array_equal(np.asarray(picture), labels)
    black = [0, 0, 0]
    assert np.asarray(picture.convert("RGB")).tolist() == [
        [PALETTE[0].tolist(), PALETTE[1].tolist()],
        [PALETTE[2].tolist(), black],
    ]


def test_a_picture_stays_as_it_is():
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(image_png(image)))), image)
