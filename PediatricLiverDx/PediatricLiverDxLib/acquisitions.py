"""Which CT series were reconstructed from one acquisition, and in which order acquisitions were made.

By their headers where these are sure, else by the voxels of a few slices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .dicom import Series
from .dicom_volume import SlicePixels
from .vocabulary import InputError

#: Series that begin within this time (s) of each other are reconstructions of one acquisition.
SAME_ACQUISITION_S = 2.0

#: Slices are compared at multiples of this height (mm), in squares of this side (mm).
_STEP_MM, _CELL_MM = 30.0, 15.0

#: Thin slices are averaged over this height (mm) each way before they are compared with thick ones: they are noisier.
_SLAB_MM = 5.0

#: Squares whose standard deviation (HU) is above this hold a border of organs.
_EVEN_HU = 60.0

#: Two reconstructions of one acquisition differ by less than this (HU) in nine of ten squares of even soft tissue: portal venous and
#: delayed phases, the most alike, differ by about 15 HU in the liver. An assumption.
_SAME_HU = 8.0

#: Fewer squares than this tell nothing.
_MIN_CELLS = 20


def without_blank_times(series: Sequence[Series]) -> list[Series]:
    """Take away times of acquisition that cannot be real: the same for all series of a study, and nothing else in them speaks for one."""
    studies = defaultdict(list)
    for one in series:
        studies[one.study].append(one)
    blank = set()
    for study, members in studies.items():
        times = {s.seconds for s in members}
        if len(members) > 1 and len(times) == 1 and all(s.bolus_seconds in (None, s.seconds) for s in members):
            blank.add(study)
    return [_timeless(s) if s.study in blank else s for s in series]


def _timeless(series: Series) -> Series:
    return replace(series, slices=tuple(replace(s, seconds=None) for s in series.slices))


def order_of_acquisition(series: Sequence[Series]) -> list[float | None]:
    """Return a number for each series that grows with time: seconds, else temporal positions of one stored series, or acquisition numbers.

    None where nothing says when; numbers of different kinds are never mixed.
    """
    times = [one.seconds for one in series]
    if None not in times and len(set(times)) == len(times):
        return times
    one_stored = len({one.uid for one in series}) == 1
    for tag in ("temporal", "acquisition") if one_stored else ("acquisition",):
        values = [{getattr(image, tag) for image in one.slices} for one in series]
        numbers = [int(next(iter(value))) for value in values if len(value) == 1 and next(iter(value)).isdigit()]
        if len(set(numbers)) == len(series):
            return [float(number) for number in numbers]
    return times


@dataclass(frozen=True)
class _Cell:
    """Mean and standard deviation of the HU in one square."""

    mean: float
    spread: float


class Acquisitions:
    """Tells series of one acquisition from others; what it read of a series is kept for the next comparison.

    Args:
        series: all of the study. Only where every one of them began on a whole minute are times taken as cut to minutes.
    """

    def __init__(self, series: Sequence[Series]) -> None:
        times = [one.seconds for one in series if one.seconds is not None]
        self._cut_to_minutes = all(time % 60 == 0 for time in times)
        numbers = {number for one in series for number in one.acquisitions}
        self._numbered = len(numbers) > 1  # a scanner that numbers all alike tells nothing
        self._cells: dict[str, dict[tuple[int, int, int], _Cell]] = {}

    def same(self, one: Series, other: Series) -> bool:
        """Tell whether two series were reconstructed from one acquisition; False where that is not sure."""
        if one.uid == other.uid and one.voltages == other.voltages:  # passes of one stored series
            return False
        frames = {one.frame_of_reference, other.frame_of_reference} - {""}
        if len(frames) > 1:
            return False
        if one.seconds is not None and other.seconds is not None:
            if abs(one.seconds - other.seconds) > SAME_ACQUISITION_S:
                return False
            numbered_apart = one.acquisitions and other.acquisitions and not one.acquisitions & other.acquisitions
            numbered_alike = self._numbered and len(one.acquisitions) == 1 and one.acquisitions == other.acquisitions
            if numbered_alike or not (numbered_apart or self._cut_to_minutes):
                return True
        return self._alike(one, other)

    def _alike(self, one: Series, other: Series) -> bool:
        """Compare the mean HU of the squares of soft tissue that both series hold and that are even in one of them."""
        if np.abs(np.subtract(one.orientation, other.orientation)).max() > 0.01:
            return False
        first, second = self._cells_of(one), self._cells_of(other)
        both = [(first[place], second[place]) for place in first.keys() & second.keys()]
        apart = [abs(a.mean - b.mean) for a, b in both if min(a.spread, b.spread) < _EVEN_HU]
        return len(apart) >= _MIN_CELLS and float(np.percentile(apart, 90)) < _SAME_HU

    def _cells_of(self, series: Series) -> dict[tuple[int, int, int], _Cell]:
        if series.label not in self._cells:
            try:
                self._cells[series.label] = _cells(series)
            except InputError:  # it is said when the series is read for good
                self._cells[series.label] = {}
        return self._cells[series.label]


def _cells(series: Series) -> dict[tuple[int, int, int], _Cell]:
    """Return squares of soft tissue, keyed by their place in the patient: the same for all series of an orientation."""
    pixels = SlicePixels(series)
    row, column = np.array(series.orientation[:3]), np.array(series.orientation[3:])
    heights = np.array([s.position for s in series.slices]) @ series.normal
    slab = max(_SLAB_MM, series.spacing)
    cells = {}
    for level in range(int(np.ceil(heights.min() / _STEP_MM)), int(np.floor(heights.max() / _STEP_MM)) + 1):
        weights = np.clip(1 - np.abs(heights - level * _STEP_MM) / slab, 0, None)
        near = np.flatnonzero(weights > 0.05)
        if not len(near):
            continue
        hu = sum(weights[index] * pixels.hu(series.slices[index]).astype(float) for index in near) / weights[near].sum()
        position = np.array(series.slices[near[0]].position)
        x = np.floor((position @ row + np.arange(hu.shape[1]) * series.pixel_spacing[1]) / _CELL_MM).astype(int)
        y = np.floor((position @ column + np.arange(hu.shape[0]) * series.pixel_spacing[0]) / _CELL_MM).astype(int)
        width = x[-1] - x[0] + 1
        place = ((y - y[0])[:, None] * width + (x - x[0])[None, :]).ravel()
        count = np.bincount(place)
        mean = np.bincount(place, hu.ravel()) / np.maximum(count, 1)
        spread = np.sqrt(np.maximum(np.bincount(place, hu.ravel() ** 2) / np.maximum(count, 1) - mean**2, 0))
        whole = count >= 0.8 * _CELL_MM**2 / (series.pixel_spacing[0] * series.pixel_spacing[1])
        for index in np.flatnonzero(whole & (mean > 20) & (mean < 400)):
            cells[level, int(index // width + y[0]), int(index % width + x[0])] = _Cell(float(mean[index]), float(spread[index]))
    return cells
