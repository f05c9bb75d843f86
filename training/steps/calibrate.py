"""python -m training calibrate."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the bundle; it stays as it is")
    parser.add_argument("--exams", type=Path, required=True, nargs="+",
                        help="exams.csv of exams that no training has seen; several are joined. They cannot be evaluated on afterwards")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the new bundle")
    parser.add_argument("--version", required=True, help="version of the new bundle")
    parser.add_argument("--command", action="append", default=[], help="a command that made the bundle, for the model card; repeatable")
    parser.add_argument("--workers", type=int, default=2, help="processes")


def run(args: argparse.Namespace) -> None:
    from PediatricLiverDxLib.bundle import read_bundle

    from training.calibrate import calibrate_bundle
    from training.cohort import read_cohort
    from training.seen_exams import refuse_seen

    records = read_cohort(args.exams)
    refuse_seen(read_bundle(args.bundle).document, records)
    account = calibrate_bundle(
        records, args.bundle, args.output, version=args.version, commands=args.command, workers=args.workers
    )
    validation = read_bundle(args.output).document["detector"]["validation"]
    print(
        f"chosen on {account['exams']} exams: {validation['sensitivity_3d']:.3f} of the lesions found there, "
        f"{validation['false_positives_per_exam']:.2f} false ones an exam; evaluate on others to know how good it is"
    )
    if account["kept"]:
        print(f"kept for want of exams: temperatures and shares of {', '.join(account['kept'])}")
