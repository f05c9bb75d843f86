"""Seconds of a rerun with a corrected ROI while networks and aligned phases are in memory, as the panel's worker keeps them.

    python warm.py RESULT.json ROI.mrk.json [--bundle DIR] --pc=F --ap=F --pvp=F --dp=F
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as the command line does

from PediatricLiverDxLib.alignment import align
from PediatricLiverDxLib.bundle import load_networks, shipped_bundle
from PediatricLiverDxLib.diagnosis import diagnose
from PediatricLiverDxLib.exam import read_exam
from PediatricLiverDxLib.rois import read_rois
from PediatricLiverDxLib.vocabulary import PHASES

parser = argparse.ArgumentParser()
parser.add_argument("result", type=Path)
parser.add_argument("roi", type=Path)
parser.add_argument("--bundle", type=Path)
for phase in PHASES:
    parser.add_argument(f"--{phase.lower()}", type=Path)
arguments = parser.parse_args()

exam = read_exam(files={phase: getattr(arguments, phase.lower()) for phase in PHASES})
aligned, networks = align(exam), load_networks(arguments.bundle or shipped_bundle())
diagnose(exam, aligned, networks)
start = time.perf_counter()
diagnose(exam, aligned, networks, rois=read_rois(arguments.roi))
arguments.result.write_text(json.dumps(time.perf_counter() - start))
