"""Training of PediatricLiverDx: exams on disk in, a bundle of ONNX files out. Imports the library, never the reverse."""
