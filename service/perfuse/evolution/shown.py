"""Records of the store as people and clients see them: JSON values by name, without vectors."""

from __future__ import annotations

import json

from perfuse.store.learning import Adaptation, Alias, Memory

Body = dict[str, object]


def in_brief(adaptation: Adaptation) -> Body:
    """What it is and what became of it."""
    return {
        "id": adaptation.id,
        "cluster": adaptation.cluster,
        "kind": adaptation.kind,
        "state": adaptation.state,
        "reason": adaptation.reason,
        "outcome": outcome_of(adaptation),
        "feedback": len(adaptation.feedback),
        "created": adaptation.created,
        "changed": adaptation.changed,
    }


def in_full(adaptation: Adaptation) -> Body:
    """All there is to know of it but the vector and the bytes; `config` and `report` as the objects they are."""
    return {
        **in_brief(adaptation),
        "base": adaptation.base,
        "parent": adaptation.parent,
        "blob": adaptation.blob,
        "embedder": adaptation.embedder,
        "dataset": adaptation.dataset,
        "feedback_ids": list(adaptation.feedback),
        "sources": list(adaptation.sources),
        "seed": adaptation.seed,
        "radius": adaptation.radius,
        "config": _object(adaptation.config),
        "report": report_of(adaptation),
    }


def alias(moved: Alias) -> Body:
    """What serves a cluster; null is the base model."""
    return {
        "cluster": moved.cluster,
        "champion": moved.champion,
        "previous": moved.previous,
        "canary": moved.canary,
        "share": moved.share,
    }


def memory(kept: Memory) -> Body:
    """A memory without its vector."""
    return {
        "id": kept.id,
        "prompt": kept.prompt,
        "text": kept.text,
        "source": kept.source,
        "generation": kept.generation or None,
        "created": kept.created,
    }


def report_of(adaptation: Adaptation) -> Body | None:
    """The gate's report; None before the gate."""
    return _object(adaptation.report) if adaptation.report else None


def outcome_of(adaptation: Adaptation) -> str | None:
    """What the gate decided, by its report: "promote", "reject" or "unproven"; None before the gate."""
    outcome = (report_of(adaptation) or {}).get("outcome")
    return outcome if isinstance(outcome, str) else None


def _object(text: str) -> Body:
    value: Body = json.loads(text or "{}")
    return value
