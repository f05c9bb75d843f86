"""python -m training evaluate."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the bundle; its metrics and model card are written")
    parser.add_argument("--exams", type=Path, required=True, help="exams.csv of exams that no training has seen")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for metrics.json; an interrupted run goes on there")
    parser.add_argument("--run", type=Path, help="folder of the run that made the bundle: adds logistic regressions for comparison")
    parser.add_argument("--train-exams", type=Path, nargs="+", help="the exams.csv that the run was trained on; needed with --run")
    parser.add_argument("--cache", type=Path, help="folder of the run's cut-out exams; RUN/cache when left out")
    parser.add_argument("--keep-bundle", action="store_true", help="only write metrics.json, leave the bundle as it is")
    parser.add_argument("--draws", type=int, default=2000, help="draws of the bootstrap")
    parser.add_argument("--workers", type=int, default=2, help="processes")


def run(args: argparse.Namespace) -> None:
    import json

    from PediatricLiverDxLib.bundle import read_bundle
    from PediatricLiverDxLib.vocabulary import InputError

    from training.cohort import read_exams_csv
    from training.evaluate import measure, measure_baselines, read_exams
    from training.export import write_document
    from training.plain_json import write_json

    if (args.run is None) != (args.train_exams is None):
        raise InputError("--run and --train-exams belong together; give both or neither")
    args.output.mkdir(parents=True, exist_ok=True)
    exams = read_exams(read_exams_csv(args.exams), args.bundle, args.output, workers=args.workers)
    metrics = measure(exams, draws=args.draws)
    if args.run is not None:
        train, ages = _training_exams(args)
        seen = set(ages) & {exam["exam_id"] for exam in exams}
        if seen:
            raise InputError(f"{len(seen)} of the exams were trained on, {min(seen)} among them; give exams that no training has seen")
        metrics["baselines"] = measure_baselines(exams, train, ages, draws=args.draws)
    write_json(args.output / "metrics.json", metrics)
    if not args.keep_bundle:
        write_document(args.bundle, {**read_bundle(args.bundle).document, "metrics": metrics})
    print(json.dumps({name: metrics[name] for name in ("exams", "pipeline", "true_rois", "gate")}, indent=1))


def _training_exams(args: argparse.Namespace):
    from training.cache import build_cache
    from training.cohort import read_cohort, split_by_patient
    from training.configuration import Configuration

    configuration = Configuration.read(args.run / "configuration.json")
    cohort = configuration.cohort
    records = read_cohort(args.train_exams)
    train = split_by_patient(records, validation=cohort.validation, test=cohort.test, seed=cohort.seed)["train"]
    cached = build_cache(train, args.cache or args.run / "cache", configuration.cache, seed=configuration.seed, workers=args.workers)
    return cached, {record.exam_id: record.age_years for record in records}
