"""What is decided about one lesion before any voxel is painted: entity, variant, size and every scalar parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class LesionPlan:
    """One lesion's random parameters, enough to paint it again with the same generator state.

    entity: a key of ``vocabulary.ENTITY_CLASS``. variant: the entity's own word for its look ("nodular", "flash", ...).
    diameters_mm: (z, y, x). parameters: scalars, named in the entity's module; lengths in mm, fractions 0..1, attenuation in HU.
    """

    entity: str
    variant: str
    age_years: float
    diameters_mm: tuple[float, float, float]
    parameters: Mapping[str, float] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float:
        return self.parameters[name]

    @property
    def reach_mm(self) -> tuple[float, float, float]:
        """Half the size (z, y, x) of the box that the caller should give to `paint`: lobes, warp and soft border included."""
        spread = 1.10 + self.parameters.get("warp", 0.0) + abs(self.parameters.get("shear", 0.0)) * 0.3
        border = 2.0 + 0.6 * self.parameters.get("border_mm", 1.0) + 2.0 * self.parameters.get("roughness_mm", 0.0)
        return tuple(0.5 * d * spread + border for d in self.diameters_mm)

    def to_dict(self) -> dict:
        """Plain types for truth.json."""
        return {
            "entity": self.entity,
            "variant": self.variant,
            "age_years": float(self.age_years),
            "diameters_mm": [float(d) for d in self.diameters_mm],
            "parameters": {name: float(value) for name, value in self.parameters.items()},
        }


def diameters(rng: np.random.Generator, median_mm: float, log_sd: float, low: float, high: float, limit_mm: float) -> tuple:
    """Draw (z, y, x) diameters: log-normal largest one, the others 60-100 % of it, all within `limit_mm`.

    The largest is at least `low`, where the limit leaves room for that.
    """
    largest = float(np.clip(median_mm * np.exp(log_sd * rng.standard_normal()), low, high))
    if largest > limit_mm:  # a spread below the limit, so that small livers do not all hold lesions of one size
        least = low / limit_mm if low < limit_mm else 0.0
        largest = limit_mm * rng.uniform(max(0.6, least), 1.0)
    axes = largest * np.array([1.0, rng.uniform(0.72, 1.0), rng.uniform(0.6, 1.0)])
    return tuple(float(d) for d in rng.permutation(axes))


def contour(rng: np.random.Generator, lobes: tuple[int, int], border_mm: tuple[float, float], roughness_mm: tuple[float, float]) -> dict:
    """Draw the parameters of `shape.outline`; each argument is a (low, high) range."""
    return {
        "lobes": int(rng.integers(lobes[0], lobes[1] + 1)),
        "border_mm": rng.uniform(*border_mm),
        "roughness_mm": rng.uniform(*roughness_mm),
        "warp": rng.uniform(0.02, 0.11),
        "shear": rng.uniform(-0.35, 0.35),
        "exophytic": float(rng.uniform(0.1, 0.6) if rng.random() < 0.2 else 0.0),
    }
