"""Real CT of adults through the whole way with the shipped networks: phase, places in the patient, and a gate that does not trust them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import REAL_CT
from PediatricLiverDxLib.alignment import align
from PediatricLiverDxLib.bundle import load_networks
from PediatricLiverDxLib.diagnosis import diagnose
from PediatricLiverDxLib.exam import read_exam
from PediatricLiverDxLib.gate import TRUST
from PediatricLiverDxLib.outputs import write_outputs
from PediatricLiverDxLib.rois import read_rois
from PediatricLiverDxLib.vocabulary import PHASES
from PediatricLiverDxLib.volumes import AlignedExam, Exam

from training.lesion_matching import match

MODELS = Path(__file__).resolve().parent.parent / "Resources" / "Models"

pytestmark = [
    pytest.mark.skipif(not REAL_CT.is_dir(), reason="the real CT volumes are not beside this repository"),
    pytest.mark.skipif(not list(MODELS.glob("*/bundle.json")), reason="there is no bundle in Resources/Models"),
]

#: Name -> the phase it was acquired in. dcmqi-liver is three slices of a CT colonography.
ACQUIRED = {
    "lidc-0314-dicom": "PC",
    "dcmqi-liver": "PC",
    "totalsegmentator/example_ct.nii.gz": "PC",
    "totalsegmentator/aorta_report_ct_cropped.nii.gz": "AP",
}


#: The liver in TotalSegmentator's label maps.
LIVER_LABEL = 5


@dataclass(frozen=True)
class RealCt:
    """One volume as ITK alone reads it, and as the software does."""

    phase: str
    itk: sitk.Image
    exam: Exam
    aligned: AlignedExam


@pytest.fixture(scope="module", params=ACQUIRED)
def real(request) -> RealCt:
    path = REAL_CT / request.param
    if path.is_dir():
        reader = sitk.ImageSeriesReader()
        names = max((reader.GetGDCMSeriesFileNames(str(path), series) for series in reader.GetGDCMSeriesIDs(str(path))), key=len)
        reader.SetFileNames(names)
        itk = reader.Execute()
    else:
        itk = sitk.ReadImage(str(path))
    exam = read_exam(path)
    return RealCt(ACQUIRED[request.param], itk, exam, align(exam))


@pytest.fixture(scope="module")
def shipped():
    (bundle,) = (path.parent for path in MODELS.glob("*/bundle.json"))
    return load_networks(bundle, threads=2)


def test_the_phase_is_the_acquired_one(real):
    assert list(real.exam.phases) == [real.phase]
    assert real.aligned.reference == real.phase


def test_voxels_lie_where_itk_has_them(real):
    size = np.array(real.aligned.grid.size_xyz)
    assert sorted(size) == sorted(real.itk.GetSize())
    hu = real.aligned.hu[PHASES.index(real.phase)]
    for index in np.random.default_rng(0).integers(0, size, (200, 3)):
        ras = real.aligned.grid.index_to_ras(index)
        there = real.itk.TransformPhysicalPointToContinuousIndex((-ras[0], -ras[1], ras[2]))
        assert np.allclose(there, np.round(there), atol=1e-3)
        there = max(real.itk.GetPixel([round(v) for v in there]), -1024)  # padding beyond the scanner's circle counts as air
        assert hu[tuple(index[::-1])] == pytest.approx(there, abs=0.51)


def test_what_the_detector_finds_or_not_is_not_trusted(real, shipped):
    result = diagnose(real.exam, real.aligned, shipped).to_dict()
    assert result["gate"]["verdict"] != TRUST
    assert any("unlike the exams" in reason for reason in result["gate"]["reasons"])
    present = [phase for phase, facts in result["exam"]["phases"].items() if facts["present"]]
    assert present == [real.phase]
    oriented = sitk.DICOMOrient(real.itk, "LPS")
    assert result["exam"]["size"] == list(oriented.GetSize())
    assert result["exam"]["spacing_mm"] == pytest.approx(oriented.GetSpacing(), abs=1e-4)


def test_a_lesion_put_into_a_real_liver_is_found(shipped, tmp_path):
    """Real noise, fat, vessels and bowel, which a phantom cannot vouch for: 40 mm, 30 HU darker than the liver, in five places of it."""
    folder = REAL_CT / "totalsegmentator"
    volume = sitk.ReadImage(str(folder / "example_ct_sm.nii.gz"))
    liver = sitk.ReadImage(str(folder / "example_seg.nii.gz")) == LIVER_LABEL
    deep = sitk.SignedMaurerDistanceMap(liver, insideIsPositive=True, squaredDistance=False, useImageSpacing=True)
    places = np.argwhere(sitk.GetArrayFromImage(deep) > 15)[:, ::-1]
    voxels = np.stack(np.meshgrid(*map(np.arange, volume.GetSize()), indexing="ij"), -1).transpose(2, 1, 0, 3)
    found, others, before = 0, 0, _boxes_in(volume, shipped, tmp_path)
    for place in np.random.default_rng(0).choice(places, 5, replace=False).tolist():
        away = np.linalg.norm((voxels - place) * volume.GetSpacing(), axis=-1)
        inside = sitk.GetArrayFromImage(liver) / (1 + np.exp(away - 20))
        darker = sitk.GetImageFromArray((sitk.GetArrayFromImage(volume) - 30 * inside).round().astype(np.int16))
        darker.CopyInformation(volume)
        grid, boxes = _boxes_in(darker, shipped, tmp_path)
        corners = [np.array(volume.TransformContinuousIndexToPhysicalPoint(corner)) * (-1, -1, 1) for corner in _corners_of(inside > 0.5)]
        corners = grid.ras_to_index(np.array(corners)) + 0.5
        truth = (*corners.min(0), *corners.max(0))
        matching = match([truth], boxes)
        found, others = found + (matching.false_positives < len(boxes)), others + matching.false_positives
        assert match([truth], before[1]).false_positives == len(before[1]), "seen where there is nothing"
    assert found >= 4 and others <= 2


def _boxes_in(volume: sitk.Image, shipped, folder: Path):
    """Return the grid of a plain phase as it is read, and the index boxes of what is found in it."""
    sitk.WriteImage(volume, str(folder / "plain.nii.gz"))
    aligned = align(read_exam(files={"PC": folder / "plain.nii.gz"}))
    return aligned.grid, [roi.index_box(aligned.grid) for roi in shipped.detector.find(aligned)]


def _corners_of(mask: np.ndarray) -> list[list[float]]:
    """Return the two outer corners (x, y, z) of a mask (z, y, x) as continuous indices."""
    inside = np.argwhere(mask)[:, ::-1]
    return np.array([inside.min(0) - 0.5, inside.max(0) + 0.5]).tolist()


def test_a_roi_drawn_in_the_patient_is_read_and_written_where_it_was_drawn(real, shipped, tmp_path):
    oriented = sitk.DICOMOrient(real.itk, "LPS")
    size = np.array(oriented.GetSize())
    low, high = size // 3, np.maximum(size // 2, size // 3 + 1)  # first and one past the last voxel
    center_lps = oriented.TransformContinuousIndexToPhysicalPoint([float(v) for v in (low + high - 1) / 2])
    markup = {
        "type": "ROI",
        "coordinateSystem": "LPS",
        "center": list(center_lps),
        "size": [float(v) for v in (high - low) * oriented.GetSpacing()],
        "orientation": list(oriented.GetDirection()),
    }
    (tmp_path / "drawn.mrk.json").write_text(json.dumps({"markups": [markup]}))
    diagnosis = diagnose(real.exam, real.aligned, shipped, rois=read_rois(tmp_path / "drawn.mrk.json"))
    write_outputs(diagnosis, real.aligned, tmp_path, scene=False)
    assert any("unlike the exams" in reason for reason in diagnosis.gate.reasons)

    (roi,) = read_rois(tmp_path / "roi_L1.mrk.json")
    assert roi.center_ras_mm == pytest.approx((-center_lps[0], -center_lps[1], center_lps[2]), abs=1e-3)
    cam = sitk.ReadImage(str(tmp_path / "cam_L1.nrrd"))
    corner = oriented.TransformPhysicalPointToContinuousIndex(cam.GetOrigin())
    assert np.allclose(corner, low, atol=1e-3)
    assert np.array_equal(cam.GetSize(), high - low)
    assert cam.GetSpacing() == pytest.approx(oriented.GetSpacing(), abs=1e-4)
    assert cam.GetDirection() == pytest.approx(oriented.GetDirection(), abs=1e-5)
