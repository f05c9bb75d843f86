"""An image becomes a canonical volume in HU, or is refused with one sentence.

Canonical: axes permuted and flipped without resampling, so that x runs to the patient's left, y to posterior and z to superior as
nearly as the acquisition allows. An oblique direction stays oblique. Voxels are int16 where the input is integral, else float32,
from -1024 to MOST_HU HU.
"""

from __future__ import annotations

import math

import numpy as np
import SimpleITK as sitk

from .notices import Notice, grave
from .vocabulary import InputError

#: Air in HU: the value of padding and of everything outside the scan.
AIR = -1024

#: At or below this, a value marks what was not scanned, in HU and in stored values alike.
_PADDING = -1500

#: Fewer slices than this are not a volume.
MIN_SLICES = 3

#: 0.4 mm over 60 cm. More slices than that are not one abdominal phase.
MAX_SLICES = 1500

#: 800 slices of 512 x 512: four phases of that in float32 need 3.4 GB.
MAX_VOXELS = 800 * 512 * 512

#: Nothing in a body but metal and what was never HU is brighter; metal fills less than this part of the voxels.
_METAL_HU = 4000
_MUCH_METAL = 0.005

#: The most that 16 bits hold.
MOST_HU = 32767

#: HU of air and fat, and by how much they may be off: scanners clip air at -1024, and fat is darker at low tube voltage.
_AIR_HU, _FAT_HU = -1000, -100
_OFF_HU = 50

#: Neighbouring slices differ by a shift in HU where nearly all voxels (this part) differ by at least this, give or take as much as that.
_SHIFT_FITS = 0.75
_SHIFT_HU = 200
_SHIFT_SPREAD_HU = 150

#: The distance from air to tissue in HU is the same in neighbouring slices, up to this part of it and down to a few tenths: where a lung
#: ends between two slices, nothing is left of it. It is measured where it is at least this long.
_STRETCHED = 0.1
_LEAST_STRETCH, _MOST_STRETCH = 0.3, 4.0
_STRETCH_OVER_HU = 500

_INTEGRAL = (
    sitk.sitkInt8, sitk.sitkUInt8, sitk.sitkInt16, sitk.sitkUInt16, sitk.sitkInt32, sitk.sitkUInt32, sitk.sitkInt64, sitk.sitkUInt64,
)  # fmt: skip
_FLOATING = (sitk.sitkFloat32, sitk.sitkFloat64)


def refuse_size(size_xyz: tuple[int, ...], label: str) -> None:
    """Raise InputError where a volume of this size (x, y, z) is too small or too large to be one phase of an abdominal CT."""
    slices = size_xyz[2]
    if slices < MIN_SLICES:
        raise InputError(f"{label}: expected a volume of at least {MIN_SLICES} slices, got {slices}; give the whole series.")
    if min(size_xyz[:2]) < 16:
        raise InputError(f"{label}: expected axial slices of at least 16 x 16 pixels, got {size_xyz[0]} x {size_xyz[1]}.")
    if slices > MAX_SLICES:
        raise InputError(
            f"{label}: expected at most {MAX_SLICES} slices for one phase, got {slices}; "
            "give the thicker reconstruction or crop to the abdomen."
        )
    if math.prod(size_xyz) > MAX_VOXELS:
        raise InputError(
            f"{label}: expected at most {MAX_VOXELS // 10**6} million voxels for one phase, got {math.prod(size_xyz) // 10**6} million; "
            "give the thicker reconstruction or crop to the abdomen."
        )


def canonical_hu(image: sitk.Image, label: str) -> tuple[sitk.Image, tuple[str, ...]]:
    """Return the canonical volume in HU and what is to be warned about.

    Args:
        image: any SimpleITK image; a fourth dimension of size 1 is dropped.
        label: how messages call it ("AP", "series 3", a file's base name); carries no patient data.

    Raises:
        InputError: not a scalar 3D volume, too small or too large, not finite, not in HU, or with HU that jump from slice to slice.
    """
    image = _scalar_volume(image, label)
    _refuse_geometry(image, label)
    slices = _coarse_slices(image)
    image = sitk.DICOMOrient(image, "LPS")
    refuse_size(image.GetSize(), label)
    image, notes = _refuse_values(image, label)
    _refuse_shifted_slices(slices, label)
    return image, (*notes, *_value_warnings(slices, label), *_geometry_warnings(image, label))


def _coarse_slices(image: sitk.Image) -> np.ndarray:
    """Return every slice as it is stored, (slice, row, column) in float32, with about 64 x 64 of its voxels."""
    voxels = sitk.GetArrayViewFromImage(image)
    return voxels[:, :: max(1, voxels.shape[1] // 64), :: max(1, voxels.shape[2] // 64)].astype(np.float32)


def _refuse_shifted_slices(slices: np.ndarray, label: str) -> None:
    """Refuse slices that differ from their neighbours by nearly the same number, or factor, everywhere: air, fat and organs alike."""
    flat = slices.reshape(len(slices), -1)
    flat = flat[:, np.any(flat != flat[0], axis=0)]  # the same through the whole volume: padding outside the scan circle
    if flat.shape[1] == 0:
        return
    low, high = np.percentile(flat, (5, 95), axis=1)
    several = high - low > 100  # a slice of nothing but air or padding is not compared
    for index in np.flatnonzero(several[1:] & several[:-1]):
        change = flat[index + 1] - flat[index]
        shift = float(np.median(change))
        if abs(shift) >= _SHIFT_HU and np.mean(np.abs(change - shift) <= _SHIFT_SPREAD_HU) >= _SHIFT_FITS:
            raise InputError(
                f"{label}: expected the same HU scale in every slice, got a jump of {shift:+.0f} HU from slice {index + 1} to "
                f"{index + 2} of {len(slices)}, as where some files carry a wrong rescale intercept; export the series again."
            )
        factor = _stretch(flat[index], flat[index + 1])
        if factor is not None and abs(factor - 1) > _STRETCHED and _LEAST_STRETCH < factor < _MOST_STRETCH:
            raise InputError(
                f"{label}: expected the same HU scale in every slice, got values {factor:.2g} times as far apart in slice {index + 2} as "
                f"in slice {index + 1} of {len(slices)}, as where some files carry a wrong rescale slope; export the series again."
            )


def _stretch(one: np.ndarray, other: np.ndarray) -> float | None:
    """Return how many times as far apart the darkest and the brighter voxels of a slice are in the next one; None where it is not clear.

    A scale stretches all voxels alike; where lung gives way to the liver's dome, the darker of the bright voxels change more than the rest.
    """
    dark, middle, upper, bright = np.percentile(one, (10, 70, 80, 90))
    below, above = one <= dark, (one >= middle) & (one <= bright)
    parts = (above & (one <= upper), above & (one >= upper), above)
    apart = [float(np.median(one[part]) - np.median(one[below])) for part in parts]
    if apart[2] < _STRETCH_OVER_HU or apart[0] < _STRETCH_OVER_HU / 2:
        return None
    lower, higher, factor = (float(np.median(other[part]) - np.median(other[below])) / of for part, of in zip(parts, apart, strict=True))
    spread = _SHIFT_SPREAD_HU * max(1.0, factor)
    alike = min(np.mean(np.abs(other[part] - np.median(other[part])) <= spread) for part in (below, above))
    return factor if alike >= _SHIFT_FITS and abs(lower - higher) <= _STRETCHED / 2 * abs(factor) else None


def _value_warnings(slices: np.ndarray, label: str) -> tuple[str, ...]:
    warnings = []
    bright = float(np.mean(slices > _METAL_HU))
    if bright > _MUCH_METAL:
        warnings.append(
            grave(
                f"{label}: {bright:.1%} of the voxels are above {_METAL_HU} HU, more than metal fills; "
                f"if that is padding outside the scan, set it to {AIR}."
            )
        )
    if (shift := _scale_shift(slices)) is not None:
        what, lies, expected = shift
        warnings.append(
            grave(
                f"{label}: its HU look shifted by about {lies - expected:+.0f}: {what} lies at {lies:.0f} HU, expected about {expected}; "
                "check the rescale intercept."
            )
        )
    tissue = np.mean(slices > -300, axis=(1, 2))
    scanned = np.flatnonzero(tissue > 0.2 * np.median(tissue))
    empty = int(scanned[-1] - scanned[0] + 1 - len(scanned)) if len(scanned) else 0
    if empty:
        text = f"{label}: {empty} of {len(slices)} slices between others hold next to no tissue; they may be missing or not in HU."
        warnings.append(grave(text))
    return tuple(warnings)


def _scalar_volume(image: sitk.Image, label: str) -> sitk.Image:
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() == 4:
        raise InputError(f"{label}: expected one 3D volume, got a 4D series of {image.GetSize()[3]}; give one file for each phase.")
    if image.GetDimension() != 3:
        raise InputError(f"{label}: expected a 3D volume, got an image in {image.GetDimension()} dimensions; give the whole series.")
    if image.GetPixelID() not in _INTEGRAL + _FLOATING:
        kind = image.GetPixelIDTypeAsString()
        raise InputError(f"{label}: expected one HU value a voxel, got {kind} (colour, vector or complex); give the CT itself.")
    return image


def _refuse_geometry(image: sitk.Image, label: str) -> None:
    numbers = (*image.GetSpacing(), *image.GetOrigin(), *image.GetDirection())
    if not np.all(np.isfinite(numbers)) or min(image.GetSpacing()) <= 0:
        raise InputError(f"{label}: expected position and voxel size in mm, got values that are not finite; convert it again from DICOM.")
    extent = [n * s for n, s in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    if max(image.GetSpacing()) > 50 or max(extent) > 4000 or max(extent) < 20:
        size = " x ".join(f"{e:.3g}" for e in extent)
        raise InputError(f"{label}: expected a body in mm, got a volume of {size} mm; its voxel size is wrong or in another unit.")


def beyond_range(label: str, count: int) -> str:
    """Say that voxels above MOST_HU were cut."""
    voxels = "1 voxel lies" if count == 1 else f"{count} voxels lie"
    return f"{label}: {voxels} above {MOST_HU} HU, more than any metal has; taken as {MOST_HU}. Check the export."


def _refuse_values(image: sitk.Image, label: str) -> tuple[sitk.Image, tuple[Notice, ...]]:
    """Refuse what is not HU, judged by the histogram of every voxel; return int16 or float32 from air to MOST_HU, and notices."""
    integral = image.GetPixelID() in _INTEGRAL
    voxels = sitk.GetArrayViewFromImage(image)
    low, high = float(voxels.min()), float(voxels.max())  # a NaN anywhere makes both NaN, an infinity one of them infinite
    if not math.isfinite(low) or not math.isfinite(high):
        count = int(voxels.size - np.count_nonzero(np.isfinite(voxels)))
        raise InputError(
            f"{label}: expected finite HU, got {count} voxels that are NaN or infinite; replace them by {AIR} or convert the series again."
        )
    if low == high:
        raise InputError(f"{label}: expected CT in HU, got the same value in every voxel.")
    _refuse_scale(voxels, low, high, label)
    notes = (grave(beyond_range(label, int(np.count_nonzero(voxels > MOST_HU)))),) if high > MOST_HU else ()
    return sitk.Clamp(image, sitk.sitkInt16 if integral else sitk.sitkFloat32, AIR, MOST_HU), notes


def _refuse_scale(voxels: np.ndarray, low: float, high: float, label: str) -> None:
    sample = voxels[:, ::2, ::2] if voxels.size > 4_000_000 else voxels
    if low >= 0 and high <= 255:
        # Labels are whole numbers and the same from voxel to voxel; grey values are not.
        inside = sample[:, :, 1:] > 0
        flat = float(np.mean((sample[:, :, 1:] == sample[:, :, :-1])[inside])) if inside.any() else 1.0
        if flat > 0.6 and np.all(sample == np.round(sample)):
            count = len(np.unique(sample))
            raise InputError(f"{label}: expected CT in HU, got a mask or label map with {count} values; leave it out of the phases.")
        raise InputError(
            f"{label}: expected CT in HU, got grey values from {low:g} to {high:g} (8-bit or normalised); give the series before windowing."
        )
    if high - low <= 20:
        raise InputError(
            f"{label}: expected CT in HU, got normalised values from {low:.3g} to {high:.3g}; give the series before normalisation."
        )
    if low >= 0 or _unrescaled(sample):
        raise InputError(
            f"{label}: expected CT in HU with air near -1000, got values from {low:g} to {high:g} "
            "that look unrescaled; apply rescale slope and intercept first."
        )
    if float(np.mean((sample > -200) & (sample < 400))) < 0.002:
        raise InputError(f"{label}: expected CT in HU, got next to no voxel in the range of soft tissue; give the CT of the abdomen.")


def _unrescaled(sample: np.ndarray) -> bool:
    """Tell whether air lies near 0 and the body near 1000, where HU have nothing but dense bone and metal; padding does not count."""
    scanned = sample[sample > _PADDING]
    if scanned.size == 0 or float(scanned.min()) >= 0 or float(np.mean(scanned > 600)) > 0.3:
        return True
    # The bins are 25 wide from -1500, so that noise does not part a peak. In HU, the count above 300 falls with the value.
    counts, edges = np.histogram(scanned, bins=np.arange(_PADDING, 3001, 25))
    centres = edges[:-1] + 12.5
    air = centres[int(np.argmax(counts))]
    bright = np.where(centres > 300, counts, 0)
    body = centres[int(np.argmax(bright))]
    return bool(-100 <= air <= 100 and 850 <= body <= 1200 and bright.sum() > 0.01 * scanned.size)


def _scale_shift(slices: np.ndarray) -> tuple[str, float, int] | None:
    """Return what is off, where in HU it lies and where it should, None where air and fat are where they should be or are not seen.

    Air is looked for at the edge of what was scanned, where no lung is. Where a writer clipped it, fat still tells a shift downwards;
    upwards it does not, as a lean child's muscle lies there.
    """
    padded = np.pad(np.any(slices != slices[0], axis=0), 1)
    scanned = padded[1:-1, 1:-1]
    edge = scanned & ~(padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:])
    around = slices[:, edge]
    air = around[(around > _PADDING) & (around < -600)]
    if air.size > 0.5 * around.size and abs(float(np.median(air)) - _AIR_HU) > _OFF_HU:
        return "air around the body", float(np.median(air)), _AIR_HU
    counts, edges = np.histogram(slices, bins=np.arange(-300, 301, 10))
    counts = np.convolve(counts, [1, 2, 3, 2, 1], "same")
    peaks = [i for i in range(2, len(counts) - 2) if counts[i] == counts[i - 2 : i + 3].max() > 0.2 * counts.max()]
    if peaks and (lowest := float(edges[peaks[0]] + 5)) < _FAT_HU - _OFF_HU:
        return "fat", lowest, _FAT_HU
    return None


def obliquity_degrees(image: sitk.Image) -> float:
    """Largest angle in degrees between an image axis and the patient axis next to it."""
    direction = np.abs(np.array(image.GetDirection()).reshape(3, 3))
    return float(np.degrees(np.arccos(np.clip(direction.max(axis=0), 0, 1))).max())


def _geometry_warnings(image: sitk.Image, label: str) -> tuple[str, ...]:
    warnings = []
    spacing = image.GetSpacing()
    extent = [n * s for n, s in zip(image.GetSize(), spacing, strict=True)]
    angle = obliquity_degrees(image)
    if angle > 0.5:
        warnings.append(f"{label}: the axes are oblique by {angle:.1f} degrees; the volume is used as acquired, without resampling.")
    if extent[2] < 60:
        warnings.append(f"{label}: only {extent[2]:.0f} mm from bottom to top ({image.GetSize()[2]} slices), so the liver is not whole.")
    if not 60 <= max(extent[:2]) <= 1000:
        warnings.append(f"{label}: a field of view of {extent[0]:.0f} x {extent[1]:.0f} mm is unusual; check the voxel size.")
    if spacing[2] > 6:
        warnings.append(f"{label}: slices are {spacing[2]:.1f} mm apart; small lesions can be missed.")
    if max(spacing[:2]) > 2 * spacing[2]:
        warnings.append(f"{label}: looks like a coronal or sagittal reformat ({spacing[0]:.1f} x {spacing[1]:.1f} x {spacing[2]:.1f} mm).")
    return tuple(warnings)
