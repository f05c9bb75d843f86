"""What a disc holds, from headers alone, and series as volumes: real DICOM files written here and the real CT beside the repository."""

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PediatricLiverDxLib.dicom import read_disc
from PediatricLiverDxLib.dicom_volume import series_image
from PediatricLiverDxLib.patients import Patient
from PediatricLiverDxLib.vocabulary import InputError
from PediatricLiverDxLib.volume_files import is_dicom
from synthetic_ct import (
    DOSE_REPORT,
    SECONDARY_CAPTURE,
    SEGMENTATION,
    abdomen,
    header,
    save,
    write_compressed,
    write_enhanced,
    write_series,
    write_without_preamble,
)

REAL = Path(__file__).resolve().parents[2] / "shared" / "ct"
CT = abdomen("PVP", slices=8, matrix=48)


def only_image(folder):
    (series,) = read_disc(folder).series
    return series_image(series)


def refused(folder, *words):
    with pytest.raises(InputError) as caught:
        only_image(folder)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "Geheim" not in message
    assert "SECRET" not in message


def test_pixels_and_geometry_are_exact(tmp_path):
    write_series(tmp_path, CT, spacing=(0.7, 0.9, 2.5), origin=(-10.5, 20.25, -700.125))
    image, warnings = only_image(tmp_path)
    assert np.array_equal(sitk.GetArrayViewFromImage(image), CT)
    assert image.GetSpacing() == pytest.approx((0.7, 0.9, 2.5))
    assert image.GetOrigin() == pytest.approx((-10.5, 20.25, -700.125))
    assert warnings == ()


def test_oblique_series_agrees_with_gdcm(tmp_path):
    c, s = np.cos(0.2), np.sin(0.2)
    paths = write_series(tmp_path, CT, orientation=(1, 0, 0, 0, c, s))
    image, _ = only_image(tmp_path)
    reference = sitk.ReadImage([str(path) for path in paths])
    assert image.GetDirection() == pytest.approx(reference.GetDirection(), abs=1e-6)
    assert image.GetOrigin() == pytest.approx(reference.GetOrigin(), abs=1e-5)
    assert image.GetSpacing() == pytest.approx(reference.GetSpacing(), abs=1e-5)
    assert np.array_equal(sitk.GetArrayViewFromImage(image), sitk.GetArrayViewFromImage(reference))


def test_prone_and_feet_first_orientation(tmp_path):
    write_series(tmp_path, CT, orientation=(-1, 0, 0, 0, -1, 0))
    image, _ = only_image(tmp_path)
    assert image.GetDirection() == pytest.approx((-1, 0, 0, 0, -1, 0, 0, 0, 1))


def test_rescale_of_each_slice_is_honoured(tmp_path):
    write_series(tmp_path, CT, per_slice=lambda z: {"RescaleSlope": 1, "RescaleIntercept": -1024 + 10 * z})
    image, _ = only_image(tmp_path)
    expected = CT + 10 * np.arange(8, dtype=np.int16)[:, None, None]
    assert np.array_equal(sitk.GetArrayViewFromImage(image), expected)


def test_fractional_slope_gives_float(tmp_path):
    write_series(tmp_path, CT, slope=0.5, intercept=-1000)
    image, _ = only_image(tmp_path)
    assert image.GetPixelID() == sitk.sitkFloat32
    assert np.array_equal(sitk.GetArrayViewFromImage(image), CT)


def test_overlay_bits_above_the_stored_ones_are_cleared(tmp_path):
    def unsigned(z):
        stored = (CT[z] + 1024).astype("<u2") | 0xA000
        return {"PixelData": stored.tobytes(), "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0}

    write_series(tmp_path, CT, per_slice=unsigned)
    image, _ = only_image(tmp_path)
    assert np.array_equal(sitk.GetArrayViewFromImage(image), CT)


def test_run_length_coding(tmp_path):
    write_series(tmp_path, CT, rle=True)
    assert np.array_equal(sitk.GetArrayViewFromImage(only_image(tmp_path)[0]), CT)


@pytest.mark.parametrize("compressor", ["JPEG2000", "JPEG"])
def test_lossless_compression(tmp_path, compressor):
    for path in write_series(tmp_path / "plain", CT):
        write_compressed(tmp_path / "disc" / f"{path.name}.dcm", path, compressor)
    assert np.array_equal(sitk.GetArrayViewFromImage(only_image(tmp_path / "disc")[0]), CT)


def test_unknown_compression_is_refused(tmp_path):
    for path in write_series(tmp_path, CT, rle=True):
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.7\0"))
    refused(tmp_path, "coding that this software reads", "1.2.840.10008.1.2.7", "without compression")


def test_files_without_preamble(tmp_path):
    for path in write_series(tmp_path, CT):
        write_without_preamble(path)
        assert is_dicom(path)
    assert np.array_equal(sitk.GetArrayViewFromImage(only_image(tmp_path)[0]), CT)


def test_compression_with_loss_is_said(tmp_path):
    write_series(tmp_path, CT, LossyImageCompression="01", LossyImageCompressionRatio="12")
    _, warnings = only_image(tmp_path)
    assert [warning for warning in warnings if "compressed with loss" in warning]


def test_hu_that_16_bits_do_not_hold_are_cut_and_said(tmp_path):
    bright = CT.copy()
    bright[4, 20, 20] = 20_000
    write_series(tmp_path, bright, per_slice=lambda index: {"RescaleIntercept": 20_000} if index == 4 else {})
    image, warnings = only_image(tmp_path)
    assert sitk.GetArrayViewFromImage(image)[4, 20, 20] == 32767
    assert [warning for warning in warnings if "above 32767 HU" in warning]


def test_hu_beyond_32_bits_are_cut_too(tmp_path):
    def wide(index):
        stored = CT[index].astype("<i4") // 4
        stored[20, 20] = 2**30
        return {"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31, "PixelData": stored.tobytes()}

    write_series(tmp_path, CT, slope=4, intercept=0, per_slice=wide)
    image, warnings = only_image(tmp_path)
    assert (sitk.GetArrayViewFromImage(image)[:, 20, 20] == 32767).all()
    assert [warning for warning in warnings if "8 voxels lie above 32767 HU" in warning]


def test_what_is_cut_in_slices_that_lie_twice_is_counted_once(tmp_path):
    bright = CT.copy()
    bright[2, 20, 20] = 20_000
    tags = {"SeriesInstanceUID": "1.2.7", "AcquisitionTime": "101010"}
    write_series(tmp_path / "a", bright, **tags, per_slice=lambda index: {"RescaleIntercept": 20_000} if index == 2 else {})
    write_series(tmp_path / "b", bright[2:3], **tags, origin=(-140, -140, -292), RescaleIntercept=20_000)
    _, warnings = only_image(tmp_path)
    assert [warning for warning in warnings if "twice" in warning]
    assert [warning for warning in warnings if "1 voxel lies above 32767 HU" in warning]


def test_enhanced_multi_frame(tmp_path):
    write_enhanced(tmp_path / "one.dcm", CT)
    image, _ = only_image(tmp_path)
    assert np.array_equal(sitk.GetArrayViewFromImage(image), CT)
    assert image.GetOrigin() == pytest.approx((-140, -140, -300))


def test_everything_else_on_a_disc_is_left_out_and_counted(tmp_path):
    write_series(tmp_path / "A" / "B" / "C", CT)
    write_series(tmp_path / "scout", CT[:1], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], SeriesNumber=1)
    write_series(tmp_path / "mip", CT, ImageType=["DERIVED", "SECONDARY", "MIP"], SeriesNumber=7)
    write_series(tmp_path / "tracking", CT, SeriesDescription="SmartPrep Series", SeriesNumber=2)
    write_series(tmp_path / "iodine", CT, SeriesDescription="Iodine Map", SeriesNumber=9)
    write_series(tmp_path / "mr", CT, Modality="MR", SeriesNumber=10)
    save(header(DOSE_REPORT, Modality="SR"), tmp_path / "dose")
    save(header(SEGMENTATION, Modality="SEG"), tmp_path / "seg.dcm")
    save(header(SECONDARY_CAPTURE, Modality="OT"), tmp_path / "shot.dcm")
    (tmp_path / "autorun.inf").write_text("[autorun]")
    (tmp_path / "viewer.exe").write_bytes(bytes(range(256)) * 10)
    disc = read_disc(tmp_path)
    assert [series.label for series in disc.series] == ["series 3"]
    (left_out,) = disc.warnings
    for words in ("1 x localizer", "8 x projection", "8 x bolus tracking", "8 x iodine", "8 x MR", "1 x dose", "1 x segm", "1 x secondary"):
        assert words in left_out


def test_copies_of_slices_are_left_out(tmp_path):
    for path in write_series(tmp_path / "a", CT):
        (tmp_path / "copy").mkdir(exist_ok=True)
        (tmp_path / "copy" / path.name).write_bytes(path.read_bytes())
    disc = read_disc(tmp_path)
    assert len(disc.series[0].slices) == 8
    assert "8 files are copies" in disc.warnings[0]


def test_slices_stored_twice_under_new_identifiers(tmp_path):
    write_series(tmp_path / "a", CT, SeriesInstanceUID="1.2.7", AcquisitionTime="101010")
    write_series(tmp_path / "b", CT[2:4], SeriesInstanceUID="1.2.7", AcquisitionTime="101010", origin=(-140, -140, -292))
    image, warnings = only_image(tmp_path)
    assert np.array_equal(sitk.GetArrayViewFromImage(image), CT)
    assert "2 slices lie twice" in warnings[0]


@pytest.mark.parametrize(
    "tags", [("AcquisitionTime", "101010", "101100"), ("AcquisitionNumber", 1, 2), ("TemporalPositionIdentifier", 1, 2)], ids=lambda t: t[0]
)
def test_one_series_with_two_passes_becomes_two(tmp_path, tags):
    keyword, first, second = tags
    late = abdomen("DP", slices=8, matrix=48)
    write_series(tmp_path / "a", CT, SeriesInstanceUID="1.2.7", **{keyword: first})
    write_series(tmp_path / "b", late, SeriesInstanceUID="1.2.7", **{keyword: second})
    disc = read_disc(tmp_path)
    assert [series.label for series in disc.series] == ["series 3 part 1", "series 3 part 2"]
    for series, expected in zip(disc.series, (CT, late), strict=True):
        assert np.array_equal(sitk.GetArrayViewFromImage(series_image(series)[0]), expected)


def test_shuttle_mode_is_parted_by_time_at_each_position(tmp_path):
    late = abdomen("DP", slices=8, matrix=48)
    write_series(tmp_path / "a", CT, SeriesInstanceUID="1.2.7", per_slice=lambda z: {"AcquisitionTime": f"1010{10 + z}.5"})
    write_series(tmp_path / "b", late, SeriesInstanceUID="1.2.7", per_slice=lambda z: {"AcquisitionTime": f"1011{40 - z}"})
    first, second = read_disc(tmp_path).series
    assert np.array_equal(sitk.GetArrayViewFromImage(series_image(first)[0]), CT)
    assert np.array_equal(sitk.GetArrayViewFromImage(series_image(second)[0]), late)


def test_two_passes_that_nothing_tells_apart_are_refused(tmp_path):
    write_series(tmp_path / "a", CT, SeriesInstanceUID="1.2.7")
    write_series(tmp_path / "b", abdomen("DP", slices=8, matrix=48), SeriesInstanceUID="1.2.7")
    refused(tmp_path, "nothing in the headers")


def test_one_missing_slice_is_filled_and_said(tmp_path):
    ct = abdomen("PVP", slices=16, matrix=48)
    write_series(tmp_path, ct)
    next(p for p in tmp_path.iterdir() if p.name.endswith("_5")).unlink()
    image, warnings = only_image(tmp_path)
    voxels = sitk.GetArrayViewFromImage(image)
    assert voxels.shape == ct.shape
    assert np.abs(voxels[5] - (ct[4].astype(int) + ct[6]) / 2).max() <= 0.5
    assert np.array_equal(voxels[6], ct[6])
    assert "1 of 16 slices are missing" in warnings[0]
    assert warnings[0].grave


def test_large_gap_is_refused(tmp_path):
    write_series(tmp_path, abdomen("PVP", slices=16, matrix=48))
    for path in list(tmp_path.iterdir()):
        if path.name.split("_")[1] in "56789":
            path.unlink()
    refused(tmp_path, "gap of 24.0 mm", "5 slices missing of 16")


def test_uneven_spacing_is_refused(tmp_path):
    positions = [0, 4, 8, 13.5, 18, 23, 27, 33]
    write_series(tmp_path, CT, per_slice=lambda z: {"ImagePositionPatient": [-140, -140, positions[z]]})
    refused(tmp_path, "evenly spaced")


def test_gantry_tilt_is_refused(tmp_path):
    write_series(tmp_path, CT, shear=1.5)
    refused(tmp_path, "gantry tilt of 20.6 degrees")


def test_a_slight_drift_is_used_and_said_in_millimetres(tmp_path):
    write_series(tmp_path / "a", CT, shear=0.3)
    image, warnings = only_image(tmp_path / "a")
    assert np.array_equal(sitk.GetArrayViewFromImage(image), CT)
    assert "drift sideways by 2.1 mm over 28 mm" in warnings[0]
    assert warnings[0].grave
    write_series(tmp_path / "b", CT, shear=0.1)
    assert only_image(tmp_path / "b")[1] == (), "0.7 mm is a quarter of a pixel"


def test_a_tilt_that_positions_do_not_show_is_said(tmp_path):
    write_series(tmp_path / "a", CT, GantryDetectorTilt=-12.5)
    (warning,) = only_image(tmp_path / "a")[1]
    assert "a gantry tilt of 12.5 degrees that its positions do not show" in warning
    assert warning.grave
    c, s = np.cos(np.radians(12.5)), np.sin(np.radians(12.5))
    write_series(tmp_path / "b", CT, orientation=(1, 0, 0, 0, c, s), GantryDetectorTilt=12.5)
    assert only_image(tmp_path / "b")[1] == (), "the slices are turned and stacked along their normal"


def test_slices_that_shift_sideways_are_refused(tmp_path):
    write_series(tmp_path, CT, per_slice=lambda z: {"ImagePositionPatient": [-140 + 30 * (z % 2), -140, 4 * z]})
    refused(tmp_path, "shift sideways")


def test_missing_rescale_is_said(tmp_path):
    write_series(tmp_path, CT, slope=None, intercept=None)
    image, warnings = only_image(tmp_path)
    assert "no rescale slope" in warnings[0]
    assert warnings[0].grave
    assert np.array_equal(sitk.GetArrayViewFromImage(image), CT)


def test_truncated_pixels_are_refused(tmp_path):
    path = write_series(tmp_path, CT)[3]
    path.write_bytes(path.read_bytes()[:-1000])
    refused(tmp_path, "cut short")


def test_truncated_header_is_counted(tmp_path):
    path = write_series(tmp_path, CT)[7]
    path.write_bytes(path.read_bytes()[:400])
    disc = read_disc(tmp_path)
    assert "1 files are damaged, cut short" in " ".join(disc.warnings)
    assert len(disc.series[0].slices) == 7


def test_images_without_position_are_said(tmp_path):
    write_series(tmp_path / "a", CT)
    write_series(tmp_path / "b", CT, ImagePositionPatient=None)
    assert "8 CT images carry no usable position" in read_disc(tmp_path).warnings[0]


def test_two_patients_are_refused_without_naming_them(tmp_path):
    write_series(tmp_path / "a", CT)
    write_series(tmp_path / "b", CT, PatientID="SECRET-78")
    with pytest.raises(InputError, match="two or more patients") as caught:
        read_disc(tmp_path)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("1", "a b", "2020"), ("1", "a b", "2020"), True),
        (("1", "a b", "2020"), ("2", "a b", "2020"), False),
        (("1", "a b", "2020"), ("1", "a b", "2021"), False),
        (("1", "a b", "2020"), ("1", "a c", "2020"), True),
        (("1", "a b", ""), ("1", "x y", ""), False),
        (("", "", ""), ("1", "x y", "2020"), True),
    ],
)
def test_patients(one, other, same):
    assert Patient(*one).may_be(Patient(*other)) is same
    assert Patient(*other).may_be(Patient(*one)) is same


@pytest.mark.parametrize(
    ("folder", "named"),
    [("SIN MEI LING", True), ("2020_sin", True), ("MeilingSin", True), ("venous", False), ("ling01", True), ("si", False), ("", False)],
)
def test_a_patient_is_named_in_a_folder(folder, named):
    assert Patient("", "sin mei ling", "").is_named_in(folder) is named
    assert not Patient("", "", "").is_named_in(folder)


@pytest.mark.parametrize(
    ("agent", "route", "given"),
    [
        ("Omnipaque 300", "IV", True),
        ("Ultravist", "", True),
        ("ORAL & IV", "", True),
        ("Gastrografin", "ORAL", False),
        ("Oral contrast", "", False),
        ("none", "", False),
        ("", "IV", False),
    ],
)
def test_contrast_agent(tmp_path, agent, route, given):
    write_series(tmp_path, CT[:3], ContrastBolusAgent=agent, ContrastBolusRoute=route)
    assert bool(read_disc(tmp_path).series[0].agent) is given


@pytest.mark.parametrize(
    ("times", "seconds", "clock"),
    [
        ({"AcquisitionTime": "101010", "ContentTime": "111111"}, 36610.0, 36610.0),
        ({"AcquisitionTime": "000000", "ContentTime": "111111"}, None, 40271.0),
        ({"AcquisitionDateTime": "20240101000000", "AcquisitionTime": "101010"}, 36610.0, 36610.0),
        ({"SeriesTime": "000000"}, None, None),
    ],
)
def test_only_a_time_of_acquisition_is_one(tmp_path, times, seconds, clock):
    write_series(tmp_path, CT[:3], ContrastBolusStartTime="000000", **times)
    (series,) = read_disc(tmp_path).series
    assert series.seconds == seconds
    assert {s.clock for s in series.slices} == {clock}
    assert series.bolus_seconds is None


def test_a_compressed_file_whose_name_is_not_utf_8(tmp_path):
    for path in write_series(tmp_path, CT, rle=True):
        path.rename(os.fsdecode(os.fsencode(path) + b"\xe9"))
    assert np.array_equal(sitk.GetArrayViewFromImage(only_image(tmp_path)[0]), CT)


@pytest.mark.parametrize(
    ("kernel", "sharp"), [("B30f", False), ("B70f", True), ("LUNG", True), ("STANDARD", False), ("FC08", False), ("FC51", True)]
)
def test_kernels(tmp_path, kernel, sharp):
    write_series(tmp_path, CT[:3], ConvolutionKernel=kernel)
    assert read_disc(tmp_path).series[0].sharp is sharp


@pytest.mark.parametrize(("folder", "slices", "spacing"), [("lidc-0314-dicom", 57, 2.0), ("dcmqi-liver", 3, 1.0)])
def test_real_series_agree_with_gdcm(folder, slices, spacing):
    if not (REAL / folder).exists():
        pytest.skip("the real CT beside the repository is missing")
    (series,) = read_disc(REAL / folder).series
    image, _ = series_image(series)
    assert image.GetSize()[2] == slices
    assert image.GetSpacing()[2] == pytest.approx(spacing)
    ordered = sorted(series.slices, key=lambda s: s.position[2])
    reference = sitk.ReadImage([str(s.path) for s in ordered])
    assert image.GetOrigin() == pytest.approx(reference.GetOrigin())
    ours, theirs = sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(reference)
    assert np.array_equal(np.maximum(ours, -1024), np.maximum(theirs, -1024))
