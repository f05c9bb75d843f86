"""Contrast phase from words and from times: what a series or file is called, and how long after the bolus it was taken.

`phase_from_name` reads one text (series description, protocol, file or folder name) in English, German, French, Spanish, Italian,
Portuguese, Dutch, Chinese, Japanese, Korean or Russian. `phase_from_delay` reads seconds. Both say nothing rather than guess.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

#: Words that carry one of the phase words inside without meaning a phase. They are taken out before anything else is read.
_MISLEADING = re.compile(
    r"intra-?ven\w*|intra-?vein\w*|intra-?arteri\w*|arterio-?ven\w*|\bmit und ohne\b"
    r"|(?:\bw ?w/?o\b|\bw/w/?o\b|\bwith (?:and|&) without\b)(?: iv)?(?: con\w*)?"
    r"|\bavec et sans\b|\bcon y sin\b|\bsmart ?prep\b|\bsmart\w*|\bap scout\b|\b(?:scout|topo\w*|loc\w*) ap\b|静脉注射|靜脈注射"
    # AP for "abdomen and pelvis" or the projection, not for arterial phase
    r"|\bc[/ ]?a[/ ]?p\b|\ba/p\b|\b(?:chest|thorax|ct) ap\b|\bap (?:w|with|wo|without|w/o|pelvis|view|proj\w*)\b"
)

#: No contrast at all.
_PLAIN = (
    r"non[- ]?con(?:trast\w*)?|non[- ]?ce|non[- ]?enh\w*|nonkontrast|un-?enhanced|unenh"
    r"|w/?o(?: (?:iv )?(?:con\w*|c|ce))?|without(?: \w+)? contrast"
    r"|without|no con(?:trast)?|pre[- ]?con(?:trast\w*)?|pre[- ]?kontrast|pre|precontr\w*|plain|nc|ncct|nect|ncp|pc|c-|-c|baseline"
    r"|non[- ]?inject[eé]\w*"
    r"|nativ\w*|spontan\w*|ohne(?: \w+)?|vor km|leerserie|sans(?: \w+)?|avant injection|sin(?: \w+)?|simple|basal\w*|senza(?: \w+)?"
    r"|dirett[ao]|sem(?: \w+)?|zonder(?: \w+)?|blanco|без(?: \w+)?|нативн\w*|бесконтраст\w*"
)
_PLAIN_CJK = r"平扫|平掃|非增强|非增強|未增强|无增强|增强前|增強前|造影前|非造影|单纯|単純|조영전|비조영|조영 전"

_ARTERIAL = (
    r"art[eé]r\w*|art|ap|hap|eap|lap|aph|artph|artp|cta|angio\w*|(?:früh|frueh|spät|spaet)art\w*|артер\w*"
    r"|\w*arteri(?:al|el|a|o)\w*"
)
_ARTERIAL_CJK = r"动脉|動脈|동맥"

_PORTAL = (
    r"portal\w*|port|porto\w*|portov\w*|portven\w*|pvp|pv|pvph|pven|pvpp|vp|hvp|ppv|ven|vein|venous|venös\w*|venoes\w*|venos[ao]s?"
    r"|veineu\w*|veinous"
    r"|\w*portalven\w*|\w*venös\w*|\w*venoes\w*|порталь\w*|веноз\w*|вен"
)
_PORTAL_CJK = r"门静脉|門靜脈|門静脈|门脉|門脈|静脉|靜脈|门静|문맥|정맥"

_DELAYED = (
    r"delay\w*|del(?= *(?:$|\d|phase))|dly|dlyd|delays|equilib\w*|equil|eq|dp|dph|late|washout|wash-out|excret\w*|tard\w*|spät\w*|spaet\w*"
    r"|äquilib\w*|aequilib\w*"
    r"|équilib\w*|gleichgewicht\w*|ritard\w*|отсроч\w*|выделит\w*|равновес\w*"
)
_DELAYED_CJK = r"延迟|延遲|遅延|延时|延時|平衡|排泄|지연|평형"

#: Contrast was given, but the phase is not said.
_ENHANCED = (
    r"post[- ]?con(?:trast\w*)?|post[- ]?kontrast\w*|with(?: \w+)? contrast|w/?(?: iv)? ?con(?:trast)?|w/?c|c\+|\+c|ce|cect"
    r"|enhanced|post|contrast"
    r"|km|mit(?: \w+)? (?:km|kontrastmittel)|kontrast\w*|avec(?: \w+)?|inject[eé]\w*|con (?:civ|contraste|mdc|mezzo)|mdc|с контраст\w*"
    r"|contraste"
)
_ENHANCED_CJK = r"增强|增強|造影|조영"


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


@dataclass(frozen=True)
class NamedPhase:
    """What a text says: the phase (None where it says only that contrast was given), and the matched word in lower case."""

    phase: str | None
    word: str


def phase_from_name(text: str) -> NamedPhase | None:
    """Return what a name says about the contrast phase, None where it says nothing or names several phases.

    Words count only where they stand alone ("art" but not "part", "pc" but not "pcl"); "late arterial" is arterial, "late portal" portal,
    "late venous" delayed; a delay counts where no word does ("70s" is portal venous, "3min" delayed).
    """
    text = _spread(text)
    text = _MISLEADING.sub(" ", text)
    found = {phase: match.group() for phase, word in _WORDS.items() if (match := word.search(text))}
    if "PC" in found:
        # "non-contrast" beside a phase word is a whole protocol; "delayed non-contrast" does not exist.
        rest = text.replace(found["PC"], " ")
        several = len(found) > 1 or _ENHANCED_WORD.search(rest)
        return None if several else NamedPhase("PC", found["PC"].strip())
    if "DP" in found and len(found) > 1:
        found = _late(found)
    if len(found) == 1:
        phase, word = next(iter(found.items()))
        return NamedPhase(phase, word.strip())
    if found:
        return None
    delays = {(int(number), unit) for number, unit in _DELAY.findall(text)}
    if len(delays) == 1:
        number, unit = delays.pop()
        phase = phase_from_delay(number * (60 if unit.startswith(("m", "м", "分")) else 1))
        if phase is not None and phase != "PC":
            return NamedPhase(phase, f"{number} {unit}")
    if match := _ENHANCED_WORD.search(text):
        return NamedPhase(None, match.group().strip())
    return None


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


def _late(found: dict[str, str]) -> dict[str, str]:
    """Solve "late arterial" (arterial), "late portal" (portal venous) and "late venous" (delayed); leave true lists of phases unsolved."""
    if not _EARLY_OR_LATE.search(found["DP"]) and "AP" in found:
        return found
    if set(found) == {"AP", "DP"}:
        return {"AP": found["AP"]}
    if set(found) == {"PVP", "DP"}:
        portal = re.match(r"port|pv|ppv|порт|门|門", found["PVP"]) and _EARLY_OR_LATE.search(found["DP"])
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
