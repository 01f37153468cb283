"""The adaptations that are in memory: read when a request needs one, forgotten when others were needed more lately."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

import torch

from perfuse.errors import CheckpointError, NotFound, StoreCorrupt
from perfuse.models.lora import Adaptation, from_bytes
from perfuse.models.unified import DiffusionConfig
from perfuse.store.blobs import Blobs

_log = logging.getLogger(__name__)

LIMIT_BYTES = 256 * 1024 * 1024
"""160 adaptations of rank 16 of the shipped text model, in float32."""
RETRY_SECONDS = 30.0
"""How long bytes that cannot be used are not read again."""


class Residency:
    """Adaptations of one network, on its device and in its dtype. `held` and `load` may be called from any thread.

    Args:
        blobs: where their bytes are.
        config: shape of the network.
        device: where it computes.
        dtype: what it computes in.
        limit_bytes: what is kept beside what running requests hold; the one used last always is.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        blobs: Blobs,
        config: DiffusionConfig,
        device: torch.device,
        dtype: torch.dtype,
        *,
        limit_bytes: int = LIMIT_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._blobs = blobs
        self._config = config
        self._device, self._dtype = device, dtype
        self._limit = limit_bytes
        self._clock = clock
        self._lock = Lock()
        self._kept: OrderedDict[str, Adaptation] = OrderedDict()
        self._broken: dict[str, tuple[float, str]] = {}
        self.bytes = 0

    def held(self, identity: str) -> Adaptation | None:
        """The adaptation if it is in memory."""
        with self._lock:
            if (found := self._kept.get(identity)) is not None:
                self._kept.move_to_end(identity)
            return found

    def load(self, identity: str, blob: str) -> Adaptation:
        """The adaptation `identity`, whose bytes are `blob`; reads a file if it is not in memory.

        Raises:
            StoreCorrupt: its bytes are missing, damaged, or not for this network; said in the log when it is found.
        """
        if (found := self.held(identity)) is not None:
            return found
        until, reason = self._broken.get(identity, (0.0, ""))
        if self._clock() < until:
            raise StoreCorrupt(reason)
        try:
            read = from_bytes(self._blobs.read(blob), self._config, identity).scaled().to(self._device, self._dtype)
            _check_finite(read)
        except (NotFound, StoreCorrupt, CheckpointError, OSError) as error:
            said = error.strerror if isinstance(error, OSError) else error.detail
            reason = f"adaptation {identity} cannot be used: {said}"
            self._broken[identity] = (self._clock() + RETRY_SECONDS, reason)
            if not until:
                _log.error("adaptation_broken", extra={"adaptation": identity, "reason": said})
            raise StoreCorrupt(reason) from error
        self._broken.pop(identity, None)
        return self._keep(read)

    def _keep(self, read: Adaptation) -> Adaptation:
        """Rows are grouped by the object, so of two that were read at once only the first is given out."""
        with self._lock:
            if (first := self._kept.setdefault(read.id, read)) is read:
                self.bytes += size_of(read)
            while self.bytes > self._limit and len(self._kept) > 1:
                _, oldest = self._kept.popitem(last=False)
                self.bytes -= size_of(oldest)
            return first


def size_of(adaptation: Adaptation) -> int:
    """Bytes of its numbers."""
    return sum(a.nbytes + b.nbytes for block in adaptation.blocks for a, b in block.values())


def _check_finite(adaptation: Adaptation) -> None:
    for i, block in enumerate(adaptation.blocks):
        for name, pair in block.items():
            if not all(bool(torch.isfinite(part.sum())) for part in pair):
                raise CheckpointError(f"block {i} {name} holds NaN or infinity")
