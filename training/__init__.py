"""Training of PediatricLiverDx: exams on disk in, a bundle of ONNX files out. Imports the library, never the reverse."""

import os

# Ultralytics looks for a network when it is imported, and would report its use, as ONNX Runtime would: nothing here leaves the machine
os.environ["YOLO_OFFLINE"] = "true"
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
