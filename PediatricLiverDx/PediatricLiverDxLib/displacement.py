"""Two CT volumes of one body come in, a coarse displacement field from the first to the second goes out.

The field d is a SimpleITK vector image (LPS mm) on a coarse grid: what lies at p in the reference lies at p + d(p) in the moving volume.

Contrast medium changes the soft tissue's HU from phase to phase, so intensities are mapped to "how solid": air 0, fat about half,
everything from water upwards 1. What remains are borders with lung, gas and fat, the same in every phase. A shift
along z comes first (breathing is mostly that), then symmetric-forces demons (Thirion 1998; Vercauteren et al. 2009) with a
diffusion-like regularisation that lets a liver slide past ribs within about two centimetres.
"""

from __future__ import annotations

import math

import numpy as np
import SimpleITK as sitk

#: Edge of the coarse voxels on which displacement is estimated. Finer was slower and not better on phantoms.
COARSE_MM = 4.0
MAX_COARSE_VOXELS = 300_000

#: HU -> solidity, piecewise linear.
_HU = (-900.0, -200.0, -100.0, -30.0)
_SOLIDITY = (0.0, 0.45, 0.55, 1.0)

#: Marks coarse voxels that the moving volume does not cover; below every HU.
_UNSEEN = -4000.0

#: Breathing further than this between two phases of one exam does not happen in a child at rest.
_MAX_SHIFT_MM = 24.0

#: Coarse to fine: voxels in units of COARSE_MM, iterations, standard deviation of the field's smoothing in those voxels.
_LEVELS = ((4, 30, 1.5), (2, 20, 2.5), (1, 5, 3.0))


def coarse_volume(image: sitk.Image, edge_mm: float | None = None) -> sitk.Image:
    """Return `image` averaged over blocks of whole voxels about `edge_mm` wide, float32.

    By default the blocks are COARSE_MM wide, more where the scan is so large that it would have more than MAX_COARSE_VOXELS.
    """
    if edge_mm is None:
        volume_mm3 = math.prod(image.GetSpacing()) * math.prod(image.GetSize())
        edge_mm = max(COARSE_MM, (volume_mm3 / MAX_COARSE_VOXELS) ** (1 / 3))
    factors = [min(max(1, round(edge_mm / spacing)), size) for spacing, size in zip(image.GetSpacing(), image.GetSize(), strict=True)]
    return sitk.Cast(sitk.BinShrink(image, factors), sitk.sitkFloat32)


def on_grid_of(reference: sitk.Image, moving: sitk.Image, transform: sitk.Transform | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Resample coarse `moving` (HU) to the grid of `reference`.

    Returns HU and whether the moving volume covers the voxel, both (slice, row, column); HU is -1024 where it does not.
    """
    transform = transform or sitk.Transform(3, sitk.sitkIdentity)
    hu = sitk.GetArrayFromImage(sitk.Resample(moving, reference, transform, sitk.sitkLinear, _UNSEEN))
    seen = hu > _UNSEEN / 2
    return np.where(seen, hu, np.float32(-1024.0)), seen


def solidity(hu: np.ndarray) -> np.ndarray:
    """Map HU to [0, 1] so that contrast medium does not show: air 0, fat about 0.5, soft tissue, vessels and bone 1."""
    return np.interp(hu, _HU, _SOLIDITY).astype(np.float32)


def estimate_displacement(reference: sitk.Image, moving: sitk.Image) -> sitk.Image:
    """Estimate where each point of `reference` lies in `moving`.

    Args:
        reference: 3D volume in HU.
        moving: 3D volume in HU of the same body; its grid and extent may differ.

    Returns:
        float64 vector image in LPS mm on a coarse grid that covers all of `reference`.
    """
    fixed = coarse_volume(reference)
    return displacement_between(fixed, coarse_volume(moving))


def displacement_between(fixed: sitk.Image, moving: sitk.Image) -> sitk.Image:
    """Do the same for two volumes that are coarse already."""
    shift = _shift_mm(fixed, moving)
    axis = np.array(fixed.GetDirection()).reshape(3, 3)[:, 2]
    offset = shift * axis
    fixed_solidity = solidity(sitk.GetArrayFromImage(fixed))
    hu, seen = on_grid_of(fixed, moving, sitk.TranslationTransform(3, offset.tolist()))
    # Where the moving volume has no data it shall pull nowhere: equal images have no force.
    moving_solidity = np.where(seen, solidity(hu), fixed_solidity)
    low, high = _air_around(fixed_solidity, moving_solidity)
    fixed_image, moving_image = (sitk.Crop(_like(solid, fixed), low, high) for solid in (fixed_solidity, moving_solidity))
    field = None
    for edge, iterations, sigma in _LEVELS:
        here, there = (coarse_volume(image, edge * COARSE_MM) for image in (fixed_image, moving_image))
        demons = sitk.FastSymmetricForcesDemonsRegistrationFilter()
        demons.SetNumberOfIterations(iterations)
        demons.SetMaximumUpdateStepLength(2.0)
        demons.SetSmoothDisplacementField(True)
        demons.SetStandardDeviations(sigma)
        demons.SetSmoothUpdateField(False)
        if field is None:
            field = demons.Execute(here, there)
        else:
            nearest_outside = True
            start = sitk.Resample(
                field, here, sitk.Transform(3, sitk.sitkIdentity), sitk.sitkLinear, 0.0, field.GetPixelID(), nearest_outside
            )
            field = demons.Execute(here, there, start)
    return _with_margin(field, low, high, offset)


def folds(field: sitk.Image) -> bool:
    """Return whether the displacement turns tissue inside out anywhere: a Jacobian determinant that is not positive."""
    return float(sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(field)).min()) <= 0


def _shift_mm(fixed: sitk.Image, moving: sitk.Image) -> float:
    """Find the shift along the slice axis at which solidity differs least, in whole coarse slices."""
    hu, seen = on_grid_of(fixed, moving)
    reference, other = solidity(sitk.GetArrayFromImage(fixed)), solidity(hu)
    inside = (reference > 0.25) | (other > 0.25)
    step = fixed.GetSpacing()[2]
    slices = reference.shape[0]
    best = (np.inf, 0)
    for shift in sorted(range(-int(_MAX_SHIFT_MM / step), int(_MAX_SHIFT_MM / step) + 1), key=abs):
        if abs(shift) > slices // 2:
            continue
        here, there = slice(max(0, -shift), slices - max(0, shift)), slice(max(0, shift), slices + min(0, shift))
        counted = (inside[here] | inside[there]) & seen[there]
        if np.count_nonzero(counted) < 0.25 * np.count_nonzero(inside):
            continue
        difference = float(np.abs(reference[here] - other[there])[counted].mean())
        best = min(best, (difference, shift), key=lambda found: found[0])
    return best[1] * step


def _like(array: np.ndarray, image: sitk.Image) -> sitk.Image:
    made = sitk.GetImageFromArray(array)
    made.CopyInformation(image)
    return made


def _air_around(fixed: np.ndarray, moving: np.ndarray) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Count columns and rows of air before and after everything solid, less two to spare, as (x, y, z); air takes time only."""
    solid = (fixed > 0.25) | (moving > 0.25)
    low, high = [], []
    for others in ((0, 1), (0, 2)):
        found = np.flatnonzero(solid.any(axis=others))
        size = solid.any(axis=others).size
        low.append(max(0, int(found[0]) - 2) if found.size else 0)
        high.append(max(0, size - 1 - int(found[-1]) - 2) if found.size else 0)
    return (*low, 0), (*high, 0)


def _with_margin(field: sitk.Image, low: tuple[int, int, int], high: tuple[int, int, int], offset: np.ndarray) -> sitk.Image:
    """Add `offset` everywhere, the cropped rows and columns, and one node on every side, so that the field reaches the volume's edges."""
    padding = [(before + 1, after + 1) for before, after in zip(low[::-1], high[::-1], strict=True)]
    vectors = np.pad(sitk.GetArrayViewFromImage(field) + offset, (*padding, (0, 0)), mode="edge")
    padded = sitk.GetImageFromArray(vectors, isVector=True)
    padded.SetSpacing(field.GetSpacing())
    padded.SetDirection(field.GetDirection())
    padded.SetOrigin(field.TransformIndexToPhysicalPoint([-before - 1 for before in low]))
    return padded
