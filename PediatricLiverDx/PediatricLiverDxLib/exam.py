"""Files, DICOM or images in memory become an Exam: one to four phases in HU, checked, each with a word on how its phase was recognised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .hounsfield import canonical_hu
from .vocabulary import PHASES, InputError

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

    `source` is a file's base name or a neutral label such as "series 3"; `recognised` is a fragment such as "given" or
    "series description 'arterial'" that holds the matched word only. Neither carries patient data.
    """

    image: sitk.Image
    source: str
    recognised: str


@dataclass(frozen=True)
class Exam:
    """One to four phases, keyed and ordered as in PHASES, and what a reader must be told about them."""

    phases: Mapping[str, PhaseVolume]
    warnings: tuple[str, ...] = ()


def exam_from_images(images: Mapping[str, sitk.Image], sources: Mapping[str, str] | None = None) -> Exam:
    """Check images that are already told apart by phase and return them as an Exam.

    Args:
        images: phase -> 3D image in HU, any orientation.
        sources: phase -> base name or label for messages; the phase's own name where absent.

    Raises:
        InputError: an unknown phase, no phase, or a volume that cannot be used.
    """
    sources = sources or {}
    unknown = sorted(set(images) - set(PHASES))
    if unknown:
        raise InputError(f"Expected phases among {', '.join(PHASES)}, got {', '.join(unknown)}.")
    if not images:
        raise InputError(f"Expected at least one phase of {', '.join(PHASES)}, got none.")
    phases, warnings = {}, []
    for phase in PHASES:
        if phase in images:
            image, notes = canonical_hu(images[phase], phase)
            phases[phase] = PhaseVolume(image, sources.get(phase, phase), "given")
            warnings += notes
    return Exam(phases, tuple(warnings))


def read_exam(study: Path | None = None, files: Mapping[str, Path] | None = None) -> Exam:
    """Read an exam from a folder (study) or from one file or DICOM folder for each phase (files)."""
    raise NotImplementedError
