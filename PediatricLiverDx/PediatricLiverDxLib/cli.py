"""The command line: `pediatric-liver-dx diagnose STUDY -o OUT`, `pediatric-liver-dx bundle verify DIR` and `pediatric-liver-dx worker`.

Exit codes: 0 done; 2 the input is not usable, one line on standard error says what and why; 1 a defect of ours, with a traceback.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from . import __version__, wording
from .heap import return_free_memory, share_one_heap
from .vocabulary import CLASS_NAMES, OUT_OF_MEMORY, PHASE_NAMES, PHASES, InputError

if TYPE_CHECKING:
    from .diagnosis import Diagnosis, LesionDiagnosis
    from .stages import OneProcess, OwnProcesses
    from .volumes import AlignedExam

PROGRAM = "pediatric-liver-dx"


def main(arguments: Sequence[str] | None = None, *, alone: bool = False) -> int:
    """Run a command and return its exit code. alone: this process is there for nothing else, and may fork."""
    started = time.perf_counter()
    parser = _parser()
    options = parser.parse_args(arguments, argparse.Namespace(alone=alone))
    try:
        return options.run(options, started)
    except InputError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    except MemoryError:
        print(f"{PROGRAM}: {OUT_OF_MEMORY}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except Exception:
        traceback.print_exc()
        return 1


def program() -> None:
    """Run as a program of its own: leave when everything is said and on disk, without first taking networks and VTK apart."""
    # has to be said before numpy is imported: on products as small as ours its threads only get in each other's way
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    # before it is imported, too: from 1.32 on it gives the computer an identity, kept in the home folder, and reports its use to its maker
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    share_one_heap()
    # the temporary folder is taken away on kill as well
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a folder's name may hold what the terminal cannot show
    code = main(alone=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _say(text: str) -> None:
    """Write a line to standard output at once; the results are files, so that nobody reads it is no reason to stop or to fail."""
    try:
        print(text, flush=True)
    except OSError:
        # what is still in the buffer has to go somewhere, or it fails again at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Diagnosis of liver tumours in children from multi-phase CT. Research only.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    diagnose = commands.add_parser("diagnose", help="diagnose one exam", description="Diagnose one exam of one to four phases.")
    diagnose.add_argument("study", nargs="?", type=Path, metavar="STUDY", help="folder of DICOM, or of NIfTI, NRRD or MHA volumes")
    for phase in PHASES:
        text = f"{PHASE_NAMES[phase]} phase: a volume or a DICOM folder"
        diagnose.add_argument(f"--{phase.lower()}", type=Path, metavar="F", help=text)
    diagnose.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="folder for the results")
    diagnose.add_argument("--roi", type=Path, nargs="+", action="extend", metavar="FILE.mrk.json", help="use these ROIs, no detector")
    diagnose.add_argument("--bundle", type=Path, metavar="DIR", help="folder of the networks (default: the one that is shipped)")
    diagnose.add_argument("--no-align", action="store_true", help="take the phases as they lie")
    diagnose.add_argument("--json-progress", action="store_true", help="write progress as JSON lines instead of the table")
    diagnose.set_defaults(run=_diagnose)

    bundle = commands.add_parser("bundle", help="work with bundles").add_subparsers(required=True, metavar="COMMAND")
    verify = bundle.add_parser("verify", help="check every file and network of a bundle")
    verify.add_argument("folder", type=Path, metavar="DIR")
    verify.set_defaults(run=_verify)

    text = "answer requests from the Slicer module: JSON lines on standard input and output (see worker.py)"
    commands.add_parser("worker", help=text, description=text[0].upper() + text[1:] + ".").set_defaults(run=_worker)
    return parser


def _worker(options: argparse.Namespace, started: float) -> int:
    from .worker import run

    return run()


def _verify(options: argparse.Namespace, started: float) -> int:
    from .bundle import is_shipped, load_networks

    networks = load_networks(options.folder)
    info = networks.bundle.info
    n_files, n_networks = len(networks.bundle.document["sha256"]), 1 + len(networks.classifiers)
    _say(f"{info.name} {info.version}: {n_files} files and {n_networks} networks are as bundle.json says.")
    own = "It does not come with this software: only whoever made it can say whether it is as it was made."
    _say("It is the bundle that comes with this software, unaltered." if is_shipped(info) else own)
    return 0


def _diagnose(options: argparse.Namespace, started: float) -> int:
    files = {phase: getattr(options, phase.lower()) for phase in PHASES if getattr(options, phase.lower())}
    if bool(files) == bool(options.study):
        raise InputError("Expected either STUDY or at least one of --pc, --ap, --pvp and --dp; give one or the other.")
    from .outputs import REPORT, output_folder, write_outputs
    from .stages import stages

    with output_folder(options.output) as folder, closing(stages(options.alone)) as work:
        diagnosis, aligned = _run(options, files, started, work)
        # networks and phases as read are gone by now
        return_free_memory()
        _tell(options, "write", 0.0, "Writing the results")
        diagnosis = write_outputs(diagnosis, aligned, folder, scene=work.scene())
    if options.json_progress:
        _say(json.dumps({"stage": "done", "fraction": 1.0, "text": str(options.output / REPORT)}))
    else:
        _say(f"{_table(diagnosis, aligned)}\nReport: {options.output / REPORT}")
    return 0


def _tell(options: argparse.Namespace, stage: str, fraction: float, text: str) -> None:
    if options.json_progress:
        _say(json.dumps({"stage": stage, "fraction": round(fraction, 3), "text": text}))


def _run(
    options: argparse.Namespace, files: dict[str, Path], started: float, work: OneProcess | OwnProcesses
) -> tuple[Diagnosis, AlignedExam]:
    from .diagnosis import diagnose
    from .rois import read_rois
    from .stages import Request

    tell = partial(_tell, options)
    timings = {"start": time.perf_counter() - started}
    tell("read", 0.0, "Reading the exam")
    rois = [roi for path in options.roi for roi in read_rois(path)] if options.roi else None
    if rois:
        rois = [replace(roi, id=str(n)) for n, roi in enumerate(rois, 1)]
    loader = ThreadPoolExecutor(1)
    try:
        networks = loader.submit(work.networks, options.bundle, detector=not rois)
        found = work.read(Request(options.study, files or None, not options.no_align), networks, tell)
        read = time.perf_counter()
        opened = networks.result()
    finally:
        # an exam that is refused is refused at once
        loader.shutdown(wait=False, cancel_futures=True)
    timings |= {**found.timings_s, "load": time.perf_counter() - read}
    diagnosis = diagnose(found.exam, found.aligned, opened, rois=rois, progress=tell, timings_s=timings)
    opened.check()
    return diagnosis, found.aligned


def _table(diagnosis: Diagnosis, aligned: AlignedExam) -> str:
    """Return what a person wants to see first: the gate, lesions, probabilities, phase values; in the words of the report."""
    from .composites import body_midline

    gate = diagnosis.gate
    lines = [f"{wording.GATE_TITLES[gate.verdict]}.", *(f"  - {reason}" for reason in gate.reasons)]
    lines += [f"Phases: {', '.join(phase for phase in PHASES if diagnosis.exam.phases[phase].present)}"]
    if not diagnosis.lesions:
        lines.append(wording.NO_LESION)
    else:
        middle = body_midline(aligned)
        header = ("lesion", "size mm", "place", "centre R A S mm", "malignant", "class", "prob.", *(f"{phase}" for phase in PHASES))
        rows = [header, *(_row(lesion, wording.place(lesion, aligned.grid, middle)) for lesion in diagnosis.lesions)]
        widths = [max(len(row[n]) for row in rows) for n in range(len(header))]
        lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.append("PC to DP: what each phase adds to the probability of malignant (Shapley values).")
        present = dict.fromkeys(lesion.decision for lesion in diagnosis.lesions)
        lines.append("Classes: " + ", ".join(f"{name} {CLASS_NAMES[name]}" for name in present) + ".")
    lines += [f"Warning: {warning}" for warning in diagnosis.warnings if warning not in gate.reasons]
    lines.append(f"Model: {diagnosis.bundle.name} {diagnosis.bundle.version}. {diagnosis.bundle.intended_use}")
    lines.append(wording.RESEARCH_ONLY)
    return "\n".join(lines)


def _row(lesion: LesionDiagnosis, place: str) -> tuple[str, ...]:
    values = lesion.phase_shapley["stage1"].values
    center = lesion.roi.center_ras_mm
    return (
        lesion.id,
        " x ".join(f"{side:.0f}" for side in lesion.roi.size_mm),
        place,
        " ".join(f"{v:.0f}" for v in center),
        wording.percent(lesion.malignant_probability),
        lesion.decision,
        wording.percent(lesion.class_probabilities[lesion.decision]),
        *(f"{values[phase]:+.2f}" if phase in values else "-" for phase in PHASES),
    )


if __name__ == "__main__":
    program()
