"""A cohort is read as it was written, refused when it is wrong, and never splits a patient."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PediatricLiverDxLib.vocabulary import CLASSES, InputError

from training import seen_exams
from training.cohort import (
    ExamRecord,
    knows_phantoms_only,
    patients_of_weights,
    read_exams_csv,
    split_by_patient,
    split_of_run,
    write_exams_csv,
    write_splits,
)
from training.configuration import CohortSettings
from training.seen_exams import describe_seen, is_seen, seen_before


def record(exam_id: str, patient_id: str, folder: Path, class_name: str = "HB", cohort: str = "retrospective", **more) -> ExamRecord:
    return ExamRecord(exam_id, patient_id, cohort, class_name, "", 3.25, "F", {"PVP": folder / "PVP.nrrd"}, folder / "lesions.nrrd", more)


def ids(exams) -> set[str]:
    return {exam.exam_id for exam in exams}


@pytest.fixture
def exam_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "exam"
    folder.mkdir()
    for name in ("PVP.nrrd", "lesions.nrrd"):
        (folder / name).write_bytes(b"")
    return folder


def random_cohort(seed: int, folder: Path = Path("exam")) -> list[ExamRecord]:
    """About 200 exams of 120 patients; some patients have exams of different classes and cohorts, as after a changed diagnosis."""
    rng = np.random.default_rng(seed)
    cohorts = rng.choice(["retrospective", "prospective"], size=200, p=[0.95, 0.05])
    return [record(f"e{i}", f"p{rng.integers(120)}", folder, CLASSES[rng.integers(4)], cohort) for i, cohort in enumerate(cohorts)]


def test_written_cohort_is_read_back(tmp_path: Path, exam_folder: Path):
    records = (record("a", "1", exam_folder, location="left lobe"), record("b", "2", exam_folder, "HH"))
    write_exams_csv(tmp_path / "exams.csv", records)
    again = read_exams_csv(tmp_path / "exams.csv")
    assert again[0] == records[0]
    assert again[1].class_name == "HH" and again[1].more == {"location": ""}
    assert "exam/PVP.nrrd" in (tmp_path / "exams.csv").read_text()


@pytest.mark.parametrize("seed", range(20))
def test_patients_never_cross_splits(seed: int):
    splits = split_by_patient(random_cohort(seed), seed=seed)
    patients = [{exam.patient_id for exam in exams} for exams in splits.values()]
    assert not (patients[0] & patients[1] or patients[0] & patients[2] or patients[1] & patients[2])
    assert sum(map(len, splits.values())) == 200
    assert all(exam.cohort != "prospective" for name in ("train", "validation") for exam in splits[name])


def test_split_repeats_with_its_seed_and_changes_with_another():
    exams = random_cohort(0)
    assert split_by_patient(exams, seed=1) == split_by_patient(exams, seed=1)
    assert split_by_patient(exams, seed=1)["train"] != split_by_patient(exams, seed=2)["train"]


def test_split_keeps_class_shares():
    exams = [record(f"e{i}", f"p{i}", Path("exam"), CLASSES[i % 4]) for i in range(400)]
    splits = split_by_patient(exams, validation=0.1, test=0.2)
    for class_name in CLASSES:
        counts = [sum(exam.class_name == class_name for exam in splits[name]) for name in ("train", "validation", "test")]
        assert counts == [70, 10, 20]


def test_patients_stay_where_weights_know_them(tmp_path: Path, exam_folder: Path):
    settings = CohortSettings(validation=0.25, test=0.25)
    first = [record(f"e{i}", f"p{i}", exam_folder, CLASSES[i % 4]) for i in range(80)]
    joined = [*first, *(record(f"f{i}", f"q{i}", exam_folder, CLASSES[i % 4]) for i in range(47))]
    start = tmp_path / "FIRST" / "detector" / "weights.safetensors"
    start.parent.mkdir(parents=True)
    (tmp_path / "SECOND").mkdir()
    before = split_of_run(first, settings, tmp_path / "FIRST")
    write_splits(tmp_path / "FIRST", before)
    after = split_of_run(joined, settings, tmp_path / "SECOND", start=start)
    moved = split_of_run(joined, settings, tmp_path / "SECOND")
    for name in before:
        assert ids(before[name]) < ids(after[name])
    assert ids(before["train"]) & ids((*moved["validation"], *moved["test"])), "without the list some would have been held out"
    write_splits(tmp_path / "SECOND", after, start=start)
    assert split_of_run(joined, settings, tmp_path / "SECOND") == after

    trained = before["train"][0]
    locked = replace(trained, exam_id="later", cohort="prospective")
    with pytest.raises(InputError, match="1 patients of the locked cohort were trained on before"):
        split_of_run([*joined, locked], settings, tmp_path / "SECOND")


def test_patients_are_known_to_weights_of_weights(tmp_path: Path, exam_folder: Path):
    """FIRST's weights began SECOND, whose cohort has none of FIRST's patients; THIRD goes on from there and has them again."""
    settings = CohortSettings(validation=0.25, test=0.25)
    first, other = ([record(f"{name}{i}", f"{name}{i}", exam_folder, CLASSES[i % 4]) for i in range(40)] for name in "ab")
    for name in ("FIRST", "SECOND", "THIRD"):
        (tmp_path / name / "detector").mkdir(parents=True)
    begun = [tmp_path / name / "detector" / "weights.safetensors" for name in ("FIRST", "SECOND")]
    before = split_of_run(first, settings, tmp_path / "FIRST")
    write_splits(tmp_path / "FIRST", before)
    write_splits(tmp_path / "SECOND", split_of_run(other, settings, tmp_path / "SECOND", start=begun[0]), start=begun[0])
    after = split_of_run([*first, *other], settings, tmp_path / "THIRD", start=begun[1])
    assert all(ids(before[name]) < ids(after[name]) for name in before)


def test_weights_that_once_saw_children_never_know_phantoms_only(tmp_path: Path, exam_folder: Path):
    """FIRST began at random with children, SECOND goes on from it with phantoms; nothing but FIRST's splits.csv tells."""
    settings = CohortSettings(validation=0.25, test=0.0)
    (tmp_path / "truth.json").touch()
    children = [record(f"a{i}", f"a{i}", exam_folder, CLASSES[i % 4]) for i in range(8)]
    phantoms = [
        replace(record(f"b{i}", f"b{i}", exam_folder, CLASSES[i % 4]), lesions=tmp_path / "lesions.nrrd") for i in range(8)
    ]
    runs = (("FIRST", children, None), ("ALONE", phantoms, None), ("SECOND", phantoms, "FIRST"), ("THIRD", phantoms, "ALONE"))
    for name, exams, start in runs:
        weights = tmp_path / start / "detector" / "weights.safetensors" if start else None
        (tmp_path / name / "detector").mkdir(parents=True)
        write_splits(tmp_path / name, split_of_run(exams, settings, tmp_path / name, start=weights), start=weights)
    assert [knows_phantoms_only(tmp_path / name) for name in ("FIRST", "ALONE", "SECOND", "THIRD")] == [False, True, False, True]
    # a run of before does not say who is a phantom
    (tmp_path / "ALONE" / "splits.csv").write_text("exam_id,patient_id,split\nb0,b0,train\n")
    assert not knows_phantoms_only(tmp_path / "ALONE")


def test_a_bundle_has_seen_whom_its_first_weights_knew(tmp_path: Path, exam_folder: Path):
    """SECOND went on from FIRST's weights; FIRST's exams are not at hand when SECOND becomes a bundle."""
    settings = CohortSettings(validation=0.25, test=0.25)
    first, other = ([record(f"{name}{i}", f"{name}{i}", exam_folder, CLASSES[i % 4]) for i in range(40)] for name in "ab")
    for name in ("FIRST", "SECOND"):
        (tmp_path / name / "detector").mkdir(parents=True)
    weights = tmp_path / "FIRST" / "detector" / "weights.safetensors"
    before = split_of_run(first, settings, tmp_path / "FIRST")
    write_splits(tmp_path / "FIRST", before)
    splits = split_of_run(other, settings, tmp_path / "SECOND", start=weights)
    write_splits(tmp_path / "SECOND", splits, start=weights)
    used = (one for name in ("train", "validation") for one in splits[name])
    seen = describe_seen(used, patients=patients_of_weights(tmp_path / "SECOND"))
    assert all(is_seen(one, seen) == (one not in (*before["test"], *splits["test"])) for one in (*first, *other))


def test_weights_whose_patients_are_unknown_or_elsewhere_are_no_start(tmp_path: Path, exam_folder: Path, monkeypatch: pytest.MonkeyPatch):
    settings = CohortSettings(validation=0.25, test=0.25)
    exams = [record(f"e{i}", f"p{i}", exam_folder, CLASSES[i % 4]) for i in range(40)]
    (tmp_path / "FIRST" / "detector").mkdir(parents=True)
    (tmp_path / "SECOND").mkdir()
    monkeypatch.chdir(tmp_path / "FIRST" / "detector")
    start = Path("weights.safetensors")
    with pytest.raises(InputError, match=r"nothing tells which patients weights\.safetensors was trained on"):
        split_of_run(exams, settings, tmp_path / "SECOND", start=start)
    before = split_of_run(exams, settings, tmp_path / "FIRST")
    write_splits(tmp_path / "FIRST", before)
    assert split_of_run(exams, settings, tmp_path / "SECOND", start=start) == before
    write_splits(tmp_path / "SECOND", {"train": before["test"], "validation": before["validation"], "test": before["train"]})
    with pytest.raises(InputError, match=r"3\d patients are on another side in SECOND"):
        split_of_run(exams, settings, tmp_path / "SECOND", start=start)


def test_patients_that_a_bundle_has_seen_are_not_held_out(tmp_path: Path, exam_folder: Path, monkeypatch: pytest.MonkeyPatch):
    """A bundle keeps hashes, not names. What its run began with is known to the run's weights too, and to a run that begins with those."""
    settings = CohortSettings(validation=0.25, test=0.25)
    seen, new = ([record(f"{name}{i}", f"{name}{i}", exam_folder, CLASSES[i % 4]) for i in range(40)] for name in "ab")
    bundle = tmp_path / "bundle"
    document = {"training": {"seen": describe_seen(seen), "phantoms": True, "exams": {"train": 40}}}
    info = SimpleNamespace(name="balls", version="1", trained_on="balls")
    monkeypatch.setattr(seen_exams, "read_bundle", lambda folder: SimpleNamespace(document=document, info=info))
    for folder in (bundle, tmp_path / "FIRST" / "detector", tmp_path / "SECOND", tmp_path / "SPLIT"):
        folder.mkdir(parents=True)
    (bundle / "bundle.json").touch()
    later = [*(replace(one, exam_id=f"later-{one.exam_id}") for one in seen), *new]
    splits = split_of_run(later, settings, tmp_path / "FIRST", start=bundle)
    assert {one.patient_id[0] for one in (*splits["validation"], *splits["test"])} == {"b"}
    assert {one.patient_id for one in seen} < {one.patient_id for one in splits["train"]}
    write_splits(tmp_path / "FIRST", splits, start=bundle)
    assert split_of_run(later, settings, tmp_path / "FIRST") == splits

    weights = tmp_path / "FIRST" / "detector" / "weights.safetensors"
    other = [replace(one, patient_id=f"other-{one.patient_id}") for one in new]
    write_splits(tmp_path / "SECOND", split_of_run(other, settings, tmp_path / "SECOND", start=weights), start=weights)
    held_out = split_of_run([*seen, *other], settings, tmp_path / "SECOND")["validation"]
    assert {one.patient_id[:6] for one in held_out} == {"other-"}
    before = seen_before(tmp_path / "SECOND")
    assert before["bundle"] == "balls 1" and before["phantoms"]
    assert set(describe_seen(new, before["seen"])["sha256"]) > set(document["training"]["seen"]["sha256"])

    # a run that holds such patients out already, and a cohort of nobody else
    write_splits(tmp_path / "SPLIT", split_of_run(later, settings, tmp_path / "SPLIT"))
    with pytest.raises(InputError, match=r"\d+ patients that balls 1 has seen are held out in SPLIT"):
        split_of_run(later, settings, tmp_path / "SPLIT", start=bundle)
    with pytest.raises(InputError, match="balls 1 has seen 40 of 40 patients"):
        split_of_run(seen, settings, tmp_path / "THIRD", start=bundle)

    document["metrics"] = "measured anew"
    document["training"]["exams"] = {"train": 41}
    assert split_of_run(later, settings, tmp_path / "FIRST", start=bundle) == splits
    document["training"]["seen"] = describe_seen(new)
    with pytest.raises(InputError, match="FIRST began with balls 1, which has seen other exams"):
        split_of_run(later, settings, tmp_path / "FIRST", start=bundle)
    with pytest.raises(InputError, match=r"expects the folder of a bundle, .* got detector"):
        split_of_run(later, settings, tmp_path / "THIRD", start=tmp_path / "FIRST" / "detector")
    document["training"].clear()
    with pytest.raises(InputError, match="bundle does not say which exams"):
        split_of_run(later, settings, tmp_path / "THIRD", start=bundle)


@pytest.mark.parametrize(
    ("column", "value", "word"),
    [("class", "XX", "class"), ("age_years", "three", "age_years"), ("exam_id", "", "exam_id"), ("pvp", "gone.nrrd", "gone.nrrd"),
     ("pvp", "", "phases"), ("entity", "FNH", "OBHT")],
)
def test_wrong_row_is_refused_in_a_sentence(tmp_path: Path, exam_folder: Path, column: str, value: str, word: str):
    path = tmp_path / "exams.csv"
    write_exams_csv(path, [record("a", "1", exam_folder)])
    header, row = path.read_text().splitlines()
    cells = row.split(",")
    cells[header.split(",").index(column)] = value
    path.write_text(header + "\n" + ",".join(cells) + "\n")
    with pytest.raises(InputError, match=word):
        read_exams_csv(path)


def test_missing_column_and_double_exam_are_refused(tmp_path: Path, exam_folder: Path):
    path = tmp_path / "exams.csv"
    path.write_text("exam_id,class\na,HB\n")
    with pytest.raises(InputError, match="patient_id"):
        read_exams_csv(path)
    write_exams_csv(path, [record("a", "1", exam_folder), record("a", "2", exam_folder)])
    with pytest.raises(InputError, match="twice"):
        read_exams_csv(path)
