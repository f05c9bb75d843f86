"""Slicer's reading and writing of files (qSlicerCoreIOManager), for volumes, markups, tables and scenes; the work is slicer-core's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import vtk

from .mrml import Mrml


class FileManager:
    """Answer slicer.util's loadVolume, loadScene, saveScene, saveNode and their like."""

    def __init__(self, mrml: Mrml) -> None:
        self._mrml = mrml

    def fileType(self, path: str) -> str:
        name = str(path).lower()
        if name.endswith((".mrb", ".mrml", ".zip")):
            return "SceneFile"
        if name.endswith((".mrk.json", ".json", ".fcsv")):
            return "MarkupsFile"
        return "TableFile" if name.endswith((".csv", ".tsv")) else "VolumeFile"

    def fileWriterFileType(self, node: Any, _extension: str = "") -> str:
        return f"{node.GetNodeTagName()}File"

    def loadNodes(self, kind: str, properties: Mapping[str, Any], loaded: Any, messages: Any) -> bool:
        path = str(properties["fileName"])
        reader = {"VolumeFile": self._volume, "MarkupsFile": self._markups, "TableFile": self._table, "SceneFile": self._scene}.get(kind)
        if reader is None:
            messages.AddMessage(vtk.vtkCommand.ErrorEvent, f"Testing/host does not read {kind}")
            return False
        if not Path(path).exists():
            return False
        return reader(path, properties, loaded, messages)

    def _volume(self, path: str, properties: Mapping[str, Any], loaded: Any, _messages: Any) -> bool:
        """Modules/Loadable/Volumes/qSlicerVolumesReader.cxx"""
        bits = {"labelmap": 1, "center": 2, "singleFile": 4, "autoWindowLevel": 8, "discardOrientation": 16}
        options = sum(bit for name, bit in bits.items() if properties.get(name))
        name = properties.get("name") or Path(path).name.partition(".")[0]
        node = self._mrml.logics["Volumes"].AddArchetypeVolume(path, name, options)
        if node is None:
            return False
        if properties.get("show", True):
            self._mrml.application_logic.GetSelectionNode().SetActiveVolumeID(node.GetID())
            self._mrml.application_logic.PropagateVolumeSelection()
        loaded.AddItem(node)
        return True

    def _markups(self, path: str, properties: Mapping[str, Any], loaded: Any, messages: Any) -> bool:
        name = properties.get("name") or Path(path).name.partition(".")[0]
        identity = self._mrml.logics["Markups"].LoadMarkups(path, name, messages)
        if identity:
            loaded.AddItem(self._mrml.scene.GetNodeByID(identity))
        return bool(identity)

    def _table(self, path: str, properties: Mapping[str, Any], loaded: Any, _messages: Any) -> bool:
        node = self._mrml.logics["Tables"].AddTable(path, properties.get("name") or Path(path).stem)
        if node is not None:
            loaded.AddItem(node)
        return node is not None

    def _scene(self, path: str, properties: Mapping[str, Any], loaded: Any, messages: Any) -> bool:
        """Base/QTCore/qSlicerSceneBundleReader.cxx and Modules/Loadable/Data/qSlicerSceneReader.cxx: a scene is added to unless "clear"."""
        scene = self._mrml.scene
        before = {scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())}
        if path.lower().endswith(".mrml"):
            scene.SetURL(path)
            done = scene.Connect(messages) if properties.get("clear") else scene.Import(messages)
        else:
            done = scene.ReadFromMRB(str(Path(path).absolute()), bool(properties.get("clear")), messages)
        for index in range(scene.GetNumberOfNodes()):
            if scene.GetNthNode(index) not in before:
                loaded.AddItem(scene.GetNthNode(index))
        return bool(done)

    def saveNodes(self, kind: str, properties: Mapping[str, Any], messages: Any) -> bool:
        path = Path(properties["fileName"]).absolute()
        if kind == "SceneFile":
            return self._save_scene(path, messages)
        node = self._mrml.scene.GetNodeByID(properties["nodeID"])
        storage = node.GetStorageNode()
        if storage is None:
            node.AddDefaultStorageNode()
            storage = node.GetStorageNode()
        storage.SetFileName(str(path))
        if "useCompression" in properties:
            storage.SetUseCompression(properties["useCompression"])
        return bool(storage.WriteData(node))

    def _save_scene(self, path: Path, messages: Any) -> bool:
        """Modules/Loadable/Data/qSlicerSceneWriter.cxx"""
        scene = self._mrml.scene
        if not os.access(path.parent, os.W_OK):
            messages.AddMessage(vtk.vtkCommand.ErrorEvent, f"Failed to save scene as {path} (path {path.parent} is not writeable)")
            return False
        if path.suffix == ".mrml":
            scene.SetURL(str(path))
            scene.SetRootDirectory(str(path.parent))
            return bool(scene.Commit())
        if path.suffix == ".mrb":
            scene.SetURL(str(path))
            scene.SetRootDirectory(str(path.parent))
            done = scene.WriteToMRB(str(path), None, messages)
            scene.SetStorableNodesModifiedSinceRead()
            return bool(done)
        path.mkdir(parents=True, exist_ok=True)
        return bool(scene.SaveSceneToSlicerDataBundleDirectory(str(path), None))

    def openSaveDataDialog(self) -> bool:
        """Open Slicer's dialog for saving; there is none here."""
        return False
