"""How a child moves between phases: draw it, turn it into a displacement field, warp the reference phase's world with it.

A displacement field says where a point of the reference (PVP) lies in another phase: x_phase = x_reference + d(x_reference), in mm,
components (z, y, x) in patient axes, on a coarse (z, y, x) grid. That is also the field with which the phase is resampled onto the
reference. Amplitudes have no measured source for sedated or crying children: they are assumptions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import scipy.ndimage


@dataclass(frozen=True, kw_only=True)
class Breathing:
    """One phase's position relative to the reference phase; all zero for the reference itself."""

    liver_shift_mm: float = 0.0  # along z, negative = breathed in further, the liver lies lower
    wall_shift_mm: float = 0.0  # of the front wall along y, negative = bulges forward
    deformation_mm: float = 0.0  # SD-like amplitude of the smooth random part
    bulk_shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)  # (z, y, x), of the whole patient
    seed: int = 0  # of the smooth random part

    def to_dict(self) -> dict:
        """All fields as JSON types."""
        fields = asdict(self)
        fields["bulk_shift_mm"] = list(self.bulk_shift_mm)
        return fields


@dataclass(frozen=True)
class Landmarks:
    """Where the body's parts lie in the reference phase, patient mm. back_y is the front face of the spine, front_y the front skin."""

    dome_z: float
    pelvis_z: float
    back_y: float
    front_y: float
    half_width: float


@dataclass(frozen=True)
class Displacement:
    """A field on a coarse grid: vectors (component, z, y, x) with components (z, y, x) in mm, and the coordinates of its nodes in mm."""

    vectors: np.ndarray
    z: np.ndarray
    y: np.ndarray
    x: np.ndarray


def draw_breathing(rng: np.random.Generator, phases: Sequence[str], age_years: float, reference: str = "PVP") -> Mapping[str, Breathing]:
    """Draw each phase's position: zero for the reference, up to 15 mm along z for the others, less in small children."""
    size = 0.55 + 0.45 * min(age_years / 10.0, 1.0)
    kind = rng.choice(["calm", "usual", "restless"], p=[0.3, 0.5, 0.2])
    spread = {"calm": 1.2, "usual": 5.0, "restless": 9.0}[kind]
    drawn = {}
    for phase in phases:
        shift = float(np.clip(rng.normal(0.0, spread) * size, -15.0, 15.0))
        wall = float(np.clip(0.35 * shift + rng.normal(0.0, 0.25 * spread * size), -8.0, 8.0))
        deformation = float(rng.uniform(0.3, 1.0) * min(spread / 3.0, 2.0))
        bulk = tuple(float(v) for v in np.clip(rng.normal(0.0, 0.25 + 0.12 * spread, 3), -5.0, 5.0))
        seed = int(rng.integers(2**31))
        drawn[phase] = (
            Breathing()
            if phase == reference
            else Breathing(liver_shift_mm=shift, wall_shift_mm=wall, deformation_mm=deformation, bulk_shift_mm=bulk, seed=seed)
        )
    return drawn


def displacement(breathing: Breathing, z: np.ndarray, y: np.ndarray, x: np.ndarray, landmarks: Landmarks) -> Displacement:
    """The field of one phase at the nodes z, y, x (mm, even steps of about 8 mm, ascending).

    Largest under the diaphragm; fading to zero at the spine, at the pelvis and, above the dome, in the lungs; half at the side walls,
    along which organs slide. The random part moves what lies in front and below (bowel) most.
    """
    zz, yy, xx = np.meshgrid(z, y, x, indexing="ij")
    vectors = np.zeros((3, *zz.shape), np.float32)
    if breathing == Breathing():
        return Displacement(vectors, np.asarray(z), np.asarray(y), np.asarray(x))
    length = max(landmarks.dome_z - landmarks.pelvis_z, 1.0)
    below = _smooth(1.0 - (landmarks.dome_z - zz) / length)  # 1 at the dome, 0 at the pelvis
    above = _smooth(1.0 - (zz - landmarks.dome_z) / 90.0)
    along = np.where(zz > landmarks.dome_z, above, 0.25 * below + 0.75 * np.sqrt(below) * below**0.25)
    depth = max(landmarks.back_y - landmarks.front_y, 1.0)
    ahead = (landmarks.back_y - yy) / depth  # 0 at the spine's front face, 1 at the front skin
    sliding = _smooth((ahead + 0.25) / 0.5)
    sides = 1.0 - 0.5 * _smooth((np.abs(xx) / landmarks.half_width - 0.7) / 0.35)
    vectors[0] = breathing.liver_shift_mm * along * sliding * sides
    vectors[1] = breathing.wall_shift_mm * _smooth(ahead / 0.9) * (0.35 + 0.65 * along)
    if breathing.deformation_mm > 0.0:
        rng = np.random.default_rng(breathing.seed)
        steps = [abs(float(a[1] - a[0])) if len(a) > 1 else 8.0 for a in (z, y, x)]
        amount = 0.45 + 0.55 * _smooth((ahead - 0.2) / 0.6) * (1.0 - 0.5 * below)
        amount = amount * _smooth((ahead + 0.35) / 0.5)
        for component in range(3):
            field = scipy.ndimage.gaussian_filter(rng.standard_normal(zz.shape), [30.0 / s for s in steps], mode="wrap")
            field /= max(float(field.std()), 1e-6)
            vectors[component] += np.clip(field, -2.0, 2.0) * breathing.deformation_mm * amount
    for component in range(3):
        vectors[component] += breathing.bulk_shift_mm[component]
    return Displacement(vectors, np.asarray(z), np.asarray(y), np.asarray(x))


def inverse(field: Displacement, iterations: int = 6) -> Displacement:
    """The field e on the same nodes with x_reference = x_phase + e(x_phase), by fixed-point iteration e(x) = -d(x + e(x))."""
    steps = np.array([a[1] - a[0] if len(a) > 1 else 1.0 for a in (field.z, field.y, field.x)]).reshape(3, 1, 1, 1)
    nodes = np.indices(field.vectors.shape[1:], dtype=np.float32)
    e = -field.vectors
    for _ in range(iterations):
        e = np.stack([-scipy.ndimage.map_coordinates(d, nodes + e / steps, order=1, mode="nearest") for d in field.vectors])
    return Displacement(e.astype(np.float32), field.z, field.y, field.x)


def warp(hu: np.ndarray, z: np.ndarray, y: np.ndarray, x: np.ndarray, field: Displacement) -> np.ndarray:
    """The reference's world moved to another phase: (z, y, x) volume at the same positions z, y, x (mm, even steps, ascending).

    Linear interpolation; what comes in from outside repeats the volume's border. Returns float32.
    """
    hu = np.ascontiguousarray(hu, np.float32)
    if not field.vectors.any():
        return hu.copy()
    backward = inverse(field)
    # Bring the field to the volume's rows and columns once per coarse plane, then blend planes slice by slice: cheap and small in memory.
    to_rows, to_columns = _between(backward.y, y), _between(backward.x, x)
    planes = np.matmul(to_rows, np.matmul(backward.vectors, to_columns.T))
    to_slices = _between(backward.z, z)
    steps = [a[1] - a[0] if len(a) > 1 else 1.0 for a in (z, y, x)]
    nz, ny, nx = hu.shape
    flat = hu.reshape(-1)
    rows, columns = np.arange(ny, dtype=np.float32)[:, None], np.arange(nx, dtype=np.float32)[None, :]
    moved = np.empty_like(hu)
    for i in range(nz):
        near = np.flatnonzero(to_slices[i])
        shift = np.tensordot(to_slices[i, near], planes[:, near], axes=(0, 1))
        iz, fz = _split(i + shift[0] / np.float32(steps[0]), nz)
        iy, fy = _split(rows + shift[1] / np.float32(steps[1]), ny)
        ix, fx = _split(columns + shift[2] / np.float32(steps[2]), nx)
        corner = (iz * ny + iy) * nx + ix
        value = None
        for oz in (0, ny * nx) if nz > 1 else (0,):
            face = None
            for oy in (0, nx):
                at = corner + (oz + oy)
                left = flat.take(at)
                edge = left + (flat.take(at + 1) - left) * fx
                face = edge if face is None else face + (edge - face) * fy
            value = face if value is None else value + (face - value) * fz
        moved[i] = value
    return moved


def _split(position: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Integer and fractional part of positions clamped to a grid of this size."""
    position = np.clip(position, 0.0, size - 1.0)
    low = np.minimum(position.astype(np.int32), max(size - 2, 0))
    return low, position - low


def _between(nodes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(points, nodes) matrix of linear interpolation, constant beyond the ends."""
    if len(nodes) == 1:
        return np.ones((len(points), 1), np.float32)
    position = np.clip((np.asarray(points) - nodes[0]) / (nodes[1] - nodes[0]), 0, len(nodes) - 1)
    low = np.minimum(position.astype(int), len(nodes) - 2)
    matrix = np.zeros((len(points), len(nodes)), np.float32)
    matrix[np.arange(len(points)), low] = 1.0 - (position - low)
    matrix[np.arange(len(points)), low + 1] += position - low
    return matrix


def _smooth(t: np.ndarray) -> np.ndarray:
    """Smooth step from 0 at t <= 0 to 1 at t >= 1."""
    t = np.clip(t, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)
