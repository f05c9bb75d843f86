"""The box in which one lesion is painted: its outline, its coordinates, and blending of tissues into (phase, z, y, x) HU."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from ..fields import smooth_field, soft_step
from ..kinetics import Perfusion
from .plan import LesionPlan

#: A fast arterial bed, the clock by which AP uptake is judged, and its share of blood's enhancement in a usual AP (21 s).
_FAST = Perfusion(unenhanced=0.0, arterial=1.0, portal=0.0, blood_volume=0.2, interstitium=0.8, mean_transit_s=10.0)
_USUAL_LAG = 0.6

#: The surface's roughness (SD) is at most this part of the lesion's radius.
ROUGHEST = 0.12


def above(values: np.ndarray, threshold: float, softness: float) -> np.ndarray:
    """Linear ramp 0..1 of width `softness` centred where `values` passes `threshold` upward."""
    return np.clip((values - np.float32(threshold)) / np.float32(softness) + np.float32(0.5), 0.0, 1.0)


class Tumour:
    """A lesion's box while it is painted.

    `offsets` are warped coordinates (z, y, x) in mm from the lesion's centre, so that what is drawn with straight geometry bends
    with the lesion; `depth` is the approximate distance in mm below its surface (negative outside), `radius_mm` the radius of the
    ball of equal size. `hu` is (phase, z, y, x), noiseless.
    """

    def __init__(self, plan: LesionPlan, rng, z, y, x, centre_zyx, contrast, liver_hu):
        self.plan, self.rng, self.contrast = plan, rng, contrast
        self.z, self.y, self.x = (np.asarray(axis, np.float32) for axis in (z, y, x))
        self.centre = centre_zyx
        self.liver = np.asarray(liver_hu, np.float32)
        blood = np.asarray(contrast.artery(), np.float32)
        #: enhancement of arterial blood (phase,), what tissue uptake is a fraction of
        self.blood_gain = blood - blood[0]
        portal = np.asarray(contrast.portal(), np.float32)
        mixed = (self.blood_gain + portal - portal[0]) / 2
        self.pool_gain = np.array([0.0, self.blood_gain[1], mixed[2], mixed[3]], np.float32)
        fast = contrast.hu(_FAST)
        #: how far tissue is behind blood in this AP: about 1 at a usual time, less when scanned early, more when late
        self.arterial_lag = float(np.clip((fast[1] - fast[0]) / max(self.blood_gain[1], 1.0) / _USUAL_LAG, 0.35, 1.6))
        radii = np.asarray(plan.diameters_mm, np.float32) / 2
        self.radius_mm = float(np.prod(radii) ** (1 / 3))
        self.offsets, signed = self._outline(radii)
        self.depth = -signed
        self.occupancy = soft_step(signed, plan["border_mm"]).astype(np.float32)
        self.hu = np.empty((4, *self.depth.shape), np.float32)

    def field(self, scale_mm: float, anisotropy=(1, 1, 1)) -> np.ndarray:
        """A new smooth random field over the box, zero mean, unit SD."""
        return smooth_field(self.rng, self.z, self.y, self.x, float(scale_mm), anisotropy)

    def _outline(self, radii: np.ndarray):
        plan, rng = self.plan, self.rng
        unit = []
        for axis, (coordinates, centre) in enumerate(zip((self.z, self.y, self.x), self.centre, strict=True)):
            shape = [1, 1, 1]
            shape[axis] = -1
            straight = ((coordinates - np.float32(centre)) / radii[axis]).reshape(shape)
            unit.append(straight + np.float32(plan["warp"]) * self.field(max(0.5 * plan.diameters_mm[axis], 8.0)))
        unit[2] = unit[2] + np.float32(plan["shear"]) * unit[1]
        lobes = int(plan["lobes"])
        if lobes:  # lobes seldom all reach out to the full diameters
            unit = [u * np.float32(0.9) for u in unit]
        squared = unit[0] ** 2 + unit[1] ** 2 + unit[2] ** 2
        if lobes == 0:
            signed = np.sqrt(squared) - 1
        else:
            # smooth union of a core and lobes around it; sharpness sets how deep the clefts between lobes are
            sharpness = rng.uniform(9, 22)
            total = np.exp(-sharpness * (np.sqrt(squared) - rng.uniform(0.58, 0.72)))
            for _ in range(lobes):
                direction = rng.standard_normal(3)
                direction *= rng.uniform(0.38, 0.6) / np.linalg.norm(direction)
                size = rng.uniform(0.34, 0.56)
                distance = np.sqrt(sum((u - np.float32(d)) ** 2 for u, d in zip(unit, direction, strict=True)))
                total += np.exp(-sharpness * (distance - size))
            signed = -np.log(np.maximum(total, 1e-30)) / sharpness
        signed = signed * np.float32(self.radius_mm)
        # of a small lesion, roughness of a large one's depth would leave crumbs or nothing
        roughness = min(plan["roughness_mm"], ROUGHEST * self.radius_mm)
        if roughness > 0.2:
            signed = signed + np.float32(roughness) * self.field(rng.uniform(5, 9) + 2 * roughness)
        return [u * r / np.float32(0.9 if lobes else 1.0) for u, r in zip(unit, radii, strict=True)], signed.astype(np.float32)

    def blood_pool(self, fraction=0.9) -> np.ndarray:
        """(phase,) HU of pooled blood: `fraction` (one, or for AP, PVP, DP) of the gain of arterial blood in AP, mixed blood later."""
        fractions = np.concatenate([[0.0], np.broadcast_to(fraction, 3)]).astype(np.float32)
        return np.float32(42) + self.pool_gain * fractions

    def tissue(self, unenhanced: float, ap: float, pvp: float, dp: float) -> np.ndarray:
        """(phase,) HU of tissue whose enhancement is the given fraction of arterial blood's in AP, PVP and DP.

        The fraction in AP is meant for a usual late arterial phase and shifts with the exam's timing.
        """
        ap = min(ap * self.arterial_lag, 1.1)
        return np.float32(unenhanced) + self.blood_gain * np.array([0, ap, pvp, dp], np.float32)

    def fill(self, tissue: np.ndarray) -> None:
        """Set the whole box to one tissue (phase,) HU."""
        self.hu[:] = np.asarray(tissue, np.float32)[:, None, None, None]

    def blend(self, weight: np.ndarray, tissue: np.ndarray) -> None:
        """Mix a tissue in: weight (z, y, x) 0..1, tissue (phase,) HU or (phase, z, y, x)."""
        for phase in range(4):
            self.hu[phase] += weight * (tissue[phase] - self.hu[phase])

    def modulate(self, pattern: np.ndarray, amounts) -> None:
        """Add pattern * amount HU, one amount a phase."""
        for phase, amount in enumerate(amounts):
            if amount:
                self.hu[phase] += np.float32(amount) * pattern

    def cells(self, count: int, bend: float = 0.0, extent: float = 1.05):
        """Divide the lesion into `count` cells: (cell index (z, y, x), distance in mm to the nearest wall).

        Cellular noise: nearest and second nearest of random points, with the lesion's own warp and `bend` (fraction of a cell's size)
        on top, so that walls are curved; half the difference of the two distances is about the distance to the wall.
        """
        cell_mm = self.radius_mm / max(count, 1) ** (1 / 3)
        places = self.offsets
        if bend:
            places = [o + np.float32(bend * cell_mm) * self.field(max(1.1 * cell_mm, 4.0)) for o in self.offsets]
        points = self.rng.uniform(-1, 1, (4 * count, 3))
        points = points[np.linalg.norm(points, axis=1) < 1][:count] * (np.asarray(self.plan.diameters_mm) / 2 * extent)
        bonus = self.rng.uniform(0, 0.35, len(points)) * cell_mm
        nearest = np.full(self.depth.shape, 1e6, np.float32)
        second = nearest.copy()
        index = np.zeros(self.depth.shape, np.int16)
        for number, (point, gain) in enumerate(zip(points.astype(np.float32), bonus, strict=True)):
            distance = np.sqrt(sum((o - p) ** 2 for o, p in zip(places, point, strict=True))) - np.float32(gain)
            closer = distance < nearest
            np.minimum(second, np.maximum(distance, nearest), out=second)
            index[closer] = number
            np.minimum(nearest, distance, out=nearest)
        return index, (second - nearest) / 2

    def diffuse(self, values: np.ndarray, width_mm: float) -> np.ndarray:
        """Blur (z, y, x) values by a Gaussian of SD `width_mm`."""
        steps = [abs(float(axis[1] - axis[0])) if len(axis) > 1 else 1.0 for axis in (self.z, self.y, self.x)]
        return gaussian_filter(values, [width_mm / step for step in steps], mode="nearest", truncate=2.0)

    def tubes(self, scale_mm: float, thickness: float) -> np.ndarray:
        """Winding thin curves 0..1, where two smooth fields vanish together; thickness in field units (0.1 thin .. 0.3 thick)."""
        return np.clip(1.4 - (self.field(scale_mm) ** 2 + self.field(scale_mm) ** 2) / np.float32(thickness**2), 0, 1)

    def rim(self, thickness_mm: float, inset_mm: float = 0.0) -> np.ndarray:
        """A shell 0..1 just below the surface."""
        return above(thickness_mm + inset_mm - np.abs(self.depth - inset_mm), 0.5 * thickness_mm, max(thickness_mm, 1.0))

    def calcify(self, amount: float, chunk_mm: float, hu: float, where: np.ndarray | float = 1.0) -> None:
        """Add calcium: `amount` is roughly the calcified fraction (0.002 specks .. 0.05 chunks), the same in every phase."""
        field = self.field(chunk_mm)
        inside = self.depth > 2
        if not inside.any():
            return
        threshold = float(np.quantile(field[inside], 1 - amount))
        weight = above(field, threshold, 0.45) * above(self.depth, 2.0, 3.0) * where
        self.blend(weight, np.full(4, hu, np.float32))
