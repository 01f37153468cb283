"""What `perfuse eval uncertainty` found, as the Markdown of `docs/results/text.md`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

START, END = "<!-- uncertainty: written by make results-uncertainty -->", "<!-- end of uncertainty -->"
"""What the tables stand between in their page."""
ENOUGH = 500
"""In-domain items below which the page says that it is a short run."""
_SIGNALS = {
    "msp": "1 − product of the reveal confidences",
    "tre": "late-weighted revealed entropy",
    "step_entropy": "mean step entropy",
    "pseudo_elbo": "pseudo-ELBO of the output (4 further maskings)",
    "residual_norm": "first-step residual norm (1 further pass)",
    "knn": "kNN distance of the prompt's hidden state",
    "mahalanobis": "Mahalanobis distance of the same state",
    "combined": "**max(quantile of the first, quantile of kNN)**",
}
_STREAMS = {
    "in_domain": "in-domain: held-out combinations",
    "rare": "rare: reworded, or at temperature 1.2",
    "unseen": "unseen: families that nothing was trained or calibrated on",
    "other": "other: no function asked for",
    "occluded": "occluded: no sentence, a part of the function cut out",
}
_COLUMNS = {
    "in_domain_errors": "errors, in-domain",
    "rare_errors": "errors, rare",
    "unseen": "unseen and other",
    "mixed_errors": "errors, mixed",
}
_PROXIES = {
    "r_verifier": "r with wrong by tests, mixed",
    "rho_hidden": "Spearman with the share cut out, occluded",
    "r_unseen": "r with unseen or other",
}


def tables(found: Mapping[str, object]) -> str:
    """What `evaluate_uncertainty` found."""
    streams, signals, false, ece = found["streams"], found["signals"], found["false_triggers"], found["ece"]
    assert isinstance(streams, list)
    assert isinstance(signals, list)
    assert isinstance(false, dict)
    assert isinstance(ece, dict)
    flags = found.get("cpu_flags")
    told = ", ".join(flags) if isinstance(flags, list) else "unknown flags"
    head = (
        f"`{found['model']}`, calibrated on {found['calibrated_on']}; torch {found['torch']}, {found['threads']} "
        f"thread(s), {found['machine']} with {told}. In brackets 95 % intervals: Wilson's of rates, of the items drawn "
        f"again 1,000 times of all others. {_short(streams)}Outputs were executed in the jail; *{_human(found)}*."
    )
    errors = ", ".join(f"{name.replace('_', '-')} {_number(value)}" for name, value in ece.items())
    triggers = (
        f"False triggers: {false['triggered']} of {false['n']} right in-domain answers, {false['rate']:.3f}; one-sided "
        f"95 % upper bound (Clopper–Pearson) {false['upper']:.3f}. ECE of `p_correct`: {errors}."
    )
    heading = "| Stream | n | Right | Mean `p_correct` | Triggered of the right | Triggered of the wrong |"
    lines = [head, "", triggers, "", heading, "|---" * 6 + "|", *map(_stream, streams)]
    for heads, title in ((_COLUMNS, "AUROC of"), (_PROXIES, "Against")):
        lines += ["", f"| {title} | {' | '.join(heads.values())} |", "|---" * (len(heads) + 1) + "|"]
        for row in signals:
            cells = " | ".join(_interval(row[key]) for key in heads)
            lines.append(f"| {_SIGNALS[row['signal']]} | {cells} |")
    return "\n".join(lines)


def rewritten(page: str, found: Mapping[str, object]) -> str:
    """The page with the tables between their two marks replaced.

    Raises:
        ValueError: the marks are not there.
    """
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"the page has no place for the tables; expected {START!r} and {END!r}")
    return f"{before}{START}\n\n{tables(found)}\n\n{END}{after}"


def _stream(row: Mapping[str, Any]) -> str:
    return (
        f"| {_STREAMS[row['stream']]} | {row['n']} | {row['right']:.3f} ({row['low']:.3f} to {row['high']:.3f}) | "
        f"{_number(row['mean_p_correct'])} | {_share(row['right_triggered'])} | {_share(row['wrong_triggered'])} |"
    )


def _short(streams: list[dict[str, object]]) -> str:
    count = next((row["n"] for row in streams if row["stream"] == "in_domain"), 0)
    assert isinstance(count, int)
    return "" if count >= ENOUGH else f"*A short run: fewer than {ENOUGH} items per stream.* "


def _human(found: Mapping[str, object]) -> str:
    human = found["human"]
    assert isinstance(human, dict)
    return str(human["said"]) if "said" in human else f"{human['prompts']} prompts with human labels, not shown here"


def _interval(triple: list[float | None]) -> str:
    value, low, high = triple
    if value is None:
        return "–"
    return f"{value:.3f}" if low is None else f"{value:.3f} ({low:.3f} to {high:.3f})"


def _share(row: Mapping[str, float]) -> str:
    if row["n"] == 0:
        return "–"
    return f"{row['triggered'] / row['n']:.3f} of {row['n']} ({row['low']:.3f} to {row['high']:.3f})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
