"""What is not a tumour but may look like one: cysts, focal fat and its sparing, perfusion differences, vessels end-on, dilated ducts.

Drawn and painted as the lesions are: `draw_mimic` decides, `paint` gives (phase, z, y, x) HU and an occupancy for the caller to blend.
How often and how large they are is an assumption.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from .fields import smooth_field, soft_step

#: kind -> share among painted mimics
SHARES = {
    "cyst": 0.24,
    "focal fat": 0.14,
    "fatty sparing": 0.10,
    "arterial perfusion difference": 0.18,
    "vessel end-on": 0.14,
    "dilated ducts": 0.08,
    "calcified granuloma": 0.06,
    "folded gallbladder": 0.06,
}


@dataclass(frozen=True)
class MimicPlan:
    """One mimic's random parameters: kind (a key of SHARES), radii_mm (z, y, x), parameters by name (HU, mm or radians)."""

    kind: str
    radii_mm: tuple[float, float, float]
    parameters: Mapping[str, float] = field(default_factory=dict)

    @property
    def reach_mm(self) -> tuple[float, float, float]:
        """Half the size (z, y, x) of the box that the caller should give to `paint`."""
        return tuple(1.45 * r + 4.0 for r in self.radii_mm)

    def to_dict(self) -> dict:
        """Plain types for truth.json."""
        return {
            "kind": self.kind,
            "radii_mm": [float(r) for r in self.radii_mm],
            "parameters": {name: float(value) for name, value in self.parameters.items()},
        }


def draw_mimic(rng: np.random.Generator, age_years: float) -> MimicPlan:
    """Draw one mimic; sizes grow with the child."""
    kind = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    grown = 0.55 + 0.45 * min(age_years, 14.0) / 14.0
    flat = np.array([rng.uniform(0.6, 1.1), rng.uniform(0.6, 1.1), 1.0])
    if kind == "cyst":
        radii, parameters = rng.lognormal(np.log(5.0), 0.55) * flat, {"hu": rng.uniform(-2, 16)}
    elif kind == "focal fat":
        radii, parameters = rng.uniform(7, 22) * flat, {"hu": rng.uniform(-45, -12), "border_mm": rng.uniform(2, 7)}
    elif kind == "fatty sparing":
        radii, parameters = rng.uniform(6, 18) * flat, {"hu": rng.uniform(9, 24), "border_mm": rng.uniform(2, 6)}
    elif kind == "arterial perfusion difference":
        radii = rng.uniform(8, 26) * flat
        parameters = {
            "gain": rng.uniform(0.06, 0.22),
            "late_hu": rng.uniform(-2, 6),
            "direction": rng.uniform(0, 2 * np.pi),
            "opening": rng.uniform(0.5, 1.1),
            "wedge": float(rng.random() < 0.65),
            "border_mm": rng.uniform(1.5, 5),
        }
    elif kind == "vessel end-on":
        radii = rng.uniform(2.5, 6.5) * np.array([rng.uniform(1, 4), rng.uniform(0.8, 1.2), 1.0])
        parameters = {"portal": float(rng.random() < 0.6)}
    elif kind == "dilated ducts":
        radii, parameters = rng.uniform(10, 22) * flat, {"hu": rng.uniform(3, 18), "thickness": rng.uniform(0.13, 0.28)}
    elif kind == "calcified granuloma":
        radii, parameters = rng.uniform(1.5, 4.0) * flat, {"hu": rng.uniform(180, 700)}
    else:
        radii = rng.uniform(8, 15) * np.array([1.3, 0.8, 1.0])
        parameters = {"hu": rng.uniform(2, 20), "wall_hu": rng.uniform(60, 90)}
    scaled = np.clip(radii * (grown if kind != "vessel end-on" else 0.7 + 0.3 * grown), 1.2, 34.0)
    return MimicPlan(kind, tuple(float(r) for r in scaled), {name: float(value) for name, value in parameters.items()})


def paint(plan: MimicPlan, rng: np.random.Generator, z, y, x, centre_zyx, contrast, liver_hu) -> tuple[np.ndarray, np.ndarray]:
    """Paint a mimic: noiseless HU (phase, z, y, x) float32 and occupancy (z, y, x) 0..1 float32.

    Arguments as in `lesions.paint`.
    """
    axes = [np.asarray(axis, np.float32) for axis in (z, y, x)]
    liver = np.asarray(liver_hu, np.float32)
    unit, signed = _outline(plan, rng, axes, centre_zyx)
    given = plan.parameters
    occupancy = soft_step(signed, given.get("border_mm", 0.9))
    if plan.kind in ("cyst", "folded gallbladder", "calcified granuloma"):
        values = np.full(4, given["hu"], np.float32)
    elif plan.kind in ("focal fat", "fatty sparing"):
        # no mass effect and the liver's own enhancement: only the offset tells
        values = liver + np.float32(given["hu"])
    elif plan.kind == "arterial perfusion difference":
        artery = np.asarray(contrast.artery(), np.float32)
        excess = given["gain"] * (artery[1] - artery[0])
        values = liver + np.array([0, excess, given["late_hu"], 0.3 * given["late_hu"]], np.float32)
        if given["wedge"]:
            occupancy = occupancy * _wedge(unit, given["direction"], given["opening"])
    elif plan.kind == "vessel end-on":
        values = np.asarray(contrast.portal() if given["portal"] else _venous(contrast), np.float32)
    else:
        squares = smooth_field(rng, *axes, 9.0) ** 2 + smooth_field(rng, *axes, 9.0) ** 2
        ducts = np.clip(1.4 - squares / np.float32(given["thickness"] ** 2), 0, 1)
        occupancy = occupancy * ducts
        values = np.full(4, given["hu"], np.float32)
    hu = np.broadcast_to(values[:, None, None, None], (4, *signed.shape)).astype(np.float32)
    if plan.kind == "folded gallbladder":
        wall = np.clip(1.5 - np.abs(signed + 1.0), 0, 1) * 0.7
        for phase, gain in enumerate((0.0, 10.0, 25.0, 30.0)):
            hu[phase] += wall * (given["wall_hu"] - 25 + gain - hu[phase])
    return hu, occupancy.astype(np.float32)


def _outline(plan: MimicPlan, rng, axes, centre):
    """Return normalised offsets (z, y, x) and the signed distance in mm of a slightly bent ellipsoid; focal fat is geographic."""
    geographic = plan.kind in ("focal fat", "fatty sparing", "arterial perfusion difference")
    bend = 0.16 if geographic else 0.05
    unit = []
    for axis, (coordinates, middle, radius) in enumerate(zip(axes, centre, plan.radii_mm, strict=True)):
        shape = [1, 1, 1]
        shape[axis] = -1
        straight = ((coordinates - np.float32(middle)) / np.float32(radius)).reshape(shape)
        unit.append(straight + np.float32(bend) * smooth_field(rng, *axes, max(radius, 4.0)))
    mean_radius = float(np.prod(plan.radii_mm) ** (1 / 3))
    distance = np.sqrt(unit[0] ** 2 + unit[1] ** 2 + unit[2] ** 2)
    if geographic:
        distance = distance + np.float32(0.14) * smooth_field(rng, *axes, max(0.8 * mean_radius, 4.0))
    return unit, ((distance - 1) * mean_radius).astype(np.float32)


def _wedge(unit, direction: float, opening: float) -> np.ndarray:
    """0..1 inside a sector in the axial plane, its tip on the side that `direction` points away from."""
    along = np.cos(direction) * unit[1] + np.sin(direction) * unit[2] + 0.9
    across = np.abs(-np.sin(direction) * unit[1] + np.cos(direction) * unit[2])
    return np.clip((along * np.float32(np.tan(opening / 2)) - across) * 6 + 0.5, 0, 1)


def _venous(contrast) -> np.ndarray:
    """HU of a hepatic vein: portal blood diluted and a little later; close to half-way between portal and arterial blood but in AP."""
    portal, artery = np.asarray(contrast.portal()), np.asarray(contrast.artery())
    return np.array([portal[0], portal[0] + 0.3 * (portal[1] - portal[0]), *(0.5 * (portal[2:] + artery[2:]))])
