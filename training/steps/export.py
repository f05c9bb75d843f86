"""python -m training export."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--exams", type=Path, required=True, nargs="+", help="exams.csv that the run was trained on; several are joined")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run, with detector and classifiers trained")
    parser.add_argument("--cache", type=Path, help="folder of the cut-out exams; RUN/cache when left out")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--name", default="phantom", help="name of the bundle")
    parser.add_argument("--version", default="0.1.0", help="version of the bundle")
    parser.add_argument("--trained-on", help="in one sentence; needed unless every exam is a phantom")
    parser.add_argument("--intended-use", help="in one or two sentences; research and teaching when left out")
    parser.add_argument("--command", action="append", default=[], help="a command that made the bundle, for the model card; repeatable")
    parser.add_argument("--classifiers-of", type=Path, metavar="BUNDLE",
                        help="folder of the bundle that the run's detector began with: its classifiers are taken over and calibrated anew")
    parser.add_argument("--gate-exams", type=int, default=300, help="exams that the gate's statistics are taken from")
    parser.add_argument("--workers", type=int, default=2, help="processes that read exams")


def run(args: argparse.Namespace) -> None:
    from training.cache import build_cache
    from training.cohort import read_cohort, split_of_run
    from training.configuration import configuration_of_run
    from training.export import describe_training, export_bundle

    configuration = configuration_of_run(args.run)
    splits = split_of_run(read_cohort(args.exams), configuration.cohort, args.run)
    records = {name: splits[name] for name in ("train", "validation")}
    trained_on = args.trained_on or describe_training(records, args.run)
    folder = args.cache or args.run / "cache"
    cached = {
        name: build_cache(records[name], folder, configuration.cache, seed=configuration.seed, workers=args.workers) for name in records
    }
    differences = export_bundle(
        args.run, cached, records, configuration, args.output, name=args.name, version=args.version, trained_on=trained_on,
        intended_use=args.intended_use, commands=args.command, gate_exams=args.gate_exams, workers=args.workers,
        classifiers_of=args.classifiers_of,
    )
    for name, difference in differences.items():
        print(f"{name}: torch and ONNX Runtime differ by at most {difference:.3g}")
