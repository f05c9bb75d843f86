"""A scene as a radiologist has it before a diagnosis: four loaded volumes with names of their own, and the module's parameter node."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import slicer
from example_diagnosis import example_aligned, example_diagnosis
from PediatricLiverDxLib.exam_nodes import ExamNodes
from PediatricLiverDxLib.node_references import of_class
from PediatricLiverDxLib.result_document import grid_to_ras, place_cam
from PediatricLiverDxLib.scene import new_scene
from PediatricLiverDxLib.vocabulary import PHASES
from PediatricLiverDxLib.volume_nodes import fill_volume, new_node
from slice_view import read_mrb


def placed(diagnosis: Any, aligned: Any) -> Any:
    """Return a diagnosis with its CAMs as they are read from files."""
    return replace(diagnosis, lesions=tuple(replace(one, cam=place_cam(one.cam, aligned.grid)) for one in diagnosis.lesions))


ALIGNED = example_aligned(oblique=True)
DIAGNOSIS = placed(example_diagnosis(ALIGNED, 2), ALIGNED)


def loaded_scene(aligned: Any, patient: str = "Doe^Jane") -> tuple[Any, Any, dict[str, Any]]:
    """Return a scene, its parameter node and phase -> volume."""
    scene = new_scene()
    parameters = slicer.vtkMRMLScriptedModuleNode()
    parameters.SetModuleName("PediatricLiverDx")
    parameters.SetSingletonTag("PediatricLiverDx")
    return scene, scene.AddNode(parameters), add_volumes(scene, aligned, patient)


def loaded_exam() -> tuple[Any, ExamNodes, dict[str, Any]]:
    """Return scene, exam and volumes before anything was diagnosed."""
    scene, parameters, volumes = loaded_scene(ALIGNED)
    exam = ExamNodes.of(scene, parameters)
    exam.set_phases(volumes)
    return scene, exam, volumes


def diagnosed_exam() -> tuple[Any, ExamNodes, dict[str, Any]]:
    """Return scene, exam and volumes with DIAGNOSIS shown."""
    scene, exam, volumes = loaded_exam()
    exam.show(DIAGNOSIS, {})
    return scene, exam, volumes


def add_volumes(scene: Any, aligned: Any, patient: str = "Doe^Jane") -> dict[str, Any]:
    volumes = {}
    for p, phase in enumerate(PHASES):
        if aligned.present[p]:
            volumes[phase] = new_node(scene, "ScalarVolumeNode", f"{p}: {patient} {phase}")
            fill_volume(volumes[phase], np.rint(aligned.hu[p]).astype(np.int16), grid_to_ras(aligned.grid))
    return volumes


def reopened(scene: Any, path: Any) -> tuple[Any, ExamNodes]:
    """Return the scene and its exam after it was saved as MRB and opened in a fresh one."""
    if not scene.WriteToMRB(str(path)):
        raise OSError("not written")
    fresh = read_mrb(str(path))
    parameters = of_class(fresh, "vtkMRMLScriptedModuleNode")
    return fresh, ExamNodes.of(fresh, parameters[0] if parameters else None)


def move(roi: Any, *by_mm: float) -> None:
    roi.SetCenter(*np.add(roi.GetCenter(), by_mm))


def modified_events(node: Any) -> list[str]:
    """Return a list that grows with every Modified event of a node."""
    events: list[str] = []
    node.AddObserver("ModifiedEvent", lambda caller, event: events.append(event))
    return events
