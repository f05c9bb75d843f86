"""Where the files lie that come with the software: in Slicer's install tree beside this package, in a checkout above it."""

from __future__ import annotations

from pathlib import Path

#: Installed, "Resources" may be shared with other modules, so ours are in a folder of their own there.
INSTALLED = Path("Resources", "PediatricLiverDx")
CHECKED_OUT = Path("Resources")


def shipped_folder(name: str) -> Path | None:
    """Return the folder of that name ("Models", "SampleCase"), or None where the package was installed without it (by pip)."""
    modules = Path(__file__).resolve().parent.parent
    for folder in (modules / INSTALLED / name, modules.parent / CHECKED_OUT / name):
        if folder.is_dir():
            return folder
    return None
