"""Open an MRB and render one slice view off screen as Slicer would show it: python slice_view.py SCENE.mrb VIEW PICTURE.png

A program of its own, because a graphics driver that fails takes its process with it.
"""

from __future__ import annotations

import sys
import tempfile
from typing import Any

import slicer
import vtk
from PediatricLiverDxLib.scene import new_scene

#: Side of the picture in pixels.
SIDE = 500


def read_mrb(path: str) -> Any:
    """Return the scene of an MRB, read by Slicer's own reader."""
    scene = new_scene()
    cache, files = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
    with tempfile.TemporaryDirectory() as folder:
        cache.SetRemoteCacheDirectory(folder)
        files.SetCacheManager(cache)
        scene.SetDataIOManager(files)
        if not scene.ReadFromMRB(path, True):
            raise OSError(f"{path} cannot be read as a scene")
    return scene


def render(scene: Any, view: str, picture: str) -> None:
    """Write the slice view with its volumes, overlay and markups as PNG, SIDE x SIDE."""
    window = vtk.vtkEGLRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetSize(SIDE, SIDE)
    renderer = vtk.vtkRenderer()
    window.AddRenderer(renderer)
    interactor = vtk.vtkGenericRenderWindowInteractor()
    interactor.SetRenderWindow(window)

    application = slicer.vtkMRMLApplicationLogic()
    application.SetMRMLScene(scene)
    markups = slicer.vtkSlicerMarkupsLogic()
    markups.SetMRMLApplicationLogic(application)
    markups.SetMRMLScene(scene)
    application.SetModuleLogic("Markups", markups)

    node = scene.GetNodeByID(f"vtkMRMLSliceNode{view}")
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLScene(scene)
    logic.SetSliceNode(node)
    logic.SetSliceCompositeNode(scene.GetNodeByID(f"vtkMRMLSliceCompositeNode{view}"))
    logics = vtk.vtkCollection()
    logics.AddItem(logic)
    application.SetSliceLogics(logics)
    logic.ResizeSliceNode(SIDE, SIDE)
    logic.UpdatePipeline()

    mapper = vtk.vtkImageMapper()
    mapper.SetColorWindow(255)
    mapper.SetColorLevel(127.5)
    mapper.SetInputConnection(logic.GetImageDataConnection())
    actor = vtk.vtkActor2D()
    actor.SetMapper(mapper)
    renderer.AddViewProp(actor)

    factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
    factory.SetMRMLApplicationLogic(application)
    if not factory.IsDisplayableManagerRegistered("vtkMRMLMarkupsDisplayableManager"):
        factory.RegisterDisplayableManager("vtkMRMLMarkupsDisplayableManager")
    managers = factory.InstantiateDisplayableManagers(renderer)
    managers.SetMRMLDisplayableNode(node)
    window.Render()

    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    grab.Update()
    writer = vtk.vtkPNGWriter()
    writer.SetFileName(picture)
    writer.SetInputConnection(grab.GetOutputPort())
    writer.Write()


if __name__ == "__main__":
    mrb, view, picture = sys.argv[1:]
    render(read_mrb(mrb), view, picture)
