"""The processes that a launcher started: killing it leaves them."""

from __future__ import annotations

import subprocess
import sys

#: Seconds that the system has to list them.
_PATIENCE = 2

_WINDOWS = "Get-CimInstance Win32_Process -Filter 'ParentProcessId={number}' | ForEach-Object ProcessId"


def children_of(number: int) -> list[int]:
    """Return the process numbers of what a process started and what runs still; empty where the system does not tell."""
    if number <= 1:
        return []
    windows = sys.platform == "win32"
    command = ["powershell", "-NoProfile", "-Command", _WINDOWS.format(number=number)] if windows else ["ps", "-A", "-o", "ppid=,pid="]
    try:
        # no window of its own on Windows
        flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)
        text = subprocess.check_output(
            command, text=True, timeout=_PATIENCE, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, creationflags=flags
        )
        rows = [[int(word) for word in line.split()] for line in text.splitlines()]
    except (OSError, ValueError, subprocess.SubprocessError):
        return []
    return [row[-1] for row in rows if windows or row[0] == number]
