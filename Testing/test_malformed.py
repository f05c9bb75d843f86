"""Headers that no sound writer makes: refused in one sentence, or read with a warning that says the truth; no traceback, no hang."""

import struct
import subprocess
import sys

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from conftest import refusal
from PediatricLiverDxLib.exam import read_exam
from synthetic_ct import abdomen, as_image, save, write_series

CT = abdomen("AP", slices=6, matrix=48)
NAMED = {"SeriesDescription": "arterial"}


def grave(exam, words):
    return any(words in warning and getattr(warning, "grave", False) for warning in exam.warnings)


# DICOM


@pytest.mark.parametrize(
    "tags",
    [
        {"Columns": None},
        {"Rows": None},
        {"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]},
        {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]},
        {"ImagePositionPatient": [1e308, 1e308, 0]},
    ],
    ids=["columns", "rows", "no orientation", "parallel axes", "far away"],
)
def test_images_without_geometry(tmp_path, tags):
    write_series(tmp_path, CT, per_slice=lambda z: tags, **NAMED)
    refusal("found 6 CT images without position", study=tmp_path)


def test_no_number_of_bits(tmp_path):
    write_series(tmp_path, CT, BitsAllocated=None, **NAMED)
    refusal("expected the number of bits of a pixel", study=tmp_path)


@pytest.mark.parametrize("slope", ["1e30", "1e9", "0"])
def test_a_slope_that_is_none(tmp_path, slope):
    write_series(tmp_path, CT, RescaleSlope=slope, **NAMED)
    refusal("expected CT in HU", study=tmp_path)


def test_negative_hu_written_as_unsigned_are_refusal(tmp_path):
    """Taken for padding, fat would become air."""
    for path in write_series(tmp_path, CT, intercept=0, **NAMED):
        ds = pydicom.dcmread(path)
        ds.PixelRepresentation = 0
        save(ds, path)
    refusal("expected negative HU in signed pixels, got them in unsigned ones", study=tmp_path)


def test_every_other_slice_missing_is_grave(tmp_path):
    for path in write_series(tmp_path, abdomen("AP", slices=20, matrix=48), **NAMED)[::2]:
        path.unlink()
    assert grave(read_exam(tmp_path), "slices are 4.0 mm thick but 8.0 mm apart, so every other one may be missing")


# Volume files


def nifti_with(path, offset, form, *values):
    sitk.WriteImage(as_image(CT), str(path))
    header = bytearray(path.read_bytes())
    struct.pack_into(f"<{form}", header, offset, *values)
    path.write_bytes(header)
    return path


@pytest.mark.parametrize("size", [0.0, np.nan, np.inf])
def test_a_nifti_without_voxel_size(tmp_path, size):
    refusal("expected a voxel size in mm, got 3 x 3 x", files={"AP": nifti_with(tmp_path / "AP.nii", 88, "f", size)})


HEADERS = {
    "negative size": (42, "h", -5),
    "no size": (42, "h", 0),
    "type": (70, "h", 9999),
    "dimensions": (40, "h", 30000),
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_nonsense_in_a_nifti_header_is_one_line(tmp_path, header):
    path = nifti_with(tmp_path / "AP.nii", *header)
    code = f"from PediatricLiverDxLib.exam import read_exam; from pathlib import Path; read_exam(files={{'AP': Path({str(path)!r})}})"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
    assert said.startswith("Traceback"), "nothing before our own"
    assert said.splitlines()[-1].endswith("got a damaged header; convert it again.")


def test_what_itk_thinks_of_a_header_is_not_told(tmp_path):
    path = nifti_with(tmp_path / "AP.nii", 80, "3f", -3, -3, -4)
    code = f"from PediatricLiverDxLib.exam import read_exam; from pathlib import Path; read_exam(files={{'AP': Path({str(path)!r})}})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr == ""


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_an_nrrd_without_voxel_size(tmp_path, encoding):
    path = tmp_path / "AP.nrrd"
    sitk.WriteImage(as_image(CT), str(path), useCompression=encoding == "gzip")
    header, _, voxels = path.read_bytes().partition(b"\n\n")
    kept = [line for line in header.splitlines() if not line.startswith((b"space", b"kinds"))]
    path.write_bytes(b"\n".join(kept) + b"\n\n" + voxels)
    refusal("expected a voxel size in mm, got a header without one", files={"AP": path})


def test_a_metaimage_without_voxel_size(tmp_path):
    path = tmp_path / "AP.mha"
    sitk.WriteImage(as_image(CT), str(path))
    path.write_bytes(b"\n".join(line for line in path.read_bytes().split(b"\n") if not line.startswith(b"ElementSpacing")))
    refusal("expected a voxel size in mm, got a header without one", files={"AP": path})
