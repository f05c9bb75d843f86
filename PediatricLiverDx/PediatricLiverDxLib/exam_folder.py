"""The subject hierarchy folder of an exam, with one folder a lesion in it. MRML only.

A folder is found by a node that lies in it: its own number is another one after a scene was saved and opened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import slicer
from vtkmodules.vtkCommonCore import vtkIdList

_CONSTANTS = slicer.vtkMRMLSubjectHierarchyConstants

EXAM_FOLDER_NAME = "Liver tumour diagnosis (research only)"
#: Attribute of a lesion's folder: folders that somebody else made are left alone.
FOLDER_ATTRIBUTE = "PediatricLiverDx.Lesion"


def begin_folder(node: Any) -> None:
    """Put a node into a new exam's folder."""
    hierarchy = _hierarchy(node)
    put(node, hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), EXAM_FOLDER_NAME))


def keep_study(node: Any, volumes: Sequence[Any]) -> None:
    """Move a node's exam folder into the DICOM study of volumes, when they are all of one, before they are put into the folder.

    What is exported as DICOM takes patient and study from the folders around it.
    """
    hierarchy, folder = _hierarchy(node), folder_of(node)
    level = _CONSTANTS.GetDICOMLevelStudy()
    items = [item for item in map(hierarchy.GetItemByDataNode, volumes) if item]
    studies = {hierarchy.GetItemAncestorAtLevel(item, level) for item in items}
    if len(studies) == 1 and hierarchy.GetItemParent(folder) == hierarchy.GetSceneItemID() and (study := studies.pop()):
        hierarchy.SetItemParent(folder, study)


def folder_of(node: Any) -> int:
    """Return the folder that a node lies in."""
    hierarchy = _hierarchy(node)
    return hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node))


def put(node: Any, folder: int) -> None:
    """Put a node into a folder, wherever it lay before."""
    _hierarchy(node).CreateItem(folder, node)


def begin_lesion_folder(roi: Any, exam_folder: int, name: str) -> int:
    """Return the folder of a ROI's lesion, made when it has none, and name it."""
    hierarchy, folder = _hierarchy(roi), folder_of(roi)
    if not _is_of_a_lesion(hierarchy, folder):
        folder = hierarchy.CreateFolderItem(exam_folder, name)
        hierarchy.SetItemAttribute(folder, FOLDER_ATTRIBUTE, "1")
        hierarchy.SetItemExpanded(folder, False)
        put(roi, folder)
    if hierarchy.GetItemName(folder) != name:
        hierarchy.SetItemName(folder, name)
    return folder


def end_lesion_folder(roi: Any, exam_folder: int) -> None:
    """Put a ROI beside the phases and remove the folder that it had with its lesion."""
    hierarchy, folder = _hierarchy(roi), folder_of(roi)
    if _is_of_a_lesion(hierarchy, folder):
        put(roi, exam_folder)
        _remove_when_empty(hierarchy, folder)


def remove_node(node: Any) -> None:
    """Remove a node from its scene and its folder; the application does the latter of itself, its core does not."""
    hierarchy, scene = _hierarchy(node), node.GetScene()
    scene.RemoveNode(node)
    if item := hierarchy.GetItemByDataNode(node):
        hierarchy.RemoveItem(item, False, False)


def remove_from_lesion_folders(anchor: Any, is_left: Callable[[Any], bool]) -> None:
    """Remove nodes that are left of something from the lesions' folders beside a node, and those folders that are empty then."""
    hierarchy = _hierarchy(anchor)
    for folder in _children(hierarchy, folder_of(anchor)):
        if _is_of_a_lesion(hierarchy, folder):
            for node in filter(is_left, _nodes_below(hierarchy, folder)):
                remove_node(node)
            _remove_when_empty(hierarchy, folder)


def _hierarchy(node: Any) -> Any:
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())


def _is_of_a_lesion(hierarchy: Any, folder: int) -> bool:
    return hierarchy.HasItemAttribute(folder, FOLDER_ATTRIBUTE)


def _remove_when_empty(hierarchy: Any, folder: int) -> None:
    if not _nodes_below(hierarchy, folder):
        hierarchy.RemoveItem(folder, False, True)


def _nodes_below(hierarchy: Any, folder: int) -> list[Any]:
    """Return the nodes in a folder and those in it; one that was removed from the scene can leave its item behind."""
    nodes = (hierarchy.GetItemDataNode(child) for child in _children(hierarchy, folder, deep=True))
    return [node for node in nodes if node is not None and node.GetScene() is not None]


def _children(hierarchy: Any, item: int, deep: bool = False) -> list[int]:
    ids = vtkIdList()
    hierarchy.GetItemChildren(item, ids, deep)
    return [ids.GetId(n) for n in range(ids.GetNumberOfIds())]
