"""Diagnosis of liver tumours in children from multi-phase CT. No module here imports Qt or Slicer except scene and panel."""

import os

# onnxruntime from 1.32 on gives the computer an identity, kept in the home folder, and reports its use to its maker. It reads this while it
# is imported, and is never imported before this package.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__ = "0.1.0"
