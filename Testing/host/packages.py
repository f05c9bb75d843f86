"""slicer.packaging of Slicer 5.12, without pip: what a module asks to be installed is written down, and the test says how it went."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import slicer
from packaging.requirements import Requirement

#: What was asked to be installed, in order: the requirements and the keyword arguments.
asked: list[tuple[Any, dict[str, Any]]] = []
#: Called with the requirements in place of pip; raises what pip would raise.
pip: Callable[[list[str]], None] = lambda requirements: None  # noqa: E731


def forget() -> None:
    """Start anew."""
    global pip
    asked.clear()
    pip = lambda requirements: None  # noqa: E731


def fail(_requirements: list[str]) -> None:
    """Be pip without a network."""
    raise subprocess.CalledProcessError(1, ["pip", "install"])


def load_requirements(path: str | Path) -> list[Requirement]:
    """Return the requirements of a file; comments and pip's options are skipped."""
    lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def _requirements(what: Any) -> list[Requirement]:
    if isinstance(what, str):
        what = what.split()
    return [Requirement(one) if isinstance(one, str) else one for one in (what if isinstance(what, list) else [what])]


def pip_check(what: Any) -> bool:
    """Say whether all requirements are installed at a version they accept."""
    for one in _requirements(what):
        if one.marker is not None and not one.marker.evaluate():
            continue
        try:
            if version(one.name) not in one.specifier:
                return False
        except PackageNotFoundError:
            return False
    return True


def pip_ensure(
    requirements: Any,
    constraints: str | Path | None = None,
    skip_packages: list[str] | None = None,
    prompt_install: bool = True,
    prompt_restart: bool = True,
    requester: str | None = None,
    skip_in_testing: bool = True,
    show_progress: bool = True,
) -> list[str] | None:
    """Install what is missing; in testing mode nothing, unless it is told otherwise. RuntimeError when the user declines."""
    missing = [str(one) for one in _requirements(requirements) if not pip_check(one)]
    if not missing or (skip_in_testing and slicer.app.testingEnabled()):
        return None
    if prompt_install and not slicer.util.confirmOkCancelDisplay(f"{requester} needs {', '.join(missing)}"):
        raise RuntimeError("User declined package installation")
    return pip_install(missing, constraints=constraints, skip_packages=skip_packages, requester=requester, show_progress=show_progress)


def pip_install(requirements: str | list[str], constraints: str | Path | None = None, **options: Any) -> list[str] | None:
    """Write down what is asked for, then do what the test wants pip to do."""
    asked.append((requirements, {"constraints": constraints, **options}))
    pip(requirements.split() if isinstance(requirements, str) else list(requirements))
    return None


def pip_uninstall(requirements: str | list[str], **options: Any) -> None:
    raise RuntimeError("a module has no reason to uninstall anything")
