"""Exams as they come on CDs: tables of contents, codings of pixels, multi-frame files, names of all kinds, tilted gantry, locked files."""

import base64
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from conftest import refusal
from PediatricLiverDxLib.dicom import read_disc
from PediatricLiverDxLib.dicom_volume import _pixels_only, series_image
from PediatricLiverDxLib.exam import read_exam
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.fileset import FileSet
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian
from synthetic_ct import SEGMENTATION, abdomen, as_image, header, save, write_compressed, write_enhanced, write_series

HTJ2K = "1.2.840.10008.1.2.4.201"
JPEG_LOSSLESS, JPEG_LS = "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.80"

#: One slice of 16 x 16 pixels (`slope_in_a_disc`, stored + 1024), as DCMTK's encoders write it.
CODED = {
    JPEG_LOSSLESS: "/9j/4AAQSkZJRgABAQAAAQABAAD/wwALEAAQABABAREA/8QAGgABAQEBAQEBAAAAAAAAAAAAAAEKAgsJD//aAAgBAQAGAAD8AFwAAAAAAAA9CDQroY0NaHd"
    "D+iLPAA9BjPhJJJ6IWd8HoIZ9JJJJPREzvBxJJJJJ0HEkkkknQcSSSSSdBxJJJJJ0HEkkkknQcSSSSSdBgB+/kkkknno6GAef/wDf2SSTz2dCgDz/AHPzn3z6Z8s9"
    "+e3QgAAA///Z",
    JPEG_LS: "/9j/9wALEAAQABABAREA//gADQH//wASAEMBFABA/9oACAEBAAAAAEL4AQBAEAgEAgEBAQEBAQEBAQA//qQ/gTAeBYDgcDAMJgQvgLACAIAgEAgAR/ChrIPwDg"
    "EAgICAgICAEQIURcBYCAgIECBAgQIAgEuAsCBAgQIECBAgEBLgWBBBBBBBBBAIBZgWCCCCCCCCCAQCzBYIIIIIIIIIBAWYLBBBBBBCEICAtQWEIQhCEAAA2oAbgsI"
    "QhCABSIA/gP//2Q==",
}  # fmt: skip


def slope_in_a_disc():
    y, x = np.mgrid[:16, :16]
    return np.where(np.hypot(x - 8, y - 8) < 6, 40 + 5 * x - 3 * y, -1000).astype(np.int16)


def only_image(folder):
    (series,) = read_disc(folder).series
    return series_image(series)


def voxels(folder):
    return sitk.GetArrayFromImage(only_image(folder)[0])


def refused(words, **arguments):
    message = refusal(words, **arguments)
    assert "/" not in message


# Table of contents


def write_cd(folder):
    """Write arterial and portal phase as a burning program does: a DICOMDIR, and files without extension in folders that say nothing."""
    files = FileSet()
    for number, (phase, name) in enumerate({"AP": "arterial", "PVP": "portal venous"}.items(), 3):
        tags = {"SeriesNumber": number, "SeriesDescription": name, "StudyID": "1", "StudyTime": "100000", "AccessionNumber": "1"}
        for path in write_series(folder.parent / f"source{number}", abdomen(phase, slices=6), **tags):
            files.add(path)
    files.write(folder)
    return folder


def test_a_cd_is_read_by_its_folder_or_by_its_table_of_contents(tmp_path):
    cd = write_cd(tmp_path / "cd")
    assert (cd / "DICOMDIR").is_file() and not [path for path in cd.rglob("*") if path.suffix]
    for exam in (read_exam(cd), read_exam(cd / "DICOMDIR"), read_exam(files={"AP": cd / "DICOMDIR"})):
        assert np.array_equal(sitk.GetArrayViewFromImage(exam.phases["AP"].image), abdomen("AP", slices=6))
        assert not [warning for warning in exam.warnings if "damaged" in warning or "Left out" in warning]


def test_a_damaged_table_of_contents_is_no_damaged_image(tmp_path):
    write_series(tmp_path, abdomen("PVP", slices=6))
    for name in ("DICOMDIR", "dicomdir.;1"):
        (tmp_path / name).write_bytes(b"\0" * 128 + b"DICM")
    assert read_disc(tmp_path).warnings == ()


def test_a_table_of_contents_whose_images_are_gone(tmp_path):
    cd = write_cd(tmp_path / "cd")
    for path in cd.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    refused("found none; give the folder of the whole exam", study=cd)


# Codings of pixels


def write_coded(folder, syntax, **tags):
    """Write three slices, all with the same pixels, in one of CODED."""
    for path in write_series(folder, np.stack([slope_in_a_disc()] * 3), **tags):
        ds = pydicom.dcmread(path)
        ds.file_meta.TransferSyntaxUID = syntax
        ds.PixelData = encapsulate([base64.b64decode(CODED[syntax])])
        save(ds, path)


@pytest.mark.parametrize("rescaled", [True, False], ids=["", "without rescale"])
@pytest.mark.parametrize("syntax", CODED)
def test_jpeg_lossless_and_jpeg_ls(tmp_path, syntax, rescaled):
    write_coded(tmp_path, syntax, **({} if rescaled else {"RescaleSlope": None, "RescaleIntercept": None}))
    assert np.array_equal(voxels(tmp_path)[1], slope_in_a_disc() + (0 if rescaled else 1024))


def test_deflated(tmp_path):
    ct = abdomen(slices=4, matrix=48)
    for path in write_series(tmp_path, ct):
        ds = pydicom.dcmread(path)
        ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        save(ds, path)
    assert np.array_equal(voxels(tmp_path), ct)


def test_a_coding_that_cannot_be_read_is_named(tmp_path):
    for path in write_series(tmp_path, abdomen(slices=4), rle=True):
        ds = pydicom.dcmread(path)
        ds.file_meta.TransferSyntaxUID = HTJ2K
        save(ds, path)
    refused(f"{pydicom.uid.UID(HTJ2K).name}; export the series again without compression", study=tmp_path)


def test_nothing_of_the_patient_is_in_the_copy_that_is_decoded(tmp_path):
    write_coded(tmp_path / "cd", JPEG_LS)
    path = tmp_path / "copy"
    _pixels_only(pydicom.dcmread(next((tmp_path / "cd").iterdir()))).save_as(path)
    assert np.array_equal(pydicom.dcmread(path).Rows, 16)
    assert not any(secret in path.read_bytes() for secret in (b"SECRET", b"Geheim", b"20200131", b"20240102"))


# Multi-frame files


def write_frames(path, hu, per_frame=lambda z: {}, **tags):
    """Write an Enhanced CT file whose frames have functional groups of their own: index of the slice -> sequence -> its tags."""
    write_enhanced(path, hu, **tags)
    ds = pydicom.dcmread(path)
    for z, frame in zip(reversed(range(len(hu))), ds.PerFrameFunctionalGroupsSequence, strict=True):
        for sequence, values in per_frame(z).items():
            item = Dataset()
            for keyword, value in values.items():
                setattr(item, keyword, value)
            setattr(frame, sequence, Sequence([item]))
    return save(ds, path)


def test_every_frame_has_its_own_rescale_and_position(tmp_path):
    stored = abdomen(slices=5, matrix=48)

    def rescale(z):
        return {"PixelValueTransformationSequence": {"RescaleSlope": z + 1, "RescaleIntercept": -1000 * (z + 1), "RescaleType": "HU"}}

    write_frames(tmp_path / "one", stored, rescale, spacing=(0.7, 0.9, 2.5), origin=(-10.5, 20.25, -700.125))
    image, _ = only_image(tmp_path)
    assert np.array_equal(sitk.GetArrayViewFromImage(image), stored * np.arange(1, 6, dtype=np.int16)[:, None, None])
    assert image.GetSpacing() == pytest.approx((0.7, 0.9, 2.5))
    assert image.GetOrigin() == pytest.approx((-10.5, 20.25, -700.125))


@pytest.mark.parametrize("syntax", CODED)
def test_compressed_frames(tmp_path, syntax):
    def rescale(z):
        return {"PixelValueTransformationSequence": {"RescaleSlope": 1, "RescaleIntercept": -1024 + z, "RescaleType": "HU"}}

    ds = pydicom.dcmread(write_frames(tmp_path / "one", np.stack([slope_in_a_disc()] * 4), rescale))
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = encapsulate([base64.b64decode(CODED[syntax])] * 4)
    save(ds, tmp_path / "one")
    assert np.array_equal(voxels(tmp_path), slope_in_a_disc() + np.arange(4, dtype=np.int16)[:, None, None])


@pytest.mark.parametrize(
    "groups",
    [
        lambda n: {"FrameContentSequence": {"FrameAcquisitionNumber": n + 1}},
        lambda n: {"FrameContentSequence": {"TemporalPositionIndex": n + 1}},
        lambda n: {"CTXRayDetailsSequence": {"KVP": (80, 140)[n]}},
    ],
    ids=["acquisition", "temporal position", "voltage"],
)
def test_one_file_with_two_passes_becomes_two(tmp_path, groups):
    """Frames come position by position, so that their order does not tell the passes apart."""
    early, late = abdomen("AP", slices=5, matrix=48), abdomen("DP", slices=5, matrix=48)
    write_frames(tmp_path / "one", np.stack([early, late], axis=1).reshape(10, 48, 48), lambda z: groups(z % 2))
    ds = pydicom.dcmread(tmp_path / "one")
    for z, frame in zip(reversed(range(10)), ds.PerFrameFunctionalGroupsSequence, strict=True):
        frame.PlanePositionSequence[0].ImagePositionPatient = [-140, -140, -300 + 4 * (z // 2)]
    save(ds, tmp_path / "one")
    series = read_disc(tmp_path).series
    assert [one.label for one in series] == ["series 8 part 1", "series 8 part 2"]
    volumes = [sitk.GetArrayFromImage(series_image(one)[0]) for one in series]
    assert all(any(np.array_equal(volume, expected) for volume in volumes) for expected in (early, late))


def test_more_frames_announced_than_there(tmp_path):
    ds = pydicom.dcmread(write_enhanced(tmp_path / "one", abdomen(slices=6)))
    ds.NumberOfFrames = 5
    ds.PixelData = ds.PixelData[: 5 * 96 * 96 * 2]
    save(ds, tmp_path / "one")
    refused("expected 6 frames or more in a file, got 5", study=tmp_path)


# Names and places


@pytest.mark.parametrize(
    "name",
    ["腹部增强 CT", "bébé 1 (2) 'x' & y", "👶🏽 liver", "x" * 200 + "/" + "y" * 200, b"Gr\xf6\xdfe", "a\nb"],
    ids=["Chinese", "blanks", "emoji", "long", "not UTF-8", "line break"],
)
def test_a_path_of_any_kind(tmp_path, name):
    folder = tmp_path / os.fsdecode(name)
    ct = abdomen("AP", slices=6)
    for path in write_series(tmp_path / "plain", ct):
        write_compressed(tmp_path / "coded" / path.name, path, "JPEG2000")
    folder.parent.mkdir(exist_ok=True)
    (tmp_path / "coded").rename(folder)
    exam = read_exam(folder)
    assert np.array_equal(sitk.GetArrayViewFromImage(exam.phases["AP"].image), ct)


def test_pipes_and_links_that_lead_nowhere_or_round(tmp_path):
    ct = abdomen("AP", slices=6)
    write_series(tmp_path / "cd", ct)
    os.mkfifo(tmp_path / "cd" / "pipe")
    (tmp_path / "cd" / "round").symlink_to("round")
    (tmp_path / "cd" / "gone").symlink_to("nothing")
    (tmp_path / "cd" / "above").symlink_to(tmp_path)
    assert np.array_equal(sitk.GetArrayViewFromImage(read_exam(tmp_path / "cd").phases["AP"].image), ct)
    refused("neither a folder nor a file", study=tmp_path / "cd" / "pipe")
    refused("neither a folder nor a file", files={"AP": tmp_path / "cd" / "pipe"})


@pytest.fixture
def locked(tmp_path):
    """Give a folder in which modes count, whoever runs the tests."""
    if not hasattr(os, "geteuid"):
        pytest.skip("no modes here")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    os.seteuid(os.getuid())
    shutil.rmtree(folder)


def as_nobody():
    if os.getuid() == 0:
        os.seteuid(65534)


def test_what_may_not_be_read_is_said(locked):
    write_series(locked / "dicom", abdomen("AP", slices=6))
    sitk.WriteImage(as_image(abdomen("AP")), str(locked / "AP.nii"))
    sorted((locked / "dicom").iterdir())[-1].chmod(0)
    (locked / "AP.nii").chmod(0)
    (locked / "folder").mkdir(mode=0)
    as_nobody()
    disc = read_disc(locked / "dicom")
    assert "1 files are damaged, cut short or may not be read" in disc.warnings[0]
    refused("Permission denied", files={"AP": locked / "AP.nii"})
    refused("Permission denied", study=locked / "AP.nii")
    refused("Permission denied", study=locked / "folder")


def test_where_nothing_is_a_ct_what_there_is_is_said(tmp_path):
    for number in range(4):
        save(header("1.2.840.10008.5.1.4.1.1.128", Modality="PT"), tmp_path / f"pet{number}")
    save(header("1.2.840.10008.5.1.4.1.1.104.1", Modality="DOC"), tmp_path / "letter")
    save(header(SEGMENTATION, Modality="SEG"), tmp_path / "seg")
    (tmp_path / "broken").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 30)
    refused("found 4 x PT object, 1 x document, 1 x segmentation, 1 damaged or locked files; give the folder", study=tmp_path)


# Tilted gantry


def test_a_straightened_reconstruction_is_used_in_place_of_the_tilted_one(tmp_path):
    ct = abdomen("AP", slices=16)
    tags = {"SeriesDescription": "arterial", "AcquisitionTime": "101010"}
    write_series(tmp_path / "a", ct, shear=1.0, SeriesNumber=2, GantryDetectorTilt=14.0, **tags)
    refused("got a gantry tilt of 14.0 degrees; give a series reconstructed without tilt", study=tmp_path)
    write_series(tmp_path / "b", ct, SeriesNumber=3, ImageType=["DERIVED", "SECONDARY", "REFORMATTED"], **tags)
    exam = read_exam(tmp_path)
    assert exam.phases["AP"].source == "series 3"
