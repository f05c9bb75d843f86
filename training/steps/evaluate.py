"""python -m training evaluate."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the bundle; its metrics and model card are written")
    parser.add_argument("--exams", type=Path, required=True, nargs="+",
                        help="exams.csv of exams that no training has seen; several are joined")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for metrics.json; an interrupted run goes on there")
    parser.add_argument("--split", choices=("all", "test"), default="all",
                        help="test: only the exams that the run's split left for testing; needs --run")
    parser.add_argument("--run", type=Path, help="folder of the run that made the bundle, for its split")
    parser.add_argument("--train-exams", type=Path, nargs="+",
                        help="exams.csv of other exams, to fit logistic regressions on for comparison; with --run those it was trained on")
    parser.add_argument("--cache", type=Path, help="folder of the run's cut-out exams; RUN/cache when left out")
    parser.add_argument("--keep-bundle", action="store_true", help="only write metrics.json, leave the bundle as it is")
    parser.add_argument("--draws", type=int, default=2000, help="draws of the bootstrap")
    parser.add_argument("--workers", type=int, default=2, help="processes")


def run(args: argparse.Namespace) -> None:
    import json

    from PediatricLiverDxLib.bundle import read_bundle
    from PediatricLiverDxLib.vocabulary import MALIGNANT, NO_TUMOUR, InputError

    from training.cohort import read_cohort, split_of_run
    from training.configuration import configuration_of_run
    from training.evaluate import known_of_cache, known_of_records, measure, measure_baselines, read_exams
    from training.export import write_document
    from training.plain_json import plain, write_json
    from training.seen_exams import refuse_known, refuse_seen

    if args.run is not None and args.train_exams is None:
        raise InputError("--run needs --train-exams, the exams that it was trained on")
    if args.split == "test" and args.run is None:
        raise InputError("--split test asks for the split of a run; give --run and --train-exams")
    records = read_cohort(args.exams)
    train = None if args.train_exams is None else read_cohort(args.train_exams)
    if args.run is not None:
        configuration = configuration_of_run(args.run)
        splits = split_of_run(train, configuration.cohort, args.run)
        if args.split == "test":
            left = {record.exam_id for record in splits["test"]}
            records = tuple(record for record in records if record.exam_id in left)
            if not records:
                raise InputError("none of the given exams was left for testing by the run; evaluate other exams")
        refuse_known([*splits["train"], *splits["validation"]], records)
        train = splits["train"]
    elif train is not None:
        refuse_known(train, records)
        sides = {record.class_name in MALIGNANT for record in train if record.class_name != NO_TUMOUR and record.lesions is not None}
        if len(sides) < 2:
            raise InputError("--train-exams needs benign and malignant lesions that are marked, to fit a regression on; give other exams")
    if not refuse_seen(read_bundle(args.bundle).document, records):
        print("note: the bundle does not say which exams it was trained on, so that none of these is among them could not be checked")
    args.output.mkdir(parents=True, exist_ok=True)
    exams = read_exams(records, args.bundle, args.output, workers=args.workers)
    metrics = measure(exams, draws=args.draws)
    if train is not None:
        if args.run is None:
            known = known_of_records(train, args.workers)
        else:
            known = known_of_cache(_cached(train, configuration, args), {record.exam_id: record.age_years for record in train})
        metrics |= {"baselines": plain(measure_baselines(exams, known, draws=args.draws)), "baseline_exams": len(known)}
    write_json(args.output / "metrics.json", metrics)
    if not args.keep_bundle:
        write_document(args.bundle, {**read_bundle(args.bundle).document, "metrics": metrics})
    print(json.dumps({name: metrics[name] for name in ("exams", "pipeline", "true_rois", "tumour_free", "gate")}, indent=1))


def _cached(records, configuration, args: argparse.Namespace):
    from training.cache import build_cache

    folder = args.cache or args.run / "cache"
    return build_cache(records, folder, configuration.cache, seed=configuration.seed, workers=args.workers)
