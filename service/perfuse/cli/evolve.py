"""`perfuse evolve`: what was learned, which of it serves, and taking it back."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias, TypeVar

import typer

from perfuse.cli.options import Json, ModelFolders
from perfuse.cli.ordering import carried_out
from perfuse.cli.store import DataDir
from perfuse.cli.terminal import emit, emit_json, emit_table, say

if TYPE_CHECKING:
    from perfuse.api.learned import AdapterAnswer, EvolutionAnswer, GateAnswer
    from perfuse.orders import Body

app = typer.Typer(
    help="See and steer what is learned from feedback, beside a running server or without one.", no_args_is_help=True
)

Tenant: TypeAlias = Annotated[str, typer.Option(help="whose feedback and adaptations, as in the key file")]
Adaptation: TypeAlias = Annotated[str, typer.Argument(metavar="ID", help="as `list` shows it")]
AnswerT = TypeVar("AnswerT")


@app.command()
def status(
    *,
    data_dir: DataDir = Path("perfuse-data"),
    tenant: Tenant = "local",
    model: ModelFolders = None,
    json: Json = False,
) -> None:
    """Count feedback by state; show clusters with what serves them, jobs, and what the gate decided last."""
    from perfuse import orders
    from perfuse.api.learned import EvolutionAnswer

    answer = carried_out(orders.Status(tenant=tenant), data_dir, model or ())
    if json:
        emit_json(answer)
    else:
        _show_status(_typed(answer, EvolutionAnswer))


@app.command("list")
def list_(
    *,
    data_dir: DataDir = Path("perfuse-data"),
    tenant: Tenant = "local",
    model: ModelFolders = None,
    json: Json = False,
) -> None:
    """List all adaptations, the latest first."""
    from perfuse import orders
    from perfuse.api.learned import AdaptersAnswer

    answer = carried_out(orders.ListAdaptations(tenant=tenant), data_dir, model or ())
    if json:
        emit_json(answer)
        return
    found = _typed(answer, AdaptersAnswer).adapters
    emit_table(
        ("adaptation", "cluster", "state", "gate", "feedback", "created", "reason"),
        [(a.id, a.cluster, a.state, a.outcome or "-", str(a.feedback), _when(a.created), a.reason) for a in found],
    )


@app.command()
def show(
    adaptation: Adaptation,
    *,
    data_dir: DataDir = Path("perfuse-data"),
    tenant: Tenant = "local",
    model: ModelFolders = None,
    json: Json = False,
) -> None:
    """Show what an adaptation was made of, what the gate measured, and what became of it."""
    from perfuse import orders
    from perfuse.api.learned import AdapterAnswer

    answer = carried_out(orders.ShowAdaptation(tenant=tenant, adaptation=adaptation), data_dir, model or ())
    if json:
        emit_json(answer)
    else:
        _show_adaptation(_typed(answer, AdapterAnswer))


@app.command()
def promote(
    adaptation: Adaptation,
    *,
    force: Annotated[bool, typer.Option("--force", help="also without a report of the gate, or against it")] = False,
    data_dir: DataDir = Path("perfuse-data"),
    tenant: Tenant = "local",
    model: ModelFolders = None,
    json: Json = False,
) -> None:
    """Make a candidate or canary the champion of its cluster."""
    from perfuse import orders

    order = orders.Promote(tenant=tenant, adaptation=adaptation, force=force)
    answer = carried_out(order, data_dir, model or ())
    _done(answer, f"{adaptation} is the champion of cluster {answer['cluster']}", as_json=json)


@app.command()
def rollback(
    adaptation: Annotated[str | None, typer.Argument(metavar="[ID]", help="of a champion or canary")] = None,
    *,
    cluster: Annotated[str | None, typer.Option(help="roll back the champion of this cluster")] = None,
    data_dir: DataDir = Path("perfuse-data"),
    tenant: Tenant = "local",
    model: ModelFolders = None,
    json: Json = False,
) -> None:
    """Take a champion or canary out of service; without an ID or a cluster the only champion there is."""
    from perfuse import orders

    order = orders.RollBack(tenant=tenant, adaptation=adaptation, cluster=cluster)
    answer = carried_out(order, data_dir, model or ())
    _done(answer, f"{answer['champion'] or 'the base model'} serves cluster {answer['cluster']}", as_json=json)


@app.command()
def revoke(
    *,
    source: Annotated[str, typer.Option(help="whose feedback and memories are taken back")],
    data_dir: DataDir = Path("perfuse-data"),
    tenant: Tenant = "local",
    model: ModelFolders = None,
    json: Json = False,
) -> None:
    """Take back all that a source has given, and every adaptation made of it; queue their training without it."""
    from perfuse import orders
    from perfuse.api.learned import RevokeAnswer

    answer = carried_out(orders.Revoke(tenant=tenant, source=source), data_dir, model or ())
    taken = _typed(answer, RevokeAnswer)
    removed = f"removed {taken.feedback} items of feedback and {taken.memories} memories"
    ended = f"retired {len(taken.retired)} adaptations, cancelled {len(taken.cancelled)} jobs"
    _done(answer, f"{removed}; {ended}, queued {len(taken.jobs)}", as_json=json)


@app.command()
def rebuild(
    *,
    cluster: Annotated[str | None, typer.Option(help="this one alone")] = None,
    data_dir: DataDir = Path("perfuse-data"),
    tenant: Tenant = "local",
    model: ModelFolders = None,
    json: Json = False,
) -> None:
    """Queue the training of a cluster, or of all, on all feedback that counts."""
    from perfuse import orders
    from perfuse.api.learned import RebuildAnswer

    answer = carried_out(orders.Rebuild(tenant=tenant, cluster=cluster), data_dir, model or ())
    _done(answer, f"{len(_typed(answer, RebuildAnswer).jobs)} jobs are queued or under way", as_json=json)


@app.command()
def purge(*, data_dir: DataDir = Path("perfuse-data"), model: ModelFolders = None, json: Json = False) -> None:
    """Remove, for all tenants, the bytes of adaptations that will not serve again, and what revoked ones answered.

    Without a running server only the SQLite queue is looked into, not a Redis.
    """
    from perfuse import orders

    answer = carried_out(orders.Purge(tenant=""), data_dir, model or ())
    removed = _typed(answer["blobs"], list[str])
    if json:
        emit_json(answer)
        return
    for name in removed:
        emit(name)
    freed = _typed(answer["bytes_freed"], int)
    records = _typed(answer["records"], int)
    say(f"removed {len(removed)} blobs and {records} recorded answers, freed {freed} bytes of the store")


def _typed(answer: object, kind: type[AnswerT]) -> AnswerT:
    import msgspec

    return msgspec.convert(answer, kind)


def _done(answer: Body, text: str, *, as_json: bool) -> None:
    if as_json:
        emit_json(answer)
    else:
        say(text)


def _show_status(found: EvolutionAnswer) -> None:
    emit(f"stage     {found.stage or 'waiting'}")
    emit(f"inbox     {_counts(found.inbox)}")
    emit(f"feedback  {_counts(found.feedback)}")
    if found.clusters:
        emit("")
        emit_table(
            ("cluster", "feedback", "champion", "canary", "last gate"),
            [
                (
                    each.cluster,
                    str(each.size),
                    each.champion or "base model",
                    "-" if each.canary is None else f"{each.canary} at {each.share:.0%}",
                    "-" if each.last_gate is None else _gate(each.last_gate),
                )
                for each in found.clusters
            ],
        )
    if found.jobs:
        emit("")
        emit_table(
            ("job", "cluster", "state", "stage", "feedback", "changed", "reason"),
            [
                (job.id, job.cluster, job.state, job.stage or "-", str(job.feedback), _when(job.changed), job.reason)
                for job in found.jobs
            ],
        )


def _gate(gate: GateAnswer) -> str:
    gain = "" if gate.gain is None else f", {100 * gate.gain:+.1f} points"
    chance = "" if gate.p_value is None else f", p = {gate.p_value:.3g}"
    return f"{gate.outcome}{gain}{chance}"


def _show_adaptation(found: AdapterAnswer) -> None:
    import msgspec

    said = {
        "adaptation": found.id,
        "state": f"{found.state}: {found.reason}",
        "cluster": f"{found.cluster}, radius {found.radius:.3f}",
        "gate": found.outcome or "not yet",
        "feedback": f"{found.feedback} items from {', '.join(found.sources)}",
        "parent": found.parent or "none",
        "base": found.base,
        "dataset": found.dataset,
        "blob": found.blob,
        "seed": str(found.seed),
        "created": _when(found.created),
        "changed": _when(found.changed),
    }
    for name, value in said.items():
        emit(f"{name:<11} {value}")
    for name, figures in (("config", found.config), ("report", found.report or {})):
        for key, figure in figures.items():
            emit(f"{name}.{key} {msgspec.json.encode(figure).decode()}")


def _counts(counts: Mapping[str, object]) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in counts if counts[name] is not None) or "none"


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
