"""Smooth random fields and soft edges, the material that anatomy, lesions and motion are made of.

Coordinates are patient millimetres (x to the left, y to posterior, z to superior); arrays are (slice, row, column).
"""

from __future__ import annotations

import numpy as np

#: Mean over one interval of the sum of squared cubic B-spline weights: the variance that white coefficients keep, per axis.
_VARIANCE_PER_AXIS = 151.0 / 315.0


def spline_matrix(coordinates: np.ndarray, start: float, spacing: float, count: int) -> np.ndarray:
    """Return the cubic B-spline weights of `count` control points at `coordinates`, float32 (len(coordinates), count).

    Control point i sits at `start + i * spacing` (mm). Weights of control points outside the range are dropped.
    """
    position = (np.asarray(coordinates, np.float64) - start) / spacing
    distance = np.abs(position[:, None] - np.arange(count)[None, :])
    near = 2.0 / 3.0 - distance**2 + 0.5 * distance**3
    far = (2.0 - distance) ** 3 / 6.0
    return np.where(distance < 1, near, np.where(distance < 2, far, 0.0)).astype(np.float32)


def smooth_field(
    rng: np.random.Generator,
    z: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    scale_mm: float,
    anisotropy: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> np.ndarray:
    """Draw a random field, float32 (len(z), len(y), len(x)), of zero mean and unit standard deviation in expectation.

    The field is a tensor product of cubic B-splines with independent normal coefficients, `scale_mm` apart (times `anisotropy`
    along z, y, x): it varies over about twice that length, and costs three matrix products.
    """
    matrices = []
    for axis, factor in zip((z, y, x), anisotropy, strict=True):
        spacing = scale_mm * factor
        low, high = float(axis[0]), float(axis[-1])
        low, high = min(low, high), max(low, high)
        count = int(np.ceil((high - low) / spacing)) + 4
        # a random offset of the knots, so that nodes never sit at the same place of the grid
        start = low - spacing * (1.0 + rng.random())
        matrices.append(spline_matrix(axis, start, spacing, count))
    coefficients = rng.standard_normal([m.shape[1] for m in matrices]).astype(np.float32)
    return expand(coefficients, *matrices) / np.float32(_VARIANCE_PER_AXIS**1.5)


def expand(coefficients: np.ndarray, mz: np.ndarray, my: np.ndarray, mx: np.ndarray) -> np.ndarray:
    """Evaluate tensor-product coefficients (cz, cy, cx) with one matrix per axis (n, c), float32 (nz, ny, nx)."""
    by_x = coefficients @ mx.T  # (cz, cy, nx)
    by_y = np.matmul(my, by_x)  # (cz, ny, nx)
    return np.tensordot(mz, by_y, axes=(1, 0))  # (nz, ny, nx)


def linear_matrix(points: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Return the weights (len(points), len(nodes)) of linear interpolation between ascending nodes, extended beyond both ends."""
    low = np.clip(np.searchsorted(nodes, points, side="right") - 1, 0, len(nodes) - 2)
    part = (points - nodes[low]) / (nodes[low + 1] - nodes[low])
    matrix = np.zeros((len(points), len(nodes)), np.float32)
    rows = np.arange(len(points))
    matrix[rows, low] = 1.0 - part
    matrix[rows, low + 1] = part
    return matrix


def soft_step(signed_mm: np.ndarray, width_mm: float) -> np.ndarray:
    """Return the occupancy 0..1 of a shape from its signed distance (mm, negative inside): linear over `width_mm` around the edge."""
    return np.clip(0.5 - signed_mm * np.float32(1.0 / width_mm), 0.0, 1.0)


def smooth_minimum(a: np.ndarray, b: np.ndarray, radius_mm: float) -> np.ndarray:
    """Return the union of two signed distances with the crease rounded over `radius_mm` (polynomial blend)."""
    h = np.clip(0.5 + 0.5 * (b - a) / radius_mm, 0.0, 1.0)
    return b + (a - b) * h - radius_mm * h * (1.0 - h)


def smooth_maximum(a: np.ndarray, b: np.ndarray, radius_mm: float) -> np.ndarray:
    """Return the intersection of two signed distances with the crease rounded over `radius_mm`."""
    return -smooth_minimum(-a, -b, radius_mm)
