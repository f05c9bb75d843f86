"""A Diagnosis and its aligned exam become report.html: one file for a children's radiologist, every picture inside, nothing to load."""

from __future__ import annotations

from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import numpy as np

from . import __version__, wording
from .colours import CAM_THRESHOLD, cam_ramp
from .pictures import SlicePictures, crop_grid, phase_bars
from .vocabulary import BENIGN, CLASS_NAMES, CLASSES, ENTITY_CLASS, ENTITY_NAMES, MALIGNANT, PHASE_NAMES, PHASES

if TYPE_CHECKING:
    from .diagnosis import Diagnosis, LesionDiagnosis, PhaseSummary
    from .volumes import AlignedExam

_BACKBONE_NAMES = {"vit": "Vision transformer (ViT)", "resnet18": "ResNet18", "densenet121": "DenseNet121"}

_STAGE_NAMES = {
    "start": "Starting",
    "read": "Reading the files",
    "align": "Aligning the phases",
    "load": "Loading the networks",
    "detect": "Finding lesions",
    "classify": "Classifying, heat maps, phase contributions",
    "gate": "Comparing with the training exams",
    "write": "Writing the files",
}

_ALIGNMENT_NAMES = {
    "reference": "the reference",
    "aligned": "moved onto the reference",
    "not needed": "fits as it lies, not moved",
    "kept as acquired": "not moved, what was found is not plausible",
    "off": "switched off",
}

_GATE_LOOKS = {
    "trust": ("trust", '<path d="M7 12.5l3.5 3.5L17 9"/>'),
    "look": ("look", '<path d="M12 6.5v7M12 17v.5"/>'),
    "do not trust": ("stop", '<path d="M8 8l8 8M16 8l-8 8"/>'),
}


def write_report(diagnosis: Diagnosis, aligned: AlignedExam, path: Path) -> None:
    """Write the report as UTF-8 HTML."""
    Path(path).write_text(report_html(diagnosis, aligned), encoding="utf-8")


def report_html(diagnosis: Diagnosis, aligned: AlignedExam) -> str:
    """Return the report as one HTML page. Whatever comes from outside (sources, warnings, the bundle's words) is escaped."""
    pictures = SlicePictures(aligned, diagnosis.lesions)
    sections = [
        _gate(diagnosis),
        _findings(diagnosis, pictures),
        _warnings(diagnosis),
        *[_lesion(lesion, diagnosis, aligned, pictures) for lesion in diagnosis.lesions],
        _provenance(diagnosis),
    ]
    ramp = ", ".join(f"rgb({red} {green} {blue})" for red, green, blue in cam_ramp(9)[round(CAM_THRESHOLD * 8) :])
    page = Template(resources.files(__package__).joinpath("report.html").read_text(encoding="utf-8"))
    return page.substitute(
        title="Liver lesion report (research only)",
        heading=_heading(diagnosis),
        facts=_facts(diagnosis),
        research=f"{escape(wording.RESEARCH_ONLY)} {escape(diagnosis.bundle.intended_use)}",
        ramp=ramp,
        body="\n".join(section for section in sections if section),
        footer=f"PediatricLiverDx {escape(__version__)}. {escape(wording.RESEARCH_ONLY)}",
    )


def _heading(diagnosis: Diagnosis) -> str:
    count = len(diagnosis.lesions)
    return "No liver lesion found" if not count else "1 liver lesion found" if count == 1 else f"{count} liver lesions found"


def _facts(diagnosis: Diagnosis) -> str:
    acquired = [PHASE_NAMES[phase] for phase in PHASES if diagnosis.exam.phases[phase].present]
    spacing = " × ".join(f"{value:.2g}" if value < 1 else f"{value:.3g}" for value in diagnosis.exam.spacing_mm)
    size = " × ".join(str(n) for n in diagnosis.exam.size)
    return (
        f"CT of the liver in {len(acquired)} of {len(PHASES)} contrast phases ({', '.join(acquired)}), "
        f"{_unbroken(size)} voxels of {_unbroken(spacing + ' mm')}"
    )


def _gate(diagnosis: Diagnosis) -> str:
    look, mark = _GATE_LOOKS[diagnosis.gate.verdict]
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in diagnosis.gate.reasons)
    below = f"<ul>{reasons}</ul>" if reasons else "<p>Nothing in this exam stands out against the training exams.</p>"
    return (
        f'<div class="gate {look}" role="status"><svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" '
        f'stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"><circle cx="12" cy="12" r="10.5"/>{mark}</svg>'
        f"<div><b>{escape(wording.GATE_TITLES[diagnosis.gate.verdict])}</b>{below}</div></div>"
    )


def _findings(diagnosis: Diagnosis, pictures: SlicePictures) -> str:
    if not diagnosis.lesions:
        return f"""<section class="card"><h2>Result</h2><p>{escape(wording.NO_LESION)}</p>
<h3>The exam</h3><div class="picture"><p class="soft small">The patient's right is on the left. Click a picture to enlarge it.</p>
{pictures.overview()}</div></section>"""
    look = _GATE_LOOKS[diagnosis.gate.verdict][0]
    chip = "" if look == "trust" else f' <span class="chip {look}">{escape(wording.GATE_CHIPS[diagnosis.gate.verdict])}</span>'
    entries = []
    for lesion in diagnosis.lesions:
        side = wording.side_of(lesion)
        name, where = escape(wording.lesion_name(lesion)), escape(pictures.place(lesion))
        entries.append(
            f'<div class="finding">{pictures.thumbnail(lesion)}<div>'
            f'<p class="label">{name} · {wording.lesion_size(lesion)}, {where}{chip}</p>'
            f'<p class="words {side}">{escape(wording.verdict(lesion))}</p>{_stack(lesion)}'
            f'<p class="small"><a href="#{escape(lesion.id)}">Pictures and reasons for {name}</a></p></div></div>'
        )
    return f'<section class="card"><h2>Result</h2>{"".join(entries)}</section>'


def _stack(lesion: LesionDiagnosis) -> str:
    """The four classes as one bar, benign to the left, malignant to the right, and their key."""
    bars = "".join(f'<i class="{c}" style="width:{lesion.class_probabilities[c] * 100:.2f}%"></i>' for c in CLASSES)
    columns = "".join(
        f'<div><p class="sum {side}">{side.capitalize()} <b>{wording.percent(probability)}</b></p>'
        + "".join(
            f'<p><span class="dot {c}"></span>{CLASS_NAMES[c].capitalize()} <b>{wording.percent(lesion.class_probabilities[c])}</b></p>'
            for c in classes
        )
        + "</div>"
        for side, probability, classes in (
            ("benign", 1 - lesion.malignant_probability, BENIGN),
            ("malignant", lesion.malignant_probability, MALIGNANT),
        )
    )
    return f'<div class="stack" aria-hidden="true">{bars}</div><div class="key">{columns}</div>'


def _warnings(diagnosis: Diagnosis) -> str:
    further = tuple(warning for warning in diagnosis.warnings if warning not in diagnosis.gate.reasons)
    if not further:
        return ""
    return f'<section class="card"><h2>Warnings</h2><ul class="plain">{_items(further)}</ul></section>'


def _lesion(lesion: LesionDiagnosis, diagnosis: Diagnosis, aligned: AlignedExam, pictures: SlicePictures) -> str:
    name = wording.lesion_name(lesion)
    found = "drawn by a radiologist" if lesion.roi.source == "radiologist" else "found by the detector"
    score = "" if lesion.detection_score is None else f" (confidence {wording.percent(lesion.detection_score)})"
    center = ", ".join(f"{value:.0f}" for value in lesion.roi.center_ras_mm)
    toggle = f"cam-{escape(lesion.id)}"
    return f"""<section class="card lesion" id="{escape(lesion.id)}" aria-label="{escape(name)}">
<h2>{escape(name)} <span class="soft">· {escape(wording.short_result(lesion))}</span></h2>
<p class="soft">Box {found}{score}, {wording.lesion_size(lesion)}, {escape(pictures.place(lesion))}, centre RAS {center} mm.</p>
<h3>Where it is</h3>
<div class="picture">
<p class="soft small">Whole slices. Yellow: the lesion's box. The patient's right is on the left. Click a picture to enlarge it.</p>
{pictures.grid(lesion)}</div>
<h3>What the networks saw, and where they looked</h3>
<div class="picture crops">
<p class="soft small">Everything outside the box is hidden from the networks. The heat map shows which parts of the box spoke most for
{escape(wording.noun(wording.side_of(lesion)))} (Grad-CAM, all networks together); it does not outline the tumour.</p>
<input class="toggle" type="checkbox" id="{toggle}" checked><label class="switch" for="{toggle}">Show the heat map</label>
<span class="scale">less <i></i> more</span>{crop_grid(lesion, aligned.present, pictures)}</div>
<h3>How sure the networks are</h3>
{_sureness(lesion, diagnosis)}
<h3>What each contrast phase adds</h3>
{_phase_values(lesion)}
</section>"""


def _sureness(lesion: LesionDiagnosis, diagnosis: Diagnosis) -> str:
    side, chance = wording.side_of(lesion), wording.side_probability(lesion)
    number = "more than 99" if chance > 0.99 else f"about {chance * 100:.0f}"
    meaning = (
        f"{wording.percent(chance)} means: among 100 lesions with such a value, {number} are {side}, as long as they "
        "resemble the exams that the networks were trained and calibrated on"
    )
    trained = f" ({escape(diagnosis.bundle.trained_on)})" if diagnosis.bundle.trained_on else ""
    head = "".join(f'<th class="n" scope="col">{CLASS_NAMES[c].capitalize()}</th>' for c in CLASSES)
    rows = "".join(
        f'<tr><th scope="row">{escape(_BACKBONE_NAMES.get(name, name))}</th>{_cells(values["malignant_probability"], values)}</tr>'
        for name, values in lesion.backbones.items()
    )
    together = _cells(lesion.malignant_probability, lesion.class_probabilities)
    return f"""<p>{meaning}{trained}. How far that holds for patients has not been tested.</p>
<div class="scroll"><table><caption>Calibrated probabilities of each network and of all together</caption>
<thead><tr><th scope="col">Network</th><th class="n" scope="col">Malignant</th>{head}</tr></thead>
<tbody>{rows}<tr class="sum"><th scope="row">All together</th>{together}</tr></tbody></table></div>
<p class="soft small">{_class_note("OBHT")} {_class_note("OMHT")}</p>"""


def _cells(malignant: float, classes: dict[str, float]) -> str:
    return "".join(f'<td class="n">{wording.percent(value)}</td>' for value in (malignant, *[classes[c] for c in CLASSES]))


def _class_note(group: str) -> str:
    entities = [ENTITY_NAMES[entity] for entity, of in ENTITY_CLASS.items() if of == group]
    return f"{CLASS_NAMES[group].capitalize()}: {', '.join(entities[:-1])}{' or ' if len(entities) > 1 else ''}{entities[-1]}."


def _phase_values(lesion: LesionDiagnosis) -> str:
    blocks = []
    for shapley in lesion.phase_shapley.values():
        toward, away = shapley.of, wording.opposite(shapley.of)
        kind = ("m", "b") if toward == "malignant" else ("f", "a")
        sentence = wording.contribution(shapley)
        given = "" if shapley.of == "malignant" else f", given that it is {'malignant' if shapley.of in MALIGNANT else 'benign'}"
        blocks.append(
            f"<div><p><b>{escape(sentence)}</b></p>{phase_bars(shapley, kind, wording.outcome(toward), wording.outcome(away))}"
            f'<p class="soft small">Probability of {escape(wording.noun(shapley.of))}{given}: {wording.percent(shapley.baseline)} '
            f"without any image, {wording.percent(shapley.total)} with the acquired phases.</p></div>"
        )
    return (
        f'<div class="pair">{"".join(blocks)}</div><p class="soft small">Shapley values: the mean change that a phase makes when it is '
        "added, over every order in which the phases can be added. They add up to the whole change.</p>"
    )


def _provenance(diagnosis: Diagnosis) -> str:
    bundle = diagnosis.bundle
    rows = "".join(_phase_row(phase, diagnosis.exam.phases[phase]) for phase in PHASES)
    times = "".join(
        f'<tr><th scope="row">{escape(_STAGE_NAMES.get(stage, stage))}</th><td class="n">{seconds:.2f} s</td></tr>'
        for stage, seconds in diagnosis.timings_s.items()
    )
    return f"""<section class="card"><h2>How this was made</h2>
<h3>Contrast phases</h3>
<div class="scroll"><table>
<caption>Fit: how alike a phase and the reference are inside the body, 0 to 1, before and after alignment</caption>
<thead><tr><th scope="col">Phase</th><th scope="col">Source</th><th scope="col">Recognised by</th><th scope="col">Alignment</th>
<th class="n" scope="col">Fit</th><th class="n" scope="col">Moved, mean (most)</th></tr></thead><tbody>{rows}</tbody></table></div>
<div class="pair"><div><h3>Software</h3><dl>
<dt>Program</dt><dd>PediatricLiverDx {escape(__version__)}</dd>
<dt>Model</dt><dd>{escape(bundle.name)} {escape(bundle.version)}</dd>
<dt>Trained on</dt><dd>{escape(bundle.trained_on)}</dd>
<dt>Intended use</dt><dd>{escape(bundle.intended_use)}</dd>
<dt>SHA-256</dt><dd><code>{escape(bundle.sha256)}</code></dd></dl></div>
<div><h3>Time</h3><table><tbody>{times}</tbody></table></div></div></section>"""


def _phase_row(phase: str, summary: PhaseSummary) -> str:
    name = f'<th scope="row">{PHASE_NAMES[phase].capitalize()}</th>'
    if not summary.present:
        return f'<tr>{name}<td class="soft" colspan="5">not acquired</td></tr>'
    fit, moved, status = "", "", ""
    if summary.alignment is not None:
        alignment = summary.alignment
        status = _ALIGNMENT_NAMES.get(alignment.status, alignment.status)
        if alignment.status not in ("reference", "off"):
            fit = f"{_number(alignment.similarity_before)} → {_number(alignment.similarity_after)}"
            moved = f"{alignment.mean_displacement_mm:.1f} ({alignment.max_displacement_mm:.1f}) mm"
    return (
        f"<tr>{name}<td>{escape(summary.source or '')}</td><td>{escape(summary.recognised or '')}</td><td>{escape(status)}</td>"
        f'<td class="n">{fit}</td><td class="n">{moved}</td></tr>'
    )


def _number(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "–"


def _unbroken(text: str) -> str:
    """Keep a measurement on one line."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _items(sentences: tuple[str, ...]) -> str:
    return "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
