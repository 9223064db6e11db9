"""Painting image and labels in one go: a canvas of red, green, blue and label."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from kdsweep.data.scenes.light import Colour

Points = Sequence[tuple[float, float]]
"""Columns and rows."""

_SHIFT = 4
_ONE, _HALF = 1 << _SHIFT, 1 << (_SHIFT - 1)
_LIMIT = 1 << 13
_OPAQUE = 128
_SPECK = 60
"""Pixels up to which a texture is not worth stretching."""


class Canvas:
    """A picture under way.

    Attributes:
        pixels_HW4: uint8: red, green, blue and the class id.
    """

    def __init__(self, height: int, width: int) -> None:
        self.pixels_HW4 = np.zeros((height, width, 4), np.uint8)
        self.height, self.width = height, width

    def polygon(self, points: Points, colour: Colour, label: int) -> None:
        """Fills a polygon given in pixels."""
        columns = [column for column, _ in points]
        rows = [row for _, row in points]
        left, right, top, bottom = min(columns), max(columns), min(rows), max(rows)
        if right < 0 or left > self.width or bottom < 0 or top > self.height:
            return
        if min(left, top) < -_LIMIT or max(right, bottom) > _LIMIT:
            points = [(_limited(column), _limited(row)) for column, row in points]
        # The rim is filled as well, half a pixel beyond the area: thin things stay whole far away.
        corners = [(int(x * _ONE) - _HALF, int(y * _ONE) - _HALF) for x, y in points]
        red, green, blue = colour
        cv2.fillPoly(
            self.pixels_HW4,
            [np.array(corners, np.int32)],
            (float(red), float(green), float(blue), float(label)),
            lineType=cv2.LINE_8,
            shift=_SHIFT,
        )

    def quad(self, texture: np.ndarray, corners: Points, table: np.ndarray) -> None:
        """Stretches a texture over a quadrilateral.

        Args:
            texture: uint8 of (h, w) or, with an opacity as second channel, (h, w, 2).
            corners: Where its corners go: top left, top right, bottom right, bottom left.
            table: From :meth:`Light.table`.
        """
        corners_42 = np.clip(np.array(corners), -_LIMIT, _LIMIT)
        box = self._visible(corners_42.min(axis=0), corners_42.max(axis=0))
        if box is None:
            return
        left, top, right, bottom = box
        height, width = texture.shape[:2]
        if (right - left) * (bottom - top) <= _SPECK:
            middle = texture[height // 2, width // 2]
            red, green, blue, label = table[middle if texture.ndim == 2 else middle[0]].tolist()
            self.polygon(corners, (red, green, blue), label)
            return
        source = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
        target = (corners_42 - (left, top)).astype(np.float32)
        if abs(cv2.contourArea(target)) < 0.5:
            return
        matrix = cv2.getPerspectiveTransform(source, target)
        size = (right - left, bottom - top)
        stretched = cv2.warpPerspective(
            texture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        inside = np.zeros((size[1], size[0]), np.uint8)
        fixed = (target * _ONE).astype(np.int32) - _HALF
        cv2.fillConvexPoly(inside, fixed, 255, lineType=cv2.LINE_8, shift=_SHIFT)
        if stretched.ndim == 3:
            inside &= cv2.threshold(stretched[..., 1], _OPAQUE, 255, cv2.THRESH_BINARY)[1]
            stretched = stretched[..., 0]
        self._stamp(stretched, inside, table, left, top)

    def sprite(
        self,
        sprite: np.ndarray,
        left: float,
        top: float,
        right: float,
        bottom: float,
        table: np.ndarray,
    ) -> None:
        """Scales an upright picture with opacity, uint8 of (h, w, 2), into a box in pixels."""
        columns, rows = max(1, round(right - left)), max(1, round(bottom - top))
        first_column, first_row = round(left), round(top)
        box = self._visible((first_column, first_row), (first_column + columns, first_row + rows))
        if box is None:
            return
        if columns * rows <= 2 * self.width * self.height:
            scaled = cv2.resize(sprite, (columns, rows), interpolation=cv2.INTER_LINEAR)
            scaled = scaled[box[1] - first_row : box[3] - first_row]
            scaled = scaled[:, box[0] - first_column : box[2] - first_column]
            if not scaled.size:
                return
            box = (box[0], box[1], box[0] + scaled.shape[1], box[1] + scaled.shape[0])
        else:  # so close that most of it lies outside the picture
            matrix = np.array(
                [
                    [columns / sprite.shape[1], 0, first_column - box[0]],
                    [0, rows / sprite.shape[0], first_row - box[1]],
                ]
            )
            size = (box[2] - box[0], box[3] - box[1])
            scaled = cv2.warpAffine(sprite, matrix, size, flags=cv2.INTER_LINEAR)
        inside = cv2.threshold(scaled[..., 1], _OPAQUE, 255, cv2.THRESH_BINARY)[1]
        self._stamp(scaled[..., 0], inside, table, box[0], box[1])

    def _stamp(
        self, grey: np.ndarray, inside: np.ndarray, table: np.ndarray, left: int, top: int
    ) -> None:
        """Puts coloured grey levels where ``inside`` is set."""
        region = self.pixels_HW4[top : top + grey.shape[0], left : left + grey.shape[1]]
        cv2.copyTo(looked_up(grey, table), inside, region)

    def _visible(
        self, low: Sequence[float] | np.ndarray, high: Sequence[float] | np.ndarray
    ) -> tuple[int, int, int, int] | None:
        """The part of a box that lies in the picture: left, top, right, bottom."""
        left, top = max(0, int(np.floor(low[0]))), max(0, int(np.floor(low[1])))
        right = min(self.width, int(np.ceil(high[0])) + 1)
        bottom = min(self.height, int(np.ceil(high[1])) + 1)
        return (left, top, right, bottom) if left < right and top < bottom else None


def _limited(place: float) -> float:
    """A place that OpenCV's fixed-point pixels can hold."""
    return min(max(place, -_LIMIT), _LIMIT)


def looked_up(grey: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Colours and label of grey levels, uint8 of (h, w, 4); four bytes at a time."""
    return table.view(np.uint32).ravel().take(grey).view(np.uint8).reshape(*grey.shape, 4)
