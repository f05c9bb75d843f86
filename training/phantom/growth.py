"""Body and organ sizes of a child by age: linear interpolation of tables in mm, one draw of build per child.

Liver, spleen and kidney lengths follow published ultrasound norms in round figures; trunk sizes, vertebrae and vessel calibres are
assumptions, chosen so that every age looks right and neighbouring ages overlap.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

_AGES = (0.0, 1.0, 3.0, 6.0, 10.0, 16.0)
_TABLES_MM = {
    "trunk_width": (112, 152, 172, 198, 235, 290),
    "trunk_depth": (92, 116, 126, 142, 162, 198),
    "liver_length": (62, 78, 92, 106, 120, 140),
    "spleen_length": (45, 60, 72, 82, 94, 108),
    "kidney_length": (45, 61, 72, 82, 94, 108),
    "vertebra_width": (15, 21, 25, 29, 34, 41),
    "vertebra_height": (12, 16, 19, 22, 26, 33),
    "aorta_diameter": (6.0, 8.0, 9.5, 11.0, 13.0, 16.0),
}


@dataclass(frozen=True)
class Build:
    """One child's sizes in mm. `scale` is the trunk's width relative to a 16-year-old's median, for whatever has no table."""

    age_years: float
    sex: str
    trunk_width: float
    trunk_depth: float
    liver_length: float
    spleen_length: float
    kidney_length: float
    vertebra_width: float
    vertebra_height: float
    aorta_diameter: float
    fat_mm: float
    muscle_mm: float
    visceral_fat: float

    @property
    def scale(self) -> float:
        return self.trunk_width / 290.0

    def to_dict(self) -> dict:
        """Return every size, for truth.json."""
        return asdict(self)


def draw_build(rng: np.random.Generator, age_years: float, sex: str) -> Build:
    """Draw a child's sizes: a common factor of build (SD 7 %) and an own factor for every organ (SD 6 %)."""
    stature = rng.lognormal(0.0, 0.06)
    sizes = {name: float(np.interp(age_years, _AGES, row) * stature * rng.lognormal(0.0, 0.06)) for name, row in _TABLES_MM.items()}
    scale = sizes["trunk_width"] / 290.0
    plump = rng.beta(1.6, 4.0)
    return Build(
        age_years=age_years,
        sex=sex,
        **sizes,
        fat_mm=float(2.0 + 22.0 * plump * (0.4 + 0.6 * scale)),
        muscle_mm=float((4.0 + 10.0 * scale) * rng.uniform(0.7, 1.2)),
        visceral_fat=float(np.clip(0.15 + 0.75 * plump + rng.normal(0.0, 0.12), 0.05, 1.0)),
    )
