"""Liver tumours for phantoms: draw what a lesion of an entity is like, then paint it in four phases.

`draw_plan` decides everything scalar, `paint` turns it into (phase, z, y, x) HU and a soft mask; the caller blends the two into
its world. One file an entity or family; ages, sizes and looks follow the project's clinical table, the rest are assumptions.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .fnh import draw_fnh, paint_fnh
from .hamartoma import draw_hmh, paint_hmh
from .hcc import draw_hcc, paint_hcc
from .hemangioma import draw_hh, draw_ihh, paint_hh, paint_ihh
from .hepatoblastoma import draw_hb, paint_hb
from .plan import LesionPlan
from .sarcoma import draw_uesl, paint_uesl
from .tumour import Tumour

__all__ = ["ENTITIES", "LesionPlan", "draw_age", "draw_entity_count", "draw_plan", "draw_plans", "paint"]

_DRAW = {"HH": draw_hh, "IHH": draw_ihh, "FNH": draw_fnh, "HMH": draw_hmh, "HB": draw_hb, "UESL": draw_uesl, "HCC": draw_hcc}
_PAINT = {"HH": paint_hh, "IHH": paint_ihh, "FNH": paint_fnh, "HMH": paint_hmh, "HB": paint_hb, "UESL": paint_uesl, "HCC": paint_hcc}
ENTITIES = tuple(_DRAW)
#: the smallest limit for the other lesions of an exam, whose largest diameters are 60 to 100 % of it, and from 8 mm (assumption)
SATELLITE_MM = 13.0
#: parameters that lesions of one child do not share: shape, and what goes with size or chance
_SHAPE = ("lobes", "warp", "shear", "roughness_mm", "exophytic")
_OWN = (*_SHAPE, "nodules", "cells", "compartments", "core", "calcium", "necrosis", "necrosis_offset")


def draw_age(rng: np.random.Generator, entity: str) -> float:
    """Age in years, 0.02 to 16, by entity; tails wider than in the literature so that age alone does not decide."""
    if rng.random() < 0.08 and entity != "IHH":
        return float(rng.uniform(0.05, 16))
    age = {
        "HH": lambda: rng.uniform(0.1, 16) if rng.random() < 0.4 else rng.normal(6.8, 3.5),
        "IHH": lambda: rng.normal(17, 8.5) / 12,
        "FNH": lambda: rng.normal(8.6, 3.6),
        "HMH": lambda: 1.3 * np.exp(0.75 * rng.standard_normal()),
        "HB": lambda: 1.9 * np.exp(0.75 * rng.standard_normal()),
        "UESL": lambda: rng.normal(7.3, 3.0),
        "HCC": lambda: rng.normal(11.5, 3.4),
    }[entity]()
    return float(np.clip(age, 0.02 if entity not in ("FNH", "UESL", "HCC") else 0.8, 16.0))


def draw_plan(rng: np.random.Generator, entity: str, age_years: float, max_diameter_mm: float) -> LesionPlan:
    """Draw one lesion of `entity` whose largest diameter is at most `max_diameter_mm`. KeyError for an unknown entity."""
    return _DRAW[entity](rng, age_years, max_diameter_mm)


def draw_entity_count(rng: np.random.Generator, entity: str, age_years: float) -> int:
    """Number of lesions in an exam: IHH focal 80 %, multifocal 13 %, diffuse 7 %; others mostly one (assumption)."""
    kind = rng.random()
    if entity == "IHH":
        return 1 if kind < 0.80 else int(rng.integers(3, 8)) if kind < 0.93 else int(rng.integers(10, 19))
    more = {"HH": 0.28, "FNH": 0.15, "HMH": 0.03, "HB": 0.16, "UESL": 0.04, "HCC": 0.25}[entity]
    return 1 if kind > more else int(rng.integers(2, 5))


def paint(plan: LesionPlan, rng: np.random.Generator, z, y, x, centre_zyx, contrast, liver_hu) -> tuple[np.ndarray, np.ndarray]:
    """Paint a lesion: noiseless HU (phase, z, y, x) float32 and occupancy (z, y, x) 0..1 float32.

    z, y, x: 1D coordinates in mm of the box (see `LesionPlan.reach_mm`). centre_zyx: mm. contrast: the exam's `kinetics.Contrast`.
    liver_hu: (phase,) HU of the liver around it. The same plan and generator state give the same voxels.
    """
    tumour = Tumour(plan, rng, z, y, x, centre_zyx, contrast, liver_hu)
    _PAINT[plan.entity](tumour)
    return tumour.hu, tumour.occupancy


def draw_plans(rng: np.random.Generator, entity: str, age_years: float, max_diameter_mm: float) -> tuple[LesionPlan, ...]:
    """Draw all lesions of one exam, the largest first. One child's lesions are kin: same parameters, other sizes and shapes.

    Multifocal and diffuse IHH are small and even throughout (assumption).
    """
    count = draw_entity_count(rng, entity, age_years)
    first = draw_plan(rng, entity, age_years, max_diameter_mm)
    if entity == "IHH" and count > 1:
        while first.variant != "small":
            first = draw_plan(rng, entity, age_years, max_diameter_mm)
    plans = [first]
    for _ in range(count - 1):
        other = draw_plan(rng, entity, age_years, max(rng.uniform(0.2, 0.95) * max(first.diameters_mm), SATELLITE_MM))
        kin = {**other.parameters, **{name: first[name] for name in first.parameters if name not in _OWN and name in other.parameters}}
        # a flash-filling hemangioma beside a nodular one is usual; the other entities keep the first one's variant
        variant = other.variant if entity == "HH" else first.variant
        plans.append(replace(other, variant=variant, parameters=kin))
    return tuple(sorted(plans, key=lambda plan: -max(plan.diameters_mm)))
