"""HH and IHH: vascular lakes that fill from the outside in, at the blood pool's brightness.

HH: peripheral discontinuous nodules (83 % nodular in MCT-LTDiag, the rest fill at once), a central scar, cleft or thrombus that
never fills in 17 % and more often in giant ones. IHH: a thick, corrugated, often complete rim, then centripetal; central bleeding,
necrosis and calcium; multifocal ones small and even. Sources: the project's clinical table; numbers without one are assumptions.
"""

from __future__ import annotations

import numpy as np

from .plan import LesionPlan, contour, diameters
from .tumour import Tumour, above


def draw_hh(rng: np.random.Generator, age_years: float, limit_mm: float) -> LesionPlan:
    """Draw a hepatic hemangioma: "nodular", "flash" (small, fills at once) or "giant" (nodular with a core that does not fill)."""
    size = diameters(rng, 44, 0.68, 8, 190, limit_mm)
    largest = max(size)
    if largest < 28 and rng.random() < 0.55:
        variant = "flash"
    elif largest > 85 and rng.random() < 0.75:
        variant = "giant"
    else:
        variant = "nodular" if rng.random() < 0.9 else "flash"
    front = rng.uniform(0.22, 0.80) if rng.random() < 0.8 else rng.uniform(0.12, 0.25)
    parameters = contour(rng, (0, 4), (0.6, 2.0), (0.0, 1.2)) | {
        "unenhanced": rng.uniform(30, 52),
        "pool_ap": rng.uniform(0.50, 0.92),
        "pool_pvp": rng.uniform(0.78, 1.1),
        "pool_dp": rng.uniform(0.85, 1.22),
        "nodules": int(rng.integers(4, 9 + int(largest / 14))),
        # how far the front has come, as a fraction of the radius
        "front_ap": max(front * rng.uniform(0.4, 0.8), rng.uniform(0.12, 0.2)),
        "front_pvp": front,
        "front_dp": front * rng.uniform(1.25, 2.4),
        "front_soft": rng.uniform(0.03, 0.12),
        "stroma": rng.uniform(0.0, 0.10),
        "core": float(rng.uniform(0.2, 0.7) if (variant == "giant" or rng.random() < 0.28) else 0.0),
        "core_hu": rng.uniform(12, 40),
        "calcium": float(rng.uniform(0.001, 0.006) if rng.random() < 0.07 else 0.0),
    }
    return LesionPlan("HH", variant, age_years, size, parameters)


def draw_ihh(rng: np.random.Generator, age_years: float, limit_mm: float) -> LesionPlan:
    """Draw an infantile hemangioma: "rim" (focal), "congenital" (focal, large, bleeding and calcium) or "small" (multifocal)."""
    variant = str(rng.choice(["rim", "congenital", "small"], p=[0.55, 0.25, 0.20]))
    if variant == "small":
        size = diameters(rng, 20, 0.35, 8, 40, limit_mm)
    else:
        size = diameters(rng, 58 if variant == "rim" else 76, 0.40, 16, 150, limit_mm)
    parameters = contour(rng, (0, 6), (0.7, 3.0), (0.4, 2.5)) | {
        "unenhanced": rng.uniform(34, 54),
        "pool_ap": rng.uniform(0.45, 1.0),
        "pool_pvp": rng.uniform(0.78, 1.12),
        "pool_dp": rng.uniform(0.80, 1.18),
        "front_ap": rng.uniform(0.10, 0.34),
        "front_pvp": rng.uniform(0.22, 0.70),
        "front_dp": rng.uniform(0.35, 1.1),
        "front_soft": rng.uniform(0.05, 0.2),
        "corrugation": rng.uniform(0.06, 0.2),
        "stroma": rng.uniform(0.02, 0.14),
        "core": float(rng.uniform(0.25, 0.75) if variant == "congenital" or rng.random() < 0.45 else 0.0),
        "core_hu": rng.uniform(14, 40),
        "bleeding": float(rng.uniform(55, 78) if variant == "congenital" and rng.random() < 0.45 else 0.0),
        "calcium": float(rng.uniform(0.003, 0.03) if rng.random() < (0.55 if variant == "congenital" else 0.15) else 0.0),
        "vessels": float(rng.random() < 0.5),
    }
    return LesionPlan("IHH", variant, age_years, size, parameters)


def _core(tumour: Tumour, size: float) -> np.ndarray:
    """An angular cleft or scar about the middle that never fills, 0..1."""
    relative = np.clip(1 - tumour.depth / np.float32(tumour.radius_mm), 0, None)
    ragged = relative + 0.22 * tumour.field(max(0.35 * tumour.radius_mm, 4)) + 0.07 * tumour.field(max(0.13 * tumour.radius_mm, 3))
    return above(-ragged, -size, 0.14)


def _fill_in(tumour: Tumour, arrival: np.ndarray, core: np.ndarray | None) -> None:
    """Paint blood pool where contrast has arrived; arrival and the fronts are fractions of the radius."""
    plan = tumour.plan
    resting = tumour.tissue(plan["unenhanced"], plan["stroma"], 1.6 * plan["stroma"], 2.2 * plan["stroma"])
    tumour.fill(resting)
    pool = tumour.blood_pool((plan["pool_ap"] * min(tumour.arterial_lag, 1.15), plan["pool_pvp"], plan["pool_dp"]))
    pool[0] = plan["unenhanced"]
    mottle = 1 + 0.07 * tumour.field(max(4.0, 0.2 * tumour.radius_mm))
    for phase, name in ((1, "front_ap"), (2, "front_pvp"), (3, "front_dp")):
        reached = above(-arrival, -plan[name], plan["front_soft"] * 2)
        if core is not None:
            reached = reached * (1 - core)
        tumour.hu[phase] += reached * (pool[phase] - resting[phase]) * mottle
    if core is not None:
        weight = 0.85 * core
        tumour.blend(weight, tumour.tissue(plan["core_hu"], 0.01, 0.03, 0.06))


def paint_hh(tumour: Tumour) -> None:
    """Peripheral nodules whose fronts travel inward; the arrival time is the least over the nodules' own clocks."""
    plan, rng = tumour.plan, tumour.rng
    core = _core(tumour, plan["core"]) if plan["core"] > 0 else None
    if plan.variant == "flash":
        _fill_in(tumour, 0.05 * tumour.field(max(6.0, tumour.radius_mm)) - 0.3, core)
    else:
        arrival = np.full(tumour.depth.shape, 9.0, np.float32)
        radii = np.asarray(plan.diameters_mm) / 2
        for _ in range(int(plan["nodules"])):
            direction = rng.standard_normal(3)
            point = direction / np.linalg.norm(direction) * radii * rng.uniform(0.86, 1.0)
            distance = np.sqrt(sum((o - np.float32(p)) ** 2 for o, p in zip(tumour.offsets, point, strict=True)))
            speed = rng.uniform(0.55, 1.25)
            np.minimum(arrival, distance / np.float32(speed * tumour.radius_mm) + np.float32(rng.uniform(-0.06, 0.08)), out=arrival)
        # later, the whole periphery joins: filling is centripetal also between nodules
        joined = plan["front_pvp"] * rng.uniform(0.75, 1.5)
        np.minimum(arrival, np.float32(joined) + tumour.depth / np.float32(tumour.radius_mm), out=arrival)
        arrival += 0.045 * tumour.field(max(3.5, 0.22 * tumour.radius_mm))
        _fill_in(tumour, arrival, core)
    if plan["calcium"]:
        tumour.calcify(plan["calcium"], 4.0, rng.uniform(150, 380), 1.0 if core is None else core)


def paint_ihh(tumour: Tumour) -> None:
    """A rim that is thick and corrugated at once, then closes in; the core of congenital ones bleeds or dies."""
    plan, rng = tumour.plan, tumour.rng
    relative = tumour.depth / np.float32(tumour.radius_mm)
    core = _core(tumour, plan["core"]) if plan["core"] > 0 and plan.variant != "small" else None
    arrival = relative + np.float32(plan["corrugation"]) * tumour.field(max(4.0, 0.28 * tumour.radius_mm))
    if plan.variant == "small":
        arrival = arrival - np.float32(rng.uniform(0.0, 0.5))
    _fill_in(tumour, arrival, core)
    if core is not None and plan["bleeding"]:
        clot = above(tumour.field(max(5.0, 0.4 * tumour.radius_mm)), 0.3, 0.8) * core
        tumour.blend(clot, np.full(4, plan["bleeding"], np.float32))
    if plan["vessels"] and tumour.radius_mm > 14:
        feeders = tumour.tubes(0.45 * tumour.radius_mm, 0.22) * above(relative, 0.45, 0.5) * 0.8
        if core is not None:
            feeders = feeders * (1 - core)
        tumour.blend(feeders, tumour.blood_pool(0.9))
    if plan["calcium"]:
        tumour.calcify(plan["calcium"], rng.uniform(3.5, 7), rng.uniform(160, 520))
