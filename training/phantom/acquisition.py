"""The scanner: a noiseless world in HU at fine z samples becomes the int16 slices that one exam's protocol would have given.

Arrays are (slice, row, column) = (z, y, x) in HU; positions are patient millimetres (LPS: x to left, y to posterior, z to superior).

What is modelled, in the order of `acquire`: slice sensitivity profile; in-plane point spread of the reconstruction kernel, with motion
ghosts; beam hardening and gas streaks from an error sinogram; direction-dependent noise whose variance follows the attenuation along the
rays and whose power spectrum is that of filtered back-projection, NPS(f) ~ f kernel(f)^2 (Riederer, Pelc, Chesler, Phys Med Biol
1978;23:446), bent to low frequencies by iterative reconstruction; calibration errors, rounding and clipping. Magnitudes without a source
are assumptions.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
import scipy.sparse

from .breathing import Breathing, Displacement, Landmarks, displacement, draw_breathing, warp
from .protocol import Protocol, couch, draw_protocol, mtf, noise_power, pixel_positions, slice_positions

__all__ = [
    "Breathing",
    "Displacement",
    "Landmarks",
    "Protocol",
    "acquire",
    "couch",
    "displacement",
    "draw_breathing",
    "draw_protocol",
    "pixel_positions",
    "slice_positions",
    "warp",
]

#: Linear attenuation of water at an effective 65 keV, 1/mm.
WATER_PER_MM = 0.0195

#: Side of the grid that projections work on, view angles over half a turn, and groups of view angles with noise of their own.
COARSE = 64
ANGLES = 24
SECTORS = 4


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
    artefact = _artefacts(rng, body, paths, projector, protocol)
    if artefact is not None:
        image += resize(artefact, rows, columns)
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
        return resize(volume, COARSE, COARSE)
    return volume.reshape(-1, COARSE, rows // COARSE, COARSE, columns // COARSE).mean(axis=(2, 4), dtype=np.float32)


def _interpolation(source: int, target: int) -> np.ndarray:
    """(target, source) matrix of linear interpolation between pixel centres."""
    position = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    low = np.minimum(position.astype(int), max(source - 2, 0))
    matrix = np.zeros((target, source), np.float32)
    matrix[np.arange(target), low] = 1.0 - (position - low)
    matrix[np.arange(target), np.minimum(low + 1, source - 1)] += position - low
    return matrix


def resize(volume: np.ndarray, rows: int, columns: int) -> np.ndarray:
    along_rows, along_columns = _interpolation(volume.shape[1], rows), _interpolation(volume.shape[2], columns)
    return np.matmul(along_rows, np.matmul(volume.astype(np.float32, copy=False), along_columns.T))

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
    places = (np.concatenate(rows), np.concatenate(columns))
    return scipy.sparse.csr_matrix((np.concatenate(values).astype(np.float32), places), shape=(ANGLES * bins, COARSE * COARSE))


def _bins() -> int:
    return int(np.ceil(COARSE * np.sqrt(2.0))) + 3


def _artefacts(
    rng: np.random.Generator, body: np.ndarray, paths: np.ndarray, projector: scipy.sparse.csr_matrix, protocol: Protocol
) -> np.ndarray | None:
    """Beam hardening by bone and contrast, and streaks from gas that moved, as HU (slice, COARSE, COARSE), from a wrong sinogram."""
    if protocol.beam_hardening <= 0.0 and protocol.gas_streak_hu <= 0.0:
        return None
    n, bins = len(body), _bins()
    dense = np.clip(body - 180.0, 0.0, 1500.0).reshape(n, -1).T * np.float32(WATER_PER_MM / 1000.0)
    bone = projector @ dense
    # second-order error of a water correction: what the ray lost by hardening in bone, over what it had already lost on its way
    error = -0.045 * protocol.beam_hardening * bone * (bone + 0.5 * (paths - paths.mean()))
    error = error.reshape(ANGLES, bins, n)
    if protocol.gas_streak_hu > 0.0:
        gas = (body < -500.0) & (resize(body, COARSE // 4, COARSE // 4).max(axis=(1, 2), keepdims=True) > -300.0)
        centre = np.hypot(*np.ogrid[-1 : 1 : COARSE * 1j, -1 : 1 : COARSE * 1j]) < 0.55  # air around the body does not move
        lost = (projector @ (gas & centre).astype(np.float32).reshape(n, -1).T).reshape(ANGLES, bins, n)
        shift = np.diff(lost, axis=1, append=0.0) * np.float32(WATER_PER_MM * protocol.gas_streak_hu / 400.0)
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
    its rays' attenuation gives at each place. The upper quartile of the local SD within the mask is the protocol's."""
    rows, columns = shape[1:]
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
        part *= resize(amplitude[k], rows, columns)
        noise += part
    return noise


def _sector_amplitudes(paths: np.ndarray, projector: scipy.sparse.csr_matrix, mask: np.ndarray, protocol: Protocol) -> np.ndarray:
    """SD in HU of each sector's noise, (sector, slice, COARSE, COARSE)."""
    n, bins = paths.shape[1], _bins()
    sinogram = paths.reshape(ANGLES, bins, n)
    longest = sinogram.max(axis=1, keepdims=True)
    # Tube current modulation takes away part of the difference between views and slices; the bow-tie filter part of it within a view.
    exponent = 0.6 * (sinogram - longest) + (0.7 - 0.6 * protocol.dose_modulation) * (longest - longest.mean())
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
    typical = np.quantile(local[mask] if mask.any() else local, 0.75)
    return amplitude * np.float32(protocol.noise_sd_hu / typical)


def _white_spectra(rng: np.random.Generator, shape: tuple[int, int, int], protocol: Protocol, counted: np.ndarray) -> np.ndarray:
    """Spectra of unit white noise, correlated from slice to slice as overlapping slice profiles share photons."""
    n, rows, columns = shape
    ratio = protocol.slice_thickness_mm * (1.0 + 0.2 * protocol.slice_profile) / protocol.slice_spacing_mm
    shared = 1.0 - 1.0 / ratio  # correlation of neighbours
    if shared <= 0.0:
        taps = np.ones(1)
    elif ratio <= 2.0:
        taps = np.array([1.0, (1.0 - np.sqrt(1.0 - 4.0 * shared**2)) / (2.0 * shared)])
    else:
        taps = np.append(np.ones(int(ratio)), ratio % 1.0)
    taps = (taps / np.sqrt((taps**2).sum())).astype(np.float32)
    drawn = rng.standard_normal((n + len(taps) - 1, rows, columns // 2 + 1, 2), dtype=np.float32).view(np.complex64)[..., 0]
    white = sum((weight * drawn[i : i + n] for i, weight in enumerate(taps)), np.zeros((), np.complex64))
    # Columns that stand for themselves only lose half of their power when the inverse transform makes them Hermitian.
    white *= np.sqrt(rows * columns / 2.0) * np.where(counted == 1.0, np.sqrt(2.0), 1.0).astype(np.float32)
    return white
