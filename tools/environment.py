"""Make one of the virtual environments under build/ from its lock; the Makefile calls this before every command.

    python3 tools/environment.py tools|runtime|training

``tools`` holds uv and ruff, ``runtime`` what runs beside Slicer, ``training`` everything. An environment whose stamp still matches its
lock, the project's metadata and the Python is left alone, so a second call takes a fraction of a second. Nothing but the standard
library is used, and the file parses on old Pythons so that they get a sentence instead of a syntax error.
"""

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
LOCKS = {
    "tools": ROOT / "requirements-tools.lock",
    "runtime": ROOT / "requirements.lock",
    "training": ROOT / "requirements-training.lock",
}
OLDEST, NEWEST = (3, 10), (3, 13)

#: Imported once after an installation: a wheel whose system library is missing fails here, with a name, and not in the middle of a run.
PROBES = {
    "tools": "",
    "runtime": "import numpy, SimpleITK, onnxruntime, pydicom, vtk, slicer_core",
    "training": """
import ctypes, numpy, SimpleITK, onnxruntime, pydicom, vtk, slicer_core, cv2, torch, torchvision, timm, monai
import PySide6.QtUiTools, PySide6.QtCore, pathlib, sys
if sys.platform.startswith("linux"):
    # Qt opens this one by itself, and ends the process where it cannot
    plugins = PySide6.QtCore.QLibraryInfo.path(PySide6.QtCore.QLibraryInfo.PluginsPath)
    ctypes.CDLL(str(pathlib.Path(plugins, "platforms", "libqoffscreen.so")))
""",
}

DEBIAN_PACKAGES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libOpenGL.so.0": "libopengl0",
    "libgomp.so.1": "libgomp1",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libxcb.so.1": "libxcb1",
    "libX11.so.6": "libx11-6",
    "libXrender.so.1": "libxrender1",
    "libXt.so.6": "libxt6",
    "libSM.so.6": "libsm6",
    "libICE.so.6": "libice6",
    "libXext.so.6": "libxext6",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libfreetype.so.6": "libfreetype6",
    "libzstd.so.1": "libzstd1",
}


def stop(sentence):
    sys.exit("make: " + sentence)


def runs(python):
    return shutil.which(python) and subprocess.run([python, "-c", ""], stderr=subprocess.DEVNULL).returncode == 0


def check_python():
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        others = [name for name in ("python3.13", "python3.12", "python3.11", "python3.10") if runs(name)]
        advice = f"run make PYTHON={others[0]}" if others else "install one of them and run make PYTHON=python3.12"
        stop(f"Python 3.10 to 3.13 is needed, this is {sys.version_info[0]}.{sys.version_info[1]}; {advice}")
    try:
        import ensurepip  # noqa: F401  (Debian keeps it in a package of its own)
        import venv  # noqa: F401
    except ImportError:
        stop("the Debian package python3-venv is missing; install it with: apt-get install python3-venv")


def check_rendering():
    """VTK opens EGL by itself when it first draws; without it the scene tests crash instead of failing."""
    if not sys.platform.startswith("linux"):
        return
    try:
        ctypes.CDLL("libEGL.so.1")
    except OSError:
        stop("the Debian package libegl1 (drawing without a screen) is missing; install it with: apt-get install libegl1")


def stamp_of(name):
    """What an environment depends on, as a hash."""
    parts = [LOCKS[name].read_bytes(), (ROOT / "pyproject.toml").read_bytes(), Path(__file__).read_bytes()]
    parts += [str(ROOT).encode(), sys.version.encode(), sys.base_prefix.encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def python_of(name):
    folder = "Scripts" if os.name == "nt" else "bin"
    return BUILD / name / folder / ("python.exe" if os.name == "nt" else "python")


def pip_setting(python, key):
    """One of the user's own pip settings, or ''."""
    answer = subprocess.run([str(python), "-m", "pip", "config", "get", key], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return answer.stdout.decode().strip() if answer.returncode == 0 else ""


def uv_environment(python):
    """uv does not read pip's settings: hand on the registry and the certificates that the user set there.

    Extra indexes and folders of wheels are left out: uv would take torch from the first place that has one, and torch and torchvision
    must come from the same place.
    """
    settings = dict(os.environ)
    settings.setdefault("UV_HTTP_TIMEOUT", "180")
    index = os.environ.get("PIP_INDEX_URL") or pip_setting(python, "global.index-url")
    if index and not any(key in settings for key in ("UV_DEFAULT_INDEX", "UV_INDEX_URL")):
        settings["UV_DEFAULT_INDEX"] = index
    certificates = os.environ.get("PIP_CERT") or pip_setting(python, "global.cert")
    if certificates:
        settings.setdefault("SSL_CERT_FILE", certificates)
    return settings


def pip_install(name, *arguments):
    return subprocess.run([str(python_of(name)), "-m", "pip", "install", "--quiet", *arguments]).returncode == 0


def uv_install(name, *arguments):
    tools = python_of("tools")
    command = [str(tools), "-m", "uv", "pip", "install", "--quiet", "--python", str(python_of(name)), *arguments]
    return subprocess.run(command, env=uv_environment(tools)).returncode == 0


def probe(name):
    """Import what was installed; name the Debian package of a system library that is missing."""
    answer = subprocess.run([str(python_of(name)), "-c", PROBES[name]], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if answer.returncode == 0:
        return
    text = answer.stderr.decode(errors="replace")
    missing = re.search(r"(lib[\w.+-]+\.so[.\d]*): cannot open shared object file", text)
    if missing:
        library = missing.group(1)
        package = DEBIAN_PACKAGES.get(library)
        if package:
            stop(f"the Debian package {package} ({library}) is missing; install it with: apt-get install {package}")
        stop(f"the system library {library} is missing; install the package of your system that holds it")
    stop(f"the {name} environment does not start:\n{text}")


def make(name):
    stamp = BUILD / name / "stamp"
    wanted = stamp_of(name)
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    if name != "tools":
        make("tools")
    print(f"setting up build/{name} from {LOCKS[name].name}", flush=True)
    shutil.rmtree(str(BUILD / name), ignore_errors=True)
    import venv

    venv.create(str(BUILD / name), with_pip=True)
    lock = ("--no-deps", "--require-hashes", "-r", str(LOCKS[name]))
    project = ("--no-deps", "-e", str(ROOT))
    if name == "tools":
        done = pip_install(name, *lock)
    else:
        done = uv_install(name, *lock) and uv_install(name, *project)
        if not done:
            print("uv did not succeed (see above); trying pip", flush=True)
            done = pip_install(name, *lock) and pip_install(name, *project)
    if not done:
        stop(f"the packages of {LOCKS[name].name} could not be installed; is the package registry reachable?")
    probe(name)
    stamp.write_text(wanted)


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in LOCKS:
        sys.exit("usage: python3 tools/environment.py tools|runtime|training")
    check_python()
    if sys.argv[1] == "training":
        check_rendering()
    make(sys.argv[1])


if __name__ == "__main__":
    main()
