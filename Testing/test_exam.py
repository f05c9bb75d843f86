"""Exams from discs, folders and files: the right phases, said how, with exact geometry; what cannot be used is refused in one sentence."""

import gzip
import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from conftest import refusal
from PediatricLiverDxLib.exam import exam_from_images, read_exam
from PediatricLiverDxLib.vocabulary import PHASES, InputError
from PediatricLiverDxLib.volume_files import _nifti_affines
from PediatricLiverDxLib.volumes import Exam, Grid
from synthetic_ct import DOSE_REPORT, abdomen, as_image, header, save, write_enhanced, write_series

REAL = Path(__file__).resolve().parents[2] / "shared" / "ct"
NAMES = {"PC": "Abdomen nativ", "AP": "动脉期", "PVP": "Portal venous", "DP": "Delayed 3min"}
SECRETS = ("SECRET", "Geheim", "geheim", "Anna", "20200131")


def write_disc(folder, phases=PHASES, slices=16, **tags):
    """Write one series for each phase with its usual name, 30 s apart."""
    for number, phase in enumerate(phases, 3):
        write_series(
            folder / f"SER{number}",
            abdomen(phase, slices=slices, seed=number),
            **{"SeriesNumber": number, "SeriesDescription": NAMES[phase], "AcquisitionTime": f"1010{number:02d}", **tags},
        )


def refused(words, **arguments):
    message = refusal(words, **arguments)
    assert not any(secret in message for secret in SECRETS)
    assert "/" not in message


def said(exam: Exam, words: str) -> bool:
    assert not any(secret in warning for warning in exam.warnings for secret in SECRETS)
    return any(words in warning for warning in exam.warnings)


def grave(exam: Exam, words: str) -> bool:
    """Tell whether a warning with these words is one after which a reader must look."""
    return any(words in warning and getattr(warning, "grave", False) for warning in exam.warnings)


def write_files(folder, **phases):
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, phase in phases.items():
        paths[name] = folder / f"{name}.nii.gz"
        sitk.WriteImage(as_image(abdomen(phase)), str(paths[name]))
    return paths


# Grid


def test_grid_maps_indexes_to_ras_as_itk_does():
    c, s = np.cos(0.4), np.sin(0.4)
    image = as_image(abdomen(), spacing=(0.7, 0.8, 2.5), direction=(c, -s, 0, s, c, 0, 0, 0, 1))
    grid = Grid.of(image)
    index = np.array([[0, 0, 0], [3.5, 10.25, 7], [95, 95, 15]])
    lps = np.array([image.TransformContinuousIndexToPhysicalPoint(i.tolist()) for i in index])
    assert grid.index_to_ras(index) == pytest.approx(lps * [-1, -1, 1])
    assert grid.ras_to_index(grid.index_to_ras(index)) == pytest.approx(index)
    assert grid.index_to_ras(index[1]).shape == (3,)


def test_grid_makes_an_image_of_an_array():
    image = as_image(abdomen())
    grid = Grid.of(image)
    assert Grid.of(grid.image(sitk.GetArrayFromImage(image))) == grid
    with pytest.raises(ValueError, match="expected an array of shape"):
        grid.image(np.zeros((2, 2, 2)))


# Images in memory


def test_images_come_back_in_phase_order():
    exam = exam_from_images({phase: as_image(abdomen(phase)) for phase in reversed(PHASES)}, {"AP": "art.nii"})
    assert tuple(exam.phases) == PHASES
    assert exam.phases["AP"].source == "art.nii"
    assert exam.phases["PVP"].recognised == "given"
    assert exam.warnings == ()


def test_unknown_phase_and_no_phase():
    with pytest.raises(InputError, match="got late"):
        exam_from_images({"late": as_image(abdomen())})
    with pytest.raises(InputError, match="at least one phase"):
        exam_from_images({})


def test_swapped_phases_are_warned_about():
    exam = exam_from_images({"PC": as_image(abdomen("AP")), "AP": as_image(abdomen("PC"))})
    assert said(exam, "PC and AP look swapped")
    assert grave(exam, "PC and AP look swapped")


@pytest.mark.parametrize("shift", [100, -100])
def test_shifted_hu_are_not_called_swapped_phases(shift):
    exam = exam_from_images({phase: as_image(abdomen(phase) + np.int16(shift)) for phase in PHASES})
    assert all(grave(exam, f"{phase}: its HU look shifted by about") for phase in PHASES)
    assert not said(exam, "look swapped")


# Discs


def test_disc_with_four_named_phases(tmp_path):
    write_disc(tmp_path)
    exam = read_exam(tmp_path)
    assert tuple(exam.phases) == PHASES
    assert [volume.source for volume in exam.phases.values()] == ["series 3", "series 4", "series 5", "series 6"]
    assert exam.phases["AP"].recognised == "series description '动脉期'"
    assert exam.phases["DP"].recognised == "series description 'delayed'"
    for number, (phase, volume) in enumerate(exam.phases.items(), 3):
        assert np.array_equal(sitk.GetArrayViewFromImage(volume.image), abdomen(phase, seed=number))
    assert exam.warnings == ()


def test_disc_with_everything_else_on_it(tmp_path):
    write_disc(tmp_path / "DICOM" / "PAT0" / "STU0", ["AP", "PVP"])
    write_series(tmp_path / "scout", abdomen(slices=1), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_series(tmp_path / "cor", abdomen(slices=30), orientation=(1, 0, 0, 0, 0, -1), SeriesNumber=20, SeriesDescription="portal COR")
    write_series(tmp_path / "short", abdomen(slices=2), SeriesNumber=21)
    save(header(DOSE_REPORT, Modality="SR"), tmp_path / "dose")
    sitk.WriteImage(as_image(abdomen()), str(tmp_path / "old_export.nii.gz"))
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "README.TXT").write_text("viewer")
    exam = read_exam(tmp_path)
    assert list(exam.phases) == ["AP", "PVP"]
    assert said(exam, "1 x localizer")
    assert said(exam, "1 x dose")
    assert said(exam, "1 coronal or sagittal series")
    assert said(exam, "1 CT series have fewer than 3 slices")
    assert said(exam, "1 volume files lie beside")


def test_thin_and_sharp_reconstructions_are_passed_over(tmp_path):
    portal = abdomen("PVP", slices=40)

    def write(name, slices, spacing, kernel, number):
        tags = {"SeriesDescription": f"portal {spacing}", "ConvolutionKernel": kernel, "SeriesNumber": number}
        write_series(tmp_path / name, portal[:slices], spacing=(3, 3, spacing), **tags)

    write("thin", 40, 0.6, "B30f", 4)
    write("lung", 20, 2.0, "B70f", 5)
    write("soft", 20, 2.5, "B30f", 6)
    exam = read_exam(tmp_path)
    assert exam.phases["PVP"].source == "series 6"
    assert said(exam, "PVP: 3 series fit; series 6 is used (2.5 mm, soft or standard kernel), not series 4, series 5.")


def test_a_silent_reconstruction_takes_over_the_phase_of_its_acquisition(tmp_path):
    write_series(
        tmp_path / "a", abdomen("AP", slices=40), spacing=(3, 3, 0.6), SeriesNumber=4, SeriesDescription="ART 0.6", AcquisitionTime="101010"
    )
    write_series(tmp_path / "b", abdomen("AP", slices=12), spacing=(3, 3, 2), SeriesNumber=5, AcquisitionTime="101010.5")
    exam = read_exam(tmp_path)
    assert exam.phases["AP"].source == "series 5"
    assert exam.phases["AP"].recognised == "same acquisition as series 4, series description 'art'"


def test_bolus_times_tell_the_phase(tmp_path):
    write_series(tmp_path / "a", abdomen("AP"), ContrastBolusStartTime="101000", AcquisitionTime="101032", SeriesNumber=1)
    write_series(tmp_path / "b", abdomen("PVP", seed=1), ContrastBolusStartTime="101000", AcquisitionTime="101110", SeriesNumber=2)
    exam = read_exam(tmp_path)
    assert exam.phases["AP"].recognised == "32 s after the start of the contrast"
    assert exam.phases["PVP"].recognised == "70 s after the start of the contrast"


def test_one_series_with_four_silent_passes_is_recognised_from_time_and_image(tmp_path):
    for number, phase in enumerate(PHASES):
        write_series(
            tmp_path / phase, abdomen(phase, seed=number), SeriesInstanceUID="1.2.8", SeriesNumber=4, AcquisitionTime=f"10{10 + number}00"
        )
    for path in [p for p in tmp_path.rglob("*") if p.is_file()]:  # the folders would tell
        path.rename(tmp_path / f"{path.parent.name[::-1]}x{path.name}")
    exam = read_exam(tmp_path)
    assert tuple(exam.phases) == PHASES
    assert exam.phases["PC"].source == "series 4 part 1"
    assert exam.phases["DP"].source == "series 4 part 4"
    assert {volume.recognised for volume in exam.phases.values()} == {"image brightness and time of acquisition"}


def test_silent_series_fills_the_phase_that_is_free(tmp_path):
    write_disc(tmp_path, ["AP", "PVP"])
    write_series(tmp_path / "x", abdomen("PC", seed=9), SeriesNumber=1, AcquisitionTime="100000")
    exam = read_exam(tmp_path)
    assert list(exam.phases) == ["PC", "AP", "PVP"]
    assert exam.phases["PC"].recognised.startswith("image brightness")


def test_silent_series_that_fits_no_free_phase_is_left_out(tmp_path):
    write_disc(tmp_path, ["PC", "AP", "PVP"])
    write_series(tmp_path / "x", abdomen("PC", seed=9), SeriesNumber=9, AcquisitionTime="103000")
    exam = read_exam(tmp_path)
    assert list(exam.phases) == ["PC", "AP", "PVP"]
    assert said(exam, "series 9: its name tells no phase and the image fits none that is free")


def test_several_studies_of_one_patient(tmp_path):
    write_disc(tmp_path / "new", ["AP", "PVP"], StudyInstanceUID="1.2.50", StudyDate="20240505")
    write_series(tmp_path / "old", abdomen(), StudyInstanceUID="1.2.40", SeriesDescription="portal", SeriesNumber=30, StudyDate="20230505")
    exam = read_exam(tmp_path)
    assert list(exam.phases) == ["AP", "PVP"]
    assert said(exam, "2 studies; the one with series 3, series 4 is used")


def test_enhanced_multi_frame_file_for_a_phase(tmp_path):
    path = write_enhanced(tmp_path / "one.dcm", abdomen("AP"))
    exam = read_exam(files={"AP": path})
    assert np.array_equal(sitk.GetArrayViewFromImage(exam.phases["AP"].image), abdomen("AP"))


def test_swapped_names_on_a_disc_are_warned_about(tmp_path):
    write_series(tmp_path / "a", abdomen("AP"), SeriesDescription="plain", SeriesNumber=1)
    write_series(tmp_path / "b", abdomen("PC"), SeriesDescription="arterial", SeriesNumber=2)
    assert said(read_exam(tmp_path), "PC and AP look swapped")


def test_oblique_flipped_disc_keeps_its_points(tmp_path):
    c, s = np.cos(0.15), np.sin(0.15)
    hu = abdomen("PVP")[:, ::-1, ::-1]
    write_series(tmp_path, hu, orientation=(-c, -s, 0, s, -c, 0), spacing=(2.9, 3.1, 3.5), SeriesDescription="portal")
    exam = read_exam(tmp_path)
    image = exam.phases["PVP"].image
    bone = np.argwhere(sitk.GetArrayViewFromImage(image) > 300)[7]
    ras = Grid.of(image).index_to_ras(bone[::-1])
    paths = sorted((p for p in tmp_path.iterdir()), key=lambda p: int(p.name.split("_")[1]))
    reference = sitk.ReadImage([str(p) for p in paths])
    index = reference.TransformPhysicalPointToIndex((ras * [-1, -1, 1]).tolist())
    assert reference[index] == image[bone[::-1].tolist()]
    assert said(exam, "oblique by 8.6 degrees")


@pytest.mark.parametrize("blank", [{"AcquisitionTime": "000000"}, {"AcquisitionTime": "120000"}, {"ContentTime": "101010"}])
def test_blanked_times_do_not_make_four_phases_one(tmp_path, blank):
    for number, phase in enumerate(PHASES, 1):
        write_series(tmp_path / f"S{number}", abdomen(phase, seed=number), SeriesNumber=number, **blank)
    exam = read_exam(tmp_path)
    assert [(phase, volume.source) for phase, volume in exam.phases.items()] == [(p, f"series {n}") for n, p in enumerate(PHASES, 1)]
    assert {volume.recognised for volume in exam.phases.values()} == {"image brightness"}
    assert exam.warnings == ()


def test_a_silent_phase_with_blanked_times_is_not_dropped_for_a_named_one(tmp_path):
    blank = {"AcquisitionTime": "000000", "ContrastBolusStartTime": "000000"}
    write_series(tmp_path / "a", abdomen("AP"), SeriesDescription="arterial", SeriesNumber=1, **blank)
    write_series(tmp_path / "b", abdomen("PVP", seed=1), SeriesNumber=2, **blank)
    exam = read_exam(tmp_path)
    assert {phase: volume.source for phase, volume in exam.phases.items()} == {"AP": "series 1", "PVP": "series 2"}
    assert exam.phases["PVP"].recognised == "image brightness"


@pytest.mark.parametrize("name", ["", "portal"])
def test_reconstructions_with_blanked_times_are_told_by_their_voxels(tmp_path, name):
    tags = {"AcquisitionTime": "000000"}
    write_series(tmp_path / "a", abdomen("PVP", slices=32), spacing=(3, 3, 2), SeriesNumber=1, SeriesDescription=name, **tags)
    write_series(tmp_path / "b", abdomen("PVP", slices=13, seed=5), spacing=(3, 3, 5), SeriesNumber=2, **tags)
    write_series(tmp_path / "c", abdomen("AP", slices=32), spacing=(3, 3, 2), SeriesNumber=3, **tags)
    exam = read_exam(tmp_path)
    assert {phase: volume.source for phase, volume in exam.phases.items()} == {"AP": "series 3", "PVP": "series 1"}
    assert said(exam, "2 series fit; series 1 is used (2 mm, soft or standard kernel), not series 2.")


def test_times_that_are_cut_to_minutes_do_not_join_phases(tmp_path):
    for number, (phase, time) in enumerate({"PC": "1009", "AP": "1011", "PVP": "1011"}.items(), 1):
        write_series(tmp_path / f"S{number}", abdomen(phase, seed=number), SeriesNumber=number, AcquisitionTime=time)
    assert list(read_exam(tmp_path).phases) == ["PC", "AP", "PVP"]


def test_other_acquisition_numbers_are_other_acquisitions(tmp_path):
    for number, phase in enumerate(["AP", "PVP"], 1):
        tags = {"SeriesNumber": number, "AcquisitionNumber": number, "AcquisitionTime": f"10101{number}"}
        write_series(tmp_path / f"S{number}", abdomen(phase, seed=number), **tags)
    assert list(read_exam(tmp_path).phases) == ["AP", "PVP"]


def test_a_contrast_agent_in_the_headers_excludes_pre_contrast(tmp_path):
    between = ((abdomen("PC").astype(int) * 2 + abdomen("DP")) // 3).astype(np.int16)  # little contrast: a late or weak bolus
    write_series(tmp_path, between)
    assert list(read_exam(tmp_path).phases) == ["PC"]
    for path in tmp_path.iterdir():
        path.unlink()
    write_series(tmp_path, between, ContrastBolusAgent="Omnipaque 300", ContrastBolusRoute="IV")
    assert list(read_exam(tmp_path).phases) == ["DP"]


def test_a_contrast_agent_that_the_image_denies_is_grave(tmp_path):
    write_series(tmp_path, abdomen("PC"), ContrastBolusAgent="Omnipaque 300")
    assert grave(read_exam(tmp_path), "not certain")


def test_a_crowd_of_silent_series_is_left_out_unread(tmp_path):
    write_disc(tmp_path / "abdomen", ["AP", "PVP"])
    for number in range(7):
        write_series(
            tmp_path / f"S{number}", abdomen(slices=4, seed=number), SeriesNumber=50 + number, AcquisitionTime=f"11{number:02d}30",
            per_slice=lambda z: {"PixelData": b"\0\0"},
        )  # fmt: skip
    exam = read_exam(tmp_path)
    assert list(exam.phases) == ["AP", "PVP"]
    assert said(exam, "7 volumes are left out, as their names tell no phase (series 50, ")
    assert not said(exam, "Left out"), "nobody has tried to read them"
    refused("Expected at most four phases, got 7 volumes", study=_without(tmp_path, "abdomen"))


def _without(folder, name):
    for path in sorted((folder / name).rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    return folder


@pytest.mark.parametrize(
    ("folder", "name"), [("SIN MEI LING", "Sin^Mei Ling"), ("Ven Kumar", "Kumar^Ven"), ("Port, Anna", "Port^A"), ("venous", "Venous^Anna")]
)
def test_a_patients_name_is_no_phase(tmp_path, folder, name):
    write_series(tmp_path / folder, abdomen("AP"), PatientName=name)
    exam = read_exam(tmp_path)
    assert list(exam.phases) == ["AP"]
    assert exam.phases["AP"].recognised == "image brightness"


def test_frames_of_reference_and_gaps_and_little_coverage_are_grave(tmp_path):
    write_series(tmp_path / "a", abdomen("AP"), SeriesDescription="arterial", SeriesNumber=1, FrameOfReferenceUID="1.2.9")
    write_series(tmp_path / "b", abdomen("PVP", slices=40), SeriesDescription="portal", SeriesNumber=2)
    next((tmp_path / "b").glob("*_5")).unlink()
    exam = read_exam(tmp_path)
    assert grave(exam, "different frames of reference")
    assert grave(exam, "slices are missing")
    assert grave(exam, "AP: covers only 40 %")


# Folders of volume files


def test_folder_of_volume_files(tmp_path):
    write_files(tmp_path / "exam", PC="PC", case7_arterial="AP", pvp="PVP")
    exam = read_exam(tmp_path)
    assert list(exam.phases) == ["PC", "AP", "PVP"]
    assert exam.phases["AP"].source == "AP volume (.nii.gz)"
    assert exam.phases["AP"].recognised == "file name 'arterial'"


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha", ".mhd"])
def test_formats(tmp_path, suffix):
    sitk.WriteImage(as_image(abdomen("AP"), spacing=(2.5, 3, 4.5)), str(tmp_path / f"AP{suffix}"))
    image = read_exam(tmp_path).phases["AP"].image
    assert np.array_equal(sitk.GetArrayViewFromImage(image), abdomen("AP"))
    assert image.GetSpacing() == pytest.approx((2.5, 3, 4.5))


def test_masks_and_fields_beside_the_phases_are_left_out(tmp_path):
    write_files(tmp_path, PVP="PVP")
    labels = np.zeros((16, 96, 96), np.uint8)
    labels[4:8, 30:50, 30:50] = 1
    for name in ("lesions.nrrd", "organs.nii.gz"):
        sitk.WriteImage(as_image(labels), str(tmp_path / name))
    field = sitk.Compose([as_image(abdomen().astype(np.float32))] * 3)
    sitk.WriteImage(field, str(tmp_path / "displacement_AP.nrrd"))
    exam = read_exam(tmp_path)
    assert list(exam.phases) == ["PVP"]
    assert said(exam, "2 volume files (.nrrd) are left out: by their names they hold masks, fields or results")
    assert said(exam, "Left out: volume 2 (.nii.gz): expected CT in HU, got a mask")


def test_unnamed_files_are_recognised_from_the_image(tmp_path):
    write_files(tmp_path, a="DP", b="AP", c="PC", d="PVP")
    exam = read_exam(tmp_path)
    sources = {phase: volume.source for phase, volume in exam.phases.items()}
    assert sources == {"PC": "volume 3 (.nii.gz)", "AP": "volume 2 (.nii.gz)", "PVP": "volume 4 (.nii.gz)", "DP": "volume 1 (.nii.gz)"}
    assert all(volume.recognised == "image brightness" for volume in exam.phases.values())


def test_what_nothing_tells_is_taken_with_a_warning(tmp_path):
    ball = np.where(np.hypot(*(np.mgrid[:64, :64] - 32)) < 25, 40, -1000)
    sitk.WriteImage(as_image(np.repeat(ball[None], 20, axis=0).astype(np.int16)), str(tmp_path / "volume.nrrd"))
    exam = read_exam(tmp_path)
    assert len(exam.phases) == 1
    assert said(exam, "not certain")


def test_two_files_for_one_phase(tmp_path):
    write_files(tmp_path, a_arterial="AP", b_art="AP")
    refused("both say AP", study=tmp_path)


def test_two_unnamed_files_of_one_phase(tmp_path):
    write_files(tmp_path, a="PC", b="PC")
    sitk.WriteImage(as_image(abdomen("PC", seed=4)), str(tmp_path / "b.nii.gz"))
    refused("look like the same phase", study=tmp_path)


def test_a_single_file_is_an_exam(tmp_path):
    assert list(read_exam(write_files(tmp_path, portal="PVP")["portal"]).phases) == ["PVP"]


# Files for each phase


def test_files_and_folders_for_phases(tmp_path):
    write_series(tmp_path / "dicom", abdomen("AP"), SeriesDescription="Liver")
    files = write_files(tmp_path / "nifti", volume="PVP")
    exam = read_exam(files={"PVP": files["volume"], "AP": tmp_path / "dicom"})
    assert [(phase, v.source, v.recognised) for phase, v in exam.phases.items()] == [
        ("AP", "series 3", "given"),
        ("PVP", "PVP volume (.nii.gz)", "given"),
    ]


def test_given_phase_against_its_name_is_warned_about(tmp_path):
    write_series(tmp_path, abdomen("PVP"), SeriesDescription="portal")
    assert grave(read_exam(files={"AP": tmp_path}), "AP: was given, but series description 'portal' speaks for PVP")


def test_notices_stay_grave_under_the_phase_they_were_given_for(tmp_path):
    write_series(tmp_path, abdomen("PVP"))
    next(tmp_path.glob("*_5")).unlink()
    assert grave(read_exam(files={"PVP": tmp_path}), "1 of 16 slices are missing")


def test_no_file_name_reaches_an_exam(tmp_path):
    files = write_files(tmp_path, Geheim_Anna_20200131_pvp="PVP", Geheim_Anna_x="AP", Geheim_mask="PC")
    labels = np.zeros((16, 96, 96), np.uint8)
    labels[4:8, 30:50, 30:50] = 1
    sitk.WriteImage(as_image(labels), str(tmp_path / "Geheim_organs.nii"))
    (tmp_path / "Geheim_broken.nii").write_bytes(b"broken" * 100)
    several = read_exam(tmp_path)
    given = read_exam(files={"PVP": files["Geheim_Anna_20200131_pvp"]})
    for exam in (several, given):
        texts = [*exam.warnings, *(v.source for v in exam.phases.values()), *(v.recognised for v in exam.phases.values())]
        assert not any(secret in text for text in texts for secret in SECRETS), texts
    assert given.phases["PVP"].source == "PVP volume (.nii.gz)"


def test_both_and_neither():
    refused("both or neither")
    refused("both or neither", study=Path("a"), files={"AP": Path("b")})


# Refused


def test_errors_of_the_file_system_are_one_sentence(tmp_path):
    refused("File name too long", study=tmp_path / ("x" * 300))


def test_a_name_that_is_not_utf_8_does_not_end_the_process(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/AP\xe9.nii"))
    write_files(tmp_path, AP="AP")["AP"].rename(path)
    refused("Expected a path in UTF-8", study=tmp_path)
    refused("Expected a path in UTF-8", files={"AP": path})


def test_metaimage_headers_as_other_writers_put_them(tmp_path):
    path = tmp_path / "AP.mha"
    sitk.WriteImage(as_image(abdomen("AP")), str(path))
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"ElementDataFile = LOCAL", b"ElementDataFile = Local"))
    assert np.array_equal(sitk.GetArrayViewFromImage(read_exam(tmp_path).phases["AP"].image), abdomen("AP"))
    path.write_bytes(raw.replace(b"ElementDataFile", b"ElementNumberOfChannels = one\nElementDataFile"))
    refused("AP.mha: expected", study=tmp_path)


def test_missing_and_empty(tmp_path):
    refused("found nothing", study=tmp_path / "none")
    refused("found nothing named none.nii", files={"AP": tmp_path / "none.nii"})
    refused("got one without any file", study=tmp_path)
    (tmp_path / "notes.txt").write_text("nothing here")
    refused("found none of them", study=tmp_path)


@pytest.mark.parametrize("name", ["AP.nii", "AP.nii.gz", "AP.nrrd", "AP.mha"])
def test_text_file_with_a_volumes_name(tmp_path, name):
    (tmp_path / name).write_text("Dear colleague, here is the CT.\n" * 50)
    refused(f"{name}: expected a NIfTI, NRRD or MetaImage volume", study=tmp_path)
    refused(f"{name}: expected", files={"AP": tmp_path / name})


def test_empty_file_and_other_kinds(tmp_path):
    (tmp_path / "AP.nii").write_bytes(b"")
    refused("empty file", study=tmp_path)
    (tmp_path / "AP.png").write_bytes(b"png")
    refused("expected a NIfTI", files={"AP": tmp_path / "AP.png"})


@pytest.mark.parametrize("name", ["AP.nii", "AP.nii.gz", "AP.nrrd", "AP.mha"])
@pytest.mark.parametrize("part", [0.3, 0.9])
@pytest.mark.parametrize("compressed", [True, False])
def test_truncated_volume_file(tmp_path, name, part, compressed):
    path = tmp_path / name
    sitk.WriteImage(as_image(abdomen("AP")), str(path), useCompression=compressed)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(part * len(raw))])
    refused(f"{name}: ", study=tmp_path)


def test_truncated_dicom(tmp_path):
    write_disc(tmp_path, ["AP"])
    path = next(p for p in tmp_path.rglob("*_4"))
    path.write_bytes(path.read_bytes()[:-5000])
    refused("cut short", study=tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_not_finite(tmp_path, value, suffix, kind):
    voxels = abdomen("AP").astype(kind)
    voxels[3, 4, 5] = value
    sitk.WriteImage(as_image(voxels), str(tmp_path / f"AP{suffix}"))
    refused("NaN or infinite", study=tmp_path)


def test_one_slice_and_2000_slices(tmp_path):
    sitk.WriteImage(as_image(abdomen("AP", slices=1)), str(tmp_path / "AP.nii"))
    refused("at least 3 slices, got 1", study=tmp_path)
    many = np.broadcast_to(abdomen("AP", slices=1, matrix=32), (2000, 32, 32)).copy()
    sitk.WriteImage(as_image(many, spacing=(9, 9, 0.4)), str(tmp_path / "AP.nii"))
    refused("at most 1500 slices for one phase, got 2000", study=tmp_path)


def test_one_dicom_slice(tmp_path):
    write_series(tmp_path, abdomen("AP", slices=1))
    refused("at least 3 slices", study=tmp_path)


def test_two_patients_on_a_disc_and_in_given_folders(tmp_path):
    write_disc(tmp_path / "a", ["AP"])
    write_disc(tmp_path / "b", ["PVP"], PatientID="SECRET-2", PatientBirthDate="20200131")
    refused("two or more patients", study=tmp_path)
    refused("two patients", files={"AP": tmp_path / "a", "PVP": tmp_path / "b"})


def test_ids_that_differ_in_zeros_in_front_are_one_patients(tmp_path):
    write_disc(tmp_path / "a", ["AP"], PatientID="7")
    write_disc(tmp_path / "b", ["PVP"], PatientID="0007")
    assert said(read_exam(tmp_path), "patient IDs differ in zeros in front")
    assert said(read_exam(files={"AP": tmp_path / "a", "PVP": tmp_path / "b"}), "patient IDs differ in zeros in front")


@pytest.mark.parametrize("other", [{"PatientID": "70"}, {"PatientName": "Other^One"}, {"PatientBirthDate": "20200201"}])
def test_ids_that_differ_otherwise_or_in_another_persons_name_are_two_patients(tmp_path, other):
    write_disc(tmp_path / "a", ["AP"], PatientID="7")
    write_disc(tmp_path / "b", ["PVP"], **{"PatientID": "007", **other})
    refused("two or more patients", study=tmp_path)


def test_the_same_series_twice(tmp_path):
    write_disc(tmp_path / "a", ["AP"])
    refused("same series as AP and PVP", files={"AP": tmp_path / "a", "PVP": tmp_path / "a"})
    write_files(tmp_path / "b", art="AP", portal="AP")
    refused("same series as AP and PVP", study=tmp_path / "b")


def test_phases_that_do_not_overlap(tmp_path):
    write_files(tmp_path, PVP="PVP")
    sitk.WriteImage(as_image(abdomen("AP"), origin=(-140, -140, 900)), str(tmp_path / "AP.nii.gz"))
    refused("AP and PVP that do not overlap", study=tmp_path)


def test_phases_of_different_extent_are_warned_about(tmp_path):
    write_files(tmp_path, PVP="PVP")
    sitk.WriteImage(as_image(abdomen("AP")[8:], origin=(-140, -140, -268)), str(tmp_path / "AP.nii.gz"))
    assert said(read_exam(tmp_path), "AP: covers only 50 % of the extent of PVP")


def test_8_bit_and_no_rescale(tmp_path):
    sitk.WriteImage(as_image(np.clip((abdomen("AP") + 110) * 0.88, 0, 255).astype(np.uint8)), str(tmp_path / "AP.nii"))
    refused("8-bit", study=tmp_path)
    (tmp_path / "AP.nii").unlink()
    write_series(tmp_path, abdomen("AP") + 1024, slope=None, intercept=None)
    refused("rescale slope", study=tmp_path)


@pytest.mark.parametrize("tag", ["RescaleIntercept", "RescaleSlope"])
def test_rescale_missing_in_some_slices(tmp_path, tag):
    write_series(tmp_path, abdomen("AP"), per_slice=lambda z: {tag: None} if z == 7 else {})
    refused("got 1 of 16 slices without them", study=tmp_path)


def test_a_wrong_intercept_in_one_slice(tmp_path):
    write_series(tmp_path, abdomen("AP"), per_slice=lambda z: {"RescaleIntercept": 0} if z == 7 else {})
    refused("a jump of +1024 HU from slice 7 to 8 of 16", study=tmp_path)


@pytest.mark.parametrize("slope", [2, 0.5])
def test_a_wrong_slope_in_one_slice(tmp_path, slope):
    write_series(tmp_path, abdomen("AP"), per_slice=lambda z: {"RescaleSlope": slope} if z == 7 else {})
    refused(f"values {slope:g} times as far apart in slice 8 as in slice 7 of 16", study=tmp_path)


def test_slopes_that_differ_a_little_are_grave(tmp_path):
    write_series(tmp_path, abdomen("AP"), per_slice=lambda z: {"RescaleSlope": 1.05} if z == 7 else {})
    assert grave(read_exam(tmp_path), "the rescale slope differs from slice to slice (1 to 1.05)")


def _circle(slices=16, matrix=96):
    """Return a volume outside of whose scan circle nothing was scanned, and where that is."""
    y, x = np.mgrid[:matrix, :matrix] - (matrix - 1) / 2
    outside = np.broadcast_to(np.hypot(x, y) > matrix / 2, (slices, matrix, matrix))
    return np.where(outside, -1024, abdomen("AP")).astype(np.int16), outside


@pytest.mark.parametrize("tag", [None, 63536, -2000], ids=["untold", "told", "told as signed"])
@pytest.mark.parametrize("compressed", [False, True])
def test_padding_written_as_unsigned(tmp_path, tag, compressed):
    hu, outside = _circle()

    def unsigned(z):
        stored = np.where(outside[z], 63536, hu[z].astype(np.int32) + 1024).astype("<u2")
        return {"PixelRepresentation": 0, "PixelData": stored.tobytes()}

    for path in write_series(tmp_path, hu, rle=compressed, per_slice=unsigned):
        if tag is not None:
            written = pydicom.dcmread(path)
            written.add_new("PixelPaddingValue", "SS" if tag < 0 else "US", tag)
            save(written, path)
    exam = read_exam(tmp_path)
    (volume,) = exam.phases.values()
    assert np.array_equal(sitk.GetArrayViewFromImage(volume.image), hu)
    assert not said(exam, "4000 HU")


def test_padding_that_became_bright_in_a_file_is_grave(tmp_path):
    hu, outside = _circle()
    sitk.WriteImage(as_image(np.where(outside, 62512, hu.astype(np.int32))), str(tmp_path / "AP.nii.gz"))
    assert grave(read_exam(tmp_path), "of the voxels are above 4000 HU")


def test_sheared_nifti(tmp_path):
    path = tmp_path / "AP.nii"
    sitk.WriteImage(as_image(abdomen("AP")), str(path))
    raw = bytearray(path.read_bytes())
    raw[252:256] = np.array([0, 1], "<i2").tobytes()  # qform off, sform on
    raw[280:328] = np.array([[-3, 0, 0, 140], [0, -3, 1.2, 140], [0, 0, 4, -300]], "<f4").tobytes()
    path.write_bytes(raw)
    refused("gantry tilt", study=tmp_path)


def _write_nifti(path, codes, shift=0.0):
    """Write a NIfTI file with these qform and sform codes, the sform moved along x by some mm."""
    sitk.WriteImage(as_image(abdomen("AP")), str(path))
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[252:256] = np.array(codes, "<i2").tobytes()
    raw[292:296] = (np.frombuffer(raw, "<f4", 1, 292) + np.float32(shift)).tobytes()
    path.write_bytes(gzip.compress(bytes(raw)))


@pytest.mark.parametrize("codes", [(1, 1), (1, 0), (0, 1), (2, 4)])
def test_nifti_with_one_position_passes(tmp_path, codes):
    _write_nifti(tmp_path / "AP.nii.gz", codes, shift=0.4)
    exam = read_exam(tmp_path)
    assert exam.warnings == ()
    assert exam.phases["AP"].image.GetOrigin() == pytest.approx((-140, -140, -300), abs=0.5)


@pytest.mark.parametrize("codes", [(1, 1), (1, 2), (2, 1)])
def test_nifti_with_two_positions_is_grave_and_the_one_taken_is_named(tmp_path, codes):
    _write_nifti(tmp_path / "AP.nii.gz", codes, shift=150.0)
    exam = read_exam(files={"AP": tmp_path / "AP.nii.gz"})
    moved = exam.phases["AP"].image.GetOrigin()[0] == pytest.approx(-290)
    assert grave(exam, f"sform and qform) that lie up to 150 mm apart; {'sform' if moved else 'qform'} is taken")


def test_nifti_without_a_position_is_grave(tmp_path):
    _write_nifti(tmp_path / "AP.nii.gz", (0, 0))
    assert grave(read_exam(tmp_path), "tells neither position nor orientation")


def test_nifti_affines_agree_with_itk(tmp_path):
    c, s = np.cos(0.3), np.sin(0.3)
    image = as_image(abdomen("AP"), spacing=(2, 3, 4), direction=(c, -s, 0, -s, -c, 0, 0, 0, -1))
    sitk.WriteImage(image, str(tmp_path / "AP.nii"))
    qform, sform = _nifti_affines((tmp_path / "AP.nii").read_bytes()[:540])
    assert np.allclose(qform, sform, atol=1e-3)
    index = np.array([5.0, 7.0, 9.0])
    assert sform @ [*index, 1] == pytest.approx(Grid.of(image).index_to_ras(index), abs=1e-3)


# Real CT


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        ("lidc-0314-dicom", "PC"),
        ("dcmqi-liver", "PC"),
        ("totalsegmentator/example_ct.nii.gz", "PC"),
        ("totalsegmentator/example_ct_sm.nii.gz", "PC"),
        ("totalsegmentator/aorta_report_ct_cropped.nii.gz", "AP"),
    ],
)
def test_real_ct(name, phase):
    if not (REAL / name).exists():
        pytest.skip("the real CT beside the repository is missing")
    exam = read_exam(REAL / name)
    assert list(exam.phases) == [phase]
    assert exam.phases[phase].recognised == "image brightness"
    assert said(exam, "only 3 mm") is (name == "dcmqi-liver")


def test_real_label_map_is_refused_alone_and_left_out_beside_its_ct(tmp_path):
    folder = REAL / "totalsegmentator"
    if not folder.exists():
        pytest.skip("the real CT beside the repository is missing")
    refused("label map", study=folder / "example_seg.nii.gz")
    for source, name in (("example_ct_sm.nii.gz", "ct.nii.gz"), ("example_seg.nii.gz", "organs.nii.gz")):
        (tmp_path / name).symlink_to(folder / source)
    exam = read_exam(tmp_path)
    assert list(exam.phases) == ["PC"]
    assert said(exam, "Left out: volume 2 (.nii.gz)")
