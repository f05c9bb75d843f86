"""Diagnosis of liver tumours in children from multi-phase CT. No module here imports Qt or Slicer except scene and panel."""

__version__ = "0.1.0"
