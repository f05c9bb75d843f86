"""What is HU passes unchanged; what is not is refused in one sentence."""

import numpy as np
import pytest
import SimpleITK as sitk
from PediatricLiverDxLib import hounsfield
from PediatricLiverDxLib.hounsfield import canonical_hu
from PediatricLiverDxLib.vocabulary import InputError
from synthetic_ct import abdomen, as_image

CT = abdomen("PVP")


def refused(image, words):
    with pytest.raises(InputError) as caught:
        canonical_hu(image, "AP")
    message = str(caught.value)
    assert message.startswith("AP: ")
    assert words in message
    assert message.count(". ") == 0


def test_ct_passes_unchanged():
    image, warnings = canonical_hu(as_image(CT), "AP")
    assert np.array_equal(sitk.GetArrayViewFromImage(image), CT)
    assert image.GetPixelID() == sitk.sitkInt16
    assert warnings == ()


@pytest.mark.parametrize("direction", ["LPS", "RAS", "LAI", "SAR", "PIR"])
def test_any_orientation_becomes_canonical_without_resampling(direction):
    image, _ = canonical_hu(sitk.DICOMOrient(as_image(CT), direction), "AP")
    assert np.array_equal(sitk.GetArrayViewFromImage(image), CT)
    assert image.GetOrigin() == pytest.approx((-140, -140, -300))
    assert image.GetDirection() == pytest.approx(np.eye(3).ravel())


def test_oblique_stays_oblique_and_is_said():
    c, s = np.cos(0.3), np.sin(0.3)
    image, warnings = canonical_hu(as_image(CT, direction=(1, 0, 0, 0, c, -s, 0, s, c)), "AP")
    assert image.GetDirection() == pytest.approx((1, 0, 0, 0, c, -s, 0, s, c))
    assert any("oblique by 17.2 degrees" in warning for warning in warnings)


def test_float_hu_stay_float():
    image, _ = canonical_hu(as_image(CT.astype(np.float64) + 0.25), "AP")
    assert image.GetPixelID() == sitk.sitkFloat32
    assert sitk.GetArrayViewFromImage(image)[3, 40, 40] == CT[3, 40, 40] + 0.25


def test_padding_below_air_becomes_air():
    padded = CT.copy()
    padded[:, :10] = -3024
    image, _ = canonical_hu(as_image(padded), "AP")
    assert sitk.GetArrayViewFromImage(image).min() == hounsfield.AIR


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_more_than_16_bits_hold_is_cut_and_said(kind):
    bright = CT.astype(kind)
    bright[3, 40, 40:42] = 70_000
    image, warnings = canonical_hu(as_image(bright), "AP")
    voxels = sitk.GetArrayViewFromImage(image)
    assert voxels[3, 40, 40] == voxels.max() == hounsfield.MOST_HU
    assert np.array_equal(np.minimum(bright, hounsfield.MOST_HU), voxels)
    assert any("AP: 2 voxels lie above 32767 HU" in warning and warning.grave for warning in warnings)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(value):
    voxels = CT.astype(np.float32)
    voxels[2, 3, :5] = value
    refused(as_image(voxels), "5 voxels that are NaN or infinite")


def test_8_bit():
    refused(as_image(np.clip((CT + 110) * 255 / 290, 0, 255).astype(np.uint8)), "8-bit")


def test_normalised():
    refused(as_image(np.clip((CT + 110) / 290, 0, 1).astype(np.float32)), "8-bit or normalised")


def test_standardised():
    refused(as_image((CT / 400).astype(np.float32)), "normalised")


def test_no_rescale():
    refused(as_image((CT + 1024).clip(0).astype(np.uint16)), "rescale slope")


def test_no_rescale_with_padding():
    stored = CT + 1024
    stored[:, 12:84, 5:90] += 0
    stored[:, :2] = -2000
    refused(as_image(stored[:, :, 10:86]), "rescale slope")


@pytest.mark.parametrize("share", [1.0, 0.35], ids=["whole field", "newborn"])
def test_no_rescale_with_padding_and_noise_in_air(share):
    """A scan circle in padding; air about 0 and the body about 1050."""
    matrix = round(96 / share)
    stored = np.random.default_rng(3).normal(0, 12, (len(CT), matrix, matrix)).round().astype(np.int16)
    stored[:, :96, :96] += CT + 1000
    y, x = np.mgrid[:matrix, :matrix] - matrix / 2
    stored[:, np.hypot(x, y) > 0.75 * matrix] = -2000
    stored[:, :3] = -2000
    refused(as_image(stored, spacing=(1.2, 1.2, 4)), "rescale slope")


def test_tight_crop_without_air_passes():
    canonical_hu(as_image(CT[:, 30:70, 20:76]), "AP")


def test_label_map():
    labels = np.zeros(CT.shape, np.uint8)
    labels[4:9, 30:60, 30:60] = 7
    refused(as_image(labels), "label map")


def test_constant():
    refused(as_image(np.zeros((8, 32, 32), np.int16)), "same value")


def test_no_tissue():
    refused(as_image(np.where(CT > 340, 1000, -1000).astype(np.int16)), "soft tissue")


def test_one_slice():
    refused(as_image(CT[:1]), "got 1;")
    refused(sitk.GetImageFromArray(CT[0]), "2 dimensions")


def test_too_many_slices():
    refused(as_image(np.broadcast_to(CT[0, ::4, ::4], (2000, 24, 24)).copy(), spacing=(12, 12, 0.5)), "2000; give the thicker")


def test_too_many_voxels(monkeypatch):
    monkeypatch.setattr(hounsfield, "MAX_VOXELS", 100_000)
    refused(as_image(CT), "million voxels")


def test_four_dimensions():
    refused(sitk.JoinSeries([as_image(CT), as_image(CT)]), "4D series of 2")
    canonical_hu(sitk.JoinSeries([as_image(CT)]), "AP")


def test_colour_and_complex():
    refused(sitk.Compose([as_image(CT)] * 3), "vector of")
    refused(sitk.RealAndImaginaryToComplex(as_image(CT.astype(np.float32)), as_image(CT.astype(np.float32))), "complex")


def test_voxel_size_in_another_unit():
    refused(as_image(CT, spacing=(0.003, 0.003, 0.004)), "in another unit")


def test_few_slices_are_warned_about():
    _, warnings = canonical_hu(as_image(CT[:3]), "AP")
    assert any("only 12 mm" in warning for warning in warnings)


@pytest.mark.parametrize("shift", [1024, -1024, 300, -300])
@pytest.mark.parametrize("where", [slice(7, 8), slice(0, 1), slice(5, 9), slice(8, 16)], ids=["one", "first", "block", "rest"])
def test_slices_on_another_scale(where, shift):
    shifted = CT.copy()
    shifted[where] += shift
    edge = where.start or where.stop
    step = shift if where.start else -shift
    refused(as_image(shifted), f"a jump of {step:+d} HU from slice {edge} to {edge + 1} of 16")


@pytest.mark.parametrize("intercept", [-1024, 0])
@pytest.mark.parametrize("slope", [0.5, 0.8, 1.25, 2])
@pytest.mark.parametrize("where", [slice(7, 8), slice(0, 1), slice(5, 9), slice(8, 16)], ids=["one", "first", "block", "rest"])
def test_slices_with_another_slope(where, slope, intercept):
    stretched = CT.astype(np.float32)
    stretched[where] = (stretched[where] - intercept) * slope + intercept
    edge = where.start or where.stop
    refused(as_image(stretched), f"times as far apart in slice {edge + 1} as in slice {edge} of 16, as where some files carry a wrong")


def test_lungs_that_end_between_two_slices_are_no_other_slope():
    y, x = np.mgrid[:96, :96] - 47.5
    chest = CT[:, 8:88, 8:88].copy()  # no air around the body
    chest[:8, np.hypot(x, y)[8:88, 8:88] < 38] = -850
    canonical_hu(as_image(chest), "AP")


def test_a_dome_of_partial_volume_is_no_other_slope():
    chest = CT.copy()
    lung = np.hypot(*(np.mgrid[:96, :96] - 47.5)) < 34  # one slice blurs lung into the dome of the liver, the next shows the dome
    chest[:7, lung] = -800
    chest[7, lung] = np.linspace(-700, 80, lung.sum())
    canonical_hu(as_image(chest), "AP")


def test_slices_on_another_scale_in_a_scan_circle():
    y, x = np.mgrid[:96, :96] - 47.5
    shifted = CT.copy()
    shifted[7] += 1024
    shifted[:, np.hypot(x, y) > 48] = -1024
    refused(as_image(shifted), "a jump of +1024 HU")


def test_empty_slices_at_the_ends_pass_and_between_others_are_grave():
    ends = CT.copy()
    ends[:2] = ends[-1:] = -1024
    assert canonical_hu(as_image(ends), "AP")[1] == ()
    lost = CT.copy()
    lost[7:9] = -1024
    (warning,) = canonical_hu(as_image(lost), "AP")[1]
    assert "2 of 16 slices between others" in warning
    assert warning.grave


@pytest.mark.parametrize("shift", [100, -100, 60])
def test_a_shift_of_all_hu_is_told_by_air(shift):
    shifted = (np.random.default_rng(0).normal(0, 10, CT.shape) + CT + shift).round().astype(np.int16)
    (warning,) = canonical_hu(as_image(shifted), "AP")[1]
    assert f"shifted by about {shift:+d}: air" in warning or f"shifted by about {shift + 1:+d}: air" in warning, warning
    assert warning.grave


def test_a_shift_is_told_by_fat_where_air_was_clipped():
    (warning,) = canonical_hu(as_image((CT - 100).clip(-1024)), "AP")[1]
    assert "fat lies at -1" in warning
    assert warning.grave


@pytest.mark.parametrize("low", [-1024, -1000])
def test_clipped_air_is_no_shift(low):
    assert canonical_hu(as_image(CT.clip(low)), "AP")[1] == ()
    assert canonical_hu(as_image(CT[:, 30:70, 20:76]), "AP")[1] == ()
