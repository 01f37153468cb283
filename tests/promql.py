"""The PromQL in `deploy/`: every expression, and what it asks for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import promql_parser
import yaml

from documents import REPOSITORY

MONITORING = REPOSITORY / "deploy/monitoring"
SCALING = REPOSITORY / "deploy/kubernetes/overlays/keda/scaling.yaml"
OF_COUNTERS = frozenset({"rate", "increase", "irate"})


@dataclass(frozen=True)
class Selected:
    """A metric that an expression asks for, and whether it takes the rate of it."""

    metric: str
    rated: bool


def expressions() -> dict[str, str]:
    """All expressions by where they stand; Grafana's variables have a value."""
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    found = {
        f"dashboard: {panel['title']}, {target['refId']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    }
    found |= {f"dashboard: {each['name']}": each["expr"] for each in dashboard["annotations"]["list"]}
    rules = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
    found |= {f"alert: {rule['alert']}": rule["expr"] for group in rules["groups"] for rule in group["rules"]}
    scaled = yaml.safe_load(SCALING.read_text())
    found["scaling"] = scaled["spec"]["triggers"][0]["metadata"]["query"]
    return {place: text.replace("$__rate_interval", "5m").replace("$instance", ".*") for place, text in found.items()}


def selected(node: promql_parser.Expr, *, rated: bool = False) -> Iterator[Selected]:
    """Every metric below a node of a parsed expression."""
    match node:
        case promql_parser.VectorSelector():
            yield Selected(str(node.name), rated)
        case promql_parser.MatrixSelector():
            yield from selected(node.vector_selector, rated=rated)
        case promql_parser.Call():
            for argument in node.args:
                yield from selected(argument, rated=node.func.name in OF_COUNTERS)
        case promql_parser.BinaryExpr():
            yield from selected(node.lhs)
            yield from selected(node.rhs)
        case promql_parser.AggregateExpr() | promql_parser.ParenExpr() | promql_parser.SubqueryExpr():
            yield from selected(node.expr, rated=rated)
        case promql_parser.NumberLiteral() | promql_parser.StringLiteral():
            return
        case _:
            raise AssertionError(f"not looked into: {node}")
