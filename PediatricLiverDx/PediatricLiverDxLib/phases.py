"""Contrast phase from words and from times: what a series or file is called, and how long after the bolus it was taken.

`phase_from_name` reads one text (series description, protocol, file or folder name) in English, German, French, Spanish, Italian,
Portuguese, Dutch, Chinese, Japanese, Korean or Russian. `phase_from_delay` reads seconds. Both say nothing rather than guess.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from dataclasses import dataclass

#: What "without" in another language must be followed by; alone it may be a surname (Sin, Sem).
_CONTRAST = (
    r"(?:(?:le |la |el |il |o |do )?(?:contrast[eo]?|contrastmiddel|contrastmedium|kontrast|kontrastmittel|km|kontrastm|civ|iv|mdc|pdc|cte"
    r"|injection|injections|produit de contraste|medio de contraste|mezzo di contrasto|meio de contraste|контраста|контрастирования|ку))"
)

#: Parts of the body beside which "AP" is the direction of a projection, or "abdomen and pelvis".
_BODY_PART = r"(?:chest|thorax|t[oó]rax|torace|lungs?|pelvis|pelv|becken|bassin|bacino|bekken)"

#: Between "with" and "without".
_AND = r"(?: ?[/&+-] ?| and | or | und | oder | et | ou | y | o | e | en | )"

#: Words that carry one of the phase words inside without meaning a phase. They are taken out before anything else is read.
_MISLEADING = re.compile(
    r"intra-?ven\w*|intra-?vein\w*|intra-?arteri\w*|arterio-?ven\w*|\bsmart ?prep\b|\bsmart\w*|静脉注射|靜脈注射"
    # with and without contrast in one name is a whole protocol
    rf"|(?:\bw/?{_AND}?w/?o\b|\bw/?o{_AND}?w/?(?!\w)|\bwith{_AND}without\b|\bwithout{_AND}with\b)(?: iv)?(?: con\w*)?"
    r"|(?:"
    + "|".join(
        rf"\b{one}{_AND}{other}\b"
        for with_, without in (("mit", "ohne"), ("avec", "sans"), ("con", "sin"), ("con", "senza"), ("com", "sem"), ("met", "zonder"))
        for one, other in ((with_, without), (without, with_))
    )
    + rf")(?: {_CONTRAST})?"
    # arterial and venous together: one scan between the two, or an arteriovenous malformation
    r"|[动動][、/+和及与]?[静靜]脉|[動动][、/+和及与]?[静靜]脈|[动動][门門][静靜]?[脉脈]"
    # AP for "abdomen and pelvis" or the projection, not for arterial phase
    r"|\bap scout\b|\b(?:scout|topo\w*|loc\w*) ap\b|\bc[/ ]?a[/ ]?p\b|\ba/p\b"
    rf"|\b(?:{_BODY_PART}|ct)[ /&+-]?ap\b(?! ph)|\bap (?:abd\w*)?[ /&+-]*{_BODY_PART}\b"
    r"|\bap (?:w|with|wo|without|w/o|view|proj\w*|supine|prone|erect|decub\w*)\b|\bap[ /&+-]*(?:and )?lat(?:eral)?\b"
    # "arterial delay 30s": the time from the bolus on, not the delayed phase
    r"|(?:\b(?:delay|d[eé]lai|retard|ritardo|verz(?:ö|oe)gerung)|延迟|延遲|延时|遅延)"
    r"(?= ?(?:\d\d?|10\d|110) ?(?:s|secs?|sek|seconds?|秒)(?!\w))"
    r"|(?:(?<=\ds )|(?<=\d s )|(?<=sec )|(?<=seconds )|(?<=秒))(?:delay|延迟|延遲|遅延)\b"
    # the late arterial phase, when the portal vein begins to fill
    r"|\bportal(?: venous)? inflow\b"
)

# Where a pattern has parentheses that capture, only what they hold is ever shown: what stands behind a stem may be part of a name.

#: No contrast at all.
_PLAIN = (
    r"(non[- ]?contrast)\w*|non[- ]?con|non[- ]?ce|(non[- ]?enh)\w*|nonkontrast|un-?enhanced|unenh"
    r"|w/?o(?: (?:(?:iv )?(?:contrast|con|c|ce)))?|without(?: iv| oral| any)? contrast"
    r"|without|no con(?:trast)?|(pre[- ]?contrast)\w*|pre[- ]?con|pre[- ]?kontrast|pre|precontr|plain|nc|ncct|nect|ncp|pc|c-|-c|baseline"
    r"|(non[- ]?inject)[eé]\w*"
    r"|(nativ)\w*|(spontan)\w*|vor km|leerserie|avant injection|simple|(basal)\w*"
    rf"|(?:ohne|sans|sin|senza|sem|zonder|без) {_CONTRAST}"
    r"|dirett[ao]|blanco|(нативн)\w*|(бесконтраст)\w*"
)
_PLAIN_CJK = (
    r"平扫|平掃|[显顯]影前|[无無][显顯]影|注射前"
    r"|非增强|非增強|未增强|无增强|增强前|增強前|造影前|非造影|单纯|単純|조영전|비조영|조영 전"
)

_ARTERIAL = (
    r"(art[eé]ri(?:al|ell?e?|ël|os[ao]))\w*|c\+ a(?! ?[+/&])|a-ph(?:ase)?|(art[eé]r)\w*|art|ap|hap|eap|lap|aph|artph|artp|cta|(angio)\w*"
    r"|((?:früh|frueh|spät|spaet)art)\w*|(артер)\w*|\w*(arteri(?:al|el|a|o))\w*"
)
_ARTERIAL_CJK = r"动脉|動脈|동맥|早期相|(?<![a-z])(?:a|ap|art) ?[期相]"

_PORTAL = (
    r"(portal)\w*|port|(portov)\w*|(porto)\w*|(portven)\w*|pvp|pv|pvph|pven|pvpp|vp|hvp|ppv|ven|vein|venous|(venös)\w*|(venoes)\w*"
    r"|c\+ [pv](?! ?[+/&])|[pv]-ph(?:ase)?|venos[ao]s?|(veneuz)\w*|(veineu)\w*|veinous"
    r"|\w*(portalven)\w*|\w*(venös)\w*|\w*(venoes)\w*|(порталь)\w*|(веноз)\w*|(портовен)\w*|вен"
)
_PORTAL_CJK = r"门静脉|門靜脈|門静脈|门脉|門脈|静脉|靜脈|门静|문맥|정맥|(?<![a-z])(?:p|v|pv|vp|pvp) ?[期相]"

_DELAYED = (
    r"(delay(?:ed|s)?)\w*|del(?= *(?:$|\d|phase))|dly|dlyd|(equil[ií]b)\w*|equil|eq|dp|dph|late|washout|wash-out|(excret)\w*"
    r"|(tard)\w*|(spät)\w*|(spaet)\w*|([äé]quilib)\w*|(aequilib)\w*"
    r"|(gleichgewicht)\w*|(ritard)\w*|(отсроч)\w*|(выделит)\w*|(экскретор)\w*|c\+ d(?! ?[+/&])|d-ph(?:ase)?|(равновес)\w*"
)
_DELAYED_CJK = r"延迟|延遲|遅延|延时|延時|平衡|排泄|지연|평형|晩期相|後期相|(?<![a-z])(?:d|dp) ?[期相]"

#: Contrast was given, but the phase is not said.
_ENHANCED = (
    r"(post[- ]?contrast)\w*|post[- ]?con|(post[- ]?kontrast)\w*|with(?: iv| oral| any)? contrast|w/?(?: iv)? ?con(?:trast)?|w/?c"
    r"|c\+|\+c|ce|cect|enhanced|post|contrast"
    rf"|km|(?:mit|avec|con|com|met) {_CONTRAST}|(kontrast)\w*|avec|(inject)[eé]\w*|mdc|с (контраст)\w*"
    r"|contraste"
)
_ENHANCED_CJK = r"增强|增強|造影|조영|[显顯]影"

#: Words of a folder's name that no surname or place shares.
_CLEAR = re.compile(
    r"(?<![^\W_])(?:(?:late |early )?(?:non[- ]?contrast|non[- ]?enhanced|un-?enhanced|pre[- ]?contrast|nativ|native|nativphase|ncct|nect"
    r"|with(?:out)?(?: iv)? contrast|post[- ]?contrast|contrast|enhanced|cect"
    rf"|(?:ohne|sans|sin|senza|sem|zonder|без|mit|avec|con) {_CONTRAST}"
    r"|art[eé]riel(?:le?|l?es?|l?er)?|arterial|arterios[ao]|portal|portovenous|portalvenös|portalvenoes|venous|venös|venöse|venoes|venos[ao]"
    r"|veineux|pvp|delayed|delays?|equilibrium|spätphase|spaetphase|excretory|washout"
    r"|артериальная|портальная|венозная|отсроченная|нативная))(?![^\W_])"
    rf"|(?:(?:{_PLAIN_CJK}|{_ARTERIAL_CJK}|{_PORTAL_CJK}|{_DELAYED_CJK}|{_ENHANCED_CJK})[期相기]?)"
)

#: A folder that is called one of these, and nothing else but numbers and words that say nothing, is called after the phase.
_SHORT = re.compile(
    r"(?:(?:pc|ap|pvp|pv|dp|nc|hap|eap|lap|art|ven|vp|pvph|del|dly|eq|c-|c\+|t?\d{1,3} ?(?:s|sec|min|秒|分钟)|phase|ph|series|serie|ser|se"
    r"|patient|pat|case|exam|study|scan|volume|vol|ct|abd|abdomen|liver|leber|foie|mm|\d+)(?: |$))+"
)


def _word(pattern: str, cjk: str) -> re.Pattern[str]:
    # Chinese and Japanese are written without spaces, so their words need no borders. The others must stand alone.
    return re.compile(rf"(?<![^\W_])(?:{pattern})(?![^\W_])|(?:{cjk})[期相기]?")


_WORDS = {
    "PC": _word(_PLAIN, _PLAIN_CJK),
    "AP": _word(_ARTERIAL, _ARTERIAL_CJK),
    "PVP": _word(_PORTAL, _PORTAL_CJK),
    "DP": _word(_DELAYED, _DELAYED_CJK),
}
_ENHANCED_WORD = _word(_ENHANCED, _ENHANCED_CJK)
_EARLY_OR_LATE = re.compile(r"late|early|spät|spaet|früh|frueh|tard|temprana|precoce|précoce|晚期|早期|后期|後期")
_DELAY = re.compile(
    r"(?<![^\W_])(?:t ?)?[+]?(\d{1,3})[ -]?(s|sec|secs|seconds?|sek|秒|min|mins|minutes?|minuten|分钟|分鐘|分|мин|сек)(?![^\W_])"
)


#: "Enhanced phase two". The same words may mean "in three phases": only numbers of several series beside each other count phases.
_NUMBERED = re.compile(
    r"(?:增强|增強|造影|조영|enhanced|contrast|post|ce|c\+)(?:扫描|掃描|后|後)? ?(?:第|ph|phase)? ?"
    r"([一二三1-3]) ?(?:[期相기](?! ?[+/&、和及与])|$)"
)


@dataclass(frozen=True)
class NamedPhase:
    """What a text says: the phase (None where it says only that contrast was given), and the matched word in lower case.

    `number` counts the phases after contrast, None where no number is said. The word holds nothing but words of this module's tables, so it
    may be shown whatever the text was.
    """

    phase: str | None
    word: str
    number: int | None = None


def phase_from_name(text: str) -> NamedPhase | None:
    """Return what a name says about the contrast phase, None where it says nothing or names several phases.

    Words count only where they stand alone ("art" but not "part", "pc" but not "pcl"); "late arterial" is arterial, "late portal" portal,
    "late venous" delayed; a delay counts where no word does ("70s" is portal venous, "3min" delayed).
    """
    text = _spread(text)
    text = _MISLEADING.sub(" ", text)
    found = {phase: match for phase, word in _WORDS.items() if (match := word.search(text))}
    if "PC" in found:
        # "non-contrast" beside a phase word is a whole protocol; "delayed non-contrast" does not exist.
        rest = text.replace(found["PC"].group(), " ")
        several = len(found) > 1 or _ENHANCED_WORD.search(rest)
        return None if several else NamedPhase("PC", _said(found["PC"]))
    if len(found) > 1 and _listed(text, found):
        return None
    if "DP" in found and len(found) > 1:
        found = _late(found)
    if len(found) == 1:
        phase, match = next(iter(found.items()))
        return NamedPhase(phase, _said(match))
    if found:
        return None
    delays = {(int(number), unit) for number, unit in _DELAY.findall(text)}
    if len(delays) == 1:
        number, unit = delays.pop()
        phase = phase_from_delay(number * (60 if unit.startswith(("m", "м", "分")) else 1))
        if phase is not None and phase != "PC":
            return NamedPhase(phase, f"{number} {unit}")
    if match := _ENHANCED_WORD.search(text):
        numbered = _NUMBERED.search(text)
        return NamedPhase(None, _said(match), "一二三123".index(numbered[1]) % 3 + 1 if numbered else None)
    return None


def phase_words_of_folder(name: str) -> str:
    """Return the part of a folder's name that `phase_from_name` may read: only words that cannot be a person's name.

    Folders on discs are often called after the patient: "Ven Kumar" and "Late, John" say nothing, "Kumar venous" says "venous", and "ART"
    says so because nothing else stands there.
    """
    text = _MISLEADING.sub(" ", _spread(name)).strip()
    if _SHORT.fullmatch(text):
        return text
    return " ".join(match.group() for match in _CLEAR.finditer(text))


def readings(text: str) -> list[str]:
    """Return a text and, where it is Latin-1, what it would be in UTF-8 or GB 18030: scanners often write those without declaring them."""
    found = [text]
    for encoding in ("utf-8", "gb18030"):
        try:
            found.append(text.encode("latin-1").decode(encoding))
        except UnicodeError:
            continue
    return list(dict.fromkeys(found))


def phase_from_delay(seconds: float) -> str | None:
    """Return the phase for a delay after the start of the bolus, None in the gaps between the usual ranges.

    The borders are an assumption: arterial 15 to 48 s, portal venous 55 to 110 s, delayed 140 s to 20 min, not yet reached before 5 s.
    """
    if -3600 < seconds <= 5:
        return "PC"
    if 15 <= seconds <= 48:
        return "AP"
    if 55 <= seconds <= 110:
        return "PVP"
    if 140 <= seconds <= 1200:
        return "DP"
    return None


def _said(match: re.Match[str]) -> str:
    """Return the stem of a match, or all of it where its pattern is closed."""
    return next((group for group in match.groups() if group), match.group()).strip()


def _listed(text: str, found: dict[str, re.Match[str]]) -> bool:
    """Tell whether phases are listed ("portal/delayed", "门脉期+延迟期") rather than one of them qualified ("late portal")."""
    ordered = sorted(found.values(), key=lambda match: match.start())
    between = [text[one.end() : other.start()] for one, other in itertools.pairwise(ordered)]
    return any(re.fullmatch(r" ?[/+&、和及与] ?| (?:and|und|et|y|e|en) ", gap) for gap in between)


def _late(found: dict[str, re.Match[str]]) -> dict[str, re.Match[str]]:
    """Solve "late arterial" (arterial), "late portal" (portal venous) and "late venous" (delayed); leave true lists of phases unsolved."""
    early_or_late = _EARLY_OR_LATE.search(found["DP"].group())
    if not early_or_late and "AP" in found:
        return found
    if set(found) == {"AP", "DP"}:
        return {"AP": found["AP"]}
    if set(found) == {"PVP", "DP"}:
        portal = re.match(r"port|pv|ppv|порт|门|門", found["PVP"].group()) and early_or_late
        return {"PVP": found["PVP"]} if portal else {"DP": found["DP"]}
    return found


def _spread(text: str) -> str:
    """Lower-case a name and part its words: camel case, underscores, and letters from digits except before a unit of time."""
    text = unicodedata.normalize("NFKC", text)
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower()
    text = re.sub(r"[_.,;:()\[\]{}|\\^]+", " ", text)
    text = re.sub(r"(?<=[^\W\d_])(?=\d)(?<!\bt)", "\x1f", text)  # letter then digit: parted, but "b30s" must not yield a delay of 30 s
    text = re.sub(r"(?<=\d)(?=(?!s\b|sec|sek|min|秒|分|мин|сек)[^\W\d_])", " ", text)
    text = re.sub(r"(?<![^\W_])([a-z]{1,2})\x1f\d+s\b", r"\1 ", text)  # a kernel such as b30s
    return re.sub(r"\s+", " ", text.replace("\x1f", " ")).strip()
