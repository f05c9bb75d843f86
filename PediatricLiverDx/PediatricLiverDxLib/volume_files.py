"""NIfTI, NRRD and MetaImage files: which ones of a folder may be a phase, and one file as an image. Tells DICOM files from them."""

from __future__ import annotations

import gzip
import math
import os
import re
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import SimpleITK as sitk

from .hounsfield import refuse_size
from .notices import Notice, grave
from .vocabulary import InputError

SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")

#: Files with these words hold masks, fields or results of this software, never a phase.
_NO_CT = re.compile(
    r"(?<![^\W_])(?:masks?|seg|segmentations?|labels?|labelmap|lesions?|tumou?rs?|gt|truth|displacement|field|cam|roi|annotation|dose)"
    r"(?![^\W_])"
)


#: The two positions that a NIfTI header gives may lie this far apart (mm) by rounding.
SAME_PLACE_MM = 1.0

#: More files than that are an archive, not an exam.
MAX_FILES = 30_000

#: NIfTI's codes of numbers, and those of colours and complex ones.
_NIFTI_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_NIFTI_OTHER_TYPES = {32, 128, 1536, 1792, 2048, 2304}

#: Bytes of an element in MetaImage.
_META_BYTES = {
    b"CHAR": 1, b"UCHAR": 1, b"SHORT": 2, b"USHORT": 2, b"INT": 4, b"UINT": 4, b"FLOAT": 4, b"DOUBLE": 8, b"LONG_LONG": 8, b"ULONG_LONG": 8,
}  # fmt: skip


def is_volume_file(path: Path) -> bool:
    """Tell by its name whether a file is a volume."""
    return path.name.lower().endswith(SUFFIXES)


def is_utf8(path: Path) -> bool:
    """Tell whether SimpleITK may be given a path: it ends the whole process on one that is not UTF-8."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def files_below(folder: Path) -> list[Path]:
    """Return the regular files in a folder, at any depth, in order; links to folders are not followed, locked folders in it passed over.

    Raises:
        InputError: more than MAX_FILES.
        OSError: the folder itself cannot be opened.
    """

    def pass_over(error: OSError) -> None:
        if error.filename == str(folder):
            raise error

    paths: list[Path] = []
    for where, _, names in os.walk(folder, onerror=pass_over):
        paths += [path for name in names if (path := Path(where, name)).is_file()]
        if len(paths) > MAX_FILES:
            raise InputError(f"Expected the folder of one exam, got more than {MAX_FILES} files; give the folder of one study.")
    return sorted(paths)


def is_directory_of_disc(path: Path) -> bool:
    """Tell whether a path is a CD's table of contents, which holds no image; old file systems add a version to its name."""
    return path.name.upper().partition(".")[0] == "DICOMDIR" and path.is_file()


def is_dicom(path: Path) -> bool:
    """Tell by its first bytes whether a file is DICOM, with or without the preamble. Raises OSError where it cannot be read."""
    with path.open("rb") as file:
        start = file.read(132)
    # Without a preamble: group 0002 or 0008, an element below 0x0100, then a VR or a short length.
    bare = len(start) == 132 and start[0] in (2, 8) and start[1] == 0 and start[3] == 0
    return start[128:] == b"DICM" or bare


def stem(path: Path) -> str:
    """Return the file's name without the suffix of its format."""
    return path.name[: len(path.name) - len(suffix(path))]


def suffix(path: Path) -> str:
    """Return the suffix of the file's format, ".nii.gz" as a whole."""
    return max((s for s in SUFFIXES if path.name.lower().endswith(s)), key=len, default="")


def may_be_phase(path: Path) -> bool:
    """Tell by its name whether a volume file may be a CT phase rather than a mask, a field or a result."""
    return _NO_CT.search(stem(path).lower().replace("_", " ")) is None


def read_volume_file(path: Path) -> sitk.Image:
    """Read a file of any of SUFFIXES.

    Raises:
        InputError: missing, empty, cut short, of another kind, or too large; the message holds the base name only.
        OSError: it may not be read.
    """
    name = path.name
    if not is_utf8(path):
        raise InputError("Expected a path in UTF-8, got a file or folder name in another encoding; rename it.")
    if not path.is_file():
        raise InputError(f"{name}: expected a file, found none; check the path.")
    with path.open("rb") as file:  # an OSError says more than what ITK makes of it
        if not file.read(1):
            raise InputError(f"{name}: expected a CT volume, got an empty file; copy or convert it again.")
    _refuse_header(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    # what ITK thinks of a header goes to standard error, where one sentence is to stand
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
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
    if name.lower().endswith((".nii", ".nii.gz")):
        _refuse_unsound_nifti(path)
    if name.lower().endswith((".mha", ".mhd")):
        _refuse_short_metaimage(path)
    try:
        return reader.Execute()
    except RuntimeError as error:
        raise InputError(f"{name}: the file is damaged or cut short; copy or convert it again.") from error


def _refuse_header(path: Path) -> None:
    """Refuse a header of nonsense, of which ITK's reader writes to standard error, or one without voxel size, for which it takes 1 mm."""
    name, kind = path.name, suffix(path)
    with path.open("rb") as file:
        start = file.read(1 << 16)
    if kind.startswith(".nii"):
        try:
            with _open_nifti(path) as file:
                header = file.read(540)
        except (EOFError, OSError, zlib.error) as error:
            raise InputError(f"{name}: the file is damaged or cut short; copy or convert it again.") from error
        if len(header) == 540 and {int.from_bytes(header[:4], order) for order in ("little", "big")} & {348, 540}:
            dim, spacing, code = _nifti_geometry(header)
            if not 1 <= dim[0] <= 7 or min(dim[1 : 1 + dim[0]]) < 1 or code not in _NIFTI_TYPES.keys() | _NIFTI_OTHER_TYPES:
                raise InputError(f"{name}: expected a NIfTI, NRRD or MetaImage volume, got a damaged header; convert it again.")
            if not np.all(np.isfinite(spacing)) or not np.all(spacing):
                sizes = " x ".join(f"{size:g}" for size in spacing)
                raise InputError(f"{name}: expected a voxel size in mm, got {sizes}; convert it again from DICOM.")
        return
    fields = (b"space directions:", b"spacings:") if kind in (".nrrd", ".nhdr") else (b"ElementSpacing", b"ElementSize")
    text = start.partition(b"\n\n")[0] if fields[0].endswith(b":") else start.partition(b"ElementDataFile")[0]
    known = start.startswith(b"NRRD") or b"DimSize" in text
    if known and len(text) < len(start) and not any(re.search(rb"^" + field, text, re.MULTILINE) for field in fields):
        raise InputError(f"{name}: expected a voxel size in mm, got a header without one; convert it again from DICOM.")


def _refuse_unsound_nifti(path: Path) -> None:
    """Refuse a NIfTI file with too few bytes or with voxels that are not finite: ITK's reader takes either for zeros."""
    name = path.name
    try:
        with _open_nifti(path) as file:
            offset, count, dtype = _nifti_layout(file.read(348))
            file.seek(offset)
            left, bad = count * dtype.itemsize, 0
            while left > 0 and (chunk := file.read(min(left, 1 << 24))):  # a multiple of every element size
                left -= len(chunk)
                if dtype.kind == "f" and len(chunk) % dtype.itemsize == 0:
                    bad += int(np.count_nonzero(~np.isfinite(np.frombuffer(chunk, dtype))))
    except (EOFError, OSError, zlib.error, ValueError) as error:
        raise InputError(f"{name}: the file is damaged or cut short; copy or convert it again.") from error
    if left > 0:
        raise InputError(f"{name}: the file is cut short by {left} bytes; copy or convert it again.")
    if bad:
        raise InputError(f"{name}: expected finite HU, got {bad} voxels that are NaN or infinite; replace them by -1024.")


def _open_nifti(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if compressed else path.open("rb")


def geometry_doubts(path: Path, image: sitk.Image, label: str) -> tuple[Notice, ...]:
    """Return a grave notice where a NIfTI header tells no position at all, or two that differ; nothing for other formats.

    Args:
        path: a file that `read_volume_file` has read.
        image: what it returned.
        label: how the notice calls the volume; carries no patient data.
    """
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        return ()
    with _open_nifti(path) as file:
        qform, sform = _nifti_affines(file.read(540))
    if qform is None and sform is None:
        text = f"{label}: its header tells neither position nor orientation (sform and qform codes are 0)"
        return (grave(f"{text}, so left, right, head and feet are a guess; convert it again from DICOM."),)
    if qform is None or sform is None:
        return ()
    corners = np.array([[*np.multiply(sides, np.subtract(image.GetSize()[:3], 1)), 1] for sides in np.ndindex(2, 2, 2)], float)
    apart = float(np.linalg.norm((sform - qform) @ corners.T, axis=0).max())
    if apart <= SAME_PLACE_MM:
        return ()
    read = np.array(image.TransformIndexToPhysicalPoint([n - 1 for n in image.GetSize()]))[:3] * [-1, -1, 1]
    taken = min(("sform", sform), ("qform", qform), key=lambda form: np.abs(form[1] @ corners[-1] - read).max())[0]
    text = f"{label}: its header tells two positions (sform and qform) that lie up to {apart:.0f} mm apart"
    return (grave(f"{text}; {taken} is taken, so check where it lies or convert it again from DICOM."),)


def _refuse_short_metaimage(path: Path) -> None:
    """Refuse a MetaImage with too few bytes: ITK's reader refuses it too, but writes to standard error first."""
    with path.open("rb") as file:
        start = file.read(1 << 16)
    fields = dict(re.findall(rb"^(\w+)\s*=\s*([^\r\n]*?)\s*$", start, re.MULTILINE))
    end = re.search(rb"ElementDataFile\s*=[^\r\n]*\r?\n", start)
    where = fields.get(b"ElementDataFile", b"").decode("utf-8", "replace")
    try:
        if b"CompressedDataSize" in fields:
            needed = int(fields[b"CompressedDataSize"])
        else:
            count = math.prod(int(n) for n in fields.get(b"DimSize", b"0").split()) * int(fields.get(b"ElementNumberOfChannels", 1))
            needed = count * _META_BYTES.get(fields.get(b"ElementType", b"").removeprefix(b"MET_").split(b"_ARRAY")[0], 0)
    except ValueError as error:
        raise InputError(f"{path.name}: expected whole numbers for its size, got something else; convert it again.") from error
    data = path if where.upper() == "LOCAL" else path.parent / where
    there = (data.stat().st_size if data.is_file() else 0) - (end.end() if end and data == path else 0)
    if there < needed and "%" not in where and not where.startswith("LIST"):
        raise InputError(f"{path.name}: the file is cut short by {needed - there} bytes; copy or convert it again.")


def _nifti_affines(header: bytes) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the (3, 4) maps from voxel index to RAS mm of qform and sform, None for one that is not said (code 0)."""
    order = "<" if int.from_bytes(header[:4], "little") in (348, 540) else ">"
    version_2 = int(np.frombuffer(header, f"{order}i4", 1)[0]) == 540
    # Byte positions of pixdim, qform_code and what follows it in nifti1.h and nifti2.h.
    real, whole, spacing_at, codes_at, numbers_at = ("f8", "i4", 104, 344, 352) if version_2 else ("f4", "i2", 76, 252, 256)
    pixdim = np.frombuffer(header, order + real, 4, spacing_at).astype(float)
    qform_code, sform_code = np.frombuffer(header, order + whole, 2, codes_at)
    b, c, d, *rest = np.frombuffer(header, order + real, 18, numbers_at).astype(float)
    a = math.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    steps = pixdim[1:] * [1, 1, -1 if pixdim[0] < 0 else 1]
    qform = np.column_stack([rotation * steps, rest[:3]]) if qform_code > 0 else None
    sform = np.array(rest[3:]).reshape(3, 4) if sform_code > 0 else None
    return qform, sform


def _nifti_layout(header: bytes) -> tuple[int, int, np.dtype]:
    """Return where the voxels begin, how many there are, and their type, from a NIfTI-1 or NIfTI-2 header."""
    order = "<" if int.from_bytes(header[:4], "little") in (348, 540) else ">"
    version_2 = int(np.frombuffer(header, f"{order}i4", 1)[0]) == 540
    # Byte positions of dim, datatype and vox_offset in nifti1.h and nifti2.h.
    if version_2:
        dim = np.frombuffer(header, f"{order}i8", 8, 16)
        code, offset = np.frombuffer(header, f"{order}i2", 1, 12)[0], np.frombuffer(header, f"{order}i8", 1, 168)[0]
    else:
        dim = np.frombuffer(header, f"{order}i2", 8, 40)
        code, offset = np.frombuffer(header, f"{order}i2", 1, 70)[0], np.frombuffer(header, f"{order}f4", 1, 108)[0]
    kind = _NIFTI_TYPES.get(int(code), "u1")
    return int(offset), int(np.prod(dim[1 : 1 + int(dim[0])].astype(np.int64))), np.dtype(order + kind)


def _nifti_geometry(header: bytes) -> tuple[list[int], np.ndarray, int]:
    """Return dim, the voxel size (x, y, z) and the code of the type, from a NIfTI-1 or NIfTI-2 header."""
    order = "<" if int.from_bytes(header[:4], "little") in (348, 540) else ">"
    version_2 = int(np.frombuffer(header, f"{order}i4", 1)[0]) == 540
    whole, real, dim_at, code_at, spacing_at = ("i8", "f8", 16, 12, 112) if version_2 else ("i2", "f4", 40, 70, 80)
    dim = np.frombuffer(header, order + whole, 8, dim_at).tolist()
    return dim, np.frombuffer(header, order + real, 3, spacing_at), int(np.frombuffer(header, f"{order}i2", 1, code_at)[0])
