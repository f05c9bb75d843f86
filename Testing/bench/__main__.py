"""make bench: how long `diagnose` takes and how much memory, beside a plain torch version of the same pipeline, in one run.

Prints a table and writes build/bench/results.json. Times are wall time of a new process, from its start to its files on disk. Memory is the
most that the process and all that it starts take at one moment, memory that they share counted once (PSS). It is taken from runs of their
own, because looking costs time. Where another program uses the same libraries, its share of them is missing: let nothing else run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "build" / "bench"
HERE = Path(__file__).resolve().parent
EXAM = [f"--{phase.lower()}={BENCH / 'exam' / phase}.nrrd" for phase in ("PC", "AP", "PVP", "DP")]
RUNTIME = ROOT / "build" / "runtime" / "bin"
#: Seconds between two looks at memory.
LOOK_S = 0.01
AIMS = {"released_to_table_s": 1.0, "longest_gap_ms": 50.0, "cold_s": 5.0, "times_faster": 10.0, "memory_share": 0.25}


@dataclass(frozen=True)
class Run:
    """A command that was run: wall seconds, and its largest memory in MB, 0 where nobody looked."""

    seconds: float
    peak_mb: float


def measure(*command: str | Path, memory: bool = False) -> Run:
    """Run a command to its end, and look at its memory meanwhile if wanted; stops the bench when it fails."""
    log, peak = BENCH / "log.txt", 0.0
    start = time.perf_counter()
    with log.open("w") as output:
        process = subprocess.Popen([str(part) for part in command], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        while memory and process.poll() is None:
            peak = max(peak, sum(proportional_mb(pid) for pid in with_descendants(process.pid)))
            time.sleep(LOOK_S)
        process.wait()
    seconds = time.perf_counter() - start
    if process.returncode:
        sys.exit(f"{' '.join(map(str, command))}\nended with {process.returncode}:\n{log.read_text()[-3000:]}")
    return Run(seconds, peak)


def with_descendants(pid: int) -> list[int]:
    """Return a process and all that it started and that still run."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
    return found


def proportional_mb(pid: int) -> float:
    """Return a process's proportional set size: its own memory, and its share of what it has in common with others."""
    with contextlib.suppress(OSError):  # it may just have ended
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def diagnose(bundle: list[str], out: str, *arguments: str | Path, memory: bool = False) -> tuple[Run, dict]:
    """Diagnose the bench's exam; returns the run and its result.json."""
    folder = BENCH / out
    shutil.rmtree(folder, ignore_errors=True)
    run = measure(RUNTIME / "pediatric-liver-dx", "diagnose", *EXAM, "-o", folder, *bundle, *arguments, memory=memory)
    return run, json.loads((folder / "result.json").read_text())


def rerun_warm(bundle: list[str], roi: Path) -> float:
    """Return the seconds of a rerun with a corrected ROI, networks and aligned phases warm, without writing."""
    result = BENCH / "warm.json"
    measure(RUNTIME / "python", HERE / "warm.py", result, roi, *EXAM, *bundle)
    return json.loads(result.read_text())


def corrected(roi: Path) -> Path:
    """Write a copy of an ROI markup that is moved by 3 mm and a tenth smaller, as a radiologist would correct it."""
    document = json.loads(roi.read_text())
    markup = document["markups"][0]
    markup["center"] = [value + 3 for value in markup["center"]]
    markup["size"] = [value * 0.9 for value in markup["size"]]
    path = BENCH / "corrected.mrk.json"
    path.write_text(json.dumps(document))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="cold runs of diagnose; the median counts (default 3)")
    parser.add_argument("--bundle", type=Path, help="other weights than the shipped ones")
    arguments = parser.parse_args()
    BENCH.mkdir(parents=True, exist_ok=True)
    bundle = ["--bundle", str(arguments.bundle.resolve())] if arguments.bundle else []
    if not (BENCH / "weights" / "detector.pt").exists():
        print("making the exam (a phantom) and the torch weights", flush=True)
        measure(sys.executable, HERE / "prepare.py", BENCH)

    truth = sorted((BENCH / "exam").glob("truth_*.mrk.json"))
    print("diagnose, cold", flush=True)
    cold, result = zip(*(diagnose(bundle, "cold") for _ in range(arguments.repeats)), strict=True)
    found = sorted((BENCH / "cold").glob("roi_*.mrk.json"))
    rois, given = found or truth, []
    if not found:
        print("this bundle's detector finds nothing in the exam: both are given the true ROIs, and diagnose runs no detector", flush=True)
        given = roi_arguments(rois)
        cold, result = zip(*(diagnose(bundle, "cold", *given) for _ in range(arguments.repeats)), strict=True)
    peak = max(diagnose(bundle, "memory", *given, memory=True)[0].peak_mb for _ in range(arguments.repeats))
    stages = {name: statistics.median(r["timings_s"][name] for r in result) for name in result[0]["timings_s"]}
    print("the plain pipeline, cold", flush=True)
    plain_command = (sys.executable, HERE / "plain.py", BENCH / "exam", BENCH / "weights", BENCH / "plain", *rois)
    plain = replace(measure(*plain_command), peak_mb=measure(*plain_command, memory=True).peak_mb)
    plain_stages = json.loads((BENCH / "plain" / "result.json").read_text())["timings_s"]
    print("rerun with a corrected ROI", flush=True)
    roi = corrected(rois[0])
    rerun, _ = diagnose(bundle, "rerun", "--roi", roi)
    warm = rerun_warm(bundle, roi)

    print("an ROI moved in the panel", flush=True)
    measure(sys.executable, HERE / "panel.py", BENCH / "panel.json", BENCH / "exam")
    panel = json.loads((BENCH / "panel.json").read_text())

    ours = Run(statistics.median(run.seconds for run in cold), peak)
    results = {
        "machine": {"processor": platform.processor() or platform.machine(), "cores": len(os.sched_getaffinity(0)),
                    "python": platform.python_version(), "load_before": os.getloadavg()[2]},
        "exam": {"size": [256, 256, 64], "phases": 4, "lesions": len(rois), "rois": "detector" if found else "truth"},
        "bundle": result[0]["bundle"],
        "diagnose": {"cold_s": ours.seconds, "cold_runs_s": [run.seconds for run in cold], "peak_mb": ours.peak_mb, "stages_s": stages,
                     "rerun_with_roi_cold_s": rerun.seconds, "rerun_with_roi_warm_s": warm},
        "panel": panel,
        "plain": {"weights": "random", "cold_s": plain.seconds, "peak_mb": plain.peak_mb, "stages_s": plain_stages},
        "times_faster": plain.seconds / ours.seconds,
        "memory_share": ours.peak_mb / plain.peak_mb,
        "aims": AIMS,
    }
    (BENCH / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(table(results))


def roi_arguments(rois: list[Path]) -> list[str | Path]:
    return [part for roi in rois for part in ("--roi", roi)]


def table(results: dict) -> str:
    ours, plain, panel = results["diagnose"], results["plain"], results["panel"]
    lines = [
        "",
        f"Four phases of 256 x 256 x 64, lesions: {results['exam']['lesions']}, cores: {results['machine']['cores']}; wall time",
        "",
        f"{'':<34}{'diagnose':>12}{'plain torch':>14}",
        f"{'start to files on disk, s':<34}{ours['cold_s']:>12.2f}{plain['cold_s']:>14.2f}",
        f"{'peak memory of all processes, MB':<34}{ours['peak_mb']:>12.0f}{plain['peak_mb']:>14.0f}",
        *(f"{'  ' + name:<34}{seconds:>12.2f}{'':>14}" for name, seconds in ours["stages_s"].items()),
        *(f"{'  ' + name:<34}{'':>12}{seconds:>14.2f}" for name, seconds in plain["stages_s"].items()),
        f"{'corrected ROI, new process, s':<34}{ours['rerun_with_roi_cold_s']:>12.2f}",
        f"{'corrected ROI, all warm, s':<34}{ours['rerun_with_roi_warm_s']:>12.2f}",
        f"{'  in the panel, to the table, s':<34}{panel['released_to_table_s']:>12.2f}",
        f"{'  longest gap of the window, ms':<34}{panel['longest_gap_s'] * 1000:>12.0f}",
        f"{'    of it its own, ms':<34}{panel['longest_gap_computed_s'] * 1000:>12.0f}",
        "",
        f"{results['times_faster']:.1f} times faster (aim {AIMS['times_faster']:.0f}), {results['memory_share']:.2f} of the memory "
        f"(aim {AIMS['memory_share']}), {ours['cold_s']:.1f} s cold (aim {AIMS['cold_s']:.0f}), ROI released to table updated "
        f"{panel['released_to_table_s']:.1f} s (aim {AIMS['released_to_table_s']:.0f})",
        "diagnose also aligns the phases and writes scene and report; the plain pipeline does neither and runs at random weights.",
        f"Written to {(BENCH / 'results.json').relative_to(ROOT)}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
