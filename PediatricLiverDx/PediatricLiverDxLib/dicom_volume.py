"""A CT series becomes a 3D image in HU on exactly the grid of its slices, or is refused with one sentence.

Slices are sorted along the normal of the image plane. A few missing ones are filled linearly between their neighbours, with a warning.
"""

from __future__ import annotations

import itertools
import warnings
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset

from .dicom import SAME_POSITION_MM, Series, Slice
from .hounsfield import AIR, MIN_SLICES, MOST_HU, beyond_range, refuse_size
from .notices import Notice, grave
from .private_folder import make_private_folder
from .vocabulary import InputError

_NATIVE = (
    pydicom.uid.ImplicitVRLittleEndian, pydicom.uid.ExplicitVRLittleEndian, pydicom.uid.ExplicitVRBigEndian,
    pydicom.uid.DeflatedExplicitVRLittleEndian,
)  # fmt: skip

#: What a decoder has to know.
_PIXEL_TAGS = {
    pydicom.datadict.tag_for_keyword(keyword)
    for keyword in (
        "SOPInstanceUID", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns",
        "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData",
    )
}  # fmt: skip
_CT_IMAGE, _MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.7.3"

#: A slice may lie this part of the spacing off the uniform grid.
UNEVEN = 0.1

#: Gaps up to this many slices, and up to this part of all slices, are filled.
MAX_GAP_SLICES = 2
MAX_FILLED = 0.1

#: Slices further apart than this many of their thickness leave gaps.
_APART = 1.5

#: From this gantry tilt in the headers on, positions that show none are doubted.
TILT_DEGREES = 1.0


def series_image(series: Series) -> tuple[sitk.Image, tuple[str, ...]]:
    """Read the pixels of a series.

    Returns:
        The image in HU (int16, or float32 where the rescale is not integral), x along the image rows, y along the columns, z along their
        normal; and warnings.

    Raises:
        InputError: too few or too many slices, gaps, uneven spacing, gantry tilt, damaged or undecodable pixel data.
    """
    pixels = SlicePixels(series)
    slices, notes = _without_duplicates(series, pixels)
    if len(slices) < MIN_SLICES:
        raise InputError(f"{series.label}: expected at least {MIN_SLICES} slices, got {len(slices)}; give the whole series.")
    normal = series.normal
    slices = sorted(slices, key=lambda s: float(np.dot(s.position, normal)))
    positions = np.array([s.position for s in slices])
    notes += _drift_notes(series, positions)
    rows, spacing = _grid_rows(series.label, positions @ normal)
    size = (*series.size, int(rows[-1]) + 1)
    refuse_size(size, series.label)
    if len(rows) < size[2]:
        missing = f"{size[2] - len(rows)} of {size[2]} slices are missing"
        notes.append(grave(f"{series.label}: {missing}; they are interpolated from their neighbours."))
    if series.thickness and spacing > _APART * series.thickness:
        text = f"slices are {series.thickness:.1f} mm thick but {spacing:.1f} mm apart"
        notes.append(grave(f"{series.label}: {text}, so every other one may be missing; copy the whole series again if there are more."))
    if series.lossy:
        notes.append(f"{series.label}: was compressed with loss (JPEG or the like), so fine detail and noise are not as scanned.")
    without = sum(s.rescale is None for s in slices)
    if 0 < without < len(slices):
        raise InputError(
            f"{series.label}: expected rescale slope and intercept in every slice, got {without} of {len(slices)} slices without them; "
            "export the series again."
        )
    if without:
        notes.append(grave(f"{series.label}: carries no rescale slope and intercept; its values are taken as HU."))
    slopes = {one.rescale[0] for one in slices if one.rescale}
    if len(slopes) > 1:
        between = f"{min(slopes):.3g} to {max(slopes):.3g}"
        notes.append(grave(f"{series.label}: the rescale slope differs from slice to slice ({between}), unusual in CT; check the HU."))
    volume = np.empty(size[::-1], np.int16 if all(_integral(s) for s in slices) else np.float32)
    for row, one in zip(rows, slices, strict=True):
        volume[row] = pixels.hu(one)
    if above := sum(map(pixels.above, slices)):
        notes.append(grave(beyond_range(series.label, above)))
    _fill(volume, rows)
    image = sitk.GetImageFromArray(volume)
    image.SetOrigin(positions[0].tolist())
    image.SetSpacing((series.pixel_spacing[1], series.pixel_spacing[0], spacing))
    axes = _orthonormal(np.array(series.orientation))
    image.SetDirection(axes.T.ravel().tolist())
    return image, tuple(notes)


def _orthonormal(orientation: np.ndarray) -> np.ndarray:
    """Return row, column and normal directions as the rows of a rotation: headers round their cosines to a few digits."""
    row = orientation[:3] / np.linalg.norm(orientation[:3])
    normal = np.cross(row, orientation[3:])
    normal /= np.linalg.norm(normal)
    return np.array([row, np.cross(normal, row), normal])


def _without_duplicates(series: Series, pixels: SlicePixels) -> tuple[list[Slice], list[str]]:
    """Keep one slice at each position: the first by instance number."""
    at_place = defaultdict(list)
    for one in sorted(series.slices, key=lambda s: s.instance):
        at_place[round(float(np.dot(one.position, series.normal)) / SAME_POSITION_MM)].append(one)
    kept, same, different = [], 0, 0
    for first, *others in at_place.values():
        kept.append(first)
        equal = [np.array_equal(pixels.hu(first), pixels.hu(other)) for other in others]
        same += sum(equal)
        different += not all(equal)
    notes = []
    if different > len(kept) // 4:
        raise InputError(
            f"{series.label}: expected one image at each position, got {different} positions with several different images and "
            "nothing in the headers that tells them apart; give one series for each phase."
        )
    if same:
        notes.append(f"{series.label}: {same} slices lie twice in the series; one of each is used.")
    if different:
        notes.append(grave(f"{series.label}: at {different} positions two different images lie; the first of each is used."))
    return kept, notes


def _drift_notes(series: Series, positions: np.ndarray) -> list[Notice]:
    """Refuse a stack that does not run along its normal, which shears every voxel; say it where the shear is slight."""
    normal = series.normal / np.linalg.norm(series.normal)
    travel = positions - positions[0]
    along = travel @ normal
    across = travel - along[:, None] * normal
    drift = np.linalg.norm(across, axis=1)
    if drift.max() <= 0.5 * min(series.pixel_spacing):
        turned = float(np.degrees(np.arccos(min(1.0, abs(normal[2])))))
        if abs(series.tilt) >= TILT_DEGREES and turned < 0.5 * abs(series.tilt):
            return [
                grave(
                    f"{series.label}: its headers give a gantry tilt of {abs(series.tilt):.1f} degrees that its positions do not show; "
                    "check that it was straightened."
                )
            ]
        return []
    if drift.max() <= max(min(series.pixel_spacing), 0.01 * along[-1]):
        return [
            grave(
                f"{series.label}: its slices drift sideways by {drift.max():.1f} mm over {along[-1]:.0f} mm; "
                "they are stacked straight, so positions are wrong by up to that."
            )
        ]
    angle = float(np.degrees(np.arctan2(drift[-1], along[-1])))
    straight = np.abs(across - np.outer(along / along[-1], across[-1])).max() <= 1.0
    if straight:
        raise InputError(
            f"{series.label}: expected slices at right angles to the table, got a gantry tilt of {angle:.1f} degrees; "
            "give a series reconstructed without tilt."
        )
    raise InputError(
        f"{series.label}: expected slices stacked in one straight line, got slices that shift sideways; "
        "give one series of one scan."
    )


def _grid_rows(label: str, distances: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the row of each slice on a uniform grid, and the grid's spacing in mm."""
    gaps = np.diff(distances)
    usual = float(np.median(gaps))
    rows = np.concatenate([[0], np.cumsum(np.maximum(1, np.round(gaps / usual)))]).astype(int)
    spacing = float((distances[-1] - distances[0]) / rows[-1])
    uneven = float(np.abs(distances - distances[0] - rows * spacing).max())
    missing = int(rows[-1] + 1 - len(rows))
    largest = int(np.diff(rows).max()) - 1
    if missing and (largest > MAX_GAP_SLICES or missing > MAX_FILLED * rows[-1]):
        raise InputError(
            f"{label}: expected slices every {usual:.2f} mm, got a gap of {gaps.max():.1f} mm and {missing} slices missing of "
            f"{rows[-1] + 1}; "
            "copy the whole series again."
        )
    if uneven > UNEVEN * usual:
        raise InputError(
            f"{label}: expected evenly spaced slices, got distances from {gaps.min():.2f} to {gaps.max():.2f} mm; "
            "give a series with one spacing."
        )
    return rows, spacing


def _fill(volume: np.ndarray, rows: np.ndarray) -> None:
    for below, above in itertools.pairwise(rows):
        for row in range(below + 1, above):
            weight = (row - below) / (above - below)
            mixed = (1 - weight) * volume[below].astype(np.float32) + weight * volume[above].astype(np.float32)
            volume[row] = np.round(mixed) if volume.dtype == np.int16 else mixed


def _integral(one: Slice) -> bool:
    return all(float(number).is_integer() and abs(number) <= _LARGEST_INTEGER for number in one.rescale or (1.0, 0.0))


#: Slopes and intercepts up to this are computed with 32 bits where 16 are stored, else with 64.
_LARGEST_INTEGER = 20_000

#: Unsigned stored values from here on are negative ones that were written as unsigned (-2000 as 63536): no CT reaches them.
_WRAPPED = 63_000

#: More values than this are no padding.
_PADDING_VALUES = 8


class SlicePixels:
    """HU of slices, read when asked for; multi-frame files are decoded once."""

    def __init__(self, series: Series):
        self._label = series.label
        self._shape = series.size[::-1]
        self._file: tuple[Path, np.ndarray] | None = None
        self._padding: int | None = None
        self._above: dict[tuple[Path, int], int] = {}

    def hu(self, one: Slice) -> np.ndarray:
        """Return (row, column) in HU: int16 where the rescale is integral, else float32."""
        if self._file is None or self._file[0] != one.path:
            self._file = one.path, self._decode(one)
        frames = self._file[1]
        if one.frame >= len(frames):
            raise InputError(f"{self._label}: expected {one.frame + 1} frames or more in a file, got {len(frames)}; copy the exam again.")
        stored = frames[one.frame]
        slope, intercept = (int(n) for n in one.rescale or (1, 0)) if _integral(one) else one.rescale
        wide = np.int64 if stored.itemsize > 2 else np.int32
        hu = stored.astype(wide if _integral(one) else np.float64) * slope + intercept
        padding = self._is_padding(stored)
        if intercept > AIR // 2 and len(np.unique(stored[padding])) > _PADDING_VALUES:
            raise InputError(f"{self._label}: expected negative HU in signed pixels, got them in unsigned ones; export the series again.")
        hu[padding] = AIR
        self._above[one.path, one.frame] = int(np.count_nonzero(hu > MOST_HU))
        hu = np.clip(hu, -MOST_HU - 1, MOST_HU)
        return hu.astype(np.int16 if _integral(one) else np.float32)

    def above(self, one: Slice) -> int:
        """Return how many voxels of a slice lay above MOST_HU when its HU were read."""
        return self._above[one.path, one.frame]

    def _is_padding(self, stored: np.ndarray) -> np.ndarray:
        """Tell which stored values were not scanned: the padding value, and wrapped negative ones where such lie at the border."""
        padding = stored == self._padding if self._padding is not None else np.zeros(stored.shape, bool)
        wrapped = stored >= _WRAPPED
        at_border = any(np.any(wrapped[side]) for side in (0, -1, np.s_[:, 0], np.s_[:, -1]))
        return padding | wrapped if at_border else padding

    def _decode(self, one: Slice) -> np.ndarray:
        """Return stored values (frame, row, column)."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                header = pydicom.dcmread(one.path, force=True)
                syntax = getattr(header.file_meta, "TransferSyntaxUID", pydicom.uid.ImplicitVRLittleEndian)
                stored = header.get("PixelData")
        except Exception as error:
            raise InputError(
                f"{self._label}: a slice's file is damaged or cut short ({type(error).__name__}); "
                "copy the exam again."
            ) from error
        if stored is None:
            raise InputError(f"{self._label}: a slice's file is cut short before its pixels; copy the exam again.")
        if header.get("BitsAllocated") is None:
            raise InputError(f"{self._label}: expected the number of bits of a pixel in every file, got none; export the series again.")
        self._padding = _padding_of(header)
        if syntax not in _NATIVE:
            return self._decompress(header, syntax)
        return self._native(header, bytes(stored), syntax)

    def _native(self, header: Dataset, stored: bytes, syntax: pydicom.uid.UID) -> np.ndarray:
        allocated = int(header.BitsAllocated)
        if allocated not in (8, 16, 32):
            raise InputError(f"{self._label}: expected 8, 16 or 32 bits a pixel, got {allocated}; convert the series to 16 bits.")
        frames = int(header.get("NumberOfFrames") or 1)
        count = frames * self._shape[0] * self._shape[1]
        order = ">" if syntax == pydicom.uid.ExplicitVRBigEndian else "<"
        if len(stored) < count * allocated // 8:
            raise InputError(f"{self._label}: a slice's pixel data is cut short; copy the exam again.")
        signed = bool(header.get("PixelRepresentation", 0))
        values = np.frombuffer(stored, np.dtype(f"{order}{'i' if signed else 'u'}{allocated // 8}"), count).reshape(frames, *self._shape)
        unused = allocated - int(header.get("BitsStored", allocated))
        if unused > 0:  # old scanners keep overlays in the unused bits; the shifts clear them and extend the sign
            values = (values << unused) >> unused
        return values

    def _decompress(self, header: Dataset, syntax: pydicom.uid.UID) -> np.ndarray:
        """Let GDCM decode a copy of the pixels in a temporary file, or pydicom where it knows a codec that GDCM does not.

        The copy holds all frames and nothing of the patient, and no rescale: GDCM would take the first frame's for all of them.
        """
        try:
            with closing(make_private_folder()) as folder:
                path = folder.path / "pixels.dcm"
                _pixels_only(header).save_as(path)
                image = sitk.ReadImage(str(path), imageIO="GDCMImageIO")
            return sitk.GetArrayFromImage(image).reshape(-1, *self._shape)
        except (RuntimeError, ValueError):
            pass
        try:
            return header.pixel_array.reshape(-1, *self._shape)
        except Exception as error:
            raise InputError(
                f"{self._label}: expected pixels in a coding that this software reads, got damaged ones or {syntax.name}; "
                "export the series again without compression."
            ) from error


def _pixels_only(header: Dataset) -> Dataset:
    """Return a data set as GDCM needs it to decode the pixels: one image, or a secondary capture of several frames."""
    several = int(header.get("NumberOfFrames") or 1) > 1
    elements = {tag: header[tag] for tag in header.keys() if tag in _PIXEL_TAGS}  # noqa: SIM118 - iterating gives elements
    copy = FileDataset("", elements, header.preamble, FileMetaDataset(header.file_meta), is_implicit_VR=False)
    copy.file_meta.MediaStorageSOPClassUID = copy.SOPClassUID = _MULTI_FRAME if several else _CT_IMAGE
    return copy


def _padding_of(header: Dataset) -> int | None:
    """Return the stored value of what was not scanned, with the sign of the pixels: some writers store a negative value as unsigned."""
    padding, allocated = header.get("PixelPaddingValue"), int(header.BitsAllocated)
    if padding is None:
        return None
    signed = bool(header.get("PixelRepresentation", 0))
    if signed and int(padding) >= 2 ** (allocated - 1):
        return int(padding) - 2**allocated
    return int(padding) + (2**allocated if not signed and int(padding) < 0 else 0)
