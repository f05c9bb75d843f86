"""python -m training STEP: make phantoms, train, export and evaluate a bundle. Every step has --help."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from PediatricLiverDxLib.vocabulary import InputError

#: Step -> module with add_arguments(parser) and run(args), and what it does. A module is imported only when its step runs.
STEPS = {
    "phantom": ("training.phantom.cli", "make four-phase CT phantoms of children with liver tumours, with their truth"),
    "detector": ("training.steps.detector", "train the lesion detector"),
    "classifiers": ("training.steps.classifiers", "train the lesion classifiers"),
    "export": ("training.steps.export", "write a bundle of ONNX files from trained networks"),
    "calibrate": ("training.steps.calibrate", "choose a bundle's thresholds and calibration anew, training nothing"),
    "evaluate": ("training.steps.evaluate", "run a bundle's whole pipeline on exams and measure it"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one step. Exit codes: 0 done; 2 the input is not usable, one line says why."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    named = next((word for word in argv if not word.startswith("-")), None)
    for name, (module, purpose) in STEPS.items():
        step = steps.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".",
                                formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        if name == named:
            importlib.import_module(module).add_arguments(step)
    args = parser.parse_args(argv)
    try:
        importlib.import_module(STEPS[args.step][0]).run(args)
    except InputError as error:
        print(f"python -m training {args.step}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
