"""The extension as Slicer's build makes it: built and installed by plain CMake against Testing/cmake, then run from the installed tree."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PediatricLiverDxLib import sample_case
from PediatricLiverDxLib.vocabulary import PHASES
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
STAND_IN = ROOT / "Testing" / "cmake"
MODULES = Path("lib", "Slicer-5.12", "qt-scripted-modules")
SHARE = Path("share", "Slicer-5.12")

#: Below PediatricLiverDx/, and yet not part of what users get.
NOT_INSTALLED = {"CMakeLists.txt", "Testing", "__pycache__"}


def files_below(folder: Path) -> set[str]:
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {p.as_posix() for p in paths if not NOT_INSTALLED & set(p.parts) and not re.search(r"(^|/)\.|\.egg-info/", p.as_posix())}


def expected_files(source: Path) -> set[str]:
    """What has to be in the folder of Slicer's scripted modules, from what lies in the checkout."""
    resources = {kind: files_below(source / "Resources" / kind) for kind in ("Models", "SampleCase")}
    shipped = {f"Resources/PediatricLiverDx/{kind}/{name}" for kind, names in resources.items() for name in names}
    return files_below(source / "PediatricLiverDx") | shipped


def program(name: str) -> str:
    """CMake from the environment that runs the tests, else the system's."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    assert found, f"{name} is missing; it comes with the test requirements, or with the Debian package cmake"
    return found


def configure(source: Path, build: Path) -> subprocess.CompletedProcess:
    options = [f"-DSlicer_DIR={STAND_IN}", f"-DCMAKE_TOOLCHAIN_FILE={STAND_IN / 'no_compiler.cmake'}"]
    return subprocess.run([program("cmake"), "-S", source, "-B", build, *options], capture_output=True, text=True)


def install(source: Path, folder: Path) -> Path:
    """Configure, build and install the extension that lies in `source`; return where it was installed."""
    answer = configure(source, folder / "build")
    assert answer.returncode == 0, answer.stderr
    for step in (["--build", folder / "build"], ["--install", folder / "build", "--prefix", folder / "installed"]):
        answer = subprocess.run([program("cmake"), *step], capture_output=True, text=True)
        assert answer.returncode == 0, answer.stdout + answer.stderr
    return folder / "installed"


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(ROOT, tmp_path_factory.mktemp("extension"))


@pytest.fixture(scope="module")
def modules(prefix: Path) -> Path:
    """The folder that Slicer searches for scripted modules."""
    return prefix / MODULES


@pytest.fixture
def copied_source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("CMakeLists.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "PediatricLiverDx", source / "PediatricLiverDx", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (source / "Resources").symlink_to(ROOT / "Resources")
    return source


def run_installed(modules: Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    """Run Python where only the installed tree is on PYTHONPATH; what an editable installation adds comes after it, and so never first."""
    environment = {**os.environ, "PYTHONPATH": str(modules), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def test_every_file_is_installed_and_nothing_else(modules):
    expected, installed = expected_files(ROOT), files_below(modules)
    assert sorted(expected - installed) == [], "add these to the lists in PediatricLiverDx/CMakeLists.txt"
    assert sorted(installed - expected) == []


def test_only_names_that_no_other_module_has_are_at_the_top(modules):
    top = {path.name for path in modules.iterdir()} - {"PediatricLiverDx.py"}
    assert top == {"PediatricLiverDxLib", "Resources"}


def test_a_file_that_no_list_names_is_not_installed(modules, copied_source, tmp_path):
    """A library module, a resource and a file of the sample case are taken out of the lists: the first test would name them."""
    lists = copied_source / "PediatricLiverDx" / "CMakeLists.txt"
    lines = lists.read_text(encoding="utf-8").splitlines(keepends=True)
    forgotten = {"PediatricLiverDxLib/wording.py", "PediatricLiverDxLib/report.html", "SampleCase/truth.json"}
    lists.write_text("".join(line for line in lines if line.strip() not in forgotten), encoding="utf-8")
    copied = install(copied_source, tmp_path) / MODULES
    assert files_below(modules) - files_below(copied) == {
        "PediatricLiverDxLib/wording.py",
        "PediatricLiverDxLib/report.html",
        "Resources/PediatricLiverDx/SampleCase/truth.json",
    }
    answer = run_installed(copied, "-c", "import PediatricLiverDxLib.cli", cwd=tmp_path)
    assert answer.returncode == 1
    assert "wording" in answer.stderr


def test_a_listed_file_that_is_gone_stops_the_configuration(copied_source, tmp_path):
    (copied_source / "PediatricLiverDx" / "PediatricLiverDxLib" / "wording.py").unlink()
    answer = configure(copied_source, tmp_path / "build")
    assert answer.returncode != 0
    assert "PediatricLiverDxLib/wording.py" in answer.stderr


def test_the_self_test_and_the_generic_tests_are_registered(prefix):
    answer = subprocess.run([program("ctest"), "-N"], cwd=prefix.parent / "build", capture_output=True, text=True)
    found = set(re.findall(r"Test +#\d+: (\S+)", answer.stdout))
    assert found == {"py_PediatricLiverDx", "py_nomainwindow_qSlicerPediatricLiverDxModuleGenericTest"}


IMPORT_ALL = """
import importlib, pathlib, pkgutil, sys
import PediatricLiverDxLib as library
for module in pkgutil.iter_modules(library.__path__):
    if module.name != "panel":
        importlib.import_module(f"PediatricLiverDxLib.{module.name}")
ours = [module for name, module in sys.modules.items() if name.split(".")[0] == "PediatricLiverDxLib"]
print(*{str(pathlib.Path(module.__file__).parent) for module in ours})
"""


def test_every_library_module_imports_from_the_installed_tree(modules, tmp_path):
    answer = run_installed(modules, "-c", IMPORT_ALL, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split() == [str(modules / "PediatricLiverDxLib")]


def test_the_installed_bundle_is_the_one_that_is_shipped(modules, tmp_path):
    code = "from PediatricLiverDxLib.bundle import shipped_bundle; print(shipped_bundle())"
    folder = Path(run_installed(modules, "-c", code, cwd=tmp_path).stdout.strip())
    assert folder.parent == modules / "Resources" / "PediatricLiverDx" / "Models"
    answer = run_installed(modules, "-m", "PediatricLiverDxLib.cli", "bundle", "verify", folder, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "unaltered" in answer.stdout


def test_the_installed_sample_case_is_diagnosed_by_the_installed_bundle(modules, tmp_path):
    study = modules / "Resources" / "PediatricLiverDx" / "SampleCase"
    answer = run_installed(modules, "-m", "PediatricLiverDxLib.cli", "diagnose", study, "-o", tmp_path / "out", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert {"result.json", "report.html", "scene.mrb"} <= files_below(tmp_path / "out")
    result = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    truth = sample_case.sample_truth()
    [lesion] = result["lesions"]
    assert np.linalg.norm(np.subtract(lesion["roi"]["center_ras_mm"], truth.centre_ras_mm)) < 10
    assert lesion["malignant_probability"] > 0.5


def test_the_self_test_passes_in_the_installed_tree_and_leaves_it_as_it_was(modules, tmp_path):
    before = files_below(modules)
    program_of_the_host = ROOT / "Testing" / "host" / "run.py"
    answer = run_installed(modules, program_of_the_host, "--self-test", "--module", modules / "PediatricLiverDx.py", cwd=tmp_path)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert files_below(modules) == before


def test_the_extensions_index_gets_a_description(prefix):
    text = (prefix / SHARE / "PediatricLiverDx.s4ext").read_text(encoding="utf-8")
    description = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
    for key in ("homepage", "contributors", "description", "iconurl", "screenshoturls"):
        assert description[key].strip(), key
    assert description["depends"] == "NA"
    for url in [description["iconurl"], *description["screenshoturls"].split()]:
        assert (ROOT / url.split("/main/")[1]).is_file(), url


def test_the_icon_is_one():
    icons = ROOT / "PediatricLiverDx" / "Resources" / "Icons"
    with Image.open(icons / "PediatricLiverDx.png") as icon:
        assert icon.size == (128, 128)
        # see-through corners, for light and dark
        assert icon.convert("RGBA").getpixel((0, 0))[3] == 0
    with Image.open(icons / "PediatricLiverDxSample.png") as thumbnail:
        assert thumbnail.size == (260, 280)


def test_requirements_are_ranges_and_leave_what_slicer_brings():
    lines = (ROOT / "PediatricLiverDx" / "Resources" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    requirements = [line for line in lines if line and not line.startswith("#")]
    assert requirements
    assert all(re.fullmatch(r"[A-Za-z][\w-]*(>=[\d.]+)?", requirement) for requirement in requirements)
    names = {re.split(r"\W", requirement.replace("-", "_"))[0].lower() for requirement in requirements}
    assert not names & {"numpy", "simpleitk", "pydicom", "vtk", "torch"}


#: What must not reach a translator: a translated node type or setting breaks the panel.
FIXED_PROPERTIES = {"nodeTypes", "hideChildNodeTypes", "interactionNodeSingletonTag", "levelFilter", "quantity", "settingKey"}


def test_the_form_offers_texts_for_translation_and_nothing_else():
    for form in (ROOT / "PediatricLiverDx" / "Resources" / "UI").glob("*.ui"):
        for prop in ElementTree.parse(form).iter("property"):
            if prop.get("name") in FIXED_PROPERTIES:
                strings = [*prop.iter("string"), *prop.iter("stringlist")]
                assert any(string.get("notr") == "true" for string in strings), (form.name, prop.get("name"))


def test_texts_for_translation_are_plain():
    """Slicer collects texts by reading the code: _("Lesion {n}").format(n=1) is found, _(f"Lesion {n}") and _(text) are not."""
    module = ROOT / "PediatricLiverDx"
    wrong = []
    for path in [*module.glob("*.py"), *module.glob("PediatricLiverDxLib/panel/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_":
                plain = len(node.args) == 1 and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)
                wrong += [] if plain else [f"{path.name}:{node.lineno}"]
    assert wrong == []


class SampleDataLogic:
    """What Slicer 5.10's SampleData offers to register() and load(); downloads as it does, and loads nothing."""

    def __init__(self, cache: Path, categories: bool = False):
        self.cache, self.titles, self.sources = cache, {}, []
        if categories:  # 5.12 and later
            self.registerCustomSampleDataCategory = self.titles.__setitem__

    def __call__(self):
        return self

    def registerCustomSampleDataSource(self, **source):
        if source not in self.sources:
            self.sources.append(source)

    def downloadSamples(self, name):
        [source] = [source for source in self.sources if source["sampleName"] == name]
        paths = []
        for uri, file, checksum in zip(source["uris"], source["fileNames"], source["checksums"], strict=True):
            urllib.request.urlretrieve(uri, self.cache / file)
            if f"SHA256:{hashlib.sha256((self.cache / file).read_bytes()).hexdigest()}" == checksum:
                paths.append(self.cache / file)
        return paths


@pytest.mark.parametrize("categories", [False, True], ids=["5.10", "5.12"])
def test_the_sample_case_loads_without_a_network(categories, tmp_path):
    sample_data = SimpleNamespace(SampleDataLogic=SampleDataLogic(tmp_path, categories))
    sample_case.register(sample_data, title="Kinderleber")
    loaded = sample_case.load(sample_data)
    assert list(loaded) == list(PHASES)
    assert len(sample_data.SampleDataLogic.sources) == 1
    assert all(uri.startswith("file:") for uri in sample_data.SampleDataLogic.sources[0]["uris"])
    assert Path(sample_data.SampleDataLogic.sources[0]["thumbnailFileName"]).is_file()


def test_the_title_of_the_category_is_the_users(tmp_path):
    sample_data = SimpleNamespace(SampleDataLogic=SampleDataLogic(tmp_path, categories=True))
    sample_case.register(sample_data, title="Kinderleber")
    sample_case.load(sample_data)
    assert sample_data.SampleDataLogic.titles == {sample_case.CATEGORY: "Kinderleber"}
