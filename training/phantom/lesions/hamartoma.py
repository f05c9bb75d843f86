"""HMH: cysts between septa that enhance late, with more or less solid stroma (cystic 31 %, mixed 38 %, solid 31 % of 13 children)."""

from __future__ import annotations

import numpy as np

from .plan import LesionPlan, contour, diameters
from .tumour import Tumour, above

SOLID_FRACTION = {"cystic": (0.0, 0.08), "mixed": (0.25, 0.65), "solid": (0.8, 1.0)}


def draw_hmh(rng: np.random.Generator, age_years: float, limit_mm: float) -> LesionPlan:
    """Draw a mesenchymal hamartoma: "cystic", "mixed" or "solid"."""
    size = diameters(rng, 104, 0.52, 18, 200, limit_mm)
    variant = str(rng.choice(["cystic", "mixed", "solid"], p=[0.31, 0.38, 0.31]))
    parameters = contour(rng, (0, 6), (0.6, 2.2), (0.0, 1.6)) | {
        "cells": int(np.clip(rng.normal(9 + max(size) / 6, 6), 5, 40)),
        "solid_fraction": rng.uniform(*SOLID_FRACTION[variant]),
        "wall_mm": rng.uniform(0.7, 2.6),
        "fluid_hu": rng.uniform(2, 22),
        "fluid_spread": rng.uniform(1, 8),
        "stroma_hu": rng.uniform(26, 50),
        "stroma_ap": rng.uniform(0.03, 0.20),
        "stroma_pvp": rng.uniform(0.14, 0.5),
        "stroma_dp": rng.uniform(0.35, 0.85),
        "septa_ap": rng.uniform(0.08, 0.26),
        "septa_pvp": rng.uniform(0.3, 0.6),
        "septa_dp": rng.uniform(0.55, 0.95),
        "small_cysts": rng.uniform(0.0, 0.35),
        "capsule_mm": rng.uniform(0.0, 2.2),
        "calcium": float(rng.uniform(0.001, 0.005) if rng.random() < 0.06 else 0.0),
    }
    return LesionPlan("HMH", variant, age_years, size, parameters)


def paint_hmh(tumour: Tumour) -> None:
    """Cells of fluid or stroma between walls; small round cysts riddle the stroma."""
    plan, rng = tumour.plan, tumour.rng
    count = int(plan["cells"])
    index, wall = tumour.cells(count, bend=rng.uniform(0.05, 0.3))
    stroma = tumour.tissue(plan["stroma_hu"], plan["stroma_ap"], plan["stroma_pvp"], plan["stroma_dp"])
    septa = tumour.tissue(plan["stroma_hu"] + 4, plan["septa_ap"], plan["septa_pvp"], plan["septa_dp"])
    tumour.fill(stroma)
    tumour.modulate(tumour.field(max(5.0, 0.2 * tumour.radius_mm)), (stroma - stroma[0]) * 0.16 + 2)
    if plan["small_cysts"] > 0.03:
        bubbles = above(tumour.field(rng.uniform(5, 10)), float(np.interp(plan["small_cysts"], [0, 0.35], [2.0, 0.7])), 0.4)
        tumour.blend(bubbles, np.full(4, plan["fluid_hu"] + 6, np.float32))
    cystic = rng.random(count) >= plan["solid_fraction"]
    fluid = plan["fluid_hu"] + plan["fluid_spread"] * rng.standard_normal(count)
    # walls swell and thin along their course
    thickness = plan["wall_mm"] * np.clip(1 + 0.45 * tumour.field(max(6.0, 0.35 * tumour.radius_mm)), 0.35, 2.5)
    lumen = above(wall - thickness * 0.5, 0.0, 1.0) * cystic[index]
    tumour.blend(lumen, np.broadcast_to(fluid.astype(np.float32)[index], (4, *index.shape)))
    membrane = above(thickness - wall, 0.0, 1.2) * (0.8 if plan["solid_fraction"] < 0.7 else 0.45)
    tumour.blend(membrane, septa)
    if plan["capsule_mm"] > 0.5:
        tumour.blend(0.75 * tumour.rim(plan["capsule_mm"]), septa)
    if plan["calcium"]:
        tumour.calcify(plan["calcium"], 4.0, rng.uniform(150, 350), membrane)
