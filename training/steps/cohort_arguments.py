"""Arguments that both trainings take, and the cached, split cohort they stand for."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from PediatricLiverDxLib.vocabulary import InputError

if TYPE_CHECKING:
    from training.cache import CachedExam
    from training.configuration import Configuration


PHANTOM_CONFIGURATION = Path(__file__).parents[1] / "configs" / "phantom.json"


def add_cohort_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --exams, --run, --config, --cache, --prepare-only, --workers and --device."""
    parser.add_argument("--exams", type=Path, required=True, nargs="+", help="exams.csv of the cohort; several are joined")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run; an interrupted run goes on where it was")
    parser.add_argument("--config", type=Path, help="JSON file; the run's own when left out, configs/phantom.json for a new run")
    parser.add_argument("--cache", type=Path, help="folder of the cut-out exams; RUN/cache when left out")
    parser.add_argument("--prepare-only", action="store_true", help="only cut the exams out, train nothing")
    parser.add_argument("--workers", type=int, default=2, help="processes that cut the exams out")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")


def chosen_configuration(args: argparse.Namespace) -> Configuration:
    """Read the configuration that was asked for: --config, else what the run was begun with, else the one of the phantoms."""
    from training.configuration import Configuration

    own = args.run / "configuration.json"
    return Configuration.read(args.config or (own if own.is_file() else PHANTOM_CONFIGURATION))


def cached_cohort(
    args: argparse.Namespace, configuration: Configuration, start: Path | None = None,
    networks: Mapping[str, Path | None] = MappingProxyType({}),
) -> dict[str, list[CachedExam]]:
    """Return the cached training and validation exams, by split; test exams are not touched.

    start: bundle or weights that training begins at. networks: those to be trained, and the file that each begins at; where the run holds
    another training of one, InputError is raised before anything is written.
    """
    from training.cache import build_cache
    from training.cohort import read_cohort, split_of_run, write_splits
    from training.configuration import Configuration
    from training.run_folder import refuse_other_training

    args.run.mkdir(parents=True, exist_ok=True)
    path = args.run / "configuration.json"
    if not path.is_file():
        configuration.write(path)
    elif not configuration.same_exams(Configuration.read(path)):
        raise InputError(f"{args.run.name} was begun with another seed, cohort or cache setting; give another folder for another run")
    splits = split_of_run(read_cohort(args.exams), configuration.cohort, args.run, start=start)
    for name, file in networks.items():
        refuse_other_training(args.run, name, configuration, splits, file)
    write_splits(args.run, splits, start=start)
    wanted = [*splits["train"], *splits["validation"]]
    cached = build_cache(wanted, args.cache or args.run / "cache", configuration.cache, seed=configuration.seed, workers=args.workers)
    return {"train": list(cached[: len(splits["train"])]), "validation": list(cached[len(splits["train"]) :])}
