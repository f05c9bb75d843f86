"""Folders that say whether their process still lives, so that those of killed ones are removed: by a lock, held as long as it does.

And a temporary folder that only this user can read, for volumes on their way to the worker; gone with its process, or at the next start.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .vocabulary import InputError

PREFIX = "pediatric-liver-dx-"

#: Locked as long as the process lives that made the folder; a lock needs no process number, which another process may have by now.
_LOCK = ".in-use"


@dataclass(frozen=True)
class PrivateFolder:
    """Hold a folder and the open file whose lock says that it is in use."""

    path: Path
    lock: BinaryIO

    def close(self) -> None:
        """Remove the folder with everything in it; a second time does nothing."""
        self.lock.close()
        shutil.rmtree(self.path, ignore_errors=True)


def make_private_folder() -> PrivateFolder:
    """Make a folder, after removing those of processes that were killed. Raises InputError where no temporary file can be written."""
    try:
        remove_abandoned(Path(tempfile.gettempdir()))
        path = Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            lock = hold(path)
        except OSError:
            shutil.rmtree(path, ignore_errors=True)
            raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"No temporary folder can be made ({reason}); make room on the disk of the temporary files.") from None
    return PrivateFolder(path, lock)


def remove_abandoned(parent: Path) -> None:
    """Remove the private folders in `parent` whose process is gone."""
    for path in abandoned(parent, f"{PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)


def hold(folder: Path) -> BinaryIO:
    """Say that a folder is in use, until the file that is returned is closed or the process ends. Raises OSError."""
    lock = (folder / _LOCK).open("w+b")
    _lock(lock)
    return lock


def abandoned(parent: Path, pattern: str) -> list[Path]:
    """Return the folders in `parent` that were held by processes that are gone. One without a lock file may just be being made."""
    found = []
    for path in parent.glob(pattern):
        with suppress(OSError):
            with (path / _LOCK).open("r+b") as lock:
                _lock(lock)
            found.append(path)
    return found


def _lock(file: BinaryIO) -> None:
    """Lock a file until it is closed or the process ends; raises OSError when another process holds it."""
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
