"""What holds for the repository as a whole: sizes, borders between the rooms, nothing of one machine in it, no dead links."""

from __future__ import annotations

import ast
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "PediatricLiverDx" / "PediatricLiverDxLib"
MEGABYTE = 1_000_000

IMPORTS = {*sys.stdlib_module_names, "numpy", "SimpleITK", "onnxruntime", "pydicom", "PediatricLiverDxLib"}
#: Modules that speak MRML: they run on Slicer's core, with or without the application.
MRML = {"scene", "exam_folder", "exam_input", "exam_nodes", "exam_views", "lesion_nodes", "phase_files", "volume_nodes"}
MRML_IMPORTS = {"slicer", "vtkmodules"}
#: The folder panel/ is the only one that knows the application and Qt.
PANEL_IMPORTS = MRML_IMPORTS | {"qt", "ctk", "vtk"}
#: One name more, for the one file of the panel that it is there for; all of them are part of Slicer.
SINGLE_IMPORTS = {"installation": {"pip", "packaging"}, "self_test": {"SampleData"}}

#: What is started as a process of its own: it speaks to whoever started it, and may set (not read) its own environment.
PROGRAMS = {"cli", "worker", "self_test"}

HOME_PATH = re.compile(r"(?<![\w.~-])/(?:home|root|work|Users)/\w")
REGISTRY = re.compile("|".join(("py" + r"pi\.org", "python" + r"hosted", r"download\.py" + "torch", "file:/" + "//")))


def tracked_files() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    answer = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [ROOT / name for name in answer.stdout.split("\0") if name and (ROOT / name).is_file()]


def tracked_texts() -> list[tuple[Path, str]]:
    texts = []
    for path in tracked_files():
        content = path.read_bytes()
        if b"\0" not in content[:4096]:
            texts.append((path, content.decode("utf-8")))
    return texts


def library_modules() -> list[Path]:
    return sorted(LIBRARY.rglob("*.py"))


def imported_names(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_no_file_is_large_and_the_whole_stays_small():
    sizes = {path: path.stat().st_size for path in tracked_files()}
    assert {path.name: size for path, size in sizes.items() if size > 30 * MEGABYTE} == {}
    assert sum(sizes.values()) < 60 * MEGABYTE


def test_nothing_built_is_tracked():
    forbidden = {"build", "__pycache__", "runs", ".pytest_cache", ".ruff_cache"}
    assert [path for path in tracked_files() if forbidden & set(path.relative_to(ROOT).parts)] == []


def test_nothing_of_one_machine_is_written_down():
    found = [(str(path.relative_to(ROOT)), match.group()) for path, text in tracked_texts() if (match := HOME_PATH.search(text))]
    assert found == []


def test_no_registry_is_named():
    found = [(str(path.relative_to(ROOT)), match.group()) for path, text in tracked_texts() if (match := REGISTRY.search(text))]
    assert found == []


@pytest.mark.parametrize("lock", sorted(ROOT.glob("requirements*.lock")), ids=lambda path: path.name)
def test_lock_pins_versions_with_hashes_and_no_addresses(lock):
    text = lock.read_text(encoding="utf-8")
    assert "://" not in text
    requirements = re.split(r"\n(?=\S)", text.strip())
    assert all(re.match(r"[\w.-]+==[\w.]+", requirement) and "--hash=sha256:" in requirement for requirement in requirements)


def test_the_runtime_holds_nothing_of_the_training_stack():
    names = {line.split("==")[0] for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines() if "==" in line}
    assert not names & {"torch", "torchvision", "timm", "monai", "ultralytics", "opencv-python", "opencv-python-headless"}


def test_lines_end_with_lf():
    assert [str(path.relative_to(ROOT)) for path, text in tracked_texts() if "\r\n" in text] == []


@pytest.mark.parametrize("module", library_modules(), ids=lambda path: path.stem)
def test_library_module_imports_only_what_runs_beside_slicer(module):
    further = PANEL_IMPORTS if module.parent.name == "panel" else MRML_IMPORTS if module.stem in MRML else set()
    further = further | SINGLE_IMPORTS.get(module.stem, set())
    assert imported_names(ast.parse(module.read_text(encoding="utf-8"))) <= IMPORTS | further


@pytest.mark.parametrize("module", library_modules(), ids=lambda path: path.stem)
def test_library_module_neither_speaks_nor_asks_nor_remembers(module):
    """No environment, no standard streams, no module-level variable that a function sets; programs may use the first two."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    if module.stem not in PROGRAMS:
        assert not used_names(tree) & {"environ", "environb", "getenv", "putenv", "stdout", "stderr", "stdin", "print", "input"}
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Global)]


def used_names(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.ImportFrom):
            names.update(alias.name for alias in node.names)
    return names


def test_links_of_the_readme_lead_somewhere():
    targets = re.findall(r"\]\(([^)#\s]+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert [target for target in targets if "://" not in target and not (ROOT / target).exists()] == []


def test_the_figures_in_the_readme_are_those_of_the_shipped_bundle():
    """Every row of the table of phantom figures, to two decimals; they are set by hand."""
    metrics = json.loads((ROOT / "Resources/Models/phantom/bundle.json").read_text(encoding="utf-8"))["metrics"]
    found, free = metrics["pipeline"]["detection"], metrics["tumour_free"]
    exams = f"{metrics['exams']} exams"
    expected = {
        "detection on composites, mAP at IoU 0.40": (found["map40"], found["map40_ci95"], exams),
        f"lesions found in 3D (IoU from {found['hit_iou']})": (
            found["sensitivity_3d"], found["sensitivity_3d_ci95"], f"{found['lesions']} lesions"),
        "lesions of 10 mm and more found in 3D": (
            found["sensitivity_3d_measurable"], found["sensitivity_3d_measurable_ci95"], f"{found['lesions_measurable']} lesions"),
        "largest lesion of an exam found": (found["sensitivity_largest"], found["sensitivity_largest_ci95"], exams),
        "false positives per exam": (found["false_positives_per_exam"], found["false_positives_per_exam_ci95"], exams),
        "exams without a tumour in which nothing is found": (
            free["specificity"], free["specificity_ci95"], f"{free['exams']} exams without a tumour"),
    }
    names = {"stage1": "benign or malignant", "benign_subtype": "HH or OBHT", "malignant_subtype": "HB or OMHT"}
    for (head, name), (part, where) in itertools.product(names.items(), (("pipeline", ""), ("true_rois", ", on true boxes"))):
        one = metrics[part][head]
        expected[f"{name}, AUC{where}"] = (one["auc"], one["ci95"], f"{one['patients']} exams")
    for verdict, one in metrics["stage1_by_verdict"].items():
        if verdict in ("trust", "look"):
            expected[f"benign or malignant right where the gate says {verdict}"] = (one["accuracy"], one["ci95"], f"{one['exams']} exams")
    rows = {
        name: f"| {name} | {value:.2f} | {low:.2f} to {high:.2f} | {unit} |" for name, (value, (low, high), unit) in expected.items()
    }
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("| phantom figures |")[1].split("\n\n")[0].splitlines()[2:]
    assert sorted(table) == sorted(rows.values())
