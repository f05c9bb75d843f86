"""The noiseless world of one exam: four phases of HU on one fine grid, and the shapes that are painted on it.

Arrays are (phase, slice, row, column) in HU; coordinates are patient millimetres (x to the left, y to posterior, z to superior).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .fields import soft_step

Box = tuple[slice, slice, slice]


@dataclass
class Canvas:
    """A grid to paint on. z, y, x: coordinates (mm) of its samples; hu: float32 (4, nz, ny, nx), air at the start."""

    z: np.ndarray
    y: np.ndarray
    x: np.ndarray
    hu: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.hu = np.full((4, len(self.z), len(self.y), len(self.x)), -1000.0, np.float32)

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

    def paint(self, box: Box, occupancy: np.ndarray, hu: np.ndarray) -> None:
        """Blend a tissue into the world: `occupancy` (box shape) 0..1, `hu` (4,) or (4, box shape)."""
        view = self.hu[(slice(None), *box)]
        tissue = np.asarray(hu, np.float32)
        for phase in range(4):
            view[phase] += occupancy * (tissue[phase] - view[phase])

    def paint_shape(self, box: Box, signed_mm: np.ndarray, hu: np.ndarray) -> None:
        """Paint the inside of a signed distance (mm), its edge blended over a pixel."""
        self.paint(box, soft_step(signed_mm, self.pixel_mm), hu)


@dataclass(frozen=True)
class Coordinates:
    """Anatomical coordinates of every sample, float32 (nz, ny, nx) each: where in the undeformed child a sample lies, in mm.

    `reach` is the largest distance (mm) between a sample and its anatomical place: how much a bounding box must grow.
    """

    z: np.ndarray
    y: np.ndarray
    x: np.ndarray
    reach: float

    def at(self, box: Box) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (z, y, x) within a box."""
        return self.z[box], self.y[box], self.x[box]


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
    return (scaled - 1.0) * np.sqrt(scaled) / (np.sqrt(slope) * (1.0 + np.sqrt(scaled)) + 1e-6) * np.float32(1.0)


def capsule(
    z: np.ndarray, y: np.ndarray, x: np.ndarray, start: np.ndarray, end: np.ndarray, radius_start: float, radius_end: float
) -> np.ndarray:
    """Return the signed distance (mm) to a tube from start to end (z, y, x), its radius (mm) changing linearly."""
    axis = np.asarray(end, np.float32) - np.asarray(start, np.float32)
    dz, dy, dx = z - start[0], y - start[1], x - start[2]
    along = np.clip((dz * axis[0] + dy * axis[1] + dx * axis[2]) / max(float(axis @ axis), 1e-6), 0.0, 1.0)
    dz, dy, dx = dz - along * axis[0], dy - along * axis[1], dx - along * axis[2]
    return np.sqrt(dz * dz + dy * dy + dx * dx) - (radius_start + (radius_end - radius_start) * along)


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
