"""What the worker needs and Slicer does not bring: one package, asked for when it is needed, and never a change to what is there.

The panel itself never imports it, so nothing has to be started again afterwards.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from ..vocabulary import InputError

#: What the worker imports; all but the first come with Slicer.
PACKAGE = "onnxruntime"
OF_SLICER = ("numpy", "SimpleITK", "pydicom")

#: Measured with version 1.32 on Linux, the largest: MB to download, MB on disk.
DOWNLOAD_MB, DISK_MB = 30, 80

_REQUESTER = "PediatricLiverDx"
_VERSION = re.compile(r"\d[\w.!+]*")


class Installation:
    """Know whether the package is there, and put it there: from the network, or from a folder.

    Args:
        requirements: the file that names it, with the versions that do.
        site: the folder of Slicer's packages.
        package: its name.
    """

    def __init__(self, requirements: Path | None = None, site: Path | None = None, package: str = PACKAGE) -> None:
        self._requirements = requirements or Path(__file__).resolve().parents[2] / "Resources" / "requirements.txt"
        self._site = site or Path(sysconfig.get_paths()["purelib"])
        self._package = package

    def is_complete(self) -> bool:
        """Tell whether everything that the worker imports can be found; nothing is imported for it."""
        return all(_is_found(name) for name in (self._package, *OF_SLICER))

    def ask_and_install(self, ask: Callable[[str], bool]) -> bool:
        """Install what is missing, once `ask` said yes to a question with its size; returns False where it said no.

        Raises:
            InputError: it could not be installed.
        """
        if self.is_complete():
            return True
        self._refuse_incomplete_slicer()
        question = _(
            "To compute, one package has to be added to Slicer's Python: {package}, about {download} MB to download and {disk} MB on disk. "
            "What Slicer already has stays as it is.\n\nInstall it now?"
        )
        if not ask(question.format(package=self._package, download=DOWNLOAD_MB, disk=DISK_MB)):
            return False
        with self._as_it_is() as constraints:
            try:
                self._install(constraints)
            except (subprocess.SubprocessError, RuntimeError, OSError):
                sentence = _(
                    "{package} could not be installed; check the connection to the network and the room on the disk, "
                    "or install it from a folder."
                )
                raise InputError(sentence.format(package=self._package)) from None
        self._refuse_missing()
        return True

    def use_folder(self, folder: Path) -> bool:
        """Install the package from a folder that holds its wheel, or the package itself as it lies unpacked in another Python.

        No network is used, and nothing else that the folder may hold: the package works with what Slicer has.

        Raises:
            InputError: the folder holds nothing of use for this computer, or it could not be installed.
        """
        self._refuse_incomplete_slicer()
        folder = folder.parent if folder.name == self._package and (folder / "__init__.py").is_file() else folder
        if list(folder.glob(f"{self._package}-*.whl")):
            self._install_wheel(folder)
        elif (folder / self._package / "__init__.py").is_file():
            self._copy(folder)
        else:
            sentence = _("Expected a folder with {package}-….whl or with {package} unpacked, found neither; choose another folder.")
            raise InputError(sentence.format(package=self._package))
        self._refuse_missing()
        return True

    # ----------------------------------------------------------------------------------------------------------------------------

    def _wanted(self) -> list[str]:
        lines = (line.partition("#")[0].strip() for line in self._requirements.read_text(encoding="utf-8").splitlines())
        return [line for line in lines if line]

    def _install(self, constraints: Path) -> None:
        try:
            from slicer import packaging  # Slicer 5.12 on
        except ImportError:
            slicer.util.pip_install(["-c", str(constraints), *self._wanted()])
            return
        wanted = packaging.load_requirements(self._requirements)
        packaging.pip_ensure(wanted, constraints=constraints, prompt_install=False, requester=_REQUESTER)

    def _install_wheel(self, folder: Path) -> None:
        try:
            slicer.util.pip_install(["--no-index", "--no-deps", "--find-links", str(folder), *self._wanted()])
        except (subprocess.SubprocessError, RuntimeError, OSError):
            raise self._does_not_fit() from None

    def _copy(self, folder: Path) -> None:
        """Copy the package and what says where it came from, whole or not at all."""
        facts = next(iter(folder.glob(f"{self._package}-*.dist-info")), None)
        if facts is None or not any(_fits(tag) for tag in _tags_of(facts)):
            raise self._does_not_fit()
        parts = [part for part in (folder / self._package, folder / f"{self._package}.libs", facts) if part.is_dir()]
        try:
            with tempfile.TemporaryDirectory(prefix=".coming-", dir=self._site) as coming:
                for part in parts:
                    shutil.copytree(part, Path(coming) / part.name, ignore=shutil.ignore_patterns("__pycache__"))
                for part in parts:
                    with suppress(FileNotFoundError):
                        shutil.rmtree(self._site / part.name)
                    (Path(coming) / part.name).rename(self._site / part.name)
        except OSError as error:
            sentence = _("{package} could not be copied into Slicer ({reason}); make room on the disk, or ask whoever installed Slicer.")
            raise InputError(sentence.format(package=self._package, reason=error.strerror or type(error).__name__)) from None

    @contextmanager
    def _as_it_is(self) -> Iterator[Path]:
        """Write down for pip that every package stays as it is, but for the ones that are asked for."""
        asked = {_canonical(re.split(r"[^\w.-]", line)[0]) for line in self._wanted()}
        lines = {}
        for found in importlib.metadata.distributions():
            name, version = found.metadata["Name"], found.metadata["Version"]
            # of several copies on the path the first is the one in use
            if name and version and _VERSION.fullmatch(version) and _canonical(name) not in asked:
                lines.setdefault(_canonical(name), f"{name}=={version}")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "constraints.txt"
            path.write_text("\n".join(lines.values()) + "\n", encoding="utf-8")
            yield path

    def _refuse_incomplete_slicer(self) -> None:
        missing = [name for name in OF_SLICER if not _is_found(name)]
        if missing:
            sentence = _("{packages}, which comes with Slicer, is missing; install Slicer again.")
            raise InputError(sentence.format(packages=", ".join(missing)))

    def _refuse_missing(self) -> None:
        importlib.invalidate_caches()
        if not self.is_complete():
            # in its testing mode Slicer installs nothing
            sentence = _("{package} was installed but cannot be found; start Slicer again.")
            testing = _("{package} is missing and was not installed, because Slicer runs tests.")
            raise InputError((testing if slicer.app.testingEnabled() else sentence).format(package=self._package))

    def _does_not_fit(self) -> InputError:
        sentence = _("The {package} in that folder could not be used here; it takes one for Python {python} on {platform}, {versions}.")
        python = ".".join(str(n) for n in sys.version_info[:2])
        return InputError(
            sentence.format(package=self._package, python=python, platform=sysconfig.get_platform(), versions=", ".join(self._wanted()))
        )


def _is_found(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _tags_of(facts: Path) -> set[str]:
    """Return the tags of the wheel that a .dist-info folder came from."""
    try:
        return set(re.findall(r"(?m)^Tag: *(\S+)", (facts / "WHEEL").read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError):
        return set()


def _fits(tag: str) -> bool:
    """Tell whether this Python can use what a wheel of a tag ("cp312-cp312-win_amd64") holds; a system that is too old is not seen."""
    python, abi, platform = tag.split("-")[:3] if tag.count("-") == 2 else ("", "", "")
    major, minor = sys.version_info[:2]
    own = f"cp{major}{minor}"
    of_python = (python in (f"py{major}", own) and abi in ("none", own)) or abi == "abi3"
    system, _separator, machine = sysconfig.get_platform().replace("-", "_").replace(".", "_").partition("_")
    if system == "macosx":
        machine = machine.rpartition("_")[2] if not machine.endswith("x86_64") else "x86_64"
        of_platform = platform.startswith("macosx_") and platform.endswith((machine, "universal2"))
    elif system == "linux":
        of_platform = re.fullmatch(rf"(?:many|)linux\w*_{machine}", platform) is not None
    else:
        of_platform = platform == f"{system}_{machine}".strip("_")
    return of_python and (of_platform or platform == "any")
