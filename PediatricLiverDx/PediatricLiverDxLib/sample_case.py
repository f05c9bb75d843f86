"""The sample case in Slicer's Sample Data module: a computer-made hepatoblastoma in four phases, from the installed files, no network.

Sample Data copies the files into its cache, checks their SHA-256 and loads them from there. No Slicer is imported here: its SampleData
module, as `import SampleData` gives it, is an argument.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.request import pathname2url

from .shipped_files import shipped_folder
from .vocabulary import PHASES, InputError

#: Key of the category; Slicer 5.10 shows it, later ones show the title that register() is given.
CATEGORY = "Pediatric Liver Dx"

SAMPLE_NAME = "Hepatoblastoma (computer-made)"

#: The names say the phase, so that "Assign" has words to go by.
NODE_NAMES = {phase: f"Hepatoblastoma {phase}" for phase in PHASES}

_THUMBNAIL = Path(__file__).resolve().parent.parent / "Resources" / "Icons" / "PediatricLiverDxSample.png"

#: SHA-256 of each phase's file.
CHECKSUMS = {
    "PC": "9b0705ca3639e1660b93075d6e29c097b62b8b42b62eb2d87c61d56c2fd5ad67",
    "AP": "884c0e42521e8e24092bf9b8bbf2ee1ba108ceddecb5504b2ec1df147f6ab565",
    "PVP": "5950a0ca3bef3a3905ad55ae3ac4926fc43f7185892d729a2fef2f885d5ed6fd",
    "DP": "163ee0d8dfab43bf83eee05ae03de26f0e095d5f1467aba9a4798ac51754641f",
}


@dataclass(frozen=True)
class SampleTruth:
    """Say what is in the sample case: class (HB), centre of the lesion in RAS mm, its extent along R, A, S in mm."""

    lesion_class: str
    centre_ras_mm: tuple[float, float, float]
    size_mm: tuple[float, float, float]


def sample_files() -> dict[str, Path]:
    """Return phase -> volume. Raises InputError where the software was installed without the sample case."""
    folder = shipped_folder("SampleCase")
    files = {phase: folder / f"{phase}.nrrd" for phase in PHASES} if folder else {}
    if not files or not all(path.is_file() for path in files.values()):
        raise InputError("Expected the sample case beside the module, found none; install the extension again.")
    return files


def sample_truth() -> SampleTruth:
    """Return what truth.json says. Raises InputError as sample_files does."""
    path = sample_files()[PHASES[0]].with_name("truth.json")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The sample case's {path.name} cannot be read ({error.strerror}); install the extension again.") from None
    lesion = document["lesions"][0]
    return SampleTruth(document["class"], tuple(lesion["centre_ras_mm"]), tuple(lesion["size_mm"]))


def register(sample_data: ModuleType, *, title: str = CATEGORY) -> None:
    """Add the sample case to Sample Data; a second call changes nothing. Nothing is read and nothing raised where the files are missing.

    title: the category's name in the user's language (Slicer 5.12 and later).
    """
    try:
        files = sample_files()
    except InputError:
        return  # this runs while Slicer starts: a module without its sample is still a module
    logic = sample_data.SampleDataLogic
    if hasattr(logic, "registerCustomSampleDataCategory"):
        logic.registerCustomSampleDataCategory(CATEGORY, title)
    _add_source(logic, files)


def load(sample_data: ModuleType) -> Mapping[str, Any]:
    """Load the sample case through Sample Data, as its button does, and return phase -> vtkMRMLScalarVolumeNode.

    Raises InputError where the files are missing or could not be loaded.
    """
    _add_source(sample_data.SampleDataLogic, sample_files())
    nodes = sample_data.SampleDataLogic().downloadSamples(SAMPLE_NAME)
    if len(nodes) != len(PHASES) or not all(nodes):
        raise InputError(f"Expected {len(PHASES)} volumes of the sample case, Sample Data loaded {len(nodes)}; see its messages.")
    return dict(zip(PHASES, nodes, strict=True))


def _add_source(logic: Any, files: Mapping[str, Path]) -> None:
    logic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=SAMPLE_NAME,
        thumbnailFileName=str(_THUMBNAIL),
        uris=[_uri(files[phase]) for phase in PHASES],
        # names in a cache that all modules share
        fileNames=[f"PediatricLiverDx-{phase}.nrrd" for phase in PHASES],
        nodeNames=[NODE_NAMES[phase] for phase in PHASES],
        checksums=[f"SHA256:{CHECKSUMS[phase]}" for phase in PHASES],
        loadFileTypes=["VolumeFile"] * len(PHASES),
    )


def _uri(path: Path) -> str:
    # Path.as_uri makes of a network share's name a host, which urllib refuses to open as a file
    return "file:" + pathname2url(str(path))
