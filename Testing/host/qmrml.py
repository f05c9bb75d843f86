"""The MRML widgets that the module's .ui file names: qMRMLWidget and qMRMLNodeComboBox, on the real scene."""

from __future__ import annotations

import functools
from typing import Any

import vtk
from PySide6 import QtCore

from . import qt
from .state import state


class qMRMLWidget(qt.QWidget):
    """A widget that knows the scene and tells its children."""

    mrmlSceneChanged = QtCore.Signal(object)

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


def _let_go(tags: list[tuple[Any, int]], *_arguments: object) -> None:
    """Take back observations."""
    for caller, tag in tags:
        caller.RemoveObserver(tag)
    tags.clear()


class qMRMLNodeComboBox(qt.QWidget):
    """Choose a node of the scene; follows nodes that come, go and change their names.

    Libs/Widgets/qMRMLNodeComboBox.cxx and qMRMLSceneModel: nothing chosen means "None" where that is enabled. The list waits for the
    end of a batch (scene closed or imported).
    """

    currentNodeChanged = QtCore.Signal(object)
    currentNodeIDChanged = QtCore.Signal(str)
    nodeActivated = QtCore.Signal(object)
    nodeAdded = QtCore.Signal(object)
    nodeAddedByUser = QtCore.Signal(object)
    nodeAboutToBeRemoved = QtCore.Signal(object)

    nodeTypes, _set_types = state("QStringList", "nodeTypes", [], "_fill")
    hideChildNodeTypes, setHideChildNodeTypes = state("QStringList", "hideChildNodeTypes", [], "_fill")
    showChildNodeTypes, setShowChildNodeTypes = state(bool, "showChildNodeTypes", True, "_fill")
    showHidden, setShowHidden = state(bool, "showHidden", False, "_fill")
    noneEnabled, setNoneEnabled = state(bool, "noneEnabled", False, "_fill")
    noneDisplay, setNoneDisplay = state(str, "noneDisplay", "None", "_fill")
    addEnabled, setAddEnabled = state(bool, "addEnabled", True)
    removeEnabled, setRemoveEnabled = state(bool, "removeEnabled", True)
    editEnabled, setEditEnabled = state(bool, "editEnabled", False)
    renameEnabled, setRenameEnabled = state(bool, "renameEnabled", False)
    selectNodeUponCreation, setSelectNodeUponCreation = state(bool, "selectNodeUponCreation", True)
    baseName, setBaseName = state(str, "baseName", "")

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._tags: list[tuple[Any, int]] = []
        # by the list and not by a method: the widget has gone when this is called
        self.destroyed.connect(functools.partial(_let_go, self._tags))
        self._wanted = ""
        self._told: Any = None
        self._box = qt.QComboBox(self)
        self._box.setSizeAdjustPolicy(qt.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        row = qt.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._box)
        self._box.currentIndexChanged.connect(self._on_index)
        self._box.activated.connect(lambda *_: self.nodeActivated.emit(self.currentNode()))
        self.setEnabled(False)

    def comboBox(self) -> qt.QComboBox:
        return self._box

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is self._scene:
            return
        _let_go(self._tags)
        self._scene = scene
        if scene is not None:
            for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndBatchProcessEvent):
                self._tags.append((scene, scene.AddObserver(event, self._on_scene)))
            about = scene.AddObserver(scene.NodeAboutToBeRemovedEvent, self._on_removal)
            self._tags.append((scene, about))
        self._fill()
        self.setEnabled(scene is not None)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_scene(self, _caller: Any, _event: str, node: Any = None) -> None:
        if self._scene is None or self._scene.IsBatchProcessing():
            return
        self._fill()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_removal(self, _caller: Any, _event: str, node: Any) -> None:
        if node is not None and self._shows(node):
            self.nodeAboutToBeRemoved.emit(node)

    def _shows(self, node: Any) -> bool:
        if node.GetHideFromEditors() and not self.showHidden:
            return False
        right = node.GetClassName() in self.nodeTypes or (self.showChildNodeTypes and any(map(node.IsA, self.nodeTypes)))
        return right and not any(node.IsA(name) for name in self.hideChildNodeTypes)

    def _nodes(self) -> list[Any]:
        if self._scene is None:
            return []
        nodes = [self._scene.GetNthNode(index) for index in range(self._scene.GetNumberOfNodes())]
        return [node for node in nodes if self._shows(node)]

    def _fill(self) -> None:
        """Write the list anew and keep what is chosen while it is there."""
        before = self._wanted
        self._box.blockSignals(True)
        self._box.clear()
        if self.noneEnabled:
            self._box.addItem(self.noneDisplay, "")
        for node in self._nodes():
            self._box.addItem(node.GetName(), node.GetID())
            self._watch_name(node)
        index = self._box.findData(before) if before else -1
        self._box.setCurrentIndex(index if index >= 0 else (0 if self._box.count else -1))
        self._box.blockSignals(False)
        self._on_index()

    def _watch_name(self, node: Any) -> None:
        if all(caller is not node for caller, _ in self._tags):
            self._tags.append((node, node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._on_name)))

    def _on_name(self, node: Any, _event: str) -> None:
        index = self._box.findData(node.GetID() or "-")
        if index >= 0 and self._box.itemText(index) != node.GetName():
            self._box.setItemText(index, node.GetName())

    def _on_index(self, *_arguments: object) -> None:
        self._wanted = self._box.currentData or ""
        node = self.currentNode()
        if node is not self._told:
            self._told = node
            self.currentNodeChanged.emit(node)
            self.currentNodeIDChanged.emit(self._wanted)

    def nodeCount(self) -> int:
        return len(self._nodes())

    def currentNode(self) -> Any:
        identity = self._box.currentData
        return self._scene.GetNodeByID(identity) if identity and self._scene is not None else None

    def _identity(self) -> str:
        return self._box.currentData or ""

    def setCurrentNodeID(self, identity: str) -> None:
        index = self._box.findData(identity) if identity else -1
        self._box.setCurrentIndex(index if index >= 0 else (0 if self.noneEnabled else -1))

    currentNodeID = QtCore.Property(str, _identity, setCurrentNodeID)

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node.GetID() if node is not None else "")


qt.QUiLoader.classes.update({kind.__name__: kind for kind in (qMRMLWidget, qMRMLNodeComboBox)})
