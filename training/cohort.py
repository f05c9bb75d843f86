"""Read and write exams.csv, and split a cohort by patient.

exams.csv holds one row an exam; paths are relative to the file. Columns: exam_id, patient_id, cohort, class, entity, age_years, sex,
pc, ap, pvp, dp, lesions. A phase cell is a volume file, a DICOM folder, or empty. The class of an exam without a liver tumour is "none".
Further columns are carried along as text.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from PediatricLiverDxLib.vocabulary import CLASSES, ENTITY_CLASS, NO_TUMOUR, PHASES, InputError

from .seen_exams import is_seen, seen_before, write_seen

if TYPE_CHECKING:
    from .configuration import CohortSettings

COLUMNS = ("exam_id", "patient_id", "cohort", "class", "entity", "age_years", "sex", "pc", "ap", "pvp", "dp", "lesions")

#: Rows of this cohort are the locked test set (cohort B of arXiv 2511.19478) whatever the seed.
LOCKED_COHORT = "prospective"

SPLITS = ("train", "validation", "test")
SPLITS_FILE = "splits.csv"
#: What splits.csv says of a patient, by whether it is a phantom; empty or missing is not known, and counts as none.
PHANTOM = {True: "yes", False: "no"}


@dataclass(frozen=True)
class ExamRecord:
    """One row of exams.csv.

    `phases` maps PHASES (only those that the exam has) to existing paths; `lesions` is a mask volume with one label per lesion on the
    PVP grid, a LabelMe folder, or None. `more` holds the optional columns as text.
    """

    exam_id: str
    patient_id: str
    cohort: str
    class_name: str
    entity: str
    age_years: float | None
    sex: str
    phases: Mapping[str, Path]
    lesions: Path | None
    more: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = f"exam {self.exam_id or '(no id)'}"
        if not self.exam_id or not self.patient_id:
            raise InputError(f"{where}: exam_id and patient_id are expected in every row of exams.csv; fill in both")
        if self.class_name not in (*CLASSES, NO_TUMOUR):
            raise InputError(f"{where}: class must be one of {', '.join((*CLASSES, NO_TUMOUR))}, not '{self.class_name}'; correct the row")
        if self.entity and ENTITY_CLASS.get(self.entity, self.class_name) != self.class_name:
            raise InputError(
                f"{where}: entity {self.entity} belongs to class {ENTITY_CLASS[self.entity]}, not {self.class_name}; correct one of the two"
            )
        if not self.phases or set(self.phases) - set(PHASES):
            raise InputError(f"{where}: one to four of the phases {', '.join(PHASES)} are expected; give a path for at least one")
        if self.age_years is not None and not 0 <= self.age_years < 130:
            raise InputError(f"{where}: age_years must lie between 0 and 130, not {self.age_years}; correct the row")


def read_exams_csv(path: Path) -> tuple[ExamRecord, ...]:
    """Read `path`; every path in it must exist and every exam_id be its own. Raises InputError."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"an exams.csv was expected, but there is no file {path.name}; give its path")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise InputError(f"{path.name} has no column {', '.join(missing)}; the columns are {', '.join(COLUMNS)}")
        records = tuple(_record(row, path.parent) for row in reader)
    if not records:
        raise InputError(f"{path.name} holds no exams; one row an exam is expected")
    seen: set[str] = set()
    for record in records:
        if record.exam_id in seen:
            raise InputError(f"exam {record.exam_id} stands twice in {path.name}; every exam_id must be its own")
        seen.add(record.exam_id)
    return records


def read_cohort(paths: Iterable[Path]) -> tuple[ExamRecord, ...]:
    """Read several exams.csv as one cohort; an exam_id must stand in one of them only. Raises InputError."""
    records = tuple(record for path in paths for record in read_exams_csv(path))
    seen: set[str] = set()
    for record in records:
        if record.exam_id in seen:
            raise InputError(f"exam {record.exam_id} stands in two of the given exams.csv; give each exam once")
        seen.add(record.exam_id)
    return records


def write_exams_csv(path: Path, records: Iterable[ExamRecord]) -> None:
    """Write `records` to `path`, their paths rewritten relative to its folder. The file appears whole or not at all."""
    path = Path(path)
    records = tuple(records)
    more = list(dict.fromkeys(name for record in records for name in record.more))
    part = path.with_name(path.name + ".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, *more])
        for record in records:
            writer.writerow([
                record.exam_id, record.patient_id, record.cohort, record.class_name, record.entity,
                "" if record.age_years is None else f"{record.age_years:.3f}".rstrip("0").rstrip("."),
                record.sex,
                *(_relative(record.phases.get(phase), path.parent) for phase in PHASES),
                _relative(record.lesions, path.parent),
                *(record.more.get(name, "") for name in more),
            ])
    part.replace(path)


def split_by_patient(
    records: Iterable[ExamRecord], *, validation: float = 0.15, test: float = 0.15, seed: int = 0, known: Mapping[str, str] | None = None
) -> dict[str, tuple[ExamRecord, ...]]:
    """Split into "train", "validation" and "test" so that all exams of a patient fall on the same side.

    Patients keep the side that they have in `known` (patient_id: side). The others are ordered, within the class of their first exam, by a
    hash of seed and patient_id, and cut by the two fractions. Patients with an exam of the locked cohort are always in "test"; InputError
    is raised where they are known to be elsewhere.
    """
    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise InputError(f"validation and test must be fractions that leave something to train on, not {validation} and {test}")
    by_patient: dict[str, list[ExamRecord]] = defaultdict(list)
    for record in records:
        by_patient[record.patient_id].append(record)

    side: dict[str, str] = {}
    by_class: dict[str, list[str]] = defaultdict(list)
    trained_on = 0
    for patient, exams in by_patient.items():
        before = (known or {}).get(patient)
        if any(exam.cohort == LOCKED_COHORT for exam in exams):
            side[patient] = "test"
            trained_on += before in ("train", "validation")
        elif before is not None:
            side[patient] = before
        else:
            by_class[exams[0].class_name].append(patient)
    if trained_on:
        raise InputError(f"{trained_on} patients of the locked cohort were trained on before; leave them out, or begin without --start")
    for patients in by_class.values():
        patients.sort(key=lambda patient: hashlib.sha256(f"{seed}/{patient}".encode()).digest())
        n_test = round(test * len(patients))
        n_validation = round(validation * len(patients))
        for place, patient in enumerate(patients):
            side[patient] = "test" if place < n_test else "validation" if place < n_test + n_validation else "train"
    return {
        name: tuple(exam for patient, exams in by_patient.items() if side[patient] == name for exam in exams)
        for name in SPLITS
    }


def split_of_run(
    records: Iterable[ExamRecord], settings: CohortSettings, run: Path, *, start: Path | None = None
) -> dict[str, tuple[ExamRecord, ...]]:
    """Split a run's cohort. Patients stay where they are in the run, or in the run whose RUN/detector/weights.safetensors `start` is.

    So exams can join a run, and a training can go on from weights of another, and nobody whom the weights know comes to be held out. Where
    `start` is a bundle's folder, patients that the bundle has seen are trained on: which of them it held out it does not say.
    """
    records = tuple(records)
    known = _known_patients(run, start)
    if before := seen_before(run, start):
        seen = {record.patient_id for record in records if is_seen(record, before["seen"])}
        if held_out := sum(known.get(patient, "train") != "train" for patient in seen):
            raise InputError(f"{held_out} patients that {before['bundle']} has seen are held out in {run.name}; give a new run for --start")
        known |= dict.fromkeys(seen, "train")
    splits = split_by_patient(records, validation=settings.validation, test=settings.test, seed=settings.seed, known=known)
    if before and settings.validation and not splits["validation"]:
        everyone = len({record.patient_id for record in records})
        raise InputError(
            f"{before['bundle']} has seen {len(seen)} of {everyone} patients, who cannot be held out, and none is left for validation; "
            "add exams of others, or leave --start out"
        )
    return splits


def write_splits(run: Path, splits: Mapping[str, Iterable[ExamRecord]], *, start: Path | None = None) -> None:
    """Write the run's splits.csv: exam_id, patient_id, split, phantom; and what a bundle that it began with had seen.

    Patients that this run or `start`'s knew before and who have no exam in it now stay in it, without an exam: its weights know them.
    """
    rows = [(exam.exam_id, exam.patient_id, name, PHANTOM[is_phantom(exam)]) for name in splits for exam in splits[name]]
    present = {patient for _, patient, _, _ in rows}
    phantoms = _known_phantoms(run, start)
    rows += [
        ("", patient, name, PHANTOM[patient in phantoms]) for patient, name in _known_patients(run, start).items() if patient not in present
    ]
    part = run / (SPLITS_FILE + ".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["exam_id", "patient_id", "split", "phantom"])
        writer.writerows(rows)
    part.replace(run / SPLITS_FILE)
    write_seen(run, seen_before(run, start))


def patients_of_weights(run: Path) -> list[str]:
    """Return whom a run's weights were trained or tuned on, those before it included, whose exams need not be at hand any more."""
    return [patient for patient, side in _known_patients(run, None).items() if side != "test"]


def exams_of_run(run: Path) -> dict[str, int]:
    """Return how many exams a run trains on and validates with."""
    rows = _split_rows(run / SPLITS_FILE)
    return {split: sum(row["split"] == split and bool(row["exam_id"]) for row in rows) for split in ("train", "validation")}


def knows_phantoms_only(run: Path) -> bool:
    """Tell whether nobody whom a run's weights were trained or tuned on, those before it included, is a patient of flesh and blood."""
    return set(patients_of_weights(run)) <= _known_phantoms(run, None)


def is_phantom(record: ExamRecord) -> bool:
    """Tell whether the step phantom wrote an exam: its truth lies beside its lesions."""
    return record.lesions is not None and (record.lesions.parent / "truth.json").is_file()


def _known_phantoms(run: Path, start: Path | None) -> set[str]:
    """Return the patients whom splits.csv of the run, or of the one that the weights in `start` are of, calls phantoms."""
    runs = [run] if start is None or start.is_dir() else [run, start.resolve().parent.parent]
    return {
        row["patient_id"] for one in runs if (one / SPLITS_FILE).is_file() for row in _split_rows(one / SPLITS_FILE)
        if row.get("phantom") == PHANTOM[True]
    }


def _known_patients(run: Path, start: Path | None) -> dict[str, str]:
    """Return the side of every patient that the run, or the one that the weights in `start` are of, has given one."""
    known = _read_splits(run / SPLITS_FILE) if (run / SPLITS_FILE).is_file() else {}
    if start is None or start.is_dir():
        return known
    origin = start.resolve().parent.parent / SPLITS_FILE
    if not origin.is_file():
        raise InputError(
            f"nothing tells which patients {start.name} was trained on: {SPLITS_FILE} was expected two folders above it. "
            "Give RUN/detector/weights.safetensors of a run whose folder is whole, or the folder of a bundle"
        )
    before = _read_splits(origin)
    if moved := [patient for patient, side in before.items() if known.get(patient, side) != side]:
        raise InputError(f"{len(moved)} patients are on another side in {run.name} than in the run that --start is of; give a new run")
    return known | before


def _read_splits(path: Path) -> dict[str, str]:
    return {row["patient_id"]: row["split"] for row in _split_rows(path)}


def _split_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if any(row.get("split") not in SPLITS or not row.get("patient_id") for row in rows):
        raise InputError(f"{path.name} of a run is no list of exam_id, patient_id and split; give the folder that training wrote")
    return rows


def _record(row: Mapping[str, str], folder: Path) -> ExamRecord:
    row = {name: (value or "").strip() for name, value in row.items() if name}
    exam_id = row["exam_id"]
    phases = {phase: _existing(row[phase.lower()], folder, exam_id) for phase in PHASES if row[phase.lower()]}
    try:
        age = float(row["age_years"]) if row["age_years"] else None
    except ValueError:
        raise InputError(f"exam {exam_id}: age_years must be a number or empty, not '{row['age_years']}'; correct the row") from None
    return ExamRecord(
        exam_id=exam_id, patient_id=row["patient_id"], cohort=row["cohort"], class_name=row["class"], entity=row["entity"],
        age_years=age, sex=row["sex"], phases=phases,
        lesions=_existing(row["lesions"], folder, exam_id) if row["lesions"] else None,
        more={name: value for name, value in row.items() if name not in COLUMNS},
    )


def _existing(cell: str, folder: Path, exam_id: str) -> Path:
    path = folder / cell
    if not path.exists():
        raise InputError(f"exam {exam_id}: {Path(cell).name} is named in exams.csv but is not there; correct the path or leave it empty")
    return path


def _relative(path: Path | None, folder: Path) -> str:
    if path is None:
        return ""
    return Path(os.path.relpath(path, folder)).as_posix()
