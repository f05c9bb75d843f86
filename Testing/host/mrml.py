"""The real part: a scene with the application logic and the module logics of slicer-core, put together as Slicer does at its start."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import slicer
import vtk

#: Name of the module in Slicer -> class of its logic; in the order in which they depend on each other.
LOGICS = {
    "Units": "vtkSlicerUnitsLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Colors": "vtkSlicerColorLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Models": "vtkSlicerModelsLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Texts": "vtkSlicerTextsLogic",
    "Plots": "vtkSlicerPlotsLogic",
}

#: In slice views: those of qMRMLSliceView::initDisplayableManagers, and those that the modules register.
SLICE_MANAGERS = (
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager",
    "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
    "vtkMRMLScalarBarDisplayableManager",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLColorLegendDisplayableManager",
)


@dataclass(frozen=True)
class Mrml:
    """Hold the scene and the logics that serve it."""

    scene: Any
    application_logic: Any
    layout_logic: Any
    logics: dict[str, Any]
    #: The scene does not own these.
    kept: list[Any] = field(repr=False)

    def stop(self) -> None:
        """Let every logic go of the scene, then empty it; the layout logic would look for its node while that is taken away."""
        for logic in (self.layout_logic, *reversed(self.logics.values())):
            logic.SetMRMLScene(None)
        self.scene.Clear(1)
        self.application_logic.SetMRMLScene(None)
        self.scene.SetDataIOManager(None)


def start(folder: Path) -> Mrml:
    """Return a new scene with everything that Slicer adds to it before the first module is shown.

    Args:
        folder: Takes the colour files (there are none), temporary files and the cache of remote files.
    """
    logic = slicer.vtkSlicerApplicationLogic()
    logic.SetHomeDirectory(str(folder))
    logic.SetShareDirectory("share")
    (folder / "share" / "ColorFiles").mkdir(parents=True)
    cache = folder / "cache"
    logic.SetTemporaryPath(str(folder))
    logic.SetSliceLogics(vtk.vtkCollection())
    logic.SetViewLogics(vtk.vtkCollection())
    slice_managers = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
    slice_managers.SetMRMLApplicationLogic(logic)
    slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance().SetMRMLApplicationLogic(logic)
    for name in SLICE_MANAGERS:
        if not slice_managers.IsDisplayableManagerRegistered(name):
            slice_managers.RegisterDisplayableManager(name)

    scene = slicer.vtkMRMLScene()
    scene.SetRootDirectory(str(folder))
    crosshair = slicer.vtkMRMLCrosshairNode()
    crosshair.SetCrosshairName("default")
    scene.AddNode(crosshair)
    remote, files = slicer.vtkMRMLRemoteIOLogic(), slicer.vtkDataIOManagerLogic()
    remote.GetCacheManager().SetRemoteCacheDirectory(str(cache))
    remote.SetMRMLScene(scene)
    files.SetMRMLApplicationLogic(logic)
    files.SetAndObserveDataIOManager(remote.GetDataIOManager())
    logic.SetMRMLScene(scene)
    logic.SetMRMLSceneDataIO(scene, remote, files)
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)

    logics = {}
    for name, kind in LOGICS.items():
        one = logics[name] = getattr(slicer, kind)()
        one.SetMRMLApplicationLogic(logic)
        one.SetMRMLScene(scene)
        logic.SetModuleLogic(name, one)
    logic.SetColorLogic(logics["Colors"])
    layout_logic = slicer.vtkMRMLLayoutLogic()
    layout_logic.SetMRMLApplicationLogic(logic)
    layout_logic.SetMRMLScene(scene)
    return Mrml(scene, logic, layout_logic, logics, [remote, files, crosshair])
