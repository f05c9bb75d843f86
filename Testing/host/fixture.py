"""pytest fixtures: a fresh host in the test's process, and the module shown in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

MODULE = Path(__file__).resolve().parents[2] / "PediatricLiverDx" / "PediatricLiverDx.py"


@pytest.fixture
def host() -> Iterator[object]:
    """Give a running stand-in for Slicer with a main window; what goes wrong in slots and observers fails the test."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from host.host import Host

    with Host() as running:
        yield running
        running.turn()
    assert not running.errors, running.errors


@pytest.fixture
def host_module(host: object) -> object:
    """Give the module, loaded and shown."""
    import slicer

    module = host.load(MODULE)
    slicer.util.selectModule(module.name)
    return module
