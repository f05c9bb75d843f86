"""A bundle's folder comes in, what the panel says of it goes out. In small steps, so that the window stays free while files are hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from slicer.i18n import tr as _

from ..bundle import BundleInfo, is_shipped, shipped_bundle
from ..bundle_contents import ADVICE, BUNDLE_FILE, checked_document
from ..vocabulary import InputError

#: Bytes hashed in one step: about 5 ms.
_STEP = 4 << 20


@dataclass(frozen=True)
class BundleState:
    """Hold what is known of a bundle. checked: its files were all compared with their hashes; problem: it cannot be used.

    is_phantom_only: it says that all of its networks learned from computer-made exams and from no patient.
    """

    folder: Path | None = None
    info: BundleInfo | None = None
    text: str = ""
    checked: bool = False
    problem: bool = False
    is_phantom_only: bool = False


def check_bundle(folder: str) -> Iterator[BundleState]:
    """Yield what is known of a bundle after each step; the last one is the verdict. folder: "" for the one that comes with the module."""
    state = BundleState()
    try:
        path = Path(folder) if folder else shipped_bundle()
        state = replace(state, folder=path)
        raw = _read(path / BUNDLE_FILE)
        document = checked_document(raw)
        trained_on, training = document["trained_on"], document.get("training")
        info = BundleInfo(
            name=document["name"],
            version=document["version"],
            sha256=hashlib.sha256(raw).hexdigest(),
            intended_use=document["intended_use"],
            trained_on=trained_on if isinstance(trained_on, str) else " ".join(map(str, trained_on)),
        )
        is_phantom_only = isinstance(training, dict) and training.get("phantoms") is True
        state = replace(state, info=info, text=_("Checking the files"), is_phantom_only=is_phantom_only)
        yield state
        for name, expected in document["sha256"].items():
            digest = hashlib.sha256()
            for block in _blocks(path / name):
                digest.update(block)
                yield state
            if digest.hexdigest() != expected:
                raise InputError(_("The model's {file} is damaged or was changed; {advice}.").format(file=name, advice=ADVICE))
    except InputError as error:
        yield replace(state, text=str(error), checked=True, problem=True)
        return
    text = _("Files checked: the model that came with this module, unchanged.") if is_shipped(info) else _("Files checked: all unchanged.")
    yield replace(state, text=text, checked=True)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            _("There is no model in {folder} ({reason}); choose the folder that holds {file}.").format(
                folder=path.parent.name, reason=error.strerror, file=BUNDLE_FILE
            )
        ) from None


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while block := file.read(_STEP):
                yield block
    except OSError as error:
        raise InputError(
            _("The model's {file} cannot be read ({reason}); {advice}.").format(file=path.name, reason=error.strerror, advice=ADVICE)
        ) from None
