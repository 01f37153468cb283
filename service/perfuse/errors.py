"""Every error perfuse raises on purpose, as one tree.

PerfuseError                          status, code, detail, hint, field
├── InvalidRequest (ValueError)       422  the request cannot be served as written
│   ├── UnknownModel                  404  no such model
│   ├── CanvasTooLong                 422  more tokens than the model takes
│   ├── NothingToFill                 422  a template without a masked span
│   ├── UnsupportedField              422  a field of another interface's request that has no meaning here
│   ├── UnsupportedConstraint         422  a schema or pattern says something that cannot be guaranteed
│   ├── ConstraintTooLarge            422  a schema or pattern needs a larger automaton than is built
│   ├── CanvasTooShort                422  no text of the schema or pattern fits into the canvas
│   └── WrongState                    409  an adaptation is not in a state that the step starts from
├── NotFound (LookupError)            404  no such generation, table, row
├── Unauthenticated                   401  missing or wrong key
├── Forbidden                         403  the key lacks the scope, or a foreign Host/Origin
├── PayloadTooLarge                   413  the body is over the limit
├── Overloaded                        429  the backlog is full; carries retry_after
├── Unavailable                       503  a part is starting, draining or down; carries retry_after
│   └── SandboxUnavailable            503  this kernel cannot confine generated code
├── NotInstalled                      501  an optional part is not there
├── DeadlineExceeded (TimeoutError)   504  not one step could be finished in time
├── GenerationFailed (RuntimeError)   500  this request's own forward failed
│   ├── NonFiniteOutput               500  its forward gave NaN or infinity
│   ├── PluginFailed                  500  a function of another package, asked for by name, failed
│   └── WorkerKilled                  500  its forward killed the engine twice
├── StoreError (RuntimeError)         500
│   ├── StoreCorrupt                  500  the bytes on disk contradict their checksums
│   ├── StoreLocked                   409  another process owns the store
│   └── StoreFull                     507  the disk is full; nothing acknowledged was lost
├── CheckpointError (ValueError)      500  a model file is missing, damaged or of another layout
└── ConfigError (ValueError)          500  a setting is out of range or contradicts another

`code` is stable and documented; `status` is the HTTP status; `hint` says what to do. Errors are picklable
and cross the wire as `Problem` (see `perfuse.wire`).
"""

from __future__ import annotations

from typing import ClassVar


class PerfuseError(Exception):
    """Root of the tree.

    Args:
        detail: one sentence: what was expected and what came.
        field: JSON pointer of the offending request field, if there is one.
        hint: what the caller can do about it.
        retry_after: seconds after which trying again makes sense.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500

    def __init__(
        self,
        detail: str,
        *,
        field: str | None = None,
        hint: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field
        self.hint = hint
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.detail, self.field, self.hint, self.retry_after)


def _rebuild(
    kind: type[PerfuseError], detail: str, field: str | None, hint: str | None, retry_after: float | None
) -> PerfuseError:
    return kind(detail, field=field, hint=hint, retry_after=retry_after)


class InvalidRequest(PerfuseError, ValueError):
    """The request cannot be served as written."""

    code = "invalid_request"
    status = 422


class UnknownModel(InvalidRequest):
    """No model of that name is loaded."""

    code = "unknown_model"
    status = 404


class CanvasTooLong(InvalidRequest):
    """The canvas has more tokens than the model takes."""

    code = "canvas_too_long"


class NothingToFill(InvalidRequest):
    """The canvas holds no masked position."""

    code = "nothing_to_fill"


class UnsupportedField(InvalidRequest):
    """The field belongs to an interface that is served here, but what it asks for is not."""

    code = "unsupported_field"


class UnsupportedConstraint(InvalidRequest):
    """The schema or pattern says something that cannot be guaranteed; `field` points to the keyword."""

    code = "unsupported_constraint"


class ConstraintTooLarge(InvalidRequest):
    """The schema or pattern needs a larger automaton than is built."""

    code = "constraint_too_large"


class CanvasTooShort(InvalidRequest):
    """No text that the schema or pattern allows fits into the canvas."""

    code = "canvas_too_short"


class WrongState(InvalidRequest):
    """The adaptation, or its cluster's alias, is not in a state that this step starts from."""

    code = "wrong_state"
    status = 409


class NotFound(PerfuseError, LookupError):
    """No such generation, table or row."""

    code = "not_found"
    status = 404


class Unauthenticated(PerfuseError):
    """The request carries no key, or a wrong one."""

    code = "unauthenticated"
    status = 401


class Forbidden(PerfuseError):
    """The key lacks the scope, or the Host or Origin is foreign."""

    code = "forbidden"
    status = 403


class PayloadTooLarge(PerfuseError):
    """The body is over the limit."""

    code = "payload_too_large"
    status = 413


class Overloaded(PerfuseError):
    """The backlog is full; `retry_after` is when the measured rate will have drained it."""

    code = "overloaded"
    status = 429


class Unavailable(PerfuseError):
    """A part is starting, draining or down."""

    code = "unavailable"
    status = 503


class SandboxUnavailable(Unavailable):
    """This kernel cannot confine generated code, so it is not run."""

    code = "sandbox_unavailable"


class NotInstalled(PerfuseError):
    """An optional part of the server is not installed."""

    code = "not_installed"
    status = 501


class DeadlineExceeded(PerfuseError, TimeoutError):
    """Not one step could be finished before the deadline."""

    code = "deadline_exceeded"
    status = 504


class GenerationFailed(PerfuseError, RuntimeError):
    """The request's own forward failed; its neighbours in the batch were not touched."""

    code = "generation_failed"
    status = 500


class PluginFailed(GenerationFailed):
    """The function of another package that the request asked for failed, or gave what it must not."""

    code = "plugin_failed"


class NonFiniteOutput(GenerationFailed):
    """The request's forward gave NaN or infinity."""

    code = "non_finite_output"


class WorkerKilled(GenerationFailed):
    """The request's forward killed the engine process twice."""

    code = "worker_killed"


class StoreError(PerfuseError, RuntimeError):
    """The store could not do what was asked."""

    code = "store_error"


class StoreCorrupt(StoreError):
    """The bytes on disk contradict their checksums."""

    code = "store_corrupt"


class StoreLocked(StoreError):
    """Another process owns the store or the data directory."""

    code = "store_locked"
    status = 409


class StoreFull(StoreError):
    """The disk is full; nothing acknowledged was lost."""

    code = "store_full"
    status = 507


class CheckpointError(PerfuseError, ValueError):
    """A model file is missing, damaged or of another layout."""

    code = "checkpoint_error"


class ConfigError(PerfuseError, ValueError):
    """A setting is out of range or contradicts another."""

    code = "config_error"
