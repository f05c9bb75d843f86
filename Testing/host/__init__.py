"""Stand in for the part of 3D Slicer that needs Qt: PySide6 in place of PythonQt, around the real MRML of slicer-core. See README.md."""
