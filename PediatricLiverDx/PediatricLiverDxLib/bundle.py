"""The bundle: a folder with the networks, everything that they were trained with, and a hash of every file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BundleInfo:
    """Name a bundle in results. sha256: hash of bundle.json, which holds the hashes of all other files."""

    name: str
    version: str
    sha256: str
    intended_use: str
    trained_on: str
