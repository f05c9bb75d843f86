"""Names and delays tell phases: a table of real-world spellings."""

import pytest
from PediatricLiverDxLib.phases import phase_from_delay, phase_from_name, phase_words_of_folder, readings

SPELLINGS = {
    "PC": """plain
        |Non-Con|NONCON 5.0|non contrast|NON-CONTRAST ABD
        |w/o contrast|WO CON|without contrast|without IV contrast|Unenhanced|Native
        |nativ|Abdomen nativ 5.0 B30f|pre|Pre-contrast|PRECONTRAST|NCCT|NECT|PC|patient_PC_001|C-|ABD C- 5mm|平扫|腹部平扫 5.0|上腹平扫|平掃
        |単純|sans injection|Sans IV|abdomen sans contraste|non injecté|sin contraste|SIN CIV|fase simple|senza mdc|sem contraste|ohne KM
        |Oberbauch ohne KM|без контраста|nonEnhanced|AbdomenNative|blanco|增强前""",
    "AP": """arterial
        |AP|ART|Art. Phase|ARTERIAL PHASE 1.25|Late Arterial|late_art|early arterial|HAP|A 动脉期|动脉期|動脈期|动脉早期|动脉晚期
        |動脈相|arteriell|Abd. art. 3.0 B30f|Arterielle Phase|artérielle|phase artérielle 2mm|fase arterial tardía|arteriosa|ArterialPhase
        |liver_AP_1mm|spätarteriell|frühart.|CTA abdomen|35s|AP3.0|hepatic arterial dominant|T35s|артериальная фаза|동맥기|AP.nii""",
    "PVP": """portal|venous|PVP|PV|70s|门脉期|門脈期|门静脉期|静脉期|靜脈期|門脈相|Portal Venous 5.0|portalvenös|portovenous
        |Abd. ven. 5.0 B30f|venöse Phase|temps portal|veineux|porto-veineux 2mm|fase portal|venosa|PORTAL_VENOUS|PVP_1|pv phase|70 sec|65S
        |hepatic venous|PortVen|liver PVP 2.5|портальная фаза|portal phase B30s|late portal venous|문맥기|PVP70s""",
    "DP": """delayed|DP|delay 3min|equilibrium|3min|5 min delay|180s|延迟期|延遲期|平衡期|遅延相|延时扫描|Delayed 5.0|DELAY|LIVER DEL|tardif
        |temps tardif|fase tardía|tardiva|Spätphase|spätvenös|late phase|late venous|Äquilibriumsphase|équilibre|excretory|delay3min
        |washout 10 min|отсроченная фаза|지연기|3分钟""",
}
SILENT = """part|smart prep|start|heart|Abdomen|CAP|C/A/P|chest ap|PCL|part 1|w wo contrast|with and without contrast|平扫+增强|B30s
    |Liver 3 phase art/portal/delayed|pre and post contrast|6.9 Colonoscopy|Abd 5.0 Br40s|Thorax 1.0 I70f|model|CT A/P|AP scout|lateral
    |example_ct|ABD 5mm|series 4|aorta_report_ct_cropped|departement|prevent|arteriovenous malformation|动脉期+静脉期|apex|plate|0.5s||"""
ENHANCED = """with contrast|CE|C+|ABD C+ 5mm|增强|post contrast|mit KM|CECT|avec injection|Abdomen KM 5.0|con contraste|w/contrast"""


def _words(table):
    return [word.strip() for word in table.split("|")]


@pytest.mark.parametrize(("phase", "name"), [(phase, name) for phase, table in SPELLINGS.items() for name in _words(table)])
def test_spelling(phase, name):
    named = phase_from_name(name)
    assert named is not None
    assert named.phase == phase
    assert named.word


@pytest.mark.parametrize("name", _words(SILENT))
def test_silent_name(name):
    assert phase_from_name(name) is None


@pytest.mark.parametrize("name", _words(ENHANCED))
def test_contrast_without_phase(name):
    named = phase_from_name(name)
    assert named is not None
    assert named.phase is None


def test_word_is_only_what_matched():
    assert phase_from_name("Geheim Anna arterial 20200131").word == "arterial"


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("Tardelli", "tard"),
        ("Nativova", "nativ"),
        ("Portalupi", "portal"),
        ("Artero Gomez", "arter"),
        ("Spontana", "spontan"),
        ("arterielle Phase", "arterielle"),
        ("Delayed 5.0", "delayed"),
        ("sin contraste", "sin contraste"),
    ],
)
def test_word_never_holds_more_than_the_tables_do(name, word):
    assert phase_from_name(name).word == word


@pytest.mark.parametrize("name", ["SIN MEI LING", "Sin, Mei", "Sans, Maria", "sem kumar", "Zonder van Dijk", "with Anna contrast"])
def test_without_needs_a_word_for_contrast(name):
    named = phase_from_name(name)
    assert named is None or named.phase is None
    assert named is None or named.word == "contrast"


@pytest.mark.parametrize(
    "name",
    ["SIN MEI LING", "Ven Kumar", "Port, Anna", "Late, John", "Art Blanco", "Pre Simple", "Tardif", "PV Singh", "w/o Kim", "S01", ""],
)
def test_folder_that_may_be_a_person_says_nothing(name):
    assert phase_from_name(phase_words_of_folder(name)) is None


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        ("PC", "PC"), ("AP_1", "AP"), ("PVP", "PVP"), ("patient_DP_001", "DP"), ("ART 1mm", "AP"), ("ven", "PVP"), ("70s", "PVP"),
        ("arterial", "AP"), ("Kumar arterial", "AP"), ("Kumar late venous", "DP"), ("Oberbauch ohne KM", "PC"), ("动脉期", "AP"),
        ("Smith without contrast", "PC"), ("portal venous phase", "PVP"), ("delayed 3min", "DP"),
    ],
)  # fmt: skip
def test_folder_that_is_called_after_a_phase(name, phase):
    assert phase_from_name(phase_words_of_folder(name)).phase == phase


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_undeclared_encoding(encoding):
    assert "动脉期" in readings("动脉期".encode(encoding).decode("latin-1"))


def test_declared_encoding_is_read_as_it_is():
    assert readings("动脉期") == ["动脉期"]
    assert readings("venös")[0] == "venös"
    assert readings("arterial") == ["arterial"]


@pytest.mark.parametrize(
    ("seconds", "phase"), [(-30, "PC"), (0, "PC"), (10, None), (25, "AP"), (40, "AP"), (70, "PVP"), (120, None), (180, "DP"), (5000, None)]
)
def test_delay(seconds, phase):
    assert phase_from_delay(seconds) == phase
