"""Names and delays tell phases: a table of real-world spellings."""

import pytest
from PediatricLiverDxLib.phases import phase_from_delay, phase_from_name, phase_words_of_folder, readings

SPELLINGS = {
    "PC": """plain
        |Non-Con|NONCON 5.0|non contrast|NON-CONTRAST ABD
        |w/o contrast|WO CON|without contrast|without IV contrast|Unenhanced|Native
        |nativ|Abdomen nativ 5.0 B30f|pre|Pre-contrast|PRECONTRAST|NCCT|NECT|PC|patient_PC_001|C-|ABD C- 5mm|平扫|腹部平扫 5.0|上腹平扫|平掃
        |単純|sans injection|Sans IV|abdomen sans contraste|non injecté|sin contraste|SIN CIV|fase simple|senza mdc|sem contraste|ohne KM
        |Oberbauch ohne KM|без контраста|nonEnhanced|AbdomenNative|blanco|增强前
        |Abd Non Con 1.25|ABD W/O|Abd wo 5.0|AbdPel WO IV CON|Leber nativ|vor KM|sans IV|senza contrasto|basale|fase basal
        |fase sem contraste
        |zonder contrast|上腹部平扫|無顯影劑|顯影前|注射前|単純CT|造影前 5mm|조영전|нативная фаза""",
    "AP": """arterial
        |AP|ART|Art. Phase|ARTERIAL PHASE 1.25|Late Arterial|AP late|late_art|early arterial|HAP|A 动脉期|动脉期|動脈期|动脉早期|动脉晚期
        |動脈相|arteriell|Abd. art. 3.0 B30f|Arterielle Phase|artérielle|phase artérielle 2mm|fase arterial tardía|arteriosa|ArterialPhase
        |liver_AP_1mm|spätarteriell|frühart.|CTA abdomen|35s|AP3.0|hepatic arterial dominant|T35s|артериальная фаза|동맥기|AP.nii
        |Abd C+ A|C+ A 1.25mm|ABD_C+(A)|ARTERIAL DELAY 30s|Arterial Delay: 30 sec|delay 35s
        |30s delay|动脉期延迟30秒|A期|上腹A期 1.0|AP期|A 期|A-Phase
        |CT AP phase|ART 30S|AX ART 2.5|HAP 25s|late arterial phase 35s|Arterial Phase Pelvis|AP 1.25 STND|abdomen_AP|temps artériel
        |artériel précoce|Leber arteriell|frühe arterielle Phase|fase arteriosa|fase arterial|arteriële fase|肝动脉期
        |增强动脉期|動脈優位相|早期相
        |早期動脈相|動脈後期相|動脈相 1.0|동맥기 2mm|조영 동맥기""",
    "PVP": """portal|venous|PVP|PV|70s|门脉期|門脈期|门静脉期|静脉期|靜脈期|門脈相|Portal Venous 5.0|portalvenös|portovenous
        |Abd. ven. 5.0 B30f|venöse Phase|temps portal|veineux|porto-veineux 2mm|fase portal|venosa|PORTAL_VENOUS|PVP_1|pv phase|70 sec|65S
        |hepatic venous|PortVen|liver PVP 2.5|портальная фаза|portal phase B30s|late portal venous|문맥기|PVP70s
        |Abd C+ P|Abd C+ V|P期|V期|PV期|上腹V期 1.0|V-Phase|portal delay 70s|PORT VEN 65s|Venous Phase 1.25|PV 60s|delay 70 sec
        |60s delay|70 sec delay|延迟70秒
        |temps veineux
        |portalvenöse Phase|Leber venös|venös 70s|fase portale|fase venosa portal|fase venosa|portaal veneuze fase|门脉期 1.0
        |增强门脉期|門脈優位相
        |문맥정맥기|정맥기|портовенозная""",
    "DP": """delayed|DP|delay 3min|equilibrium|3min|5 min delay|180s|延迟期|延遲期|平衡期|遅延相|延时扫描|Delayed 5.0|DELAY|LIVER DEL|tardif
        |temps tardif|fase tardía|tardiva|Spätphase|spätvenös|late phase|late venous|Äquilibriumsphase|équilibre|excretory|delay3min
        |washout 10 min|отсроченная фаза|지연기|3分钟
        |Abd C+ D|D期|DP期|上腹D期|D-Phase|delay 180s|3 MIN DELAY|10 min delayed|Delay 5min|LATE 5 MIN|temps tardif 3min|phase d'équilibre
        |Leber spätvenös|fase de equilibrio|fase de equilíbrio|fase tardiva|fase d'equilibrio|late fase|延迟5分钟
        |增强延迟期|平衡相|後期相|晩期相|평형기
        |экскреторная фаза""",
}
SILENT = """part|smart prep|start|heart|Abdomen|CAP|C/A/P|chest ap|PCL|part 1|w wo contrast|with and without contrast|平扫+增强|B30s
    |Liver 3 phase art/portal/delayed|pre and post contrast|6.9 Colonoscopy|Abd 5.0 Br40s|Thorax 1.0 I70f|model|CT A/P|AP scout|lateral
    |example_ct|ABD 5mm|series 4|aorta_report_ct_cropped|departement|prevent|arteriovenous malformation|动脉期+静脉期|apex|plate|0.5s||
    |AP Chest|Abd/Pelvis AP|Chest/AP|Pelvis AP|AP Abd/Pelvis|AP Thorax|AP/LAT|C+A+P|AP and lateral|AP supine|Tórax AP|Becken AP
    |动静脉期|動靜脈期
    |动、静脉期|动门脉期|wo/w|w/o/w|W/WO|w & wo|WO and W contrast|w/ and w/o contrast|without and with contrast|with/without contrast
    |ohne und mit KM|mit/ohne KM|sans et avec injection|sin y con contraste|senza e con mdc|sem e com contraste|portal/delayed|门脉期+延迟期
    |arterial and portal|动脉期及门脉期|art+ven|nephrographic|Portal Inflow|パン"""
ENHANCED = """with contrast|CE|C+|ABD C+ 5mm|增强|post contrast|mit KM|CECT|avec injection|Abdomen KM 5.0|con contraste|w/contrast
    |增强一期|增强二期|增强三期|三期增强|C+ A/P|增强动静脉期|顯影後|造影 1.0|조영후|nach KM|W IV CON"""


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


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("增强一期", 1), ("上腹部增强二期 1.0", 2), ("增强三期", 3), ("增强第2期", 2), ("增强3期", 3), ("增强扫描一期", 1), ("增強二期", 2),
        ("造影1相", 1), ("CE phase 2", 2), ("post contrast 3", 3), ("三期增强", None), ("增强", None), ("增强 1.0", None), ("C+ 5mm", None),
        ("增强一期+二期", None), ("增强1.5mm", None),
    ],
)  # fmt: skip
def test_numbered_phase_after_contrast(name, number):
    named = phase_from_name(name)
    assert named.phase is None
    assert named.number == number


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
