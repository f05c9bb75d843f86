"""A bundle's MODEL_CARD.md, made from bundle.json alone; items follow CLAIM and TRIPOD+AI where they apply to phantoms."""

from __future__ import annotations

from typing import Any

_HEADS = {"stage1": "malignant against benign", "benign_subtype": "OBHT against HH", "malignant_subtype": "OMHT against HB"}


def model_card(document: dict[str, Any]) -> str:
    """Return the card of a bundle as Markdown."""
    training = document.get("training", {})
    detector = document["detector"]
    lines = [
        f"# {document['name']} {document['version']}",
        "",
        f"**Intended use.** {document['intended_use']}",
        "",
        f"**Trained on.** {document['trained_on']}",
        "",
        "## What it does",
        "",
        "Finds liver lesions in one to four CT phases of a child (pre-contrast, arterial, portal venous, delayed), and gives each lesion",
        "the probability of being malignant and of four classes: HH hepatic hemangioma, OBHT other benign, HB hepatoblastoma, OMHT other",
        "malignant.",
        "",
        "| network | input | task |",
        "|---|---|---|",
        f"| detector (YOLOv8) | axial slices, 4 phases, up to {detector['size']} x {detector['size']} | boxes of lesions, linked into 3D |",
        *(
            f"| {name} | {document['k']} composites a lesion, 4 phases, {item['size']} x {item['size']} | three heads: "
            f"{'; '.join(_HEADS.values())} |"
            for name, item in document["classifiers"].items()
        ),
        "",
        "The method follows arXiv 2511.19478 (PKCP, Balanced-MixUp, two stages, three backbones). It differs from it: weights start at",
        "random; one network per backbone has the three heads, where the paper has one per task; whole phases are left out at random in",
        "training; intensity, box and slices are jittered; weights are averaged over training; the shares of PKCP, of expanded classes and",
        f"of MixUp are those of {_configuration(training)} in bundle.json, not the paper's.",
        *_beginning(training),
        "",
        "## Data",
        "",
        *_data(training),
        "",
        "## Calibration and thresholds",
        "",
        f"Chosen on {_chosen_on(training)}: probability = sigmoid(logit / temperature); the ensemble's logit is the sum of these by share.",
        *(["Each exam counted by its largest lesion; all temperatures were then scaled together so that the ensemble is calibrated."]
          if training.get("calibrated") == "ensemble" else []),
        *_calibration_kept(training),
        "",
        "| network, temperature and share | stage 1 | benign subtype | malignant subtype |",
        "|---|---|---|---|",
        *(
            "| " + " | ".join([name, *(_calibration(item, head) for head in _HEADS)]) + " |"
            for name, item in document["classifiers"].items()
        ),
        "",
        f"Detector: slice score from {detector['threshold']:g}, lesion score from {detector['link']['min_score']:g}.",
        "",
        "## Measured",
        "",
        *_metrics(document.get("metrics") or {}),
        "",
        "## Limits",
        "",
        *_limits(training),
        "",
        "## How it was made",
        "",
        "```",
        *_commands(training),
        "```",
        "",
    ]
    return "\n".join(lines)


def _beginning(training: dict[str, Any]) -> list[str]:
    """Return which networks' weights did not start at random, and where they did; networks of the same origin in one sentence."""
    origins = training.get("began_with", {}) | training.get("classifiers_of", {}).get("began_with", {})
    networks: dict[str, list[str]] = {}
    for name, origin in origins.items():
        networks.setdefault(_told(origin), []).append(name)
    return [f"The weights of {', '.join(names)} start at {text} instead." for text, names in networks.items()]


def _told(origin: dict[str, Any]) -> str:
    if "trunk" in origin:
        return f"the trunk in {origin['trunk']}"
    counts = ", ".join(f"{count} exams {split}" for split, count in origin["exams"].items()) or "exams not recorded"
    before = f", which start at {_told(origin['began_with'])}" if "began_with" in origin else ""
    return f"those of {origin['bundle']} (trained on: {origin['trained_on']}; {counts}){before}"


def _configuration(training: dict[str, Any]) -> str:
    where, account = ("training.classifiers_of", training["classifiers_of"]) if "classifiers_of" in training else ("training", training)
    # bundles before 0.7.0 kept the settings of detector and classifiers together
    return f"{where}.{'classifier_settings' if 'classifier_settings' in account else 'configuration'}"


def _chosen_on(training: dict[str, Any]) -> str:
    calibration = training.get("calibration")
    if not calibration:
        return "validation exams"
    counts = f"{calibration['exams']} exams of {calibration['patients']} patients"
    return f"{counts} that no training has seen, for the networks of {calibration['bundle']}"


def _calibration_kept(training: dict[str, Any]) -> list[str]:
    calibration = training.get("calibration")
    kept, source = (calibration["kept"], calibration["bundle"]) if calibration else (
        training.get("calibration_kept"), "the bundle that the classifiers are of")
    if not kept:
        return []
    heads = ", ".join(_HEADS[head] for head in kept)
    return [f"For {heads} there were too few exams: temperatures and shares are still those of {source}."]


def _commands(training: dict[str, Any]) -> list[str]:
    """Return the commands that made the networks; those of classifiers that were taken over come first."""
    origin, calibration = training.get("classifiers_of"), training.get("calibration")
    lines = training.get("commands") or ["(not recorded)"]
    if origin:
        lines = [f"# {origin['bundle']}, for its classifiers", *(origin.get("commands") or ["(not recorded)"]), "# this bundle", *lines]
    if calibration:
        text = f"# thresholds and calibration anew, for the networks of {calibration['bundle']}, called OLD below"
        lines = [*lines, text, *(calibration["commands"] or ["(not recorded)"])]
    return lines


def _calibration(classifier: dict[str, Any], head: str) -> str:
    share = (classifier.get("shares") or {}).get(head)
    return f"{classifier['temperatures'][head]:.2f}" + ("" if share is None else f", {share:.0%}")


def _limits(training: dict[str, Any]) -> list[str]:
    if not training.get("phantoms"):
        phantoms = training.get("classifiers_of", {}).get("phantoms")
        return [
            *(["- The classifiers know phantoms only: what they say of a real child was learned from none."] if phantoms else []),
            "- How well this works on children of other hospitals and scanners is only known where it was measured above.",
            "- Entities outside those it was trained on are forced into one of four classes.",
            "- No reader study.",
        ]
    return [
        "- Phantoms are not patients. How well this works on a real child is not known; the gate answers real CT with less than \"trust\".",
        "- Entities outside the seven of the phantoms are forced into one of four classes.",
        "- The unit of training and measurement is a phantom exam; no reader study, no external validation.",
    ]


def _data(training: dict[str, Any]) -> list[str]:
    if not training:
        return ["Not recorded."]
    lines = _splits(training)
    if origin := training.get("classifiers_of"):
        lines = [
            "Detector, thresholds, calibration and the gate's statistics:", "", *lines, "",
            f"The classifiers are those of {origin['bundle']} (trained on: {origin['trained_on']}):", "", *_splits(origin),
        ]
    return [*lines, "", "Splits are by patient. The configuration is in bundle.json."]


def _splits(training: dict[str, Any]) -> list[str]:
    if not training.get("exams"):
        return ["Not recorded."]
    rows = [f"| {split} | {count} | {training['patients'][split]} |" for split, count in training["exams"].items()]
    return ["| split | exams | patients |", "|---|---|---|", *rows]


def _metrics(metrics: dict[str, Any]) -> list[str]:
    if not metrics:
        return ["Not measured yet; `python -m training evaluate` fills this in."]
    pipeline, detection = metrics["pipeline"], metrics["pipeline"]["detection"]
    lines = [
        f"{metrics['exams']} exams of {metrics['patients']} patients that no training has seen; 95 % intervals by bootstrap over patients.",
        "",
        "| | pipeline (detector's ROIs) | true ROIs |",
        "|---|---|---|",
        *(f"| AUC, {text} | {_figure(pipeline[head])} | {_figure(metrics['true_rois'][head])} |" for head, text in _HEADS.items()),
        "",
        f"- Detection on composites, mAP at IoU 0.40: {_value(detection['map40'], detection.get('map40_ci95'))}",
        f"- Lesions found (3D IoU from {detection['hit_iou']:g}): "
        f"{_value(detection['sensitivity_3d'], detection.get('sensitivity_3d_ci95'))}",
        *([
            f"- Of them, those with a side of {metrics['definitions']['measurable_mm']:g} mm or more: "
            f"{_value(detection['sensitivity_3d_measurable'], detection['sensitivity_3d_measurable_ci95'])}",
            f"- Largest lesion of an exam found: {_value(detection['sensitivity_largest'], detection['sensitivity_largest_ci95'])}",
        ] if "sensitivity_3d_measurable" in detection else []),
        *(_by_size(detection["by_size"]) if "by_size" in detection else []),
        f"- False positives per exam: {_value(detection['false_positives_per_exam'], detection.get('false_positives_per_exam_ci95'))}",
        f"- Calibration error of stage 1: {_number(pipeline['calibration_error'])}",
    ]
    lines += [
        f"- Gate says {verdict}: benign or malignant, by the detector's surest lesion, right in {_value(one['accuracy'], one['ci95'])} of "
        f"{one['exams']} exams, {one['patients']} patients; nothing found, which counts as wrong, in {one['nothing_found']}"
        for verdict, one in metrics.get("stage1_by_verdict", {}).items()
    ]
    if metrics.get("tumour_free"):
        free = metrics["tumour_free"]
        lines.append(
            f"- {free['exams']} further exams without a tumour, {free['patients']} patients: nothing found in "
            f"{_value(free['specificity'], free['specificity_ci95'])} of them, {free['false_positives_per_exam']:.2f} false lesions an exam"
            + (f"; marked, and trusted by the gate: {free['marked_and_trusted']}" if "marked_and_trusted" in free else "")
        )
    if metrics.get("baselines"):
        rows = [f"| {name} | {_figure(found)} |" for name, found in metrics["baselines"].items()]
        other = f"{metrics['baseline_exams']} others" if "baseline_exams" in metrics else "the training exams of this bundle's run"
        text = f"Logistic regression on the same exams, trained on {other}:"
        lines += ["", text, "", "| | AUC, malignant against benign |", "|---|---|", *rows]
    return lines


def _by_size(classes: list[dict[str, Any]]) -> list[str]:
    counts = []
    for one in classes:
        size = f"{one['from_mm']:g} mm and more" if one["to_mm"] is None else f"{one['from_mm']:g} to {one['to_mm']:g} mm"
        counts.append(f"{size} {one['found']} of {one['lesions']}")
    return [f"- Found by size: {', '.join(counts)}"]


def _figure(found: dict[str, Any]) -> str:
    return f"{_value(found['auc'], found['ci95'])}, {found['patients']} patients"


def _value(value: float | None, interval: list[float] | None) -> str:
    if value is None:
        return "not measurable"
    return f"{value:.3f} " + (f"({interval[0]:.3f}-{interval[1]:.3f})" if interval else "(no interval)")


def _number(value: float | None) -> str:
    return "not measurable" if value is None else f"{value:.3f}"
