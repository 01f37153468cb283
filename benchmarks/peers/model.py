"""What every server here calls: a batch of gaps filled by the shipped text model, each in one step or in `steps`."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from perfuse.engine.loop import Engine
from perfuse.engine.run import Answers, Job
from perfuse.engine.worker import warm_up
from perfuse.pipelines import shipped
from perfuse.requests import TextRequest, TextResult

BATCH = 16
WINDOW_SECONDS = 0.005

Body = dict[str, object]


class Model:
    """Loads the model; calls compute a batch. How many rows were computed so far stands in the file `PEER_ROWS`."""

    def __init__(self) -> None:
        loaded = shipped.load(device="cpu")
        self._engine = Engine(loaded.pipelines, threads=1, backlog_limit=math.inf)
        warm_up(self._engine, loaded.warm_ups)
        self._rows = os.open(os.environ["PEER_ROWS"], os.O_WRONLY | os.O_CREAT, 0o600)

    def __call__(self, bodies: Sequence[Body]) -> list[Body]:
        """One answer for each body, in order. Raises PerfuseError: one of them cannot be answered."""
        answers = Answers()
        for index, body in enumerate(bodies):
            fields = {name: value for name, value in body.items() if name != "modality"}
            self._engine.submit(Job(id=index, modality="text", request=TextRequest(**fields)), answers)
        self._engine.run_until_idle()
        os.pwrite(self._rows, b"%020d" % self._engine.counters.rows, 0)
        for error in answers.errors.values():
            raise error
        results = [answers.results[index] for index in range(len(bodies))]
        return [{"text": each.outputs[0].text} for each in results if isinstance(each, TextResult)]
