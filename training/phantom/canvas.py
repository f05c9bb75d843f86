"""The noiseless world of one exam: four phases of HU on one fine grid, and the shapes that are painted on it.

Arrays are (phase, slice, row, column) in HU; coordinates are patient millimetres (x to the left, y to posterior, z to superior).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .fields import expand, linear_matrix, soft_step

Box = tuple[slice, slice, slice]

#: Tissues whose places a canvas can note, in the order of their labels from 1.
TISSUES = ("liver", "spleen", "kidney cortex", "kidney medulla", "muscle", "aorta", "portal vein")

#: Every how many samples (z, y, x) large smooth shapes are evaluated; between them a distance is linear to 0.03 mm (radius 100 mm).
COARSE = (2, 4, 4)


@dataclass
class Canvas:
    """A grid to paint on. z, y, x: coordinates (mm) of its samples; hu: float32 (4, nz, ny, nx), air at the start.

    tissues: uint8 (nz, ny, nx), which of TISSUES was painted last at a sample, 0 for anything else; None where nobody asks.
    """

    z: np.ndarray
    y: np.ndarray
    x: np.ndarray
    hu: np.ndarray = field(init=False)
    tissues: np.ndarray | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.hu = np.full((4, len(self.z), len(self.y), len(self.x)), -1000.0, np.float32)

    def note_tissues(self) -> None:
        """From here on keep `tissues`."""
        self.tissues = np.zeros(self.hu.shape[1:], np.uint8)

    @property
    def pixel_mm(self) -> float:
        """The in-plane spacing, over which edges are blended."""
        return float(self.x[1] - self.x[0])

    @property
    def everywhere(self) -> Box:
        return slice(0, len(self.z)), slice(0, len(self.y)), slice(0, len(self.x))

    def box(self, centre: tuple[float, float, float], reach_mm: float | tuple[float, float, float]) -> Box | None:
        """Return the samples within `reach_mm` of a centre (z, y, x), or None where there are none."""
        reaches = (reach_mm,) * 3 if np.isscalar(reach_mm) else reach_mm
        slices = []
        for axis, middle, reach in zip((self.z, self.y, self.x), centre, reaches, strict=True):
            first, last = np.searchsorted(axis, (middle - reach, middle + reach))
            if last - first < 1:
                return None
            slices.append(slice(int(first), int(last)))
        return tuple(slices)

    @property
    def coarse_axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The coordinates (z, y, x) of the coarse samples."""
        return self.z[:: COARSE[0]], self.y[:: COARSE[1]], self.x[:: COARSE[2]]

    def refine(self, values: np.ndarray) -> np.ndarray:
        """Bring an array on the coarse samples to all samples by linear interpolation."""
        axes = zip((self.z, self.y, self.x), self.coarse_axes, strict=True)
        return expand(values.astype(np.float32), *(linear_matrix(fine, coarse) for fine, coarse in axes))

    def paint(self, box: Box, occupancy: np.ndarray, hu: np.ndarray, tissue: str | None = None) -> None:
        """Blend a tissue into the world: `occupancy` (box shape) 0..1, `hu` (4,) or (4, box shape), `tissue` its name if in TISSUES."""
        tight = _occupied(occupancy)
        if tight is None:
            return
        occupancy = occupancy[tight]
        view = self.hu[(slice(None), *box)][(slice(None), *tight)]
        target = np.asarray(hu, np.float32)
        if target.ndim > 1:
            target = target[(slice(None), *tight)]
        for phase in range(4):
            change = target[phase] - view[phase]
            change *= occupancy
            view[phase] += change
        if self.tissues is not None:
            self.tissues[box][tight][occupancy > 0.5] = TISSUES.index(tissue) + 1 if tissue else 0

    def paint_shape(self, box: Box, signed_mm: np.ndarray, hu: np.ndarray, tissue: str | None = None) -> None:
        """Paint the inside of a signed distance (mm), its edge blended over a pixel."""
        self.paint(box, soft_step(signed_mm, self.pixel_mm), hu, tissue)


@dataclass(frozen=True)
class Coordinates:
    """Anatomical coordinates of every sample, float32 (nz, ny, nx) each: where in the undeformed child a sample lies, in mm."""

    z: np.ndarray
    y: np.ndarray
    x: np.ndarray

    def coarse(self) -> Coordinates:
        """Return the coordinates of the coarse samples of a `Canvas`."""
        every = tuple(slice(None, None, step) for step in COARSE)
        return Coordinates(self.z[every], self.y[every], self.x[every])

    def box(self, centre: tuple[float, float, float], reach_mm: float | tuple[float, float, float]) -> Box | None:
        """Return the samples whose anatomical place may lie within `reach_mm` of a centre (z, y, x), or None where there are none."""
        step = (3, 6, 6)
        near = None
        reaches = (reach_mm,) * 3 if np.isscalar(reach_mm) else reach_mm
        for axis, middle, reach in zip((self.z, self.y, self.x), centre, reaches, strict=True):
            coarse = axis[:: step[0], :: step[1], :: step[2]]
            # a sample between two coarse ones is at most about one coarse step (10 mm) from either
            close = np.abs(coarse - middle) < reach + 8.0
            near = close if near is None else near & close
        tight = _occupied(near)
        if tight is None:
            return None
        return tuple(
            slice(max((t.start - 1) * s, 0), min(t.stop * s + 1, n)) for t, s, n in zip(tight, step, self.z.shape, strict=True)
        )

    def at(self, box: Box) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (z, y, x) within a box."""
        return self.z[box], self.y[box], self.x[box]


def _occupied(occupancy: np.ndarray) -> Box | None:
    """Return the smallest box that holds every sample above zero, or None if there is none."""
    filled = occupancy > 0
    slices = []
    for axes in ((1, 2), (0, 2), (0, 1)):
        hits = np.flatnonzero(filled.any(axis=axes))
        if len(hits) == 0:
            return None
        slices.append(slice(int(hits[0]), int(hits[-1]) + 1))
    return tuple(slices)


def ellipsoid(
    z: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    centre: tuple[float, float, float],
    radii: tuple[float, float, float],
    rotation: np.ndarray | None = None,
) -> np.ndarray:
    """Return the first-order signed distance (mm) to an ellipsoid; centre and radii in (z, y, x), rotation (3, 3) acts on (z, y, x)."""
    p = [z - centre[0], y - centre[1], x - centre[2]]
    if rotation is not None:
        p = [rotation[i, 0] * p[0] + rotation[i, 1] * p[1] + rotation[i, 2] * p[2] for i in range(3)]
    scaled = sum((component / radius) ** 2 for component, radius in zip(p, radii, strict=True))
    slope = sum((component / radius**2) ** 2 for component, radius in zip(p, radii, strict=True))
    return (scaled - 1.0) * np.sqrt(scaled) / (np.sqrt(slope) * (1.0 + np.sqrt(scaled)) + 1e-6)


def capsule(
    z: np.ndarray, y: np.ndarray, x: np.ndarray, start: np.ndarray, end: np.ndarray, radius_start: float, radius_end: float
) -> np.ndarray:
    """Return the signed distance (mm) to a tube from start to end (z, y, x), its radius (mm) changing linearly."""
    axis = np.asarray(end, np.float32) - np.asarray(start, np.float32)
    start = np.asarray(start, np.float32)
    dz, dy, dx = z - start[0], y - start[1], x - start[2]
    along = np.clip((dz * axis[0] + dy * axis[1] + dx * axis[2]) * np.float32(1.0 / max(float(axis @ axis), 1e-6)), 0.0, 1.0)
    squared = np.zeros_like(along)
    for offset, component in zip((dz, dy, dx), axis, strict=True):
        offset -= along * component
        offset *= offset
        squared += offset
    np.sqrt(squared, out=squared)
    along *= np.float32(radius_end - radius_start)
    squared -= along
    squared -= np.float32(radius_start)
    return squared


def random_rotation(rng: np.random.Generator, spread_degrees: float) -> np.ndarray:
    """Return a rotation (3, 3) by normal angles of the given spread about the three axes."""
    rotation = np.eye(3)
    for axis in range(3):
        angle = np.deg2rad(rng.normal(0.0, spread_degrees))
        i, j = [k for k in range(3) if k != axis]
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        rotation = turn @ rotation
    return rotation.astype(np.float32)
