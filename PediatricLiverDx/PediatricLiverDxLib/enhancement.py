"""How bright aorta, liver, portal vein and kidneys are in one CT volume, and which contrast phase that speaks for.

Nothing is segmented for its own sake: the spinal canal (soft tissue ringed by bone) gives the midline, the aorta is the brightest round
thing of its size in front of the vertebra, the liver the largest solid organ on the right. All lengths scale with the width of the body,
so that the same rules hold for a newborn and an adult.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from .vocabulary import PHASES

#: Voxels are averaged to about this part of the body's width in the slice, and twice that between slices, before anything is measured.
COARSE = 0.008

#: Expected HU and spread of each measure in each phase. Centres follow the organ HU of children where they are published (liver 70,
#: 113; aorta 149 in
#: the portal phase) and measured adult values (aorta 42, portal vein 186); the others and all spreads are assumptions.
_EXPECTED = {
    #        aorta        aorta - liver  liver      portal - liver  kidney
    "PC": ((55, 28), (-5, 30), (60, 12), (12, 10), (46, 16)),
    "AP": ((290, 75), (200, 70), (85, 18), (22, 15), (135, 40)),
    "PVP": ((165, 30), (52, 25), (115, 20), (42, 20), (150, 40)),
    "DP": ((122, 20), (25, 14), (97, 16), (24, 12), (125, 35)),
}
_WEIGHTS = (1.0, 0.5, 1.0, 0.5, 1.0)


@dataclass(frozen=True)
class Enhancement:
    """HU of the blood in the aorta, of the liver, of the portal vein and of the kidneys; NaN where one was not found."""

    aorta: float
    liver: float
    portal: float
    kidney: float

    @property
    def found(self) -> bool:
        return not math.isnan(self.aorta) or not math.isnan(self.liver)

    def log_likelihood(self, phase: str) -> float:
        """Return how well the measures fit a phase: the weighted log of normal densities, 0 where nothing was found."""
        return -self.misfit(phase) - sum(weight * math.log(spread) for _, spread, weight in self._found(phase))

    def misfit(self, phase: str) -> float:
        """Return how far the measures are off a phase: half the squared number of spreads, weighted and summed; 0 is a perfect fit."""
        # Beyond 3.5 spreads a value is only odd, not evidence for another phase.
        return sum(0.5 * weight * min(abs(off) / spread, 3.5) ** 2 for off, spread, weight in self._found(phase))

    def _found(self, phase: str) -> list[tuple[float, float, float]]:
        """Return distance from what is expected, spread and weight of each measure that was found."""
        measures = (self.aorta, self.aorta - self.liver, self.liver, self.portal - self.liver, self.kidney)
        expected = zip(measures, _EXPECTED[phase], _WEIGHTS, strict=True)
        return [(value - centre, spread, weight) for value, (centre, spread), weight in expected if not math.isnan(value)]

    def likelihoods(self) -> Mapping[str, float]:
        """Return the log likelihood of every phase."""
        return {phase: self.log_likelihood(phase) for phase in PHASES}


def measure_enhancement(image: sitk.Image) -> Enhancement:
    """Measure a canonical volume in HU (x to the left, y to posterior, z to superior)."""
    box, width = _body_box(image)
    if width == 0:
        return Enhancement(*[math.nan] * 4)
    image = image[box]
    target = (COARSE * width, COARSE * width, 2 * COARSE * width)
    shrink = [max(1, min(n // 3, round(t / s))) for n, t, s in zip(image.GetSize(), target, image.GetSpacing(), strict=True)]
    coarse = sitk.Cast(sitk.BinShrink(image, shrink), sitk.sitkFloat32)
    hu = sitk.GetArrayFromImage(coarse)
    spacing = np.array(coarse.GetSpacing())[::-1]
    liver, portal = _liver(hu, spacing, width)
    canal = _canal(hu, spacing, width)
    if canal is None:
        return Enhancement(math.nan, liver, portal, math.nan)
    aorta, kidney = _around_spine(hu, spacing, width, canal)
    return Enhancement(aorta, liver, portal, kidney)


def _body_box(image: sitk.Image) -> tuple[tuple[slice, ...], float]:
    """Return the box of the body in the slice plane (x, y, z) and the body's width in mm, 0 where there is none."""
    hu = sitk.GetArrayViewFromImage(image)
    steps = [max(1, n // 64) for n in hu.shape]
    body = hu[:: steps[0], :: steps[1], :: steps[2]] > -300
    columns = np.flatnonzero(body.mean(axis=(0, 1)) > 0.1)
    rows = np.flatnonzero(body.mean(axis=(0, 2)) > 0.05)
    if len(columns) < 4 or len(rows) < 4:
        return (), 0.0
    x = slice(int(columns[0] * steps[2]), int((columns[-1] + 1) * steps[2]))
    y = slice(int(rows[0] * steps[1]), int((rows[-1] + 1) * steps[1]))
    return (x, y, slice(None)), (min(x.stop, hu.shape[2]) - x.start) * image.GetSpacing()[0]


def _canal(hu: np.ndarray, spacing: np.ndarray, width: float) -> np.ndarray | None:
    """Return the (row, column) of the spinal canal on each slice, None where no canal is seen.

    A voxel is canal where bone lies within reach in at least seven of eight directions of its slice, and near soft tissue itself.
    """
    reach = max(2, int(np.ceil(0.06 * width / spacing[1])))
    bone = hu > 150
    inside = (hu > -50) & (hu < 130)
    rays = np.zeros(hu.shape, np.uint8)
    for row in (-1, 0, 1):
        for column in (-1, 0, 1):
            if row or column:
                hit = np.zeros(hu.shape, bool)
                for step in range(1, reach + 1):
                    hit |= _shifted(bone, row * step, column * step)
                rays += hit
    candidates = np.argwhere(inside & (rays >= 7))
    if len(candidates) < 10:
        return None
    # Most candidates lie in the canal; a second look keeps those near the median.
    centre = np.median(candidates[:, 1:], axis=0)
    near = np.all(np.abs(candidates[:, 1:] - centre) * spacing[1:] < 0.12 * width, axis=1)
    candidates = candidates[near]
    if len(candidates) < 10:
        return None
    slices = np.arange(hu.shape[0])
    known = np.unique(candidates[:, 0])
    path = np.array([np.median(candidates[candidates[:, 0] == z, 1:], axis=0) for z in known])
    kernel = np.exp(-0.5 * ((slices[:, None] - known[None]) * spacing[0] / 15.0) ** 2) + 1e-9
    return (kernel @ path) / kernel.sum(axis=1, keepdims=True)


def _shifted(mask: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return mask[z, y + rows, x + columns], False outside."""
    out = np.zeros_like(mask)
    height, width = mask.shape[1:]
    if abs(rows) >= height or abs(columns) >= width:
        return out
    out[:, max(0, -rows) : height - max(0, rows), max(0, -columns) : width - max(0, columns)] = mask[
        :, max(0, rows) : height - max(0, -rows), max(0, columns) : width - max(0, -columns)
    ]
    return out


def _around_spine(hu: np.ndarray, spacing: np.ndarray, width: float, canal: np.ndarray) -> tuple[float, float]:
    """Return the HU of aorta and kidneys: the brightest discs before, and to both sides of, the vertebra; medians over the slices."""
    radius = max(1, round(0.010 * width / spacing[1]))
    opened = _opening(hu, (0, radius, radius))
    depth = _vertebra_depth(hu, spacing, width, canal)
    y = (np.arange(hu.shape[1])[None, :, None] - canal[:, 0, None, None]) * spacing[1]
    x = (np.arange(hu.shape[2])[None, None, :] - canal[:, 1, None, None]) * spacing[2]
    vertebra = (np.abs(x) < 0.8 * depth) & (y > -1.1 * depth)
    front = (np.abs(x) < 0.12 * width) & (y < -0.6 * depth) & (y > -depth - 0.13 * width) & ~vertebra
    sides = (np.abs(x) > 0.1 * width) & (np.abs(x) < 0.3 * width) & (np.abs(y + 0.5 * depth) < 0.1 * width) & (hu < 350)
    return _bright(opened, front, 99), _bright(opened, sides, 90)


def _bright(opened: np.ndarray, zone: np.ndarray, percentile: float) -> float:
    peaks = [np.percentile(opened[z][zone[z]], percentile) for z in range(len(opened)) if zone[z].sum() > 20]
    return float(np.median(peaks)) if peaks else math.nan


def _vertebra_depth(hu: np.ndarray, spacing: np.ndarray, width: float, canal: np.ndarray) -> float:
    """Return the distance in mm from the canal to the front of the vertebral body, a median over the slices."""
    depths = []
    for z, (row, column) in enumerate(np.round(canal).astype(int)):
        line = hu[z, :row, max(0, column - 1) : column + 2].mean(axis=1)[::-1]  # from the canal forwards
        bone = np.flatnonzero(line > 130)
        if len(bone) and bone[0] * spacing[1] < 0.08 * width:
            end = bone[0]
            while end + 1 < len(line) and line[end + 1] > 110:
                end += 1
            depths.append((end + 1) * spacing[1])
    return float(np.clip(np.median(depths) if depths else 0.11 * width, 0.09 * width, 0.25 * width))


def _liver(hu: np.ndarray, spacing: np.ndarray, width: float) -> tuple[float, float]:
    """Return the HU of the liver and of the large vessels in it."""
    radii = [max(1, round(0.022 * width / s)) for s in spacing]
    radii[0] = min(radii[0], len(hu) // 8)
    right = _opening((hu > 20) & (hu < 220), radii)
    right[:, :, hu.shape[2] // 2 :] = False
    values = hu[right]
    if len(values) < 0.02 * right.size:
        return math.nan, math.nan
    counts, edges = np.histogram(values, bins=np.arange(20, 221, 4))
    counts = np.convolve(counts, [1, 2, 3, 2, 1], "same")
    liver = float(edges[int(np.argmax(counts))] + 2)
    organ = _opening(right & (np.abs(hu - liver) < 30), radii)
    parts = sitk.RelabelComponent(sitk.ConnectedComponent(sitk.GetImageFromArray(organ.astype(np.uint8))))
    organ = sitk.GetArrayViewFromImage(parts) == 1
    # Closing brings back the vessels, which are brighter than the parenchyma.
    inside = hu[_extreme(_extreme(organ, [2 * r for r in radii], np.maximum), [2 * r for r in radii], np.minimum) & (hu < 300)]
    if len(inside) < 50:
        return liver, math.nan
    return float(np.median(inside)), float(np.percentile(inside, 97))


def _opening(array: np.ndarray, radii: Sequence[int]) -> np.ndarray:
    """Return the morphological opening (grey values or mask) with a box of 2 r + 1 voxels along each axis."""
    return _extreme(_extreme(array, radii, np.minimum), radii, np.maximum)


def _extreme(array: np.ndarray, radii: Sequence[int], least_or_most: np.ufunc) -> np.ndarray:
    """Return the minimum or maximum in a box around each voxel: by doubling windows, in log2 of its size passes an axis."""
    for axis, radius in enumerate(radii):
        if radius == 0:
            continue
        window, reached = np.pad(array, [(radius, radius) if a == axis else (0, 0) for a in range(array.ndim)], mode="edge"), 1
        while reached < 2 * radius + 1:
            step = min(reached, 2 * radius + 1 - reached)
            length = window.shape[axis] - step
            one, other = (tuple(slice(at, at + length) if a == axis else slice(None) for a in range(array.ndim)) for at in (0, step))
            window = least_or_most(window[one], window[other])
            reached += step
        array = window
    return array
