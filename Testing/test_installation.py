"""What Slicer does not bring is installed once, with leave, and beside what is there: the ways of Slicer 5.10 and 5.12, and a folder."""

from __future__ import annotations

import hashlib
import importlib
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from PediatricLiverDxLib.vocabulary import InputError

slicer = pytest.importorskip("slicer")

#: Stands in for onnxruntime, which is here already.
PACKAGE = "stand_in_runtime"


def module() -> ModuleType:
    from host import i18n

    sys.modules.setdefault("slicer.i18n", i18n)
    return importlib.import_module("PediatricLiverDxLib.panel.installation")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Make an Installation into tmp_path / "site", which Python looks into."""
    installation = module()
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    monkeypatch.delattr(slicer, "packaging", raising=False)
    monkeypatch.setattr(slicer, "app", SimpleNamespace(testingEnabled=lambda: False), raising=False)
    (tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    (tmp_path / "requirements.txt").write_text(f"# a word\n{PACKAGE}>=1.18  # another\n\n")

    def make(package: str = PACKAGE) -> Any:
        return installation.Installation(tmp_path / "requirements.txt", tmp_path / "site", package)

    yield make
    sys.modules.pop(PACKAGE, None)
    importlib.invalidate_caches()


def appear(site: Path) -> None:
    (site / PACKAGE).mkdir()
    (site / PACKAGE / "__init__.py").write_text("")


class Asked(list):
    """Write down questions and give one answer."""

    def __init__(self, answer: bool) -> None:
        super().__init__()
        self._answer = answer

    def __call__(self, question: str) -> bool:
        self.append(question)
        return self._answer


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """Be Slicer 5.10's pip_install: everything works; returns what was asked for, each constraints file read."""
    calls: list[list[str]] = []

    def pip_install(arguments: list[str]) -> None:
        calls.append([Path(text).read_text() if text.endswith("constraints.txt") else text for text in arguments])
        appear(tmp_path / "site")

    monkeypatch.setattr(slicer.util, "pip_install", pip_install, raising=False)
    return calls


def test_the_requirements_are_those_of_the_module():
    assert module().Installation()._wanted() == ["onnxruntime>=1.18"]


def test_nothing_is_asked_where_all_is_there_and_nothing_is_imported(made, pip):
    code = "import sys; from importlib.util import find_spec; find_spec('onnxruntime'); sys.exit('onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    asked = Asked(False)
    assert made("onnxruntime").is_complete() and made("onnxruntime").ask_and_install(asked)
    assert asked == [] and pip == []


def test_no_means_no(made, pip):
    asked = Asked(False)
    assert made().ask_and_install(asked) is False
    assert len(asked) == 1 and PACKAGE in asked[0] and "MB" in asked[0] and pip == [] and not made().is_complete()


def test_slicer_5_10_installs_with_pip_and_everything_that_is_there_stays(made, pip):
    asked = Asked(True)
    assert made().ask_and_install(asked) is True and len(asked) == 1 and made().is_complete()
    ((dash, constraints, wanted),) = pip
    assert dash == "-c" and wanted == f"{PACKAGE}>=1.18"
    lines = constraints.split("\n")
    assert f"numpy=={version('numpy')}" in lines and any(line.lower().startswith("simpleitk==") for line in lines)
    assert len({line.partition("==")[0].lower() for line in lines}) == len(lines)
    assert made().ask_and_install(asked) is True and len(asked) == 1


def test_what_is_asked_for_is_not_held_at_the_version_that_is_there(made, tmp_path):
    (tmp_path / "requirements.txt").write_text("onnxruntime>=99\nNumPy\n")
    with made()._as_it_is() as constraints:
        names = {line.partition("==")[0].lower() for line in constraints.read_text().splitlines()}
    assert "pydicom" in names and not names & {"onnxruntime", "numpy"} and not constraints.exists()


def test_slicer_5_12_ensures_the_requirements_file_without_asking_again(made, monkeypatch, tmp_path):
    calls: list[tuple] = []

    def pip_ensure(requirements: Any, *, constraints: Path, prompt_install: bool, requester: str) -> None:
        calls.append((requirements, constraints.read_text(), prompt_install, requester))
        appear(tmp_path / "site")

    packaging = ModuleType("slicer.packaging")
    packaging.load_requirements, packaging.pip_ensure = lambda path: ["read from", path], pip_ensure
    monkeypatch.setitem(sys.modules, "slicer.packaging", packaging)
    assert made().ask_and_install(Asked(True)) is True
    ((requirements, constraints, prompt, requester),) = calls
    assert requirements == ["read from", tmp_path / "requirements.txt"] and "numpy==" in constraints
    assert prompt is False and requester == "PediatricLiverDx"


@pytest.mark.parametrize("error", [subprocess.CalledProcessError(1, "pip"), RuntimeError("no PythonSlicer"), OSError(28, "full")])
def test_what_fails_is_a_sentence(made, monkeypatch, error):
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(slicer.util, "pip_install", fail, raising=False)
    with pytest.raises(InputError, match=r"network.*folder\.$"):
        made().ask_and_install(Asked(True))


@pytest.mark.parametrize(("testing", "words"), [(False, "start Slicer again"), (True, "tests")])
def test_what_was_installed_but_is_not_there_is_a_sentence(made, monkeypatch, testing, words):
    monkeypatch.setattr(slicer.util, "pip_install", lambda _: None, raising=False)
    monkeypatch.setattr(slicer, "app", SimpleNamespace(testingEnabled=lambda: testing))
    with pytest.raises(InputError, match=words):
        made().ask_and_install(Asked(True))


def test_a_slicer_without_its_own_packages_is_not_mended(made, pip, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    asked = Asked(True)
    assert not made().is_complete()
    for install in (lambda: made().ask_and_install(asked), lambda: made().use_folder(Path.cwd())):
        with pytest.raises(InputError, match="pydicom"):
            install()
    assert asked == [] and pip == []


# a folder -----------------------------------------------------------------------------------------------------------------


def write_wheel(folder: Path, tag: str = "py3-none-any", number: str = "1.20") -> Path:
    """Write a wheel that needs what no folder has."""
    folder.mkdir(exist_ok=True)
    facts = f"{PACKAGE}-{number}.dist-info"
    files = {
        f"{PACKAGE}/__init__.py": "here = True\n",
        f"{facts}/METADATA": f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {number}\nRequires-Dist: numpy<1\nRequires-Dist: nowhere\n",
        f"{facts}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    files[f"{facts}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{facts}/RECORD"))
    path = folder / f"{PACKAGE}-{number}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return path


@pytest.fixture
def real_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Be a pip_install that really installs, into tmp_path / "site"."""
    program = [getattr(sys, "_base_executable", sys.executable), "-m", "pip"]
    if subprocess.run([*program, "--version"], check=False, capture_output=True).returncode:
        pytest.skip("this Python has no pip")

    def pip_install(arguments: list[str]) -> None:
        call = [*program, "install", "--disable-pip-version-check", "--target", str(tmp_path / "site"), *arguments]
        subprocess.run(call, check=True, capture_output=True)

    monkeypatch.setattr(slicer.util, "pip_install", pip_install, raising=False)


def test_a_wheel_in_a_folder_is_installed_without_network_and_without_what_it_says_it_needs(made, real_pip, tmp_path):
    write_wheel(tmp_path / "a folder")
    assert made().use_folder(tmp_path / "a folder") is True and made().is_complete()
    assert sorted(path.name for path in (tmp_path / "site").iterdir()) == [PACKAGE, f"{PACKAGE}-1.20.dist-info"]


@pytest.mark.parametrize("wheel", [{"tag": "cp27-cp27m-win32"}, {"number": "1.2"}])
def test_a_wheel_for_another_computer_or_too_old_is_refused(made, real_pip, tmp_path, wheel):
    write_wheel(tmp_path / "folder", **wheel)
    with pytest.raises(InputError, match=r"Python 3\.\d+ on .*>=1\.18\.$"):
        made().use_folder(tmp_path / "folder")
    assert list((tmp_path / "site").iterdir()) == []


def unpack(folder: Path, tag: str) -> Path:
    wheel = write_wheel(folder, tag)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    wheel.unlink()
    (folder / "numpy").mkdir()
    return folder


@pytest.mark.parametrize("inside", [False, True])
def test_an_unpacked_package_is_copied_and_nothing_beside_it(made, tmp_path, inside):
    folder = unpack(tmp_path / "there", f"cp{sys.version_info[0]}{sys.version_info[1]}-none-{platform()}")
    (folder / PACKAGE / "network.bin").write_bytes(b"x" * 1000)
    assert made().use_folder(folder / PACKAGE if inside else folder) is True
    site = tmp_path / "site"
    assert sorted(path.name for path in site.iterdir()) == [PACKAGE, f"{PACKAGE}-1.20.dist-info"]
    assert hashlib.sha256((site / PACKAGE / "network.bin").read_bytes()).digest() == hashlib.sha256(b"x" * 1000).digest()
    assert made().use_folder(folder) is True  # once more


def platform() -> str:
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")


def test_an_unpacked_package_for_another_python_is_refused(made, tmp_path):
    with pytest.raises(InputError, match="Python"):
        made().use_folder(unpack(tmp_path / "there", f"cp27-cp27m-{platform()}"))
    assert list((tmp_path / "site").iterdir()) == []


@pytest.mark.parametrize(
    ("here", "fitting", "others"),
    [
        ("linux-x86_64", ["manylinux_2_28_x86_64", "manylinux2014_x86_64", "linux_x86_64"], ["manylinux_2_28_aarch64", "win_amd64"]),
        ("win-amd64", ["win_amd64"], ["win32", "manylinux_2_28_x86_64", "win_arm64"]),
        ("macosx-11.0-arm64", ["macosx_14_0_arm64", "macosx_11_0_universal2"], ["macosx_13_0_x86_64", "win_amd64"]),
        ("macosx-10.13-x86_64", ["macosx_13_0_x86_64", "macosx_11_0_universal2"], ["macosx_14_0_arm64"]),
    ],
)
def test_which_platforms_fit(monkeypatch, here, fitting, others):
    monkeypatch.setattr("sysconfig.get_platform", lambda: here)
    own = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    fits = module()._fits
    assert all(fits(f"{own}-{own}-{platform}") for platform in (*fitting, "any"))
    assert not any(fits(f"{own}-{own}-{platform}") for platform in others)
    assert fits(f"cp37-abi3-{fitting[0]}") and not fits(f"cp27-cp27m-{fitting[0]}") and not fits("nonsense")


def test_a_folder_without_it_and_one_that_is_not_there_are_sentences(made, tmp_path):
    for folder in (tmp_path / "site", tmp_path / "nowhere"):
        with pytest.raises(InputError, match="choose another folder"):
            made().use_folder(folder)


def test_a_site_folder_that_cannot_be_written_is_a_sentence(made, tmp_path):
    (tmp_path / "site").rmdir()
    with pytest.raises(InputError, match="could not be copied"):
        made().use_folder(unpack(tmp_path / "there", "py3-none-any"))
