"""An exam in memory: its phases as volumes, the grid that they lie on, and all phases aligned on one grid.

Needs no SimpleITK, whose import takes 130 MB: what only looks at voxels and places does without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from .composites import body_mask
from .exam_features import exam_features
from .vocabulary import PHASES

if TYPE_CHECKING:
    import SimpleITK as sitk

    from .notices import Notice

#: Below this similarity after alignment a reader is warned. Phantoms reach 0.9; two different children stay at 0.5 to 0.75.
MIN_SIMILARITY = 0.75

#: RAS = LPS with the first two axes turned round.
_LPS_RAS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Grid:
    """Where voxels lie: size (x, y, z), spacing in mm, origin (centre of voxel 0, 0, 0) in LPS mm, direction cosines row by row (LPS)."""

    size_xyz: tuple[int, int, int]
    spacing_xyz: tuple[float, float, float]
    origin_lps: tuple[float, float, float]
    direction: tuple[float, ...]

    @classmethod
    def of(cls, image: sitk.Image) -> Grid:
        """Return the grid of a 3D image."""
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    def index_to_ras(self, ijk: np.ndarray) -> np.ndarray:
        """Map continuous voxel indexes (n, 3) or (3,) in x, y, z order, integers at voxel centres, to RAS mm of the same shape."""
        step = np.array(self.direction).reshape(3, 3) * np.array(self.spacing_xyz)
        return (np.asarray(ijk, dtype=float) @ step.T + np.array(self.origin_lps)) * _LPS_RAS

    def ras_to_index(self, ras: np.ndarray) -> np.ndarray:
        """Map RAS mm (n, 3) or (3,) to continuous voxel indexes in x, y, z order."""
        step = np.array(self.direction).reshape(3, 3) * np.array(self.spacing_xyz)
        return (np.asarray(ras, dtype=float) * _LPS_RAS - np.array(self.origin_lps)) @ np.linalg.inv(step).T

    def image(self, array: np.ndarray) -> sitk.Image:
        """Return an image of this grid that holds array (slice, row, column)."""
        import SimpleITK as sitk

        if array.shape != self.size_xyz[::-1]:
            raise ValueError(f"expected an array of shape {self.size_xyz[::-1]} (slice, row, column), got {array.shape}")
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(self.spacing_xyz)
        image.SetOrigin(self.origin_lps)
        image.SetDirection(self.direction)
        return image


@dataclass(frozen=True)
class PhaseVolume:
    """One phase: canonical 3D image in HU (int16 or float32), where it came from, and how its phase was recognised.

    `source` is a neutral label such as "series 3" or "PVP volume (.nrrd)", never a file's name; `recognised` is a fragment such as "given"
    or "series description 'arterial'" that holds the matched word only. Neither carries patient data. The image is None where it is not
    needed any more (Exam.without_images).
    """

    image: sitk.Image | None
    source: str
    recognised: str


@dataclass(frozen=True)
class Exam:
    """One to four phases, keyed and ordered as in PHASES, and what a reader must be told about them.

    A warning may be a `notices.Notice`; where its `grave` is true, a reader must look before the result is trusted.
    """

    phases: Mapping[str, PhaseVolume]
    warnings: tuple[Notice | str, ...] = ()

    @cached_property
    def features(self) -> Mapping[str, np.ndarray]:
        """Say what each phase looks like (exam_features); measured once, however often a box is corrected."""
        return exam_features(self)

    def without_images(self) -> Exam:
        """Return what is left to be known of an aligned exam: all but the voxels, which were measured."""
        light = replace(self, phases={phase: replace(volume, image=None) for phase, volume in self.phases.items()})
        vars(light)["features"] = self.features
        return light


@dataclass(frozen=True)
class PhaseAlignment:
    """How a phase came onto the reference grid.

    status: "reference"; "aligned": deformed; "not needed": it fits, and no deformation fits clearly better; "kept as acquired": it fits
    poorly, and no deformation was found that helps and can be believed; "off": alignment was not wanted. The similarities are local
    correlations with the reference, 0 to 1 (see `local_correlation`). Displacements are those applied inside the body, in mm.
    """

    status: str
    similarity_before: float
    similarity_after: float
    mean_displacement_mm: float
    max_displacement_mm: float


@dataclass(frozen=True)
class AlignedExam:
    """All phases on one grid.

    hu: float32 (phase, slice, row, column) in PHASES order; -1024 in absent phases and outside a phase's extent.
    present: which phases there are, in PHASES order.
    reference: the phase whose grid it is.
    """

    hu: np.ndarray
    present: tuple[bool, bool, bool, bool]
    reference: str
    grid: Grid
    alignment: Mapping[str, PhaseAlignment]
    warnings: tuple[str, ...]

    @cached_property
    def body(self) -> tuple[np.ndarray, tuple[int, int, int]]:
        """Return where the body is in the reference phase (composites.body_mask); found once."""
        return body_mask(self.hu[PHASES.index(self.reference)], self.grid.spacing_xyz)

    def with_voxels(self, hu: np.ndarray) -> AlignedExam:
        """Return the same exam whose voxels lie elsewhere, or nowhere any more."""
        other = replace(self, hu=hu)
        vars(other)["body"] = self.body
        return other


def rounded(hu: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return HU as int16: what is int16 already as it is, else rounded, into `out` where it is given."""
    if hu.dtype == np.int16:
        return hu
    return np.rint(hu, out=np.empty(hu.shape, np.int16) if out is None else out, casting="unsafe")
