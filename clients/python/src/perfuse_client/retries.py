"""When a call that failed is sent again, and how long is waited before."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Optional

from perfuse_client.errors import NoAnswer, Overloaded, PerfuseError, Unavailable

_FIRST_PAUSE = 0.25
_SPREAD = 0.25
"""Pauses are longer by up to this share, so that clients refused together do not come back together."""


@dataclass(frozen=True)
class Retries:
    """Sends again what was refused for the moment (429, 503) or not answered.

    Every operation may be sent twice: what must happen once carries an idempotency key.

    Attributes:
        most: how often a call is sent again.
        longest_pause: seconds; where the server asks for more, its refusal is raised at once.
    """

    most: int = 2
    longest_pause: float = 60.0

    def pause(self, sent: int, error: PerfuseError) -> Optional[float]:
        """Seconds before the call goes out again; None where it does not.

        Args:
            sent: how often it was sent already.
            error: what came of it the last time.
        """
        if sent > self.most or not isinstance(error, (NoAnswer, Overloaded, Unavailable)):
            return None
        asked = None if isinstance(error, NoAnswer) else error.retry_after
        pause = _FIRST_PAUSE * 2 ** (sent - 1) if asked is None else asked
        if pause > self.longest_pause:
            return None
        return pause * (1 + _SPREAD * random.random())
