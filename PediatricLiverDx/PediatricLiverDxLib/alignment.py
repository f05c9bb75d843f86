"""An Exam comes in; its phases on the reference phase's grid go out, in HU as (phase, slice, row, column), and how well they fit.

The reference phase is PVP, else AP, DP, PC. A phase is deformed only where that makes it fit clearly better; a phase that lies on the
reference's grid and fits already keeps its voxels exactly.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import SimpleITK as sitk

from .displacement import coarse_volume, displacement_between, folds, on_grid_of, solidity
from .hounsfield import AIR
from .notices import grave
from .vocabulary import PHASES, InputError
from .volumes import MIN_SIMILARITY, AlignedExam, Exam, Grid, PhaseAlignment

REFERENCE_ORDER = ("PVP", "AP", "DP", "PC")

#: A deformation is accepted where it takes away at least this share of the mean absolute difference in solidity. On phantoms without
#: motion, bowel gas that came or went included, it was below 0.04; with motion of the liver above 1.3 mm it was above 0.15.
MIN_IMPROVEMENT = 0.1

#: Below this share of the reference's body that a phase covers, a reader is warned.
MIN_OVERLAP = 0.7

#: Solidity of lung and air at most.
_LUNG = 0.25

#: Voxels that are resampled at a time.
_SLAB_VOXELS = 2_000_000

#: Cubes of local correlation, in coarse voxels.
_CUBE = 5


def align(
    exam: Exam,
    enabled: bool = True,
    progress: Callable[[str, float], None] | None = None,
    empty: Callable[[tuple[int, ...]], np.ndarray] | None = None,
    consume: bool = False,
) -> AlignedExam:
    """Put every phase on the reference phase's grid and, if `enabled`, undo breathing and other motion between phases.

    Args:
        exam: one to four phases.
        enabled: False resamples where grids differ and does nothing else.
        progress: called with what is done and the fraction done, before each phase and at the end.
        empty: returns the float32 array of a shape that AlignedExam.hu is to be; numpy.empty by default.
        consume: take each phase out of exam.phases, so that its image is let go when it has its place.

    Raises:
        InputError: a phase shows no part of the body that the reference phase shows.
    """
    reference = next(phase for phase in REFERENCE_ORDER if phase in exam.phases)
    fixed = exam.phases[reference].image
    grid = Grid.of(fixed)
    shape = (len(PHASES), *grid.size_xyz[::-1])
    hu = empty(shape) if empty else np.empty(shape, np.float32)
    hu[[n for n, phase in enumerate(PHASES) if phase not in exam.phases]] = AIR
    alignment: dict[str, PhaseAlignment] = {}
    warnings: list[str] = []
    coarse_fixed = coarse_volume(fixed)
    tell = progress or (lambda text, fraction: None)
    acquired = list(exam.phases)
    present = tuple(phase in acquired for phase in PHASES)
    for done, phase in enumerate(acquired):
        tell(f"aligning {phase}", done / len(acquired))
        image = (exam.phases.pop(phase) if consume else exam.phases[phase]).image
        if phase == reference:
            field, alignment[phase] = None, PhaseAlignment("reference", 1.0, 1.0, 0.0, 0.0)
        else:
            field, alignment[phase], notes = _fit(coarse_fixed, image, phase, reference, enabled)
            warnings += notes
        if phase != reference and not same_grid(fixed, image):
            warnings.append(f"{phase} was resampled to the slices of {reference}: it has others ({_differences(image, fixed)}).")
        _place(hu[PHASES.index(phase)], image, fixed, field)
    tell("aligned", 1.0)
    return AlignedExam(hu, present, reference, grid, {phase: alignment[phase] for phase in PHASES if phase in alignment}, tuple(warnings))


def local_correlation(reference: np.ndarray, other: np.ndarray, counted: np.ndarray) -> float:
    """Return how well the solidity of two volumes (slice, row, column) agrees, 0 to 1.

    In a cube of 5 voxels around every voxel: covariance and standard deviations. Their sums where `counted`: sum cov / sum (sd sd'),
    negative taken as 0. Cubes with strong borders count most, uniform ones hardly.
    """
    mean_a, mean_b = _cube_mean(reference), _cube_mean(other)
    covariance = _cube_mean(reference * other) - mean_a * mean_b
    variance_a = np.maximum(_cube_mean(reference * reference) - mean_a * mean_a, 0)
    variance_b = np.maximum(_cube_mean(other * other) - mean_b * mean_b, 0)
    scale = float(np.sqrt(variance_a * variance_b)[counted].sum())
    return float(np.clip(covariance[counted].sum() / scale, 0.0, 1.0)) if scale > 0 else 0.0


def same_grid(a: sitk.Image, b: sitk.Image) -> bool:
    """Return whether voxels of both images lie at the same places, to a hundredth of a voxel."""
    if a.GetSize() != b.GetSize():
        return False
    corners = [(0, 0, 0), tuple(n - 1 for n in a.GetSize()), (a.GetSize()[0] - 1, 0, 0), (0, a.GetSize()[1] - 1, 0)]
    return all(
        np.allclose(a.TransformIndexToPhysicalPoint(c), b.TransformIndexToPhysicalPoint(c), rtol=0, atol=0.01 * min(a.GetSpacing()))
        for c in corners
    )


def _fit(
    fixed: sitk.Image, image: sitk.Image, phase: str, reference: str, enabled: bool
) -> tuple[sitk.Image | None, PhaseAlignment, list[str]]:
    """Return the displacement field or None, the verdict, and warnings for a phase against the coarse reference `fixed`."""
    notes: list[str] = []
    moving = coarse_volume(image)
    fixed_hu = sitk.GetArrayFromImage(fixed)
    body = fixed_hu > -500
    before_hu, seen = on_grid_of(fixed, moving)
    shared = body & seen
    overlap = np.count_nonzero(shared & (before_hu > -500)) / max(1, np.count_nonzero(body))
    if overlap == 0:
        raise InputError(
            f"{phase} and {reference} show no common part of the body: expected phases of one exam in one coordinate system; "
            f"give another {phase} or leave it out."
        )
    if overlap < MIN_OVERLAP:
        notes.append(grave(f"{phase} covers only {overlap:.0%} of the body that {reference} shows."))
    here, unmoved = solidity(fixed_hu), solidity(before_hu)
    before = local_correlation(here, unmoved, shared)
    if not enabled:
        return None, PhaseAlignment("off", before, before, 0.0, 0.0), notes
    field = displacement_between(fixed, moving)
    after_hu, seen_after = on_grid_of(fixed, moving, sitk.DisplacementFieldTransform(sitk.Image(field)))
    moved = solidity(after_hu)
    # Both on the same voxels: what only one of the two can see must not decide. Lung where the other phase has liver counts.
    both = seen & seen_after & (np.maximum(np.maximum(here, unmoved), moved) > _LUNG)
    better = np.abs(here - moved)[both].sum() < (1 - MIN_IMPROVEMENT) * np.abs(here - unmoved)[both].sum()
    if not better or folds(field):
        fits = before >= MIN_SIMILARITY
        if not fits:
            notes.append(f"{phase} fits {reference} poorly (local correlation {before:.2f}), uncorrected; compare phases with care.")
        return None, PhaseAlignment("not needed" if fits and not better else "kept as acquired", before, before, 0.0, 0.0), notes
    after = local_correlation(here, moved, body & seen_after)
    if after < MIN_SIMILARITY:
        notes.append(f"{phase} fits {reference} poorly even after alignment (local correlation {after:.2f}); compare phases with care.")
    lengths = _lengths_mm(field, fixed)[body]
    return field, PhaseAlignment("aligned", before, after, float(lengths.mean()), float(lengths.max())), notes


def _lengths_mm(field: sitk.Image, grid: sitk.Image) -> np.ndarray:
    vectors = sitk.Resample(field, grid, sitk.Transform(3, sitk.sitkIdentity), sitk.sitkLinear, 0.0)
    return np.linalg.norm(sitk.GetArrayViewFromImage(vectors), axis=-1)


def _place(voxels: np.ndarray, image: sitk.Image, fixed: sitk.Image, field: sitk.Image | None) -> None:
    """Write an image's HU into voxels, float32 (slice, row, column) on the grid of `fixed`."""
    if field is None and same_grid(image, fixed):
        voxels[:] = sitk.GetArrayViewFromImage(image)
        return
    # The transform takes its image over, so it gets a copy.
    transform = sitk.DisplacementFieldTransform(sitk.Image(field)) if field is not None else sitk.Transform(3, sitk.sitkIdentity)
    width, height, n_slices = fixed.GetSize()
    # A few slices at a time: the whole of a large scan takes seconds in which nobody could cancel, and a volume more of memory.
    step = max(1, _SLAB_VOXELS // (width * height))
    for z in range(0, n_slices, step):
        size, origin = (width, height, min(step, n_slices - z)), fixed.TransformIndexToPhysicalPoint((0, 0, z))
        slab = sitk.Resample(
            image, size, transform, sitk.sitkLinear, origin, fixed.GetSpacing(), fixed.GetDirection(), AIR, sitk.sitkFloat32
        )
        voxels[z : z + step] = sitk.GetArrayViewFromImage(slab)


def _differences(image: sitk.Image, fixed: sitk.Image) -> str:
    parts = []
    if not np.allclose(image.GetSpacing(), fixed.GetSpacing(), atol=1e-3):
        parts.append("spacing " + " x ".join(f"{s:.2f}" for s in image.GetSpacing()) + " mm")
    if image.GetSize() != fixed.GetSize():
        parts.append("size " + " x ".join(map(str, image.GetSize())))
    if not np.allclose(image.GetDirection(), fixed.GetDirection(), atol=1e-3):
        parts.append("other orientation")
    return ", ".join(parts) or "other position"


def _cube_mean(volume: np.ndarray) -> np.ndarray:
    """Mean over cubes of _CUBE voxels, edges repeated."""
    half = _CUBE // 2
    for axis in range(3):
        padding = [(0, 0)] * 3
        padding[axis] = (half, half)
        padded = np.moveaxis(np.pad(volume, padding, mode="edge"), axis, 0)
        n = volume.shape[axis]
        volume = np.moveaxis(sum(padded[k : k + n] for k in range(_CUBE)) / np.float32(_CUBE), 0, axis)
    return volume
