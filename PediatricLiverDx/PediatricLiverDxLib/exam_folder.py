"""The subject hierarchy folder of an exam, with one folder a lesion in it. MRML only.

A folder is found by a node that lies in it: its own number is another one after a scene was saved and opened.
"""

from __future__ import annotations

from typing import Any

import slicer
from vtkmodules.vtkCommonCore import vtkIdList

EXAM_FOLDER_NAME = "Liver tumour diagnosis (research only)"
#: Attribute of a lesion's folder: folders that somebody else made are left alone.
FOLDER_ATTRIBUTE = "PediatricLiverDx.Lesion"


def begin_folder(node: Any) -> None:
    """Put a node into a new exam's folder."""
    hierarchy = _hierarchy(node)
    put(node, hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), EXAM_FOLDER_NAME))


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
        if not nodes_in(roi, folder):
            hierarchy.RemoveItem(folder)


def lesion_folders(anchor: Any) -> list[int]:
    """Return the lesions' folders that lie in the folder of a node."""
    hierarchy = _hierarchy(anchor)
    return [child for child in _children(hierarchy, folder_of(anchor)) if _is_of_a_lesion(hierarchy, child)]


def nodes_in(any_node: Any, folder: int) -> list[Any]:
    """Return the nodes that lie in a folder of the scene of any node."""
    hierarchy = _hierarchy(any_node)
    return [node for child in _children(hierarchy, folder) if (node := hierarchy.GetItemDataNode(child)) is not None]


def remove_folder(any_node: Any, folder: int) -> None:
    """Remove an empty folder of the scene of any node."""
    _hierarchy(any_node).RemoveItem(folder)


def _hierarchy(node: Any) -> Any:
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())


def _is_of_a_lesion(hierarchy: Any, folder: int) -> bool:
    return hierarchy.HasItemAttribute(folder, FOLDER_ATTRIBUTE)


def _children(hierarchy: Any, item: int) -> list[int]:
    ids = vtkIdList()
    hierarchy.GetItemChildren(item, ids, False)
    return [ids.GetId(n) for n in range(ids.GetNumberOfIds())]
