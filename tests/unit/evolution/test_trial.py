"""How the time of a forward is compared where other work makes single times long, and what a trial calibrates."""

from __future__ import annotations

from itertools import cycle

from perfuse.evolution.answers import Answer, Answerer, Asked
from perfuse.evolution.lessons import Task
from perfuse.evolution.trial import CALIBRATED, ROUNDS, TIMED, Trial, latency_ratio
from unit.evolution.learning import feedback


class Timed(Answerer):
    """Scripted times: a forward of the base takes 10 ms, of the candidate 12 ms, and some answers wait for others."""

    def __init__(self, delays: list[float]) -> None:
        self.asked: list[tuple[str, str]] = []
        self._delays = cycle(delays)

    async def fill(self, asked: Asked, adaptation: str, tenant: str) -> Answer:
        self.asked.append((asked.prompt, adaptation))
        forwards = 5
        seconds = forwards * (0.010 if adaptation == "none" else 0.012)
        return Answer("text", seconds + next(self._delays), forwards)


def tasks(count: int) -> list[Task]:
    return [Task(feedback(str(number), "a"), "") for number in range(count)]


async def test_single_slow_answers_do_not_count() -> None:
    answerer = Timed([0.0, 0.3, 0.0, 0.0, 0.2])
    assert round(await latency_ratio(tasks(8), answerer, "none", "ad_1", "t"), 6) == 1.2
    assert len(answerer.asked) == 2 * ROUNDS * TIMED
    assert answerer.asked[:3] == [("p-0", "none"), ("p-0", "ad_1"), ("p-0", "none")]


async def test_without_tasks_nothing_is_said_against_a_candidate() -> None:
    assert await latency_ratio([], Timed([0.0]), "none", "ad_1", "t") == 1.0


def test_a_trial_of_enough_answers_tells_the_chance_of_a_right_one_by_its_doubt() -> None:
    right = (True,) * 40 + (False,) * 10
    trial = Trial(before=(False,) * 50, after=right, doubts=tuple(0.1 * i for i in range(50)))
    assert trial.chance is not None
    assert (trial.chance.at(0.0), trial.chance.at(4.5)) == ((40 + 0.8) / 41, 0.8 / 11)
    few = Trial((False,) * (CALIBRATED - 1), right[: CALIBRATED - 1], trial.doubts[: CALIBRATED - 1])
    assert few.chance is None
