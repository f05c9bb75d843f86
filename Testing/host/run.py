"""Run the module in the stand-in host: python Testing/host/run.py --self-test | --pictures DIR [--dark]

--self-test runs PediatricLiverDxTest; the exit code is the verdict. --pictures opens the window with the module on the sample case and
writes what the panel looks like at every step of the tutorial.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODULE = HERE.parent.parent / "PediatricLiverDx" / "PediatricLiverDx.py"


def self_test(module: Path) -> int:
    """Run the module's own test in a fresh host and return the exit code."""
    from host.host import Host

    start = time.monotonic()
    with Host() as host:
        import slicer

        name = host.load(module).name
        slicer.util.selectModule(name)
        try:
            slicer.selfTests[name](msec=0)
        except Exception:
            logging.exception("The self-test failed.")
            return 1
        host.turn(0.2)
        if host.errors:
            logging.error("in slots or observers, with tracebacks above: " + "; ".join(map(repr, host.errors)))
            return 1
    print(f"self-test passed in {time.monotonic() - start:.1f} s")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--self-test", action="store_true", help="run PediatricLiverDxTest")
    what.add_argument("--pictures", type=Path, metavar="DIR", help="write the pictures of README and tutorial")
    parser.add_argument("--dark", action="store_true", help="pictures in dark colours")
    parser.add_argument(
        "--module", type=Path, default=MODULE, help="PediatricLiverDx.py, by default this checkout's; an installed one works too"
    )
    arguments = parser.parse_args()
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    # the folder itself must not be on the path: its modules are the package `host`
    sys.path[:] = [
        str(HERE.parent),
        str(arguments.module.resolve().parent),
        *(one for one in sys.path if Path(one or ".").resolve() != HERE),
    ]
    if arguments.self_test:
        return self_test(arguments.module.resolve())
    from host.pictures import write_pictures

    write_pictures(arguments.module.resolve(), arguments.pictures, dark=arguments.dark)
    return 0


if __name__ == "__main__":
    sys.exit(main())
