"""One exam's scanner and settings, drawn at random: what they are, where their pixels and slices lie, their couch, MTF and noise spectrum.

Positions are patient millimetres (LPS: x to left, y to posterior, z to superior); the origin of x and y is the body's centre. Ranges
without a source are assumptions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

#: Contrast of iodine and of bone mineral by tube voltage, relative to 100 kV (assumed from mass attenuation at the effective energies).
IODINE_BY_KV = {70: 1.55, 80: 1.32, 90: 1.14, 100: 1.0, 110: 0.89, 120: 0.81}
BONE_BY_KV = {70: 1.28, 80: 1.17, 90: 1.08, 100: 1.0, 110: 0.95, 120: 0.90}


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One exam's scanner and settings, the same for its phases; draw it with `draw_protocol`."""

    tube_kv: int
    iodine_factor: float  # contrast of iodine relative to the kinetic model's, after the usual trimming of contrast dose at low kV
    bone_factor: float  # contrast of bone mineral relative to 100 kV
    noise_sd_hu: float  # upper quartile of the local noise SD inside the body (about the liver's) in the finished slices
    kernel_half_per_mm: float  # line pairs per mm at which the unenhanced kernel passes one half
    aperture_mm: float  # focal spot, detector element and gantry turn, at the centre: blur the image but not the noise
    edge_enhancement: float  # 0 soft; 1.6 sharp, overshoot at edges
    iterative_strength: float  # 0 filtered back-projection; 1 strong iterative reconstruction, blotchy noise
    slice_thickness_mm: float  # full width at half maximum of the slice sensitivity profile
    slice_spacing_mm: float
    slice_profile: float  # 0 rectangular (axial), 1 triangular (helical interpolation)
    matrix: int
    pixel_mm: float
    centre_mm: tuple[float, float]  # (x, y) of the field of view's centre; the body's centre is the origin
    couch: str  # "none", "curved", "flat", "cradle"
    couch_top_mm: float  # y of the couch's upper surface at x = 0
    couch_radius_mm: float
    couch_shell_hu: float
    mattress_mm: float
    offset_hu: float
    gain: float
    floor_hu: int  # the scanner's lowest value
    circular_field: bool  # voxels outside the inscribed circle are -1024
    dose_modulation: float  # 0 constant tube current (noise follows attenuation strongly) to 1 fully modulated
    streak: float  # extra noise in the narrow lateral direction, from photon starvation
    beam_hardening: float
    gas_streak_hu: float
    motion_probability: float  # that a phase shows motion ghosts in some of its slices

    def to_dict(self) -> dict:
        """All fields as JSON types."""
        fields = asdict(self)
        fields["centre_mm"] = list(self.centre_mm)
        return fields


def draw_protocol(
    rng: np.random.Generator, body_width_mm: float, body_height_mm: float, *, matrix: int = 256, table: bool | None = None
) -> Protocol:
    """Draw one exam's protocol for a body of this width (left to right) and height (front to back).

    Noise: 12.6 +- 0.9 HU measured in unenhanced children, 21 to 24 HU at 1.6 to 2 mm in adults; the draw covers 5 to 32 HU around a
    median of about 12 HU at 3 mm, and grows as slices get thinner and as bodies get wider.
    """
    kv = int(rng.choice([70, 80, 90, 100, 110, 120], p=[0.10, 0.28, 0.07, 0.28, 0.07, 0.20]))
    thickness = float(rng.choice([1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 3.75, 4.0, 5.0], p=[0.05, 0.10, 0.12, 0.14, 0.10, 0.22, 0.06, 0.03, 0.18]))
    overlap = rng.choice([1.0, 0.8, 0.5], p=[0.62, 0.2, 0.18])
    spacing = max(thickness * float(overlap), 1.0)

    iterative = float(rng.beta(1.2, 1.5)) if rng.random() < 0.55 else 0.0
    noise = 12.5 * np.exp(rng.normal(0.0, 0.25)) * (thickness / 3.0) ** -0.42 * (body_width_mm / 240.0) ** 0.25
    noise *= 1.0 - 0.35 * iterative
    if rng.random() < 0.07:
        noise *= 0.5  # deep-learning reconstruction, or simply a generous dose

    if rng.random() < 0.75:
        half, enhancement = rng.uniform(0.34, 0.60), rng.uniform(0.0, 0.6)
    else:
        half, enhancement = rng.uniform(0.42, 0.66), rng.uniform(0.6, 1.5)
    # A sharp kernel is noisier at the same dose; dose and kernel are not chosen independently, so only part of it shows.
    noise *= (half / 0.46) ** 0.5 * (1.0 + 0.2 * enhancement)

    margin = rng.uniform(1.05, 1.16) if rng.random() < 0.7 else rng.uniform(1.16, 1.45)
    field = max(body_width_mm, body_height_mm) * margin
    pixel = float(np.round(field / matrix, 4))
    slack = max(field - max(body_width_mm, body_height_mm), 0.0) / 2.0
    centre = tuple(float(np.round(rng.uniform(-0.6, 0.6) * slack, 2)) for _ in range(2))

    kind = str(rng.choice(["none", "curved", "flat", "cradle"], p=[0.12, 0.55, 0.18, 0.15])) if table is not False else "none"
    mattress = float(rng.choice([0.0, rng.uniform(5.0, 30.0)], p=[0.3, 0.7]))
    return Protocol(
        tube_kv=kv,
        iodine_factor=float(np.clip(IODINE_BY_KV[kv] ** rng.uniform(0.3, 0.9) * np.exp(rng.normal(0.0, 0.06)), 0.7, 1.6)),
        bone_factor=BONE_BY_KV[kv],
        noise_sd_hu=float(np.clip(noise, 4.0, 32.0)),
        kernel_half_per_mm=float(half),
        aperture_mm=float(rng.uniform(0.5, 1.1)),
        edge_enhancement=float(enhancement),
        iterative_strength=iterative,
        slice_thickness_mm=thickness,
        slice_spacing_mm=float(spacing),
        slice_profile=float(rng.uniform(0.0, 1.0)),
        matrix=matrix,
        pixel_mm=pixel,
        centre_mm=centre,
        couch=kind,
        couch_top_mm=float(body_height_mm / 2.0 + mattress + rng.uniform(1.0, 4.0)),
        couch_radius_mm=float(rng.uniform(260.0, 520.0)),
        couch_shell_hu=float(rng.uniform(-650.0, -50.0)),
        mattress_mm=mattress,
        offset_hu=float(np.clip(rng.normal(0.0, 2.0), -5.0, 5.0)),
        gain=float(np.clip(rng.normal(1.0, 0.008), 0.98, 1.02)),
        floor_hu=int(rng.choice([-1024, -1000], p=[0.8, 0.2])),
        circular_field=bool(rng.random() < 0.5),
        dose_modulation=float(rng.uniform(0.2, 1.0)),
        streak=float(rng.choice([0.0, rng.uniform(0.2, 3.0)], p=[0.6, 0.4])),
        beam_hardening=float(rng.uniform(0.0, 1.0)),
        gas_streak_hu=float(rng.choice([0.0, rng.uniform(5.0, 40.0)], p=[0.5, 0.5])),
        motion_probability=float(rng.choice([0.0, rng.uniform(0.1, 0.6)], p=[0.6, 0.4])),
    )


def pixel_positions(protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """Centres (y, x) in mm of the rows and columns of the protocol's field of view, each (matrix,) float32."""
    offsets = (np.arange(protocol.matrix) - (protocol.matrix - 1) / 2.0) * protocol.pixel_mm
    return (offsets + protocol.centre_mm[1]).astype(np.float32), (offsets + protocol.centre_mm[0]).astype(np.float32)


def slice_positions(protocol: Protocol, z_fine: np.ndarray) -> np.ndarray:
    """Centres in mm of the slices that `acquire` returns for worlds sampled at z_fine (ascending), starting at z_fine[0]."""
    n = int(np.floor((z_fine[-1] - z_fine[0]) / protocol.slice_spacing_mm + 1e-3)) + 1
    return z_fine[0] + np.arange(n) * protocol.slice_spacing_mm


def couch(protocol: Protocol, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The couch and mattress seen in every slice: HU (row, column), -1000 where there is neither. Take the larger of it and the air around
    the body."""
    overlay = np.full((len(y), len(x)), -1000.0, np.float32)
    if protocol.couch == "none":
        return overlay
    yy, xx = np.meshgrid(y, x, indexing="ij")
    radius = protocol.couch_radius_mm
    if protocol.couch == "flat":
        half_width, shell, core = 0.85 * radius, 2.0, 35.0
        depth = yy - protocol.couch_top_mm
    else:
        half_width = 210.0 if protocol.couch == "curved" else 0.6 * radius
        radius = radius if protocol.couch == "curved" else 0.5 * radius
        shell, core = (1.6, 45.0) if protocol.couch == "curved" else (3.5, 8.0)
        depth = np.hypot(xx, yy - (protocol.couch_top_mm - radius)) - radius
    pixel = protocol.pixel_mm

    def covered(low: float, high: float) -> np.ndarray:
        """Part of a pixel between two depths, so that a thin shell is not aliased."""
        upper = np.minimum(depth + pixel / 2, high)
        return np.clip((upper - np.maximum(depth - pixel / 2, low)) / pixel, 0.0, 1.0)

    # The lower side of a curved table bends upward towards its edges, as a boat's hull.
    thickness = core * np.sqrt(np.clip(1.0 - (xx / half_width) ** 2, 0.05, 1.0)) if protocol.couch == "curved" else np.full_like(xx, core)
    inside = np.clip((half_width - np.abs(xx)) / pixel, 0.0, 1.0)
    shells = covered(0.0, shell) + np.clip(1.0 - np.abs(depth - thickness) / max(shell, pixel), 0.0, 1.0) * shell / max(shell, pixel)
    foam = np.clip((depth / pixel) + 0.5, 0, 1) * np.clip((thickness - depth) / pixel + 0.5, 0, 1)
    overlay += inside * (foam * 60.0 + np.clip(shells, 0.0, 1.0) * (protocol.couch_shell_hu + 940.0))
    if protocol.mattress_mm > 0.0:
        overlay += inside * covered(-protocol.mattress_mm, 0.0) * 70.0
    return np.minimum(overlay, protocol.couch_shell_hu)


def kernel(protocol: Protocol, f: np.ndarray) -> np.ndarray:
    """What the reconstruction kernel passes at spatial frequency f in 1/mm: (1 + e u) 2^-u with u = (f / f_half)^2; 1 at zero."""
    u = (f / protocol.kernel_half_per_mm) ** 2
    return (1.0 + protocol.edge_enhancement * u) * np.exp2(-u)


def mtf(protocol: Protocol, f: np.ndarray) -> np.ndarray:
    """Modulation transfer of the whole scanner at spatial frequency f in 1/mm: the kernel's times the aperture's, a sinc."""
    return kernel(protocol, f) * np.sinc(f * protocol.aperture_mm)


def noise_power(protocol: Protocol, f: np.ndarray) -> np.ndarray:
    """Radial noise power spectrum, not normalised: the ramp times the kernel squared, low-passed by iterative reconstruction."""
    spectrum = (f + 0.01) * kernel(protocol, f) ** 2
    return spectrum / (1.0 + 4.0 * protocol.iterative_strength * (f / 0.25) ** 2)
