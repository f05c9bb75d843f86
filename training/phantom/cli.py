"""`python -m training phantom`: generate a cohort of phantom exams in the layout that everything else in training reads."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PediatricLiverDxLib.vocabulary import CLASSES, ENTITY_CLASS, NO_TUMOUR, PHASES, InputError
from tqdm import tqdm

from ..cohort import ExamRecord, write_exams_csv
from ..processes import process_pool
from .generate import PhantomExam, generate

#: How often an entity stands for its class (assumption; every class is equally frequent).
ENTITY_SHARE = {"HH": 1.0, "IHH": 0.34, "FNH": 0.33, "HMH": 0.33, "HB": 1.0, "UESL": 0.5, "HCC": 0.5}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this step's options."""
    parser.description = __doc__
    parser.add_argument("-o", "--output", type=Path, help="folder for exams.csv and one folder an exam")
    parser.add_argument("--exams", type=int, default=200, help="number of exams, the same number for each of the four classes")
    parser.add_argument("--tumour-free", action="store_true", help="exams of children without a liver tumour instead")
    parser.add_argument("--seed", type=int, required=True, help="cohorts of different seeds share no exam")
    parser.add_argument("--cohort", default="retrospective", help='written to the cohort column; "prospective" is the locked test set')
    parser.add_argument("--matrix", type=int, default=256, help="rows and columns of a slice (default 256)")
    parser.add_argument("--board", type=Path, metavar="PICTURE", help="draw one exam of every entity instead of writing a cohort")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")


def run(args: argparse.Namespace) -> None:
    """Generate what is missing and write exams.csv; exams that are already there are kept."""
    if args.board is not None:
        from .board import draw_board  # matplotlib, which a cohort does not need

        # far above the seeds of any cohort
        draw_board(args.board, 2**62 + args.seed * 1_000_000, args.matrix)
        return
    if args.output is None:
        raise InputError("phantom needs a folder for the cohort; give it with -o FOLDER")
    if args.exams < 1 or args.workers < 1:
        raise InputError(f"--exams and --workers are expected to be 1 or more, not {args.exams} and {args.workers}")
    args.output.mkdir(parents=True, exist_ok=True)
    tasks = [(args.output, args.seed, number, args.matrix, args.tumour_free) for number in range(args.exams)]
    with process_pool(args.workers) as pool:
        list(tqdm(pool.map(_generate_one, tasks), total=len(tasks), desc="phantoms", unit="exam"))
    write_exams_csv(args.output / "exams.csv", _records(args.output, args.seed, args.exams, args.cohort))


def entity_of(seed: int, number: int) -> str:
    """Return the entity of a cohort's exam: classes in turn, entities within a class drawn by their share."""
    name = CLASSES[number % len(CLASSES)]
    entities = [entity for entity, of in ENTITY_CLASS.items() if of == name]
    shares = np.array([ENTITY_SHARE[entity] for entity in entities])
    return str(np.random.default_rng([seed, number]).choice(entities, p=shares / shares.sum()))


def write_exam(exam: PhantomExam, folder: Path) -> None:
    """Write an exam's volumes and truth to `folder`, truth.json last: a folder that has it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for phase, image in exam.phases.items():
        sitk.WriteImage(image, str(folder / f"{phase}.nrrd"), True, 1)
    for phase, image in exam.displacements.items():
        sitk.WriteImage(image, str(folder / f"displacement_{phase}.nrrd"), True, 1)
    sitk.WriteImage(exam.lesions, str(folder / "lesions.nrrd"), True, 1)
    sitk.WriteImage(exam.liver, str(folder / "liver.nrrd"), True, 1)
    part = folder / "truth.json.part"
    part.write_text(json.dumps(exam.truth, indent=1), encoding="utf-8")
    part.replace(folder / "truth.json")


def _generate_one(task: tuple[Path, int, int, int, bool]) -> None:
    output, seed, number, matrix, tumour_free = task
    folder = output / f"{number:05d}"
    if (folder / "truth.json").exists():
        return
    # an exam whose largest lesion found no room or ended outside the scanned range is drawn again, still by seed and number alone
    for attempt in range(20):
        entity = None if tumour_free else entity_of(seed, number)
        exam = generate((seed * 1_000_000 + number) * 20 + attempt, entity, matrix=matrix)
        if tumour_free or exam.truth["largest_kept"]:
            write_exam(exam, folder)
            return
    raise RuntimeError(f"no exam with a lesion in 20 attempts for seed {seed}, exam {number}")


def _records(output: Path, seed: int, exams: int, cohort: str) -> Iterator[ExamRecord]:
    for number in range(exams):
        folder = output / f"{number:05d}"
        truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
        yield ExamRecord(
            exam_id=f"phantom-{seed}-{number:05d}",
            patient_id=f"phantom-{seed}-{number:05d}",
            cohort=cohort,
            class_name=truth["class"] or NO_TUMOUR,
            entity=truth["entity"] or "",
            age_years=round(truth["age_years"], 3),
            sex=truth["sex"],
            phases={phase: folder / f"{phase}.nrrd" for phase in PHASES if (folder / f"{phase}.nrrd").exists()},
            lesions=folder / "lesions.nrrd",
        )
