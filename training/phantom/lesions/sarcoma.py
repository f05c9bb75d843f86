"""UESL: large, water-like on CT though solid, rim and septa that enhance late, bleeding (7 of 15), debris levels (PMID 27562247)."""

from __future__ import annotations

import numpy as np

from .malignant import bleed, fluid_level
from .plan import LesionPlan, contour, diameters
from .tumour import Tumour, above


def draw_uesl(rng: np.random.Generator, age_years: float, limit_mm: float) -> LesionPlan:
    """Draw an embryonal sarcoma: "cystic" (nearly all myxoid) or "mixed" (solid islands, more at the edge)."""
    size = diameters(rng, 98, 0.42, 30, 210, limit_mm)
    variant = "mixed" if rng.random() < 0.6 else "cystic"
    parameters = contour(rng, (0, 5), (0.6, 2.6), (0.2, 2.2)) | {
        "myxoid_hu": rng.uniform(10, 38),
        "myxoid_late": rng.uniform(0.0, 0.16),
        "solid_hu": rng.uniform(34, 52),
        "solid_fraction": rng.uniform(0.25, 0.8) if variant == "mixed" else rng.uniform(0.03, 0.2),
        "solid_ap": rng.uniform(0.05, 0.26),
        "solid_pvp": rng.uniform(0.2, 0.62),
        "solid_dp": rng.uniform(0.4, 1.05),
        "patch": rng.uniform(0.16, 0.5),
        "edge_liking": rng.uniform(0.2, 1.8),
        "compartments": int(rng.integers(5, 16)),
        "septa_mm": rng.uniform(0.4, 2.4),
        "septa_dp": rng.uniform(0.5, 1.15),
        "rim_mm": rng.uniform(1.2, 5.0),
        "rim_ragged": rng.uniform(0.2, 0.9),
        "bleeding": float(rng.uniform(0.1, 0.7) if rng.random() < 0.47 else 0.0),
        "bleeding_hu": rng.uniform(50, 75),
        "level": float(rng.uniform(10, 28) if rng.random() < 0.25 else 0.0),
        "calcium": float(rng.uniform(0.001, 0.006) if rng.random() < 0.08 else 0.0),
        "vessels": float(rng.random() < 0.3),
    }
    return LesionPlan("UESL", variant, age_years, size, parameters)


def paint_uesl(tumour: Tumour) -> None:
    """Myxoid ground with fuzzy solid islands, incomplete strands and a ragged late rim."""
    plan, rng = tumour.plan, tumour.rng
    radius = tumour.radius_mm
    late = plan["myxoid_late"]
    tumour.fill(tumour.tissue(plan["myxoid_hu"], 0.1 * late, 0.5 * late, late))
    smoke = tumour.field(max(0.3 * radius, 6.0))
    tumour.modulate(smoke, [3, 3, 4, 5])
    solid = tumour.tissue(plan["solid_hu"], plan["solid_ap"], plan["solid_pvp"], plan["solid_dp"])
    relative = tumour.depth / np.float32(radius)
    liking = tumour.field(max(plan["patch"] * radius, 5.0)) + 0.4 * tumour.field(max(0.1 * radius, 3.5)) - plan["edge_liking"] * relative
    inside = relative > 0
    island = np.zeros(relative.shape, np.float32)
    if inside.any():
        island = above(liking, float(np.quantile(liking[inside], 1 - plan["solid_fraction"])), float(rng.uniform(0.3, 1.1)))
    tumour.blend(0.9 * island, solid)
    _, wall = tumour.cells(int(plan["compartments"]), bend=0.45)
    swelling = np.clip(1 + 0.7 * tumour.field(max(0.2 * radius, 5.0)), 0.0, 2.5)
    # strands do not close: they fade in and out along their course
    strands = above(plan["septa_mm"] * swelling - wall, 0.0, 2.0) * above(tumour.field(max(0.4 * radius, 8.0)), 0.1, 1.2)
    tumour.blend(0.8 * strands, tumour.tissue(plan["solid_hu"], 0.1, 0.6 * plan["septa_dp"], plan["septa_dp"]))
    if plan["vessels"]:
        tumour.blend(0.8 * tumour.tubes(max(0.4 * radius, 9.0), 0.13) * np.maximum(island, 0.15), tumour.blood_pool(0.7))
    if plan["bleeding"]:
        bleed(tumour, (1 - island) * above(smoke, 0.2, 0.6), plan["bleeding_hu"], plan["bleeding"])
    if plan["level"]:
        fluid_level(tumour, (1 - island) * above(relative, 0.15, 0.1), plan["level"])
    ragged = np.clip(1 + plan["rim_ragged"] * tumour.field(max(0.3 * radius, 6.0)), 0.1, 2.5)
    rim = above(plan["rim_mm"] * ragged - np.abs(tumour.depth), 0.0, 1.6)
    tumour.blend(0.8 * rim, tumour.tissue(plan["solid_hu"] + 4, 0.12, 0.65 * plan["septa_dp"], plan["septa_dp"]))
    if plan["calcium"]:
        tumour.calcify(plan["calcium"], 4.0, rng.uniform(150, 350))
