"""The phantoms agree with the clinical notes, repeat from their seed, and their truth is where the voxels are."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
from PediatricLiverDxLib.vocabulary import ENTITY_CLASS, PHASES

from training.cohort import read_exams_csv
from training.phantom.canvas import TISSUES, Canvas
from training.phantom.cli import entity_of
from training.phantom.fields import smooth_field
from training.phantom.generate import generate
from training.phantom.mass import bulge, choose_centres
from training.phantom.organs import tissue_samples
from training.phantom.vessels import grow_tree

MATRIX, SPACING = 96, 5.0


def _small(seed: int, entity: str | None, *, note_tissues: bool = True):
    return generate(seed, entity, matrix=MATRIX, slice_spacing_mm=SPACING, note_tissues=note_tissues)


@pytest.fixture(scope="module")
def exams():
    """One small exam of every entity and one without a lesion."""
    return {entity: _small(40 + number, entity) for number, entity in enumerate([*ENTITY_CLASS, None])}


@pytest.fixture(scope="module")
def healthy():
    """Ten small exams without a lesion."""
    return tuple(_small(300 + number, None) for number in range(10))


def test_smooth_field_has_zero_mean_and_unit_deviation():
    axis = np.arange(0.0, 200.0, 4.0)
    values = np.stack([smooth_field(np.random.default_rng(seed), axis, axis, axis, 12.0) for seed in range(12)])
    assert abs(values.mean()) < 0.05
    assert values.std() == pytest.approx(1.0, abs=0.05)


#: HU in PHASES in which medians over many children must lie (clinical notes; the assumed ranges are assumptions there, too).
ORGAN_HU = {
    "aorta": ((38, 48), (250, 350), (135, 170), (110, 130)),
    "portal vein": ((38, 48), (60, 110), (150, 190), (110, 130)),
    "spleen": ((57, 65), (110, 150), (115, 130), (95, 110)),
    "kidney cortex": ((41, 49), (150, 200), (160, 190), (140, 170)),
    "liver": ((61, 79), (72, 95), (100, 125), (88, 105)),
}


@pytest.mark.parametrize("organ", ORGAN_HU)
def test_organ_voxels_agree_with_the_clinical_notes(exams, healthy, organ):
    """The median child's, to within twice the standard error of a median of so few children (1.25 SD / sqrt(n), were they normal)."""
    samples = [tissue_samples(exam, (organ,)) for exam in (*exams.values(), *healthy)]
    for phase, (low, high) in zip(PHASES, ORGAN_HU[organ], strict=True):
        medians = [np.median(sample[phase]) for sample in samples if len(sample.get(phase, ())) >= 6]
        assert len(medians) >= 8
        error = 1.25 * np.std(medians, ddof=1) / np.sqrt(len(medians))
        value = np.median(medians)
        assert low - 2 * error <= value <= high + 2 * error, f"{organ} in {phase}: {value:.0f} +- {error:.0f} HU, expected {low} to {high}"


def test_the_psoas_is_the_childs_own_muscle(exams, healthy):
    samples = [tissue_samples(exam, ("muscle",)) for exam in (*exams.values(), *healthy)]
    plain = [np.median(sample["PC"]) for sample in samples if len(sample.get("PC", ())) >= 6]
    venous = [np.median(sample["PVP"]) for sample in samples if len(sample.get("PVP", ())) >= 6]
    assert len(plain) >= 8 and 50 < np.median(plain) < 64 and 3 < np.std(plain) < 12
    assert np.median(plain) + 3 < np.median(venous) < np.median(plain) + 35


def test_the_truths_liver_is_where_liver_was_painted(healthy):
    """Nearly all of it: vessels and fissures within it, the gallbladder, and edges apart."""
    for exam in healthy:
        liver = sitk.GetArrayFromImage(exam.liver) > 0
        painted = sitk.GetArrayFromImage(exam.tissues) == TISSUES.index("liver") + 1
        assert np.mean(liver[painted]) > 0.97 and np.mean(painted[liver]) > 0.8


def test_same_seed_gives_the_same_voxels():
    """Whether or not they are asked where its tissues are."""
    first, second = _small(7, "HB"), _small(7, "HB", note_tissues=False)
    assert first.tissues is not None and second.tissues is None
    assert first.truth == second.truth
    for phase, image in first.phases.items():
        assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(second.phases[phase]))


def test_different_seeds_give_different_children():
    first, second = _small(7, "HB"), _small(8, "HB")
    assert first.truth["build"] != second.truth["build"]


@pytest.mark.parametrize("entity", ENTITY_CLASS)
def test_truth_box_encloses_exactly_the_lesion_voxels(exams, entity):
    exam = exams[entity]
    labels = sitk.GetArrayFromImage(exam.lesions)
    assert exam.truth["lesions"], "a lesion was asked for"
    for lesion in exam.truth["lesions"]:
        found = np.argwhere(labels == lesion["label"])
        assert lesion["box_index"] == [*found.min(0)[::-1], *(found.max(0)[::-1] + 1)]
        assert lesion["cut"] == bool({0, len(labels) - 1} & set(found[:, 0]))
    assert len(exam.truth["lesions"]) == labels.max()


def test_no_lesion_was_asked_for_none_is_there(exams):
    assert not sitk.GetArrayFromImage(exams[None].lesions).any()
    assert exams[None].truth["class"] is None


@pytest.mark.parametrize("entity", ENTITY_CLASS)
def test_lesions_lie_inside_the_body(exams, entity):
    exam = exams[entity]
    hu = sitk.GetArrayFromImage(exam.phases["PVP"])
    inside = hu[sitk.GetArrayFromImage(exam.lesions) > 0]
    assert np.mean(inside < -200) < 0.02


def test_pvp_carries_the_truth_and_other_phases_are_on_their_own_positions(exams):
    for exam in exams.values():
        assert exam.phases["PVP"].GetSize() == exam.lesions.GetSize() == exam.liver.GetSize()
        assert set(exam.displacements) == set(exam.phases) - {"PVP"}
        for phase, image in exam.phases.items():
            assert image.GetPixelID() == sitk.sitkInt16, phase


def test_displacement_leads_from_the_reference_to_the_phase():
    """Resampled with the written field, a phase lies on PVP; left alone, or with the field turned round, it does not.

    Air against tissue is compared, since contrast medium does not change it.
    """
    exam, phase = next(
        (exam, phase)
        for exam in (_small(seed, None) for seed in range(900, 960))
        for phase in exam.displacements
        if abs(exam.truth["breathing"][phase]["liver_shift_mm"]) > 7.0
    )
    reference = exam.phases["PVP"]
    field = sitk.Cast(exam.displacements[phase], sitk.sitkVectorFloat64)

    def misfit(factor: float) -> float:
        turned = sitk.GetImageFromArray(factor * sitk.GetArrayFromImage(field), isVector=True)
        turned.CopyInformation(field)
        moved = sitk.Resample(exam.phases[phase], reference, sitk.DisplacementFieldTransform(turned), sitk.sitkLinear, -2000)
        ours, theirs = (np.clip(sitk.GetArrayFromImage(image), -700, -300) for image in (moved, reference))
        seen = sitk.GetArrayFromImage(moved) > -1500
        return float(np.abs(ours - theirs)[seen].mean())

    assert misfit(1.0) < 0.7 * misfit(0.0) < 0.7 * misfit(-1.0)


def test_murray_law_holds_at_every_junction():
    rng = np.random.default_rng(3)
    tree = grow_tree(rng, np.zeros(3), rng.normal(0, 30, (40, 3)), 5.0)
    parents = np.unique(tree.parents[1:])
    assert len(parents) > 40
    for node in parents:
        children = np.flatnonzero(tree.parents == node)
        assert np.sum(tree.radii[children] ** 3) == pytest.approx(tree.radii[node] ** 3)


def test_a_cohort_has_every_class_equally_often():
    classes = [ENTITY_CLASS[entity_of(5, number)] for number in range(40)]
    assert {name: classes.count(name) for name in set(classes)} == dict.fromkeys(("HH", "OBHT", "HB", "OMHT"), 10)


def test_the_command_writes_a_cohort_that_training_reads(tmp_path):
    from training.__main__ import main

    assert main(["phantom", "-o", str(tmp_path), "--exams", "2", "--seed", "77", "--matrix", "64", "--workers", "2"]) == 0
    records = read_exams_csv(tmp_path / "exams.csv")
    assert [record.class_name for record in records] == ["HH", "OBHT"]
    for record in records:
        truth = json.loads((record.lesions.parent / "truth.json").read_text())
        assert truth["class"] == record.class_name
        reference = sitk.ReadImage(str(record.phases["PVP"]))
        assert sitk.ReadImage(str(record.lesions)).GetSize() == reference.GetSize()
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nrrd")}
    # the second exam was interrupted before its truth was written: it is generated again, the first one is kept
    (tmp_path / "00001" / "truth.json").unlink()
    assert main(["phantom", "-o", str(tmp_path), "--exams", "2", "--seed", "77", "--matrix", "64"]) == 0
    assert (tmp_path / "00001" / "truth.json").exists() and not list(tmp_path.rglob("*.part"))
    for path, time in written.items():
        assert (path.stat().st_mtime_ns == time) == (path.parent.name == "00000"), path.name


def test_a_lesion_without_room_keeps_the_others_where_they_belong():
    """Three lesions of which the second is as large as the liver: the third has its own centre, and the second none."""
    axis = np.arange(-60.0, 61.0, 2.0)
    canvas = Canvas(axis.astype(np.float32), axis, axis)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    liver = np.sqrt(z**2 + y**2 + x**2) - 50.0
    centres = choose_centres(np.random.default_rng(0), canvas, liver, [(20.0,) * 3, (300.0,) * 3, (10.0,) * 3])
    assert len(centres) == 3 and centres[1] is None
    assert np.linalg.norm(np.subtract(centres[0], centres[2])) > 0.55 * 30


def _ball_of_liver():
    axis = np.arange(-80.0, 81.0, 2.0)
    canvas = Canvas(axis.astype(np.float32), axis, axis)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    from_middle = np.sqrt(z**2 + y**2 + x**2).astype(np.float32)
    return canvas, from_middle - 40.0, from_middle - 75.0


@pytest.mark.parametrize("exophytic", [0.1, 0.35, 0.6])
def test_an_exophytic_lesion_has_its_centre_outside_the_liver(exophytic):
    canvas, liver, abdomen = _ball_of_liver()
    for seed in range(5):
        (centre,) = choose_centres(np.random.default_rng(seed), canvas, liver, [(30.0,) * 3], [exophytic], abdomen)
        assert np.linalg.norm(centre) - 40.0 == pytest.approx(exophytic * 15.0, abs=3.0)
        (inside,) = choose_centres(np.random.default_rng(seed), canvas, liver, [(30.0,) * 3], [0.0], abdomen)
        assert np.linalg.norm(inside) < 39.0


def test_where_the_abdomen_has_no_room_an_exophytic_lesion_lies_inside():
    canvas, liver, _ = _ball_of_liver()
    (centre,) = choose_centres(np.random.default_rng(1), canvas, liver, [(30.0,) * 3], [0.6], liver - 2.0)
    assert np.linalg.norm(centre) < 39.0


def test_the_livers_outline_bulges_with_an_exophytic_lesion_as_far_as_there_is_room():
    canvas, liver, _ = _ball_of_liver()
    abdomen = np.broadcast_to((canvas.x - 60.0).astype(np.float32), liver.shape)
    bulging = bulge(canvas, liver, abdomen, [((0.0, 0.0, 48.0), (30.0,) * 3)])
    middle = len(canvas.x) // 2
    assert bulging[middle, middle, np.argmin(np.abs(canvas.x - 56.0))] < 0 < liver[middle, middle, np.argmin(np.abs(canvas.x - 56.0))]
    assert bulging[middle, middle, np.argmin(np.abs(canvas.x - 62.0))] > 0, "the wall does not yield"
    assert np.array_equal(bulging[:, :, canvas.x < 0], liver[:, :, canvas.x < 0])
