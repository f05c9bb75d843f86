"""The gate: what was trained on is trusted, what is unlike it is not, and everything doubtful is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import REAL_CT, drawn_images
from PediatricLiverDxLib.alignment import align
from PediatricLiverDxLib.diagnosis import diagnose
from PediatricLiverDxLib.exam import exam_from_images
from PediatricLiverDxLib.exam_features import FEATURES, exam_features, volume_features
from PediatricLiverDxLib.gate import DO_NOT_TRUST, LOOK, TRUST, VERDICTS, fit_gate, judge
from PediatricLiverDxLib.notices import grave
from PediatricLiverDxLib.rois import Roi
from PediatricLiverDxLib.vocabulary import PHASES


@pytest.fixture(scope="module")
def diagnosis(tiny_exam, tiny_aligned, networks):
    return diagnose(tiny_exam, tiny_aligned, networks)


@pytest.fixture(scope="module")
def sure(diagnosis):
    """The drawn lesion, made sure of itself."""
    lesion = diagnosis.lesions[0]
    return replace(
        lesion,
        malignant_probability=0.95,
        detection_score=0.9,
        backbones={name: {**values, "malignant_probability": 0.95} for name, values in lesion.backbones.items()},
    )


def verdict_of(networks, images, lesions=()) -> tuple[str, str]:
    exam = exam_from_images(images)
    aligned = align(exam, enabled=False)
    gate = judge(networks.bundle, exam, aligned, lesions, [np.zeros(6)] * len(lesions))
    return gate.verdict, " ".join(gate.reasons)


def changed(images: dict[str, sitk.Image], change) -> dict[str, sitk.Image]:
    out = {}
    for phase, image in images.items():
        array = change(sitk.GetArrayFromImage(image).astype(np.float32))
        out[phase] = sitk.GetImageFromArray(np.round(array).astype(np.int16))
        out[phase].CopyInformation(image)
    return out


def test_features_are_named_and_only_what_is_not_there_is_missing():
    """The drawn exams have no bone and no gas in the body."""
    vector = volume_features(drawn_images(1)["PVP"])
    assert vector.shape == (len(FEATURES),)
    missing = [name for name, value in zip(FEATURES, vector, strict=True) if not np.isfinite(value)]
    assert missing == ["dense_hu", "dense_high_hu"]


@pytest.mark.parametrize("value", [-1024, 0, 60])
def test_an_empty_volume_is_not_to_be_trusted(networks, sure, value):
    drawn = exam_from_images(drawn_images(105, ("PVP",)))
    image = changed({"PVP": drawn.phases["PVP"].image}, lambda hu: np.full_like(hu, value))["PVP"]
    assert not np.isinf(volume_features(image)).any()
    empty = replace(drawn, phases={"PVP": replace(drawn.phases["PVP"], image=image)})
    gate = judge(networks.bundle, empty, align(drawn), [sure], [np.zeros(6)])
    assert gate.verdict == DO_NOT_TRUST


@pytest.mark.parametrize(
    ("box", "verdict", "words"),
    [((0, 0, 4, 8, 8, 12), DO_NOT_TRUST, "hardly any soft tissue"), ((30.2, 33.1, 10.0, 32.6, 35.4, 12.0), LOOK, "pixels wide")],
)
def test_a_box_that_can_hold_no_lesion_is_said(networks, tiny_exam, tiny_aligned, sure, box, verdict, words):
    def reasons(lesion):
        gate = judge(networks.bundle, tiny_exam, tiny_aligned, [lesion], [np.zeros(6)])
        return gate.verdict, " ".join(gate.reasons)

    assert words not in reasons(sure)[1]
    found, text = reasons(replace(sure, roi=Roi.from_index_box(tiny_aligned.grid, box)))
    assert words in text and VERDICTS.index(found) >= VERDICTS.index(verdict)


def test_what_could_not_be_measured_does_not_widen_the_gate():
    rng = np.random.default_rng(3)
    values = rng.normal(50, 1, (200, len(FEATURES)))
    whole = fit_gate({"PVP": values})[0]["phases"]["PVP"]
    values[:10, 3] = np.nan
    holed = fit_gate({"PVP": values})[0]["phases"]["PVP"]
    assert np.isfinite(holed["precision"]).all()
    assert holed["sd"][3] <= whole["sd"][3] * 1.1 and holed["mean"][3] == pytest.approx(whole["mean"][3], abs=0.3)


def test_an_exam_without_fat_is_placed_by_the_rest(networks, sure):
    exam = exam_from_images(changed(drawn_images(105), lambda hu: np.where((hu > -170) & (hu < -30), 30, hu)))
    assert np.isnan(exam_features(exam)["PVP"]).any()
    gate = judge(networks.bundle, exam, align(exam, enabled=False), [sure], [np.zeros(6)])
    assert gate.verdict == DO_NOT_TRUST and "unlike the exams" in gate.reasons[0]


def test_features_tell_noise():
    names = list(FEATURES)
    quiet, loud = (volume_features(drawn_images(1, ("PVP",), noise=noise)["PVP"]) for noise in (8, 24))
    assert loud[names.index("noise")] > quiet[names.index("noise")] + 0.7


def test_an_exam_like_those_trained_on_with_a_sure_lesion_is_trusted(networks, sure):
    verdict, reasons = verdict_of(networks, drawn_images(105), [sure])
    assert verdict == TRUST and reasons == ""


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("five times the noise", lambda hu: hu + np.random.default_rng(0).normal(0, 50, hu.shape)),
        ("smoothed", lambda hu: (hu + np.roll(hu, 1, 2) + np.roll(hu, 1, 1) + np.roll(hu, (1, 1), (1, 2))) / 4),
        ("40 HU brighter", lambda hu: np.where(hu > -500, hu + 40, hu)),
        ("bones", lambda hu: np.where(np.arange(hu.shape[2]) % 12 < 2, np.where(hu > 0, 700, hu), hu)),
    ],
)
def test_exams_unlike_those_trained_on_are_not_trusted(networks, sure, name, change):
    verdict, reasons = verdict_of(networks, changed(drawn_images(105), change), [sure])
    assert verdict in (LOOK, DO_NOT_TRUST)
    assert "unlike the exams" in reasons


def test_phases_that_are_strange_alike_are_named_in_one_sentence(networks, sure):
    _, reasons = verdict_of(networks, changed(drawn_images(105), lambda hu: np.where(hu > -500, hu + 40, hu)), [sure])
    assert reasons.count("unlike the exams") == 1
    assert "pre-contrast, arterial, portal venous and delayed phases are unlike" in reasons


def test_noise_without_a_body_is_not_to_be_trusted(networks, sure):
    rng = np.random.default_rng(0)
    verdict, _ = verdict_of(networks, changed(drawn_images(105), lambda hu: rng.normal(0, 300, hu.shape)), [sure])
    assert verdict == DO_NOT_TRUST


@pytest.mark.parametrize("phase", PHASES)
def test_one_phase_is_never_trusted(networks, sure, phase):
    verdict, reasons = verdict_of(networks, drawn_images(105, (phase,)), [sure])
    assert verdict != TRUST and "Only one phase" in reasons


def test_missing_phase_is_said(networks, sure):
    verdict, reasons = verdict_of(networks, drawn_images(105, ("PC", "AP", "PVP")), [sure])
    assert verdict == LOOK and "no delayed phase" in reasons


def test_no_lesion_asks_for_a_look(networks):
    verdict, reasons = verdict_of(networks, drawn_images(105))
    assert verdict == LOOK and "No lesion" in reasons


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"malignant_probability": 0.55}, "nearly as likely"),
        ({"detection_score": 0.3}, "not sure"),
        (
            {"backbones": {name: {"malignant_probability": p} for name, p in (("vit", 0.2), ("resnet18", 0.9), ("densenet121", 0.9))}},
            "disagree",
        ),
    ],
)
def test_a_doubtful_lesion_asks_for_a_look(networks, sure, change, words):
    verdict, reasons = verdict_of(networks, drawn_images(105), [replace(sure, **change)])
    assert verdict == LOOK and words in reasons


def test_poor_alignment_and_cut_boxes_ask_for_a_look(networks, sure):
    exam = exam_from_images(drawn_images(105))
    aligned = align(exam, enabled=False)
    fit = replace(aligned.alignment["AP"], status="kept as acquired", similarity_after=0.2)
    gate = judge(networks.bundle, exam, replace(aligned, alignment={**aligned.alignment, "AP": fit}), [sure], [np.zeros(6)], {"L1"})
    assert gate.verdict == LOOK
    assert any("does not fit" in reason for reason in gate.reasons) and any("edge of the volume" in reason for reason in gate.reasons)


def test_a_grave_warning_asks_for_a_look_and_another_does_not(networks, sure):
    exam = exam_from_images(drawn_images(105))
    aligned = align(exam, enabled=False)
    told = replace(exam, warnings=("A word by the way.",))
    assert judge(networks.bundle, told, aligned, [sure], [np.zeros(6)]).verdict == TRUST
    warned = replace(exam, warnings=(grave("PC: looks arterial."),))
    gate = judge(networks.bundle, warned, aligned, [sure], [np.zeros(6)])
    assert gate.verdict == LOOK and gate.reasons == ("PC: looks arterial.",)


def test_strange_lesions_are_told_by_their_embedding(networks, sure):
    rng = np.random.default_rng(0)
    known = rng.normal(0, 1, (200, 40)) * np.linspace(3, 0.1, 40)
    statistics, arrays = fit_gate({}, known)
    bundle = networks.bundle
    learned = replace(
        bundle,
        document={**bundle.document, "gate": {**bundle.document["gate"], "lesion": statistics["lesion"]}},
        arrays={**bundle.arrays, **arrays},
    )
    exam = exam_from_images(drawn_images(105))
    aligned = align(exam, enabled=False)
    assert judge(learned, exam, aligned, [sure], [known[3]]).verdict == TRUST
    far = judge(learned, exam, aligned, [sure], [known[3] + 8])
    assert far.verdict == DO_NOT_TRUST and "L1 looks unlike" in far.reasons[0]


def test_a_phase_that_was_not_trained_is_not_to_be_trusted(networks, sure):
    phases = {phase: values for phase, values in networks.bundle.document["gate"]["phases"].items() if phase != "AP"}
    bundle = replace(networks.bundle, document={**networks.bundle.document, "gate": {"phases": phases}})
    exam = exam_from_images(drawn_images(105))
    assert judge(bundle, exam, align(exam, enabled=False), [sure], [np.zeros(6)]).verdict == DO_NOT_TRUST


def test_thresholds_are_in_order_and_hold_for_exams_not_seen():
    rng = np.random.default_rng(1)
    mixing = rng.normal(size=(len(FEATURES), len(FEATURES)))
    known, fresh = rng.normal(size=(300, len(FEATURES))) @ mixing, rng.normal(size=(300, len(FEATURES))) @ mixing
    statistics = fit_gate({"PVP": known})[0]["phases"]["PVP"]
    assert 0 < statistics["look_threshold"] < statistics["do_not_trust_threshold"]
    away = fresh - np.array(statistics["mean"])
    distances = np.sqrt(np.einsum("nf,fg,ng->n", away, np.array(statistics["precision"]), away) / len(FEATURES))
    assert 0.001 < (distances > statistics["look_threshold"]).mean() < 0.12
    assert not (distances > statistics["do_not_trust_threshold"]).any()


def test_verdicts_are_ordered_by_gravity():
    assert VERDICTS == ("trust", "look", "do not trust")


@pytest.mark.skipif(not REAL_CT.is_dir(), reason="the real CT volumes are not beside this repository")
@pytest.mark.parametrize("name", ["example_ct.nii.gz", "example_ct_sm.nii.gz", "aorta_report_ct_cropped.nii.gz"])
def test_real_ct_is_not_trusted_by_a_bundle_of_drawings(networks, name):
    image = sitk.DICOMOrient(sitk.ReadImage(str(REAL_CT / "totalsegmentator" / name)), "LPS")
    assert verdict_of(networks, {"PVP": image})[0] == DO_NOT_TRUST


def test_features_of_an_exam_are_by_phase():
    assert list(exam_features(exam_from_images(drawn_images(2, ("AP", "DP"))))) == ["AP", "DP"]
