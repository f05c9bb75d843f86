"""Where the weights of a run's networks began, when not at random: kept beside each network, for the bundle and its card to tell.

An origin is {"bundle": name and version, "trained_on", "exams": by split}, and "began_with", the origin of that bundle's own network, where
it has one; the same with "bundle" EARLIER_RUN for the weights of a run; or {"trunk": name of a file}.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PediatricLiverDxLib.bundle import read_bundle

from .cohort import exams_of_run, knows_phantoms_only
from .configuration import DETECTOR
from .plain_json import write_json

ORIGIN_FILE = "origin.json"
#: A run has no name that could be told: its folder may be called after anything.
EARLIER_RUN = "an earlier run"


def origin_of(start: Path | None, network: str) -> dict[str, Any] | None:
    """Return the origin of a network, DETECTOR or a backbone, whose training begins at `start`; None where that is at random weights.

    start: a bundle's folder, or RUN/detector/weights.safetensors.
    """
    if start is None:
        return None
    if not start.is_dir():
        folder = start.resolve().parent
        kind = "computer-made phantoms" if knows_phantoms_only(folder.parent) else "exams that its splits.csv lists"
        before = read_origin(folder)
        own = {"bundle": EARLIER_RUN, "trained_on": kind, "exams": exams_of_run(folder.parent)}
        return own | ({"began_with": before} if before else {})
    bundle = read_bundle(start)
    training = bundle.document.get("training", {})
    taken = training.get("classifiers_of") if network != DETECTOR else None
    name = f"{bundle.info.name} {bundle.info.version}"
    # what training says of the detector's exams goes before what the bundle says of all its networks
    account = taken or {"bundle": name, "trained_on": bundle.info.trained_on, **training}
    before = account.get("began_with", {}).get(network)
    return {key: account.get(key, {}) for key in ("bundle", "trained_on", "exams")} | ({"began_with": before} if before else {})


def write_origin(folder: Path, origin: dict[str, Any] | None) -> None:
    """Keep a network's origin in its folder."""
    if origin is None:
        (folder / ORIGIN_FILE).unlink(missing_ok=True)
    else:
        write_json(folder / ORIGIN_FILE, origin)


def read_origin(folder: Path) -> dict[str, Any] | None:
    """Return the origin that a network's folder keeps; None where its training began at random weights."""
    path = folder / ORIGIN_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
