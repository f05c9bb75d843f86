"""The words that everything else uses: phases, classes, entities, windows, and the one error for unusable input."""

from __future__ import annotations

from types import MappingProxyType

#: Contrast phases in the order of a composite's channels (arXiv 2511.19478).
PHASES = ("PC", "AP", "PVP", "DP")

PHASE_NAMES = MappingProxyType({
    "PC": "pre-contrast",
    "AP": "arterial",
    "PVP": "portal venous",
    "DP": "delayed",
})

#: (level, width) in HU for display and for network input (arXiv 2511.19478).
WINDOWS = MappingProxyType({
    "PC": (40.0, 250.0),
    "AP": (45.0, 290.0),
    "PVP": (45.0, 290.0),
    "DP": (45.0, 290.0),
})

#: The four classes of the second stage, in the order of every probability vector.
CLASSES = ("HH", "OBHT", "HB", "OMHT")

#: What stands for the class of an exam without a liver tumour; no network has it as an answer, the detector learns from such exams.
NO_TUMOUR = "none"

CLASS_NAMES = MappingProxyType({
    "HH": "hepatic hemangioma",
    "OBHT": "other benign tumour",
    "HB": "hepatoblastoma",
    "OMHT": "other malignant tumour",
})

BENIGN = ("HH", "OBHT")
MALIGNANT = ("HB", "OMHT")

#: What a heat map can be for: a side, or a class against the other one of its side.
OUTCOMES = ("malignant", "benign", *CLASSES)

#: Tumour entity -> class.
ENTITY_CLASS = MappingProxyType({
    "HH": "HH",
    "IHH": "OBHT",
    "FNH": "OBHT",
    "HMH": "OBHT",
    "HB": "HB",
    "UESL": "OMHT",
    "HCC": "OMHT",
})

ENTITY_NAMES = MappingProxyType({
    "HH": "hepatic hemangioma",
    "IHH": "infantile hepatic hemangioma",
    "FNH": "focal nodular hyperplasia",
    "HMH": "mesenchymal hamartoma",
    "HB": "hepatoblastoma",
    "UESL": "undifferentiated embryonal sarcoma",
    "HCC": "hepatocellular carcinoma",
})

BACKBONES = ("vit", "resnet18", "densenet121")

#: The three linear heads of a backbone, in the order of their logits in the exported vector:
#: logit 0: stage 1 (positive = malignant); logit 1: benign subtype (positive = OBHT); logit 2: malignant subtype (positive = OMHT).
HEADS = ("stage1", "benign_subtype", "malignant_subtype")

#: Slices per composite group (arXiv 2511.19478).
K = 3

OUT_OF_MEMORY = "There is not enough memory for this exam; close other programs, or cut the volumes to the liver."


class InputError(Exception):
    """The input cannot be used. The message is one sentence: what was expected, what came, what to do. Exit code 2."""
