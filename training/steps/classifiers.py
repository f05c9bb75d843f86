"""python -m training classifiers."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from PediatricLiverDxLib.vocabulary import BACKBONES

from .cohort_arguments import add_cohort_arguments, cached_cohort, chosen_configuration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_cohort_arguments(parser)
    parser.add_argument("--backbone", action="append", choices=BACKBONES, help="may be given several times; all when left out")
    parser.add_argument("--epochs", type=int, help="instead of the configuration's")
    beginning = parser.add_mutually_exclusive_group()
    beginning.add_argument("--pretrained", type=Path, help="local .safetensors or .pth with a trunk of timm's model of that name")
    beginning.add_argument("--start", type=Path, help="folder of a bundle whose classifiers to go on from; random weights when left out")


def run(args: argparse.Namespace) -> None:
    from training.bundle_weights import network_file

    configuration = chosen_configuration(args)
    backbones = args.backbone or BACKBONES
    if args.epochs is not None:
        epochs = {**configuration.classifiers.epochs, **dict.fromkeys(backbones, args.epochs)}
        configuration = dataclasses.replace(configuration, classifiers=dataclasses.replace(configuration.classifiers, epochs=epochs))
    files = {name: network_file(args.start, name) if args.start else args.pretrained for name in backbones}
    exams = cached_cohort(args, configuration, args.start, files)
    if args.prepare_only:
        return
    from training.classifiers import train_classifier

    for name in backbones:
        train_classifier(
            name, exams, configuration, args.run / "classifiers", device=args.device, pretrained=args.pretrained, start=args.start
        )
