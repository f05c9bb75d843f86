"""A small drawn abdomen in four phases, and the files that a CD, a converter or an accident makes of it. For tests only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, generate_uid

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
DOSE_REPORT = "1.2.840.10008.5.1.4.1.1.88.67"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

#: HU of liver, aorta, portal vein and kidney in each phase.
ORGANS = {"PC": (62, 45, 44, 40), "AP": (82, 290, 95, 170), "PVP": (113, 155, 180, 175), "DP": (96, 120, 118, 145)}


def abdomen(phase: str = "PVP", slices: int = 16, matrix: int = 96, seed: int = 0) -> np.ndarray:
    """Return int16 HU (slice, row, column) of a body 0.8 of the matrix wide, in canonical orientation."""
    liver, aorta, portal, kidney = ORGANS[phase]
    y, x = np.mgrid[:matrix, :matrix] / matrix - 0.5
    hu = np.full((matrix, matrix), -1000.0)

    def disc(cx, cy, rx, ry):
        return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1

    hu[disc(0, 0, 0.4, 0.3)] = -90
    hu[disc(0, 0, 0.37, 0.27)] = 50
    hu[disc(0.02, -0.05, 0.28, 0.17)] = -60
    hu[disc(-0.18, -0.04, 0.17, 0.19)] = liver
    hu[disc(-0.16, -0.04, 0.03, 0.03)] = portal
    hu[disc(0.0, 0.15, 0.06, 0.05)] = 350
    hu[disc(0.0, 0.15, 0.05, 0.04)] = 180
    hu[disc(0.0, 0.215, 0.045, 0.035)] = 350
    hu[disc(0.0, 0.215, 0.025, 0.018)] = 35
    hu[disc(0.03, 0.07, 0.026, 0.026)] = aorta
    for side in (-1, 1):
        hu[disc(side * 0.2, 0.13, 0.055, 0.075)] = kidney
    noise = np.random.default_rng(seed).normal(0, 6, (slices, matrix, matrix))
    noise += np.linspace(0, 4, slices)[:, None, None] * (hu > -500)
    return np.clip(hu + noise, -1024, 3000).round().astype(np.int16)


def as_image(hu: np.ndarray, spacing=(3.0, 3.0, 4.0), origin=(-140.0, -140.0, -300.0), direction=None) -> sitk.Image:
    """Return an image of an array (slice, row, column); spacing and origin in x, y, z."""
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    if direction is not None:
        image.SetDirection(direction)
    return image


def header(sop_class: str = CT_IMAGE, syntax: str = ExplicitVRLittleEndian, **tags) -> FileDataset:
    """Return a data set with what every object needs; tags override."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.TransferSyntaxUID = syntax
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = generate_uid()
    ds.Modality = "CT"
    ds.PatientID, ds.PatientName, ds.PatientBirthDate = "SECRET-77", "Geheim^Anna", "20200131"
    ds.StudyInstanceUID, ds.FrameOfReferenceUID, ds.StudyDate = "1.2.3", "1.2.3.9", "20240102"
    for keyword, value in tags.items():
        if value is None:
            ds.pop(keyword, None)
        else:
            setattr(ds, keyword, value)
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


def save(ds: FileDataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        ds.save_as(path, enforce_file_format=True)
    except TypeError:  # pydicom 2.4
        ds.save_as(path, write_like_original=False)
    return path


def write_series(
    folder: Path,
    hu: np.ndarray,
    *,
    spacing=(3.0, 3.0, 4.0),
    origin=(-140.0, -140.0, -300.0),
    orientation=(1, 0, 0, 0, 1, 0),
    shear: float = 0.0,
    slope: float | None = 1,
    intercept: float | None = -1024,
    rle: bool = False,
    per_slice=lambda index: {},
    **tags,
) -> list[Path]:
    """Write one CT series, a file a slice, in shuffled file order.

    Args:
        hu: (slice, row, column); slices follow the normal of the orientation.
        spacing: x, y, z in mm; origin: LPS mm of the first slice's first voxel.
        shear: mm by which each slice shifts along its columns (gantry tilt).
        per_slice: index -> tags of that slice; a value None deletes the tag.
    """
    uid = tags.pop("SeriesInstanceUID", generate_uid())
    row, column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    normal = np.cross(row, column)
    paths = []
    for index, plane in enumerate(hu):
        stored = np.round((plane.astype(float) - (intercept or 0)) / (slope or 1)).astype(np.int16)
        ds = header(SeriesInstanceUID=uid, SeriesNumber=3, InstanceNumber=index + 1, ImageType=["ORIGINAL", "PRIMARY", "AXIAL"])
        position = np.array(origin) + index * spacing[2] * normal + index * shear * column
        ds.ImagePositionPatient = [f"{v:.6f}" for v in position]
        ds.ImageOrientationPatient = [f"{v:.8f}" for v in orientation]
        ds.PixelSpacing = [spacing[1], spacing[0]]
        ds.SliceThickness = spacing[2]
        ds.Rows, ds.Columns = plane.shape
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        if slope is not None:
            ds.RescaleSlope, ds.RescaleIntercept = slope, intercept
        ds.PixelData = stored.astype("<i2").tobytes()
        for keyword, value in {**tags, **per_slice(index)}.items():
            if value is None:
                ds.pop(keyword, None)
            else:
                setattr(ds, keyword, value)
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        if rle:
            ds.compress(RLELossless)
        name = f"{(index * 7919) % 1009:04d}_{index}"  # file order is not slice order
        paths.append(save(ds, folder / name))
    return paths


def write_compressed(path: Path, source: Path, compressor: str) -> Path:
    """Write a copy of a single-slice CT file in another compression through GDCM: "JPEG2000" or "JPEG" (lossless)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.ReadImage(str(source), sitk.sitkInt16, imageIO="GDCMImageIO")
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.KeepOriginalImageUIDOn()
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    writer.SetFileName(str(path))
    writer.Execute(image)
    # GDCM's writer regroups the header, so the original one gets its pixels.
    original, compressed = pydicom.dcmread(source), pydicom.dcmread(path)
    original.file_meta.TransferSyntaxUID = compressed.file_meta.TransferSyntaxUID
    original.PixelData = compressed.PixelData
    original["PixelData"].is_undefined_length = True
    for keyword in ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "RescaleSlope", "RescaleIntercept"):
        setattr(original, keyword, compressed.get(keyword))
    return save(original, path)


def write_enhanced(path: Path, hu: np.ndarray, spacing=(3.0, 3.0, 4.0), origin=(-140.0, -140.0, -300.0), **tags) -> Path:
    """Write one multi-frame Enhanced CT file; frames run from head to feet."""

    def item(**values):
        ds = Dataset()
        for keyword, value in values.items():
            setattr(ds, keyword, value)
        return ds

    def sequence(**values):
        return Sequence([item(**values)])

    ds = header(ENHANCED_CT, SeriesInstanceUID=generate_uid(), SeriesNumber=8, ImageType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], **tags)
    ds.Rows, ds.Columns, ds.NumberOfFrames = hu.shape[1], hu.shape[2], len(hu)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.SharedFunctionalGroupsSequence = sequence(
        PlaneOrientationSequence=sequence(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
        PixelMeasuresSequence=sequence(PixelSpacing=[spacing[1], spacing[0]], SliceThickness=spacing[2]),
        PixelValueTransformationSequence=sequence(RescaleSlope=1, RescaleIntercept=-1000, RescaleType="HU"),
    )
    ds.PerFrameFunctionalGroupsSequence = Sequence(
        [
            item(PlanePositionSequence=sequence(ImagePositionPatient=[origin[0], origin[1], origin[2] + z * spacing[2]]))
            for z in reversed(range(len(hu)))
        ]
    )
    ds.PixelData = (hu[::-1].astype(np.int32) + 1000).astype("<i2").tobytes()
    return save(ds, path)


def write_without_preamble(path: Path) -> None:
    """Rewrite a file as old archives do: implicit VR, no preamble, no meta group."""
    ds = pydicom.dcmread(path)
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    save(ds, path)
    whole = path.read_bytes()
    length = int.from_bytes(whole[140:144], "little")
    path.write_bytes(whole[144 + length :])
