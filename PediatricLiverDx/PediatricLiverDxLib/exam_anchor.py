"""The text node that an exam hangs on: found in a scene, or made; its references say which volumes are the phases. MRML only.

It holds result.json. Several exams in one scene are told apart by their volumes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from .exam_folder import begin_folder
from .lesion_nodes import is_same
from .lesion_results import DIAGNOSED_ATTRIBUTE
from .node_references import of_class, refer, referred
from .vocabulary import PHASES
from .volume_nodes import new_node, place_of_volume, voxels_state

#: Node attribute of the text node.
EXAM_ATTRIBUTE = "PediatricLiverDx.Exam"

#: References to the phases, now and when the exam was diagnosed (with the phase at the end), and to the ROIs in the order of the table.
PHASE_ROLE, DIAGNOSED_ROLE = "PediatricLiverDx.Phase", "PediatricLiverDx.Diagnosed"
ROI_ROLE = "PediatricLiverDx.Roi"


def anchors(scene: Any) -> list[Any]:
    """Return the text nodes of all exams, the one that was added last at the end."""
    return [node for node in of_class(scene, "vtkMRMLTextNode") if node.GetAttribute(EXAM_ATTRIBUTE)]


def new_anchor(scene: Any) -> Any:
    """Begin an exam in a folder of its own."""
    anchor = new_node(scene, "TextNode", "Diagnosis")
    anchor.SetAttribute(EXAM_ATTRIBUTE, "1")
    begin_folder(anchor)
    return anchor


def anchor_of_volumes(scene: Any, present: Any | None, volumes: set[Any]) -> Any:
    """Return the exam that most of the volumes belong to: the present one rather than another of the scene, else a new one.

    An exam that was diagnosed is known by what it was diagnosed with: volumes of another may be chosen one after the other.
    """
    known = ([present] if present is not None else []) + anchors(scene)[::-1]
    best = max(known, key=lambda anchor: len(_own_volumes(anchor) & volumes), default=None)
    if best is not None and _own_volumes(best) & volumes:
        return best
    if present is not None and not _own_volumes(present) and not present.GetText() and not referred(present, ROI_ROLE):
        return present
    return new_anchor(scene)


def _own_volumes(anchor: Any) -> set[Any]:
    return set((by_phase(anchor, DIAGNOSED_ROLE) or by_phase(anchor, PHASE_ROLE)).values())


def by_phase(anchor: Any | None, role: str) -> dict[str, Any]:
    """Return phase -> volume of those that are still there; role: PHASE_ROLE or DIAGNOSED_ROLE."""
    return {phase: volume for phase in PHASES for volume in referred(anchor, role + phase)}


def remember_phases(anchor: Any, phases: Mapping[str, tuple[str, np.ndarray]], voxels: Mapping[str, tuple]) -> None:
    """Keep which volumes a diagnosis is of, where they lay and what they held: phase -> (volume ID, volume_nodes.place_of_volume).

    voxels: phase -> voxels_state. Times mean nothing in a scene that was saved, so these stay with the node as long as it lives.
    """
    anchor.diagnosed_voxels = dict(voxels)
    for phase in PHASES:
        refer(anchor, DIAGNOSED_ROLE + phase, anchor.GetScene().GetNodeByID(phases[phase][0]) if phase in phases else None)
    anchor.SetAttribute(DIAGNOSED_ATTRIBUTE, json.dumps({phase: place.tolist() for phase, (_, place) in phases.items()}))


def remembered_phases(anchor: Any) -> dict[str, Mapping]:
    """Return what remember_phases was given last, "phases" and "voxels", of the volumes that are still there."""
    places = json.loads(anchor.GetAttribute(DIAGNOSED_ATTRIBUTE) or "{}")
    volumes = by_phase(anchor, DIAGNOSED_ROLE)
    phases = {phase: (volumes[phase].GetID() if phase in volumes else "", np.array(place)) for phase, place in places.items()}
    return {"phases": phases, "voxels": dict(getattr(anchor, "diagnosed_voxels", {}))}


def phases_changed(anchor: Any | None) -> bool:
    """Tell whether other volumes are the phases now, or they lie elsewhere or hold something else, than when the exam was diagnosed."""
    then = json.loads(anchor.GetAttribute(DIAGNOSED_ATTRIBUTE) or "{}") if anchor is not None else {}
    now, diagnosed = by_phase(anchor, PHASE_ROLE), by_phase(anchor, DIAGNOSED_ROLE)
    # a volume that was removed is missing in both, but not in what is remembered
    if now != diagnosed or set(then) != set(now):
        return True
    voxels = getattr(anchor, "diagnosed_voxels", {})
    if any(voxels_state(volume) != voxels.get(phase, voxels_state(volume)) for phase, volume in now.items()):
        return True
    return not all(is_same(place_of_volume(volume), np.array(then[phase])) for phase, volume in now.items())
