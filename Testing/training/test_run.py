"""The steps from exams.csv to a measured bundle, by their command line, on tiny exams; and resuming, which must change nothing."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PediatricLiverDxLib.bundle import Bundle, load_networks, read_bundle
from PediatricLiverDxLib.diagnosis import diagnose
from PediatricLiverDxLib.exam import read_exam
from PediatricLiverDxLib.vocabulary import HEADS, MALIGNANT, InputError
from safetensors.torch import load_file

from training import calibrate, detector, tuning
from training.__main__ import STEPS, main
from training.bundle_classifiers import BundleClassifiers, calibrated_anew, logits_of, take_classifiers
from training.classifiers import LesionLogits, head_losses, head_targets, train_classifier
from training.cohort import read_exams_csv
from training.configuration import Configuration
from training.detector import train_detector
from training.evaluate import networks_key
from training.export import _boxes_of_exam, both_trained_on, describe_training, gate_rows, intended_use_of
from training.model_card import model_card
from training.onnx_export import open_session
from training.origins import origin_of
from training.run_folder import learning_rate_factor, resumable_checkpoint, save_checkpoint, training_key
from training.seen_exams import is_seen, write_seen
from training.statistics import calibration_error
from training.steps.cohort_arguments import cached_cohort
from training.tuning import fit_ensemble, fit_temperatures

TINY = {
    "name": "tiny",
    "cohort": {"validation": 0.34, "test": 0.0},
    "cache": {"align_share": 0.0},
    "detector": {"epochs": 2, "images_per_epoch": 2, "batch": 2, "hard_share": 0.5},
    "classifiers": {
        "epochs": {"vit": 2, "resnet18": 2, "densenet121": 1}, "composites_per_epoch": 4, "batch": 4, "entity_weight": 0.5,
        "first_size": {"vit": 128, "resnet18": 64, "densenet121": 64}, "first_epochs": {"vit": 0, "resnet18": 1, "densenet121": 0},
    },
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.json"
    path.write_text(json.dumps(TINY))
    return path


@pytest.fixture(scope="module")
def trained(exams_csv: Path, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a detector, a ViT and a ResNet18, two steps each."""
    run = tmp_path_factory.mktemp("run")
    shared = ["--exams", str(exams_csv), "--run", str(run), "--config", str(config), "--workers", "1", "--device", "cpu"]
    assert main(["detector", *shared]) == 0
    assert main(["classifiers", *shared, "--backbone", "vit", "--backbone", "resnet18"]) == 0
    return run


@pytest.fixture(scope="module")
def bundle(exams_csv: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    command = "python -m training detector --exams exams.csv --run run"
    arguments = ["--exams", str(exams_csv), "--run", str(trained), "-o", str(folder), "--workers", "1", "--command", command,
                 "--name", "balls", "--trained-on", "balls of four kinds"]
    assert main(["export", *arguments]) == 0
    return folder


@pytest.mark.parametrize("step", list(STEPS))
def test_every_step_has_help(step: str, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as ended:
        main([step, "--help"])
    assert ended.value.code == 0
    assert f"training {step}" in capsys.readouterr().out


def test_unusable_input_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main(["detector", "--exams", str(tmp_path / "none.csv"), "--run", str(tmp_path / "run")]) == 2
    assert "none.csv" in capsys.readouterr().err


def test_a_run_keeps_its_configuration_splits_logs_and_weights(trained: Path):
    assert Configuration.read(trained / "configuration.json").name == "tiny"
    with (trained / "splits.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 and {row["split"] for row in rows} == {"train", "validation"}
    for folder in (trained / "detector", trained / "classifiers" / "vit", trained / "classifiers" / "resnet18"):
        assert (folder / "weights.safetensors").is_file() and (folder / "configuration.json").is_file()
        assert len((folder / "history.jsonl").read_text(encoding="utf-8").splitlines()) == 2
        assert list((folder / "tensorboard").glob("events*"))
    found = LesionLogits.load(trained / "classifiers" / "vit" / "validation.npz")
    held_out = {row["exam_id"] for row in rows if row["split"] == "validation"}
    assert set(found.exam_ids.tolist()) == held_out and found.logits.shape[1] == len(HEADS)


def test_a_resumed_training_gives_the_weights_of_an_uninterrupted_one(exams_csv: Path, config: Path, trained: Path, tmp_path: Path):
    import argparse

    arguments = argparse.Namespace(exams=[exams_csv], run=tmp_path, cache=trained / "cache", workers=1)
    configuration = Configuration.read(config)
    exams = cached_cohort(arguments, configuration)
    for stop in (1, None):
        resumed = train_classifier("vit", exams, configuration, tmp_path, device="cpu", stop_after=stop)
    _assert_same(resumed, trained / "classifiers" / "vit" / "weights.safetensors")
    for stop in (1, None):
        resumed = train_detector(exams, configuration, tmp_path / "detector", device="cpu", stop_after=stop)
    _assert_same(resumed, trained / "detector" / "weights.safetensors")


def test_a_refused_start_leaves_no_trace_in_the_run(
    exams_csv: Path, config: Path, bundle: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    other = _others_like(exams_csv, "strange")
    before = (run / "splits.csv").read_bytes()
    for step in (["detector"], ["classifiers", "--backbone", "vit"]):
        arguments = [*step, "--exams", str(other), "--run", str(run), "--workers", "1", "--device", "cpu", "--start", str(bundle)]
        assert main(arguments) == 2 and "other settings or exams" in capsys.readouterr().err
    assert (run / "splits.csv").read_bytes() == before and not (run / "seen.json").exists()


def test_a_start_of_another_architecture_is_refused_before_anything_is_cut(
    exams_csv: Path, bundle: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    larger = tmp_path / "larger.json"
    larger.write_text(json.dumps({"detector": {"architecture": "yolov8s.yaml"}}), encoding="utf-8")
    starts = {"another network": bundle, "the weights of yolov8s": trained / "detector" / "weights.safetensors"}
    for sentence, start in starts.items():
        arguments = ["--exams", str(exams_csv), "--run", str(tmp_path / "run"), "--config", str(larger), "--start", str(start)]
        assert main(["detector", *arguments]) == 2 and sentence in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_resumed_training_keeps_the_hard_negatives_that_it_began_with(
    exams_csv: Path, config: Path, bundle: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(detector, "HARD_SCORE", 0.0)  # a hardly trained network is sure of nothing
    arguments = SimpleNamespace(exams=[exams_csv], run=tmp_path, cache=trained / "cache", workers=1)
    configuration = Configuration.read(config)
    exams = cached_cohort(arguments, configuration)
    weights = {}
    for name, stops in (("whole", (None,)), ("halves", (1, None)), ("none hard", (None,))):
        settings = dataclasses.replace(configuration.detector, hard_share=0.0 if name == "none hard" else 0.9, negative_share=0.9)
        for stop in stops:
            weights[name] = train_detector(
                exams, dataclasses.replace(configuration, detector=settings), tmp_path / name, device="cpu", start=bundle, stop_after=stop,
            )
    kept = json.loads((tmp_path / "halves" / "hard_negatives.json").read_text(encoding="utf-8"))
    assert len(kept) == sum(one.empty for exam in exams["train"] for one in exam.slices)
    _assert_same(weights["whole"], weights["halves"])
    with pytest.raises(AssertionError):
        _assert_same(weights["whole"], weights["none hard"])
    (tmp_path / "whole" / "hard_negatives.json").unlink()
    with pytest.raises(InputError, match="is gone; begin anew"):
        train_detector(
            exams, dataclasses.replace(configuration, detector=dataclasses.replace(settings, hard_share=0.9)), tmp_path / "whole",
            device="cpu", start=bundle,
        )
    with pytest.raises(InputError, match="the weights that it is to replace"):
        train_detector(exams, configuration, tmp_path / "whole", device="cpu", start=weights["whole"])


def test_a_resume_with_other_settings_or_exams_is_refused(tmp_path: Path):
    settings, exams = Configuration().classifiers, {"train": [SimpleNamespace(exam_id="e1")], "validation": []}
    key = training_key(settings, 0, exams, "vit")
    save_checkpoint(tmp_path / "checkpoint.pt", key=key, epoch=3)
    assert resumable_checkpoint(tmp_path / "checkpoint.pt", key)["epoch"] == 3
    # another backbone's epochs change nothing for this one
    others = dataclasses.replace(settings, epochs={**settings.epochs, "resnet18": 99})
    assert training_key(others, 0, exams, "vit") == key
    more = {**exams, "validation": [SimpleNamespace(exam_id="e2")]}
    for changed in (
        training_key(dataclasses.replace(settings, batch=2), 0, exams, "vit"), training_key(settings, 1, exams, "vit"),
        training_key(settings, 0, more, "vit"), training_key(others, 0, exams, "resnet18"),
        training_key(settings, 0, exams, "vit", tmp_path / "checkpoint.pt"),
    ):
        with pytest.raises(InputError, match="other settings or exams"):
            resumable_checkpoint(tmp_path / "checkpoint.pt", changed)


def test_a_run_is_not_gone_on_with_under_another_split(exams_csv: Path, config: Path, tmp_path: Path):
    configuration = Configuration.read(config)
    arguments = SimpleNamespace(exams=[exams_csv], run=tmp_path, cache=None, workers=1)
    configuration.write(tmp_path / "configuration.json")
    with pytest.raises(InputError, match="another seed"):
        cached_cohort(arguments, dataclasses.replace(configuration, seed=9))


def _others_like(exams_csv: Path, prefix: str) -> Path:
    """Return a table of the same exams under other ids, of other patients."""
    header, *rows = exams_csv.read_text(encoding="utf-8").splitlines()
    path = exams_csv.with_name(f"{prefix}.csv")
    path.write_text("\n".join([header, *(f"{prefix}-{row}".replace(",patient-", f",{prefix}-patient-") for row in rows)]) + "\n")
    return path


def _assert_same(one: Path, other: Path) -> None:
    first, second = load_file(one), load_file(other)
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0, msg=name)


def test_the_exported_networks_answer_as_torch_does(bundle: Path):
    document = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    for name, difference in document["training"]["torch_onnx_differences"].items():
        assert difference < 0.05, name
    assert document["training"]["commands"] and "training detector" in (bundle / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_a_detector_goes_on_from_a_bundle_whose_classifiers_stay(exams_csv: Path, config: Path, bundle: Path, tmp_path: Path):
    """What a hospital can do with a bundle alone; what comes of it says where it began, and knows whom the bundle has seen."""
    own = _others_like(exams_csv, "own")
    run, folder = tmp_path / "run", tmp_path / "own"
    shared = ["--exams", str(own), "--run", str(run), "--workers", "1"]
    assert main(["detector", *shared, "--config", str(config), "--device", "cpu", "--epochs", "1", "--start", str(bundle)]) == 0
    # whom only weights before it knew, as write_splits keeps them
    with (run / "splits.csv").open("a", encoding="utf-8") as file:
        file.write(",patient-earlier,train\n")
    assert main(["export", *shared, "-o", str(folder), "--name", "own", "--trained-on", "other balls",
                 "--classifiers-of", str(bundle)]) == 0
    before, after = (load_networks(one, 1).bundle.document["training"] for one in (bundle, folder))
    assert after["began_with"] == {"detector": {
        "bundle": "balls 0.1.0", "trained_on": "balls of four kinds", "exams": before["exams"],
    }}
    assert set(before["seen"]["sha256"]) < set(after["seen"]["sha256"])
    assert is_seen(dataclasses.replace(read_exams_csv(own)[0], patient_id="patient-earlier", exam_id="later"), after["seen"])
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "The weights of detector start at those of balls 0.1.0 (trained on: balls of four kinds; " in card
    assert "classifiers are those of balls 0.1.0 (trained on: balls of four kinds)" in card
    assert before["commands"][0] in card

    for name in ("vit.onnx", "resnet18.onnx"):
        assert (folder / name).read_bytes() == (bundle / name).read_bytes()
    first, second = (load_networks(one, 1).bundle for one in (bundle, folder))
    assert first.document["sha256"]["detector.onnx"] != second.document["sha256"]["detector.onnx"]
    for backbone in ("vit", "resnet18"):
        for ours, theirs in zip(first.head(backbone), second.head(backbone), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        # four exams calibrate nothing: what the bundle knew stays, and the card says so
        for key in ("temperatures", "shares"):
            assert second.document["classifiers"][backbone][key] == first.document["classifiers"][backbone][key]
    assert after["calibration_kept"] == list(HEADS) and "too few exams" in card
    assert second.info.trained_on == "detector: other balls; classifiers: balls of four kinds"
    assert "classifiers" not in after["configuration"] and "training.classifiers_of.classifier_settings" in card

    # a bundle that begins with this one in turn names the one whose run trained the classifiers
    write_seen(tmp_path, {"seen": after["seen"]})
    assert take_classifiers(folder, tmp_path).origin == after["classifiers_of"]
    # so does a network that goes on from either of its own
    assert origin_of(folder, "vit") == {"bundle": "balls 0.1.0", "trained_on": "balls of four kinds", "exams": before["exams"]}
    assert origin_of(folder, "detector")["began_with"]["bundle"] == "balls 0.1.0"
    assert origin_of(folder, "detector")["exams"] == after["exams"]
    assert origin_of(run / "detector" / "weights.safetensors", "detector") == {
        "bundle": "an earlier run", "trained_on": "exams that its splits.csv lists", "exams": after["exams"],
        "began_with": after["began_with"]["detector"],
    }
    assert origin_of(folder, "detector")["trained_on"] == "other balls"


def test_classifiers_go_on_from_those_of_a_bundle(exams_csv: Path, config: Path, bundle: Path, tmp_path: Path, capsys):
    own = _others_like(exams_csv, "other")
    run, folder = tmp_path / "run", tmp_path / "other"
    shared = ["--exams", str(own), "--run", str(run), "--workers", "1"]
    further = [*shared, "--config", str(config), "--device", "cpu", "--start", str(bundle)]
    # a training of no steps keeps what it began with
    assert main(["classifiers", *further, "--backbone", "vit", "--epochs", "0"]) == 0
    assert main(["classifiers", *further, "--backbone", "resnet18"]) == 0
    with pytest.raises(SystemExit):
        main(["classifiers", *further, "--pretrained", "trunk.pth"])
    # it goes on from there and from nowhere else
    other = ["classifiers", *shared, "--config", str(config), "--device", "cpu", "--backbone", "resnet18"]
    assert main(other) == 2 and "begun with other settings" in capsys.readouterr().err
    assert main([*other, "--pretrained", str(tmp_path / "none.pth")]) == 2 and "none.pth, where training" in capsys.readouterr().err
    assert main([*other[:-2], "--start", str(bundle)]) == 2 and "has no densenet121 to begin with" in capsys.readouterr().err
    exams = cached_cohort(SimpleNamespace(exams=[own], run=run, cache=None, workers=1), Configuration.read(config))["validation"]
    kept = LesionLogits.load(run / "classifiers" / "vit" / "validation.npz")
    np.testing.assert_allclose(kept.logits, logits_of(bundle / "vit.onnx", exams).logits, atol=0.01)  # bfloat16, where it is native

    assert main(["detector", *shared, "--config", str(config), "--device", "cpu"]) == 0
    assert main(["export", *shared, "-o", str(folder), "--name", "other", "--trained-on", "other balls"]) == 0
    training = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))["training"]
    assert list(training["began_with"]) == ["vit", "resnet18"]
    assert {name: one["epochs"] for name, one in training["classifier_settings"].items()} == {"vit": 0, "resnet18": 2}
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "The weights of vit, resnet18 start at those of balls 0.1.0 (" in card and "those of training.classifier_settings" in card
    # whoever takes these over is told where they began, and keeps where its own detector did
    document = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    document["training"]["began_with"]["detector"] = {"bundle": "none of theirs"}
    (folder / "bundle.json").write_text(json.dumps(document), encoding="utf-8")
    write_seen(tmp_path, {"seen": training["seen"]})
    taken = take_classifiers(folder, tmp_path).origin
    assert list(taken["began_with"]) == ["vit", "resnet18"]
    own = {"detector": {"bundle": "ours 3", "trained_on": "balls", "exams": {}}}
    told = model_card({**document, "training": {**training, "classifiers_of": taken, "began_with": own}})
    assert "The weights of detector start at those of ours 3" in told and "vit, resnet18 start at those of balls 0.1.0" in told
    # what was exported as the configuration is one
    (tmp_path / "again.json").write_text(json.dumps(training["configuration"]))
    assert Configuration.read(tmp_path / "again.json").detector == Configuration.read(config).detector


def test_taken_classifiers_are_calibrated_on_what_the_trained_ones_say(exams_csv: Path, config: Path, trained: Path, bundle: Path):
    arguments = SimpleNamespace(exams=[exams_csv], run=trained, cache=None, workers=1)
    exams = cached_cohort(arguments, Configuration.read(config))["validation"]
    for backbone in ("vit", "resnet18"):
        found = logits_of(bundle / f"{backbone}.onnx", exams)
        kept = LesionLogits.load(trained / "classifiers" / backbone / "validation.npz")
        assert found.exam_ids.tolist() == kept.exam_ids.tolist() and found.ranks.tolist() == kept.ranks.tolist()
        spread = kept.logits.std(0).max()
        np.testing.assert_allclose(found.logits, kept.logits, atol=max(0.2 * spread, 0.004))


def test_heads_with_enough_exams_are_calibrated_and_the_others_are_not():
    classes = np.array([0] * 40 + [2] * 40 + [3] * 12)
    rng = np.random.default_rng(0)
    names, ranks = np.arange(92).astype(str), np.zeros(92, int)
    logits = {name: LesionLogits(names, classes, ranks, rng.normal(0, 1, (92, 3))) for name in ("vit", "resnet18")}
    before = {name: {"temperatures": dict.fromkeys(HEADS, 3.5), "shares": dict.fromkeys(HEADS, 0.5)} for name in logits}
    found, kept = calibrated_anew(before, logits)
    assert kept == ["benign_subtype"], "40 exams of one side; 92 and 52 of both sides are enough"
    expected = fit_ensemble(logits)
    for name in logits:
        assert found[name]["temperatures"]["benign_subtype"] == 3.5 and found[name]["shares"]["benign_subtype"] == 0.5
        for head in ("stage1", "malignant_subtype"):
            assert found[name]["temperatures"][head] == expected[name]["temperatures"][head] != 3.5
            assert found[name]["shares"][head] == expected[name]["shares"][head]


def test_classifiers_are_taken_only_from_the_bundle_that_a_run_began_with(
    exams_csv: Path, trained: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    with pytest.raises(InputError, match="did not begin with balls"):
        take_classifiers(bundle, tmp_path)
    write_seen(tmp_path, {"bundle": "another 2", "seen": {"salt": "00", "sha256": []}})
    with pytest.raises(InputError, match="did not begin with balls"):
        take_classifiers(bundle, tmp_path)
    arguments = ["--exams", str(exams_csv), "--run", str(trained), "--workers", "1", "--trained-on", "balls", "-o", str(tmp_path / "b")]
    assert main(["export", *arguments, "--classifiers-of", str(bundle)]) == 2
    assert "itself; leave --classifiers-of out" in capsys.readouterr().err


def test_a_detector_of_patients_beside_classifiers_of_phantoms_says_both(bundle: Path):
    origin = {"bundle": "phantom 1", "trained_on": "phantoms; no patient data", "phantoms": True, "exams": {}, "commands": ["step one"]}
    document = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    document["training"] |= {"phantoms": False, "classifiers_of": origin}
    card = model_card(document)
    assert "The classifiers know phantoms only" in card and "phantom 1 (trained on: phantoms; no patient data)" in card
    assert card.index("step one") < card.index(document["training"]["commands"][0])
    taken = BundleClassifiers(files={}, heads={}, calibration={}, origin=origin)
    assert "Its classifiers were trained on computer-made phantoms only" in intended_use_of(False, taken)
    assert intended_use_of(True, taken).endswith("Trained on computer-made phantoms only, never on a patient.")
    assert both_trained_on("340 CTs", "phantoms") == "detector: 340 CTs; classifiers: phantoms"
    assert both_trained_on("phantoms", "phantoms") == "phantoms"


def test_a_run_that_began_with_patients_is_none_of_phantoms_only(exams_csv: Path, tmp_path: Path):
    (tmp_path / "truth.json").touch()
    records = {"train": [dataclasses.replace(read_exams_csv(exams_csv)[0], lesions=tmp_path / "lesions.nrrd")]}
    assert "no patient data" in describe_training(records, tmp_path)
    write_seen(tmp_path, {"bundle": "ours 1", "phantoms": False})
    with pytest.raises(InputError, match="--trained-on"):
        describe_training(records, tmp_path)


def test_weights_are_stored_in_eight_bits(bundle: Path):
    assert (bundle / "resnet18.onnx").stat().st_size < 11.6e6
    session = open_session(bundle / "resnet18.onnx", 1)
    assert session.run(["logits"], {"composites": np.zeros((2, 4, 128, 128), np.float32)})[0].shape == (2, 3)


def test_evaluation_measures_the_pipeline_and_writes_it_into_the_bundle(exams_csv: Path, bundle: Path, trained: Path, tmp_path: Path):
    load_networks(bundle, 1)
    key = networks_key(bundle)
    few = exams_csv.with_name("few.csv")
    rows = exams_csv.read_text(encoding="utf-8").splitlines()
    # other ids, as exams that no training has seen would have
    few.write_text("\n".join([rows[0], *("new-" + row.replace(",patient-", ",new-patient-") for row in rows[1:5])]) + "\n")
    arguments = ["evaluate", "--bundle", str(bundle), "--exams", str(few), "-o", str(tmp_path), "--workers", "1", "--draws", "20",
                 "--run", str(trained), "--train-exams", str(exams_csv)]
    assert main(arguments) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["exams"] == metrics["patients"] == 4
    assert set(metrics["pipeline"]["detection"]) >= {"map40", "sensitivity_3d", "false_positives_per_exam"}
    for part in (metrics["pipeline"], metrics["true_rois"]):
        assert all(set(part[head]) >= {"auc", "ci95", "n"} for head in HEADS)
    assert metrics["baseline_exams"] > 0
    assert set(metrics["baselines"]) >= {"diameter", "age", "mean HU of the lesion's box in four phases"}
    assert load_networks(bundle, 1).bundle.document["metrics"] == metrics
    assert "Not measured" not in (bundle / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert networks_key(bundle) == key

    # the probabilities on a true box are those of diagnose
    record = read_exams_csv(few)[0]
    line = json.loads((tmp_path / "exams.jsonl").read_text(encoding="utf-8").splitlines()[0])
    from PediatricLiverDxLib.alignment import align
    from PediatricLiverDxLib.composites import Roi

    from training.truth import read_lesions

    exam = read_exam(files=record.phases)
    aligned = align(exam)
    roi = Roi.from_index_box(aligned.grid, read_lesions(record, aligned.grid)[0].box)
    lesion = diagnose(exam, aligned, load_networks(bundle, 1), rois=[roi]).lesions[0]
    assert line["true_rois"][0]["malignant_probability"] == pytest.approx(lesion.malignant_probability, abs=1e-5)

    # a second call reads nothing again but what a killed run left unfinished
    lines = (tmp_path / "exams.jsonl").read_text(encoding="utf-8")
    (tmp_path / "exams.jsonl").write_text(lines[:-40])
    assert main(arguments) == 0
    assert (tmp_path / "exams.jsonl").read_text(encoding="utf-8") == lines


def test_regressions_for_comparison_need_no_run(exams_csv: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    measured, others = _others_like(exams_csv, "measured"), _others_like(exams_csv, "fitted")
    arguments = ["evaluate", "--bundle", str(bundle), "--exams", str(measured), "-o", str(tmp_path), "--workers", "1", "--draws", "5",
                 "--keep-bundle", "--train-exams"]
    assert main([*arguments, str(measured)]) == 2 and "were trained on" in capsys.readouterr().err
    benign = exams_csv.with_name("benign.csv")
    rows = others.read_text(encoding="utf-8").splitlines()
    benign.write_text("\n".join(row for row in rows if ",HB," not in row and ",OMHT," not in row))
    assert main([*arguments, str(benign)]) == 2 and "benign and malignant lesions" in capsys.readouterr().err
    assert not (tmp_path / "exams.jsonl").exists(), "refused before anything is read"
    assert main([*arguments, str(others)]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["baseline_exams"] == 12
    # the same lesions, fitted and measured: what a regression can learn by heart, it knows
    assert metrics["baselines"]["mean HU, diameter and age"]["auc"] > 0.8


def test_a_bundle_is_calibrated_anew_on_exams_that_it_has_not_seen(
    exams_csv: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    own, folder = _others_like(exams_csv, "calibrating"), tmp_path / "anew"
    arguments = ["calibrate", "--bundle", str(bundle), "-o", str(folder), "--version", "0.2.0", "--workers", "1", "--command", "calibrate"]
    assert main([*arguments, "--exams", str(own)]) == 2 and "expected 50 exams with a tumour or more" in capsys.readouterr().err
    for module in (calibrate, tuning):
        monkeypatch.setattr(module, "FEWEST_FOR_SHARES", 7)
    assert main([*arguments, "--exams", str(exams_csv)]) == 2 and "were trained on" in capsys.readouterr().err
    assert main([*arguments, "--exams", str(own), "-o", str(bundle)]) == 2 and "is the bundle itself" in capsys.readouterr().err
    assert main([*arguments, "--exams", str(own), "-o", str(bundle / "anew")]) == 2 and "or lies in it" in capsys.readouterr().err
    assert not folder.exists() and read_bundle(bundle)

    assert main([*arguments, "--exams", str(own)]) == 0
    before, after = (read_bundle(one) for one in (bundle, folder))
    networks = [name for name in before.files if name != "MODEL_CARD.md"]
    assert all(before.files[name] == after.files[name] for name in networks) and len(networks) == 4
    assert after.info.version == "0.2.0" and after.document["metrics"] == {} and after.document["gate"] == before.document["gate"]
    records = read_exams_csv(own)
    found = [calibrate._read_one(record, bundle) for record in records]
    choice = tuning.choose_link([_boxes_of_exam(record, bundle / "detector.onnx") for record in records])
    assert choice.link.pole == 0.8
    assert after.document["detector"]["threshold"] == choice.threshold and after.document["detector"]["link"] == vars(choice.link)

    def loss(one: Bundle) -> float:
        """Cross-entropy of benign or malignant, the only head with enough of these few exams."""
        logits = sum(
            np.array([of_exam[name][0] for _, of_exam in found]) / one.temperatures(name)[0] * one.shares(name)[0]
            for name in ("vit", "resnet18")
        )
        return np.logaddexp(0, np.where([record.class_name in MALIGNANT for record in records], -logits, logits)).mean()

    assert loss(after) < loss(before)
    assert after.info.trained_on == "networks: balls of four kinds; thresholds and calibration: 12 exams, not all phantoms"
    account = after.document["training"]["calibration"]
    assert account["exams"] == len(records) and account["kept"] == ["benign_subtype", "malignant_subtype"]
    for backbone in ("vit", "resnet18"):
        assert after.temperatures(backbone)[1:].tolist() == before.temperatures(backbone)[1:].tolist()
    for record in (*records, *read_exams_csv(exams_csv)):
        assert is_seen(record, after.document["training"]["seen"])
    card = after.files["MODEL_CARD.md"].decode()
    assert "Chosen on 12 exams of 12 patients that no training has seen, for the networks of balls 0.1.0" in card
    assert card.index("training detector") < card.index("\ncalibrate\n") and "Not measured yet" in card


def test_evaluating_on_training_exams_is_refused(
    exams_csv: Path, bundle: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    few = exams_csv.with_name("seen.csv")
    header, row = exams_csv.read_text(encoding="utf-8").splitlines()[:2]
    arguments = ["--bundle", str(bundle), "--exams", str(few), "-o", str(tmp_path / "out"), "--workers", "1", "--draws", "5"]
    # the exam itself, and another exam of its patient; known from the run, and from the bundle alone
    for seen in (row, "new-" + row):
        few.write_text(f"{header}\n{seen}\n")
        for more in (["--run", str(trained), "--train-exams", str(exams_csv)], []):
            assert main(["evaluate", *arguments, *more]) == 2
            assert "trained on" in capsys.readouterr().err
    assert not (tmp_path / "out").exists(), "refused before anything is read"


def test_a_bundle_of_other_exams_than_phantoms_says_what_it_was_trained_on(
    exams_csv: Path, trained: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    document = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    assert document["trained_on"] == "balls of four kinds" and "hantom" not in document["intended_use"]
    assert "hantom" not in (bundle / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert not list(bundle.parent.glob("*.part"))
    assert main(["export", "--exams", str(exams_csv), "--run", str(trained), "-o", str(tmp_path / "b"), "--workers", "1"]) == 2
    assert "--trained-on" in capsys.readouterr().err
    (tmp_path / "notes.txt").write_text("mine")
    arguments = ["--exams", str(exams_csv), "--run", str(trained), "-o", str(tmp_path), "--workers", "1", "--trained-on", "balls"]
    assert main(["export", *arguments]) == 2
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_a_head_learns_only_from_its_own_side():
    logits = torch.zeros(4, 3, requires_grad=True)
    head_losses(logits, torch.eye(4)).sum().backward()
    touched = logits.grad != 0
    assert touched[:, 0].all()
    assert touched[:, 1].tolist() == [True, True, False, False]
    assert touched[:, 2].tolist() == [False, False, True, True]


def test_mixed_classes_share_their_targets():
    targets, weights = head_targets(torch.tensor([[0.3, 0.1, 0.0, 0.6]]))
    torch.testing.assert_close(targets, torch.tensor([[0.6, 0.25, 1.0]]))
    torch.testing.assert_close(weights, torch.tensor([[1.0, 0.4, 0.6]]))


def test_temperature_undoes_overconfidence():
    rng = np.random.default_rng(0)
    true_logit = rng.normal(0, 1.5, 4000)
    malignant = rng.random(4000) < 1 / (1 + np.exp(-true_logit))
    classes = np.where(malignant, 2, 0)
    found = LesionLogits(np.arange(4000).astype(str), classes, np.zeros(4000, int), np.stack([3 * true_logit] * 3, 1))
    temperatures = fit_temperatures(found)
    assert temperatures["stage1"] == pytest.approx(3, rel=0.1)
    assert temperatures["benign_subtype"] == 1.0


def test_the_ensemble_is_calibrated_and_each_exam_counts_once():
    """Three networks with the same signal and errors of their own: their calibrated mean is too timid until it is scaled itself."""
    rng = np.random.default_rng(0)
    signal = rng.normal(0, 2, 6000)
    malignant = rng.random(6000) < 1 / (1 + np.exp(-signal))
    classes = np.where(malignant, 2, 0)
    names = np.arange(6000).astype(str)
    found = {}
    for name in ("vit", "resnet18", "densenet121"):
        logits = signal + rng.normal(0, 2.5, 6000)
        # a second lesion in every exam, always wrong, must not count
        wrong = np.where(malignant, -9.0, 9.0)
        found[name] = LesionLogits(
            np.repeat(names, 2), np.repeat(classes, 2), np.tile([0, 1], 6000), np.stack([np.stack([logits, wrong], 1).ravel()] * 3, 1)
        )
    fitted = fit_ensemble(found)
    temperatures, shares = ({name: one[part] for name, one in fitted.items()} for part in ("temperatures", "shares"))
    alone = {name: fit_temperatures(one) for name, one in found.items()}
    assert all(temperatures[name]["stage1"] < 0.9 * alone[name]["stage1"] for name in found)
    ensemble = sum(shares[name]["stage1"] * one.largest().logits[:, 0] / temperatures[name]["stage1"] for name, one in found.items())
    assert calibration_error(malignant, 1 / (1 + np.exp(-ensemble))) < 0.03
    # equally good networks count alike; no exam has the subtype's other side, so nothing tells its shares apart
    assert all(0.2 <= shares[name]["stage1"] <= 0.5 for name in found)
    assert all(shares[name]["benign_subtype"] == pytest.approx(1 / 3, abs=1e-5) for name in found)


def test_a_network_that_knows_nothing_counts_least():
    rng = np.random.default_rng(0)
    malignant = np.arange(400) % 2 > 0
    names, classes = np.arange(400).astype(str), np.where(malignant, 2, 0)
    signal = np.where(malignant, 1.5, -1.5)
    found = {
        name: LesionLogits(names, classes, np.zeros(400, int), np.stack([part * signal + rng.normal(0, 1, 400)] * 3, 1))
        for name, part in (("vit", 0.0), ("resnet18", 1.0), ("densenet121", 1.0))
    }
    shares = {name: one["shares"] for name, one in fit_ensemble(found).items()}
    assert shares["vit"]["stage1"] == pytest.approx(0.1)
    assert sum(shares[name]["stage1"] for name in found) == pytest.approx(1)


def test_no_exam_is_in_two_folds_of_the_gate():
    owners = np.repeat(np.arange(40), np.random.default_rng(0).integers(1, 4, 40))
    rows = gate_rows(owners)
    assert len(rows) == len(set(rows.tolist())) >= len(owners) - 4
    folds = {exam: {place % 5 for place, row in enumerate(rows) if owners[row] == exam} for exam in range(40)}
    assert all(len(found) <= 1 for found in folds.values())


def test_learning_rate_rises_then_falls():
    course = [learning_rate_factor(step, 100, schedule="one-cycle") for step in range(100)]
    assert course.index(max(course)) == 9 and course[0] == pytest.approx(0.1) and course[-1] < 0.02
    assert learning_rate_factor(50, 100, schedule="constant") == 1
