"""python -m training detector."""

from __future__ import annotations

import argparse
from pathlib import Path

from PediatricLiverDxLib.vocabulary import PHASES

from .cohort_arguments import add_cohort_arguments, cached_cohort, chosen_configuration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_cohort_arguments(parser)
    parser.add_argument("--epochs", type=int, help="instead of the configuration's")
    parser.add_argument("--start", type=Path,
                        help="folder of a bundle, or weights.safetensors of a former training, to go on from; random weights when left out")


def run(args: argparse.Namespace) -> None:
    import dataclasses

    from training.bundle_weights import network_file
    from training.configuration import DETECTOR

    configuration = chosen_configuration(args)
    if args.epochs is not None:
        configuration = dataclasses.replace(configuration, detector=dataclasses.replace(configuration.detector, epochs=args.epochs))
    file = network_file(args.start, DETECTOR) if args.start and args.start.is_dir() else args.start
    if args.start is not None:
        import torch

        from training.detector import starting_detector

        # weights that do not fit are refused now, not after hours of cutting exams out
        starting_detector(configuration.detector, args.start, torch.rand(2, len(PHASES), 64, 64))
    exams = cached_cohort(args, configuration, args.start, {DETECTOR: file})
    if args.prepare_only:
        return
    from training.detector import train_detector

    train_detector(exams, configuration, args.run / "detector", device=args.device, start=args.start)
