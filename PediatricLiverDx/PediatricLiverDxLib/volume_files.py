"""NIfTI, NRRD and MetaImage files: which ones of a folder may be a phase, and one file as an image."""

from __future__ import annotations

import re
from pathlib import Path

import SimpleITK as sitk

from .hounsfield import refuse_size
from .vocabulary import InputError

SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")

#: Files with these words hold masks, fields or results of this software, never a phase.
_NO_CT = re.compile(
    r"(?<![^\W_])(?:masks?|seg|segmentations?|labels?|labelmap|lesions?|tumou?rs?|gt|truth|displacement|field|cam|roi|annotation|dose)"
    r"(?![^\W_])"
)


def is_volume_file(path: Path) -> bool:
    """Tell by its name whether a file is a volume."""
    return path.name.lower().endswith(SUFFIXES)


def stem(path: Path) -> str:
    """Return the file's name without the suffix of its format."""
    name = path.name
    suffix = max((s for s in SUFFIXES if name.lower().endswith(s)), key=len, default="")
    return name[: len(name) - len(suffix)]


def may_be_phase(path: Path) -> bool:
    """Tell by its name whether a volume file may be a CT phase rather than a mask, a field or a result."""
    return _NO_CT.search(stem(path).lower().replace("_", " ")) is None


def read_volume_file(path: Path) -> sitk.Image:
    """Read a file of any of SUFFIXES.

    Raises:
        InputError: missing, empty, cut short, of another kind, or too large; the message holds the base name only.
    """
    name = path.name
    if not path.is_file():
        raise InputError(f"{name}: expected a file, found none; check the path.")
    if path.stat().st_size == 0:
        raise InputError(f"{name}: expected a CT volume, got an empty file.")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        if "orthonormal" in str(error):
            raise InputError(
                f"{name}: expected axes at right angles, got a sheared volume (gantry tilt); "
                "resample it or give DICOM."
            ) from error
        raise InputError(
            f"{name}: expected a NIfTI, NRRD or MetaImage volume, got something else or a damaged file; "
            "convert it again."
        ) from error
    size = reader.GetSize()
    if len(size) == 3 and min(size) > 2:
        refuse_size((*sorted(size)[1:], min(size)) if max(size) <= 1024 else size, name)
    try:
        return reader.Execute()
    except RuntimeError as error:
        raise InputError(f"{name}: the file is damaged or cut short; copy or convert it again.") from error
