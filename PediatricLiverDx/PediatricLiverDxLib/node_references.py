"""How nodes of a scene refer to each other: by roles, which a saved scene keeps and which follow a node when its ID changes. MRML only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def refer(node: Any, role: str, to: Any | None) -> None:
    """Let a node refer to one other in a role, or to none."""
    node.SetNodeReferenceID(role, to.GetID() if to is not None else None)


def refer_to_all(node: Any, role: str, others: Sequence[Any]) -> None:
    """Let a node refer to others in a role, in their order."""
    ids = [other.GetID() for other in others]
    if [node.GetNthNodeReferenceID(role, n) for n in range(node.GetNumberOfNodeReferences(role))] != ids:
        node.RemoveNodeReferenceIDs(role)
        for id in ids:
            node.AddNodeReferenceID(role, id)


def referred(node: Any | None, role: str) -> list[Any]:
    """Return the nodes that a node refers to in a role, of those that are still there."""
    if node is None:
        return []
    return [other for n in range(node.GetNumberOfNodeReferences(role)) if (other := node.GetNthNodeReference(role, n)) is not None]


def of_class(scene: Any, name: str) -> list[Any]:
    """Return the nodes of a class and of those derived from it, in the order in which they were added."""
    nodes = scene.GetNodesByClass(name)
    nodes.UnRegister(None)
    return [nodes.GetItemAsObject(n) for n in range(nodes.GetNumberOfItems())]
