"""The scanner: a noiseless world in HU at fine z samples becomes the int16 slices that one exam's protocol would have given.

Arrays are (slice, row, column) = (z, y, x) in HU; positions are patient millimetres (LPS: x to left, y to posterior, z to superior).

What is modelled, in the order of `acquire`: slice sensitivity profile, in-plane point spread of the reconstruction kernel (with motion ghosts),
beam hardening and gas streaks from an error sinogram, direction-dependent noise whose variance follows the attenuation along the rays and
whose power spectrum is that of filtered back-projection, NPS(f) ~ f MTF(f)^2 (Riederer, Pelc, Chesler, Phys Med Biol 1978;23:446), bent to
low frequencies by iterative reconstruction, calibration errors, rounding and clipping. Ranges without a source are assumptions of ours.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import scipy.fft
import scipy.sparse

#: Contrast of iodine and of bone mineral by tube voltage, relative to 100 kV (assumed from mass attenuation at the effective energies).
IODINE_BY_KV = {70: 1.55, 80: 1.32, 90: 1.14, 100: 1.0, 110: 0.89, 120: 0.81}
BONE_BY_KV = {70: 1.28, 80: 1.17, 90: 1.08, 100: 1.0, 110: 0.95, 120: 0.90}

#: Linear attenuation of water at an effective 65 keV, 1/mm.
WATER_PER_MM = 0.0195

COARSE = 64
ANGLES = 24
SECTORS = 4


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One exam's scanner and settings, the same for its phases; draw it with `draw_protocol`."""

    tube_kv: int
    iodine_factor: float  # contrast of iodine relative to the kinetic model's, after the usual trimming of contrast dose at low kV
    bone_factor: float  # contrast of bone mineral relative to 100 kV
    noise_sd_hu: float  # median local noise SD inside the body, in the finished slices
    mtf_half_per_mm: float  # line pairs per mm at which the unenhanced MTF is one half
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

    Noise: 12.6 +- 0.9 HU measured in unenhanced children, 21 to 24 HU at 1.6 to 2 mm in adults; the draw covers 5 to 30 HU around a
    median of about 12 HU at 3 mm, and grows as slices get thinner and as bodies get wider.
    """
    kv = int(rng.choice([70, 80, 90, 100, 110, 120], p=[0.10, 0.28, 0.07, 0.28, 0.07, 0.20]))
    thickness = float(rng.choice([1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 3.75, 4.0, 5.0], p=[0.05, 0.10, 0.12, 0.14, 0.10, 0.22, 0.06, 0.03, 0.18]))
    overlap = rng.choice([1.0, 0.8, 0.5], p=[0.62, 0.2, 0.18])
    spacing = max(thickness * float(overlap), 1.0)

    iterative = float(rng.beta(1.2, 1.5)) if rng.random() < 0.65 else 0.0
    noise = 12.5 * np.exp(rng.normal(0.0, 0.28)) * (thickness / 3.0) ** -0.35 * (body_width_mm / 240.0) ** 0.25
    noise *= 1.0 - 0.35 * iterative
    if rng.random() < 0.07:
        noise *= 0.5  # deep-learning reconstruction, or simply a generous dose

    if rng.random() < 0.75:
        half, enhancement = rng.uniform(0.26, 0.42), rng.uniform(0.0, 0.6)
    else:
        half, enhancement = rng.uniform(0.32, 0.50), rng.uniform(0.6, 1.6)
    # A sharp kernel is noisier at the same dose; dose and kernel are not chosen independently, so only part of it shows.
    noise *= (half / 0.34) ** 0.6 * (1.0 + 0.25 * enhancement)

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
        mtf_half_per_mm=float(half),
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
        streak=float(rng.choice([0.0, rng.uniform(0.3, 3.0)], p=[0.55, 0.45])),
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
    n = int(np.floor((z_fine[-1] - z_fine[0]) / protocol.slice_spacing_mm + 1e-6)) + 1
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


def acquire(
    rng: np.random.Generator,
    hu: np.ndarray,
    z_fine: np.ndarray,
    protocol: Protocol,
    body_mask_hint: np.ndarray | None = None,
) -> np.ndarray:
    """Scan one phase.

    hu: the noiseless world, (z_fine, row, column), float; in-plane at `pixel_positions`. z_fine: mm, ascending, even steps no larger than
    the slice spacing. body_mask_hint: (row, column) or (z_fine, row, column) bool where the noise target holds; default above -300 HU.
    Returns int16 (slice, row, column) in HU at `slice_positions`, never below the scanner's floor.
    """
    slices = _slice_average(np.asarray(hu, np.float32), np.asarray(z_fine, np.float64), protocol)
    n, rows, columns = slices.shape
    body = _coarse(slices, rows, columns)
    if body_mask_hint is None:
        mask = body > -300.0
    else:
        hint = np.broadcast_to(np.asarray(body_mask_hint, np.float32), hu.shape)
        mask = _coarse(_slice_average(hint, np.asarray(z_fine, np.float64), protocol), rows, columns) > 0.5
    projector = _projector(protocol.pixel_mm * columns / COARSE)
    attenuation = np.clip(1.0 + body / 1000.0, 0.0, None).reshape(n, -1).T * np.float32(WATER_PER_MM)
    paths = projector @ attenuation

    image = _reconstruct(rng, slices, protocol)
    artefact = _artefacts(rng, body, projector, protocol)
    if artefact is not None:
        image += _enlarge(artefact, rows, columns)
    image += _noise(rng, paths, projector, mask, (n, rows, columns), protocol)

    image *= np.float32(protocol.gain)
    image += np.float32(protocol.offset_hu + rng.normal(0.0, 0.6))
    if protocol.circular_field:
        yy, xx = np.ogrid[:rows, :columns]
        outside = np.hypot(yy - (rows - 1) / 2, xx - (columns - 1) / 2) > min(rows, columns) / 2
        image[:, outside] = -1024.0
    return np.clip(np.rint(image), protocol.floor_hu, 3071).astype(np.int16)


def _slice_average(hu: np.ndarray, z_fine: np.ndarray, protocol: Protocol) -> np.ndarray:
    """Average over the slice sensitivity profile: a trapezoid between a box and a triangle, with the same width at half maximum."""
    centres = slice_positions(protocol, z_fine)
    width = protocol.slice_thickness_mm
    distance = np.abs(centres[:, None] - z_fine[None, :])
    step = z_fine[1] - z_fine[0] if len(z_fine) > 1 else width
    ramp = max(protocol.slice_profile * width, step)  # at least one fine step, or samples at the rim of a box would flicker
    weights = np.clip((width / 2 + ramp / 2 - distance) / ramp, 0.0, 1.0)
    weights /= weights.sum(axis=1, keepdims=True)
    return (weights.astype(np.float32) @ hu.reshape(len(z_fine), -1)).reshape(len(centres), *hu.shape[1:])


def _frequencies(shape: tuple[int, int], pixel_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """(fy, fx) in 1/mm for a real FFT of this (row, column) shape."""
    fy = scipy.fft.fftfreq(shape[0], pixel_mm).astype(np.float32)[:, None]
    fx = scipy.fft.rfftfreq(shape[1], pixel_mm).astype(np.float32)[None, :]
    return fy, fx


def mtf(protocol: Protocol, f: np.ndarray) -> np.ndarray:
    """Modulation transfer of the kernel at spatial frequency f in 1/mm: (1 + e u) 2^-u with u = (f / f_half)^2; 1 at zero frequency."""
    u = (f / protocol.mtf_half_per_mm) ** 2
    return (1.0 + protocol.edge_enhancement * u) * np.exp2(-u)


def noise_power(protocol: Protocol, f: np.ndarray) -> np.ndarray:
    """Radial noise power spectrum, not normalised: the ramp times MTF squared, low-passed by iterative reconstruction."""
    spectrum = (f + 0.015) * mtf(protocol, f) ** 2
    return spectrum / (1.0 + 6.0 * protocol.iterative_strength * (f / 0.25) ** 2)


def _reconstruct(rng: np.random.Generator, slices: np.ndarray, protocol: Protocol) -> np.ndarray:
    """Blur by the kernel; some slices of some phases are the mean of two positions of a moving patient."""
    fy, fx = _frequencies(slices.shape[1:], protocol.pixel_mm)
    transfer = mtf(protocol, np.hypot(fy, fx)).astype(np.float32)
    spectrum = scipy.fft.rfft2(slices, axes=(1, 2), workers=1)
    spectrum *= transfer
    if rng.random() < protocol.motion_probability:
        start, length = rng.uniform(0, len(slices)), rng.uniform(0.1, 0.5) * len(slices)
        strength = rng.uniform(0.15, 0.5)
        dy, dx = rng.normal(0.0, 1.6), rng.normal(0.0, 0.9)
        share = strength * np.exp(-(((np.arange(len(slices)) - start) / max(length, 1.0)) ** 2)).astype(np.float32)
        moved = np.exp(-2j * np.pi * (fy * dy + fx * dx)).astype(np.complex64) - 1.0
        for i in np.flatnonzero(share > 0.02):
            spectrum[i] *= 1.0 + share[i] * moved
    return scipy.fft.irfft2(spectrum, s=slices.shape[1:], axes=(1, 2), workers=1, overwrite_x=True)


def _coarse(volume: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Block means on the COARSE x COARSE grid that projections work on."""
    if rows % COARSE or columns % COARSE:
        return _resize(volume, COARSE, COARSE)
    return volume.reshape(-1, COARSE, rows // COARSE, COARSE, columns // COARSE).mean(axis=(2, 4), dtype=np.float32)


def _interpolation(source: int, target: int) -> np.ndarray:
    """(target, source) matrix of linear interpolation between pixel centres."""
    position = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    low = np.minimum(position.astype(int), max(source - 2, 0))
    matrix = np.zeros((target, source), np.float32)
    matrix[np.arange(target), low] = 1.0 - (position - low)
    matrix[np.arange(target), np.minimum(low + 1, source - 1)] += position - low
    return matrix


def _resize(volume: np.ndarray, rows: int, columns: int) -> np.ndarray:
    along_rows, along_columns = _interpolation(volume.shape[1], rows), _interpolation(volume.shape[2], columns)
    return np.matmul(along_rows, np.matmul(volume.astype(np.float32, copy=False), along_columns.T))


_enlarge = _resize


def _projector(pixel_mm: float) -> scipy.sparse.csr_matrix:
    """Parallel-beam line integrals of a COARSE x COARSE image: (angle * bin, pixel), in mm. Angle 0 has rays along x (lateral)."""
    position = (np.arange(COARSE) - (COARSE - 1) / 2.0).astype(np.float32)
    y, x = (a.ravel() for a in np.meshgrid(position, position, indexing="ij"))
    bins = _bins()
    rows, columns, values = [], [], []
    for i, angle in enumerate(np.arange(ANGLES) * np.pi / ANGLES):
        # s is the distance of the ray from the centre: its normal turns from y (lateral rays) to x (antero-posterior rays)
        s = y * np.cos(angle) + x * np.sin(angle) + (bins - 1) / 2.0
        low = np.floor(s).astype(int)
        part = s - low
        pixels = np.arange(len(s))
        rows += [i * bins + low, i * bins + low + 1]
        columns += [pixels, pixels]
        values += [(1.0 - part) * pixel_mm, part * pixel_mm]
    shape = (ANGLES * bins, COARSE * COARSE)
    return scipy.sparse.csr_matrix((np.concatenate(values).astype(np.float32), (np.concatenate(rows), np.concatenate(columns))), shape=shape)


def _bins() -> int:
    return int(np.ceil(COARSE * np.sqrt(2.0))) + 3


def _artefacts(rng: np.random.Generator, body: np.ndarray, projector: scipy.sparse.csr_matrix, protocol: Protocol) -> np.ndarray | None:
    """Beam hardening by bone and contrast, and streaks from gas that moved, as HU (slice, COARSE, COARSE), from a wrong sinogram."""
    if protocol.beam_hardening <= 0.0 and protocol.gas_streak_hu <= 0.0:
        return None
    n, bins = len(body), _bins()
    dense = np.clip(body - 180.0, 0.0, 1500.0).reshape(n, -1).T * np.float32(WATER_PER_MM / 1000.0)
    bone = projector @ dense
    # second-order error of a water correction: what the ray lost by hardening in bone, quadratic in the bone's path
    error = -0.05 * protocol.beam_hardening * bone**2
    error = error.reshape(ANGLES, bins, n)
    if protocol.gas_streak_hu > 0.0:
        gas = (body < -500.0) & (_resize(body, COARSE // 4, COARSE // 4).max(axis=(1, 2), keepdims=True) > -300.0)
        centre = np.hypot(*np.ogrid[-1 : 1 : COARSE * 1j, -1 : 1 : COARSE * 1j]) < 0.55  # air around the body does not move
        lost = (projector @ (gas & centre).astype(np.float32).reshape(n, -1).T).reshape(ANGLES, bins, n)
        shift = np.diff(lost, axis=1, append=0.0) * np.float32(WATER_PER_MM * protocol.gas_streak_hu / 600.0)
        turn = np.arange(ANGLES)[:, None, None]
        middle = rng.uniform(0, ANGLES, (1, 1, n))
        distance = np.abs((turn - middle + ANGLES / 2) % ANGLES - ANGLES / 2)
        error = error + shift * np.exp(-((distance / 1.5) ** 2))
    ramp = np.abs(scipy.fft.rfftfreq(2 * bins)).astype(np.float32)
    ramp *= np.cos(np.pi * scipy.fft.rfftfreq(2 * bins)) ** 2  # soft: the coarse grid must not show through
    filtered = scipy.fft.irfft(scipy.fft.rfft(error, 2 * bins, axis=1) * ramp[None, :, None], axis=1)[:, :bins]
    # The projector carries the pixel's size in mm; two of them stand for the adjoint's and the ramp's units.
    pixel = projector.data.max()
    back = projector.T @ filtered.reshape(ANGLES * bins, n).astype(np.float32)
    hu = back.T.reshape(n, COARSE, COARSE) * np.float32(np.pi / ANGLES / pixel**2 * 1000.0 / WATER_PER_MM)
    return np.clip(hu, -60.0, 60.0)


def _noise(
    rng: np.random.Generator,
    paths: np.ndarray,
    projector: scipy.sparse.csr_matrix,
    mask: np.ndarray,
    shape: tuple[int, int, int],
    protocol: Protocol,
) -> np.ndarray:
    """Noise of filtered back-projection: each of four sectors of view angles brings the frequencies across its rays, with the variance that
    its rays' attenuation gives at each place. The median local SD within the mask is the protocol's."""
    n, rows, columns = shape
    amplitude = _sector_amplitudes(paths, projector, mask, protocol)
    fy, fx = _frequencies((rows, columns), protocol.pixel_mm)
    f = np.hypot(fy, fx)
    filters = np.sqrt(noise_power(protocol, f))
    filters[0, 0] *= 0.3
    # frequencies across lateral rays lie on the fy axis
    direction = np.arctan2(fx, fy)
    lateral = np.minimum(np.abs(direction), np.pi - np.abs(direction))
    filters = filters * np.sqrt(1.0 + protocol.streak * np.exp(-((lateral / 0.12) ** 2)))
    counted = np.full(fx.shape, 2.0, np.float32)
    counted[..., 0] = 1.0
    if columns % 2 == 0:
        counted[..., -1] = 1.0
    filters /= np.sqrt((filters**2 * counted).sum() / (rows * columns))

    white = _white_spectra(rng, shape, protocol, counted)
    white *= filters.astype(np.float32)
    noise = np.zeros(shape, np.float32)
    for k in range(SECTORS):
        angle = k * np.pi / SECTORS
        apart = np.abs((direction - angle + np.pi / 2) % np.pi - np.pi / 2)
        window = np.where(apart < np.pi / SECTORS, np.cos(apart * SECTORS / 2) ** 2, 0.0).astype(np.float32)
        part = scipy.fft.irfft2(white * window, s=(rows, columns), axes=(1, 2), workers=1, overwrite_x=True)
        part *= _enlarge(amplitude[k], rows, columns)
        noise += part
    return noise


def _sector_amplitudes(paths: np.ndarray, projector: scipy.sparse.csr_matrix, mask: np.ndarray, protocol: Protocol) -> np.ndarray:
    """SD in HU of each sector's noise, (sector, slice, COARSE, COARSE)."""
    n, bins = paths.shape[1], _bins()
    sinogram = paths.reshape(ANGLES, bins, n)
    longest = sinogram.max(axis=1, keepdims=True)
    # Tube current modulation takes away part of the difference between views and slices; the bow-tie filter part of it within a view.
    exponent = 0.75 * (sinogram - longest) + (1.0 - 0.85 * protocol.dose_modulation) * (longest - longest.mean())
    variance = np.exp(np.clip(exponent, -3.0, 3.0)).astype(np.float32)
    pixel = projector.data.max()
    amplitude = np.empty((SECTORS, n, COARSE, COARSE), np.float32)
    centres = np.arange(ANGLES) * np.pi / ANGLES
    for k in range(SECTORS):
        apart = np.abs((centres - k * np.pi / SECTORS + np.pi / 2) % np.pi - np.pi / 2)
        weight = np.where(apart < np.pi / SECTORS, np.cos(apart * SECTORS / 2) ** 2, 0.0)
        weight = (weight / weight.sum()).astype(np.float32)
        mean = projector.T @ (variance * weight[:, None, None]).reshape(ANGLES * bins, n) / pixel
        amplitude[k] = np.sqrt(mean.T.reshape(n, COARSE, COARSE))
    local = np.sqrt((amplitude**2).mean(axis=0))
    typical = np.median(local[mask]) if mask.any() else np.median(local)
    return amplitude * np.float32(protocol.noise_sd_hu / typical)


def _white_spectra(rng: np.random.Generator, shape: tuple[int, int, int], protocol: Protocol, counted: np.ndarray) -> np.ndarray:
    """Spectra of unit white noise, correlated from slice to slice as overlapping slice profiles share photons."""
    n, rows, columns = shape
    ratio = protocol.slice_thickness_mm * (1.0 + 0.3 * protocol.slice_profile) / protocol.slice_spacing_mm
    taps = np.clip(ratio / 2 + 0.5 - np.abs(np.arange(int(np.ceil(ratio)) + 2) - (int(np.ceil(ratio)) + 1) / 2), 0.0, 1.0)
    taps = taps[taps > 1e-3]
    taps = (taps / np.sqrt((taps**2).sum())).astype(np.float32)
    drawn = rng.standard_normal((n + len(taps) - 1, rows, columns // 2 + 1, 2), dtype=np.float32).view(np.complex64)[..., 0]
    white = sum((weight * drawn[i : i + n] for i, weight in enumerate(taps)), np.zeros((), np.complex64))
    # Columns that stand for themselves only lose half of their power when the inverse transform makes them Hermitian.
    white *= np.sqrt(rows * columns / 2.0) * np.where(counted == 1.0, np.sqrt(2.0), 1.0).astype(np.float32)
    return white
