"""Whether an answer can be trusted: how unsure its text is, and how unlike the requests the model was calibrated on.

Two numbers of each output, the doubt of its text (`signals.log_doubt`) and the novelty of its prompt, are placed among
those of items that were right: their quantiles. The greater of the two is what triggers. A novelty trigger asks for
data of that kind, a doubt trigger for training.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from perfuse.adaptation import conformal
from perfuse.adaptation.conformal import Scores
from perfuse.adaptation.isotonic import Falling, fit_falling
from perfuse.adaptation.signals import Trace, log_doubt
from perfuse.adaptation.whitening import Vectors, Whitening
from perfuse.errors import CheckpointError, InvalidRequest
from perfuse.requests import Uncertainty
from perfuse.store.files import write_whole

_log = logging.getLogger(__name__)
CALIBRATION_FILE = "calibration.safetensors"
LEVEL = 0.04
"""Share of false triggers calibrated for: so that the upper bound on a finite test stays within 6 %."""
NEIGHBOURS = 5
"""References that the novelty of a prompt is measured from."""
_INT8 = 127.0
_HINT = "make it again with `perfuse train calibration`"
_DOUBTS, _NOVELTIES, _RANKS = "right.doubt", "right.novelty", "right.rank"
_REFERENCES = "references"
_EDGES, _VALUES = "chance.edges", "chance.values"
_NO_DOUBT = 1e-3
"""Nats that are added to every doubt before its logarithm is taken: below this, doubts are alike."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a calibration item was like, and whether its answer was right."""

    doubt: float
    novelty: float
    right: bool


@dataclass(frozen=True, slots=True, eq=False)
class Novelty:
    """How far a prompt lies from known ones: its mean cosine distance to the nearest of them, whitened.

    Attributes:
        whitening: of the model's learning kit.
        references: `[n, width]` int8, unit vectors of known prompts times 127.
    """

    whitening: Whitening
    references: npt.NDArray[np.int8]

    @classmethod
    def of(cls, whitening: Whitening, states: Vectors) -> Novelty:
        """With the prompts of these hidden states `[n, width]` as the known ones.

        Raises:
            InvalidRequest: there are fewer than `NEIGHBOURS`.
        """
        if len(states) < NEIGHBOURS:
            raise InvalidRequest(f"expected at least {NEIGHBOURS} known prompts; got {len(states)}")
        return cls(whitening, np.rint(whitening.unit(states) * _INT8).astype(np.int8))

    def of_state(self, state: Vectors) -> float:
        """Of a prompt with the averaged hidden state `[width]`; 0 is a known one, 2 the opposite of all."""
        distances = 1.0 - self.references @ self.whitening.unit(state)[0] / _INT8
        return max(0.0, float(np.partition(distances, NEIGHBOURS - 1)[:NEIGHBOURS].mean()))


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What an estimator compares with, made for one model by `perfuse train calibration`.

    Attributes:
        base: hash of the model (`store.kit.base_of`): numbers of another one say nothing.
        described: what it was calibrated on, in words.
        doubts: `[n]` of the items that were right, ascending.
        novelties: `[n]`, the same.
        ranks: `[n]` uint16, of each item the greater of the numbers of items below it by doubt and by novelty;
            ascending.
        chance: to be right, by `strangeness`.
        novelty: measures prompts.
    """

    base: str
    described: str
    doubts: Scores
    novelties: Scores
    ranks: npt.NDArray[np.uint16]
    chance: Falling
    novelty: Novelty

    @property
    def combined(self) -> Scores:
        """`[n]`, the greater quantile of each of the items, ascending."""
        return self.ranks / (len(self.ranks) + 1)

    def strangeness(self, doubt: float, novelty: float) -> float:
        """Log-doubt and novelty, each in standard deviations from the mean of right items, added up.

        Not the greater of the two: what is a little of both is more often wrong than what is much of one only.
        """
        return strangeness(self.doubts, self.novelties, doubt, novelty)

    @classmethod
    def of(
        cls,
        base: str,
        described: str,
        known: Sequence[Seen],
        drawn: Sequence[Seen],
        unknown: Sequence[Seen],
        novelty: Novelty,
    ) -> Calibration:
        """From items with outcomes.

        Args:
            base: see the attributes.
            described: see the attributes.
            known: requests of the model's own kind, answered as usual: quantiles and threshold come from those of
                them that are right.
            drawn: the same kind, answered with more chance of an error, so that doubt has errors to be fitted to.
            unknown: of kinds that the model does not know; together they count as much as `known`, so the chances are
                those of a stream of which half is unknown.
            novelty: measures prompts.

        Raises:
            InvalidRequest: too few of `known` are right for a threshold at `LEVEL`.
        """
        right = [item for item in known if item.right]
        if conformal.threshold(np.arange(len(right), dtype=np.float64), LEVEL) == np.inf:
            raise InvalidRequest(
                f"{len(right)} of {len(known)} calibration items are right; "
                f"expected at least {round(1 / LEVEL) - 1} for a threshold at {LEVEL:g}"
            )
        doubts, novelties = _stored([item.doubt for item in right]), _stored([item.novelty for item in right])
        greater = np.maximum(_below(doubts, doubts), _below(novelties, novelties))
        items = [*known, *drawn, *unknown]
        alike = len(known) / max(len(unknown), 1)
        chance = fit_falling(
            [strangeness(doubts, novelties, item.doubt, item.novelty) for item in items],
            [item.right for item in items],
            [*(1.0 for _ in (*known, *drawn)), *(alike for _ in unknown)],
        )
        return cls(base, described, np.sort(doubts), np.sort(novelties), np.sort(greater), chance, novelty)

    def write(self, folder: Path) -> Path:
        """Into the model folder, in place of the one before."""
        tensors: dict[str, npt.NDArray[np.generic]] = {
            _DOUBTS: self.doubts.astype(np.float32),
            _NOVELTIES: self.novelties.astype(np.float32),
            _RANKS: self.ranks,
            _REFERENCES: self.novelty.references,
            _EDGES: self.chance.edges,
            _VALUES: self.chance.values,
        }
        metadata = {"base": self.base, "described": self.described}
        path = folder / CALIBRATION_FILE
        write_whole(path, save(tensors, metadata=metadata))
        return path


def read_calibration(folder: Path, base: str, whitening: Whitening) -> Calibration | None:
    """The calibration of the model in `folder`; None where it has none, or, said in the log, one of other weights.

    Args:
        folder: of the model.
        base: its hash, as `store.kit.read_kit` says.
        whitening: of its learning kit.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = folder / CALIBRATION_FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, "np") as file:
            said = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        chance = Falling(tensors[_EDGES], tensors[_VALUES])
        described, made_for = said["described"], said["base"]
        novelty = Novelty(whitening, tensors[_REFERENCES])
        doubts, novelties = (tensors[name].astype(np.float64) for name in (_DOUBTS, _NOVELTIES))
        ranks = tensors[_RANKS]
    except (OSError, SafetensorError, KeyError) as error:
        raise CheckpointError(
            f"{folder.name}/{CALIBRATION_FILE} cannot be read: {type(error).__name__}: {error}", hint=_HINT
        ) from error
    if made_for != base:
        _log.warning("calibration_of_another_model", extra={"model": folder.name, "made_for": made_for, "base": base})
        return None
    return Calibration(base, described, doubts, novelties, ranks, chance, novelty)


def strangeness(doubts: Scores, novelties: Scores, doubt: float, novelty: float) -> float:
    """See `Calibration.strangeness`; `doubts` and `novelties` are those of right items."""
    logs = np.log(doubts + _NO_DOUBT)
    by_doubt = (float(np.log(doubt + _NO_DOUBT)) - logs.mean()) / max(logs.std(), _NO_DOUBT)
    by_novelty = (novelty - novelties.mean()) / max(novelties.std(), _NO_DOUBT)
    return float(by_doubt + by_novelty)


def _stored(values: Sequence[float]) -> Scores:
    """As the file holds them: float32."""
    return np.array(values, dtype=np.float32).astype(np.float64)


def _below(scores: Scores, values: Scores) -> npt.NDArray[np.uint16]:
    """How many of the scores lie below each of the values."""
    return np.searchsorted(np.sort(scores), values, side="left").astype(np.uint16)


class UncertaintyEstimator:
    """Says of outputs how sure they are, by a calibration. Has no state of its own.

    Args:
        calibration: what to compare with.
        level: share of right items that trigger; see `conformal.next_level` for one that follows a drift.
    """

    def __init__(self, calibration: Calibration, level: float = LEVEL) -> None:
        self._calibration = calibration
        self._combined = calibration.combined
        self._threshold = conformal.threshold(self._combined, level)

    def assess(self, trace: Trace) -> tuple[float | None, Uncertainty | None]:
        """Both of the following, measured once."""
        if trace.state is None:
            return None, None
        doubt, novelty = log_doubt(trace.certainty), self._calibration.novelty.of_state(trace.state)
        chance = self._calibration.chance.at(self._calibration.strangeness(doubt, novelty))
        return chance, self._placed(doubt, novelty)

    def p_correct(self, trace: Trace) -> float | None:
        """Calibrated chance that the output is right; None without a prompt."""
        return self.assess(trace)[0]

    def score(self, trace: Trace) -> Uncertainty | None:
        """Where the output stands among right ones; None without a prompt, of which novelty could be told."""
        return self.assess(trace)[1]

    def _placed(self, doubt: float, novelty: float) -> Uncertainty:
        known = self._calibration
        confidence_q = conformal.quantile(known.doubts, doubt)
        novelty_q = conformal.quantile(known.novelties, novelty)
        combined = max(confidence_q, novelty_q)
        return Uncertainty(
            confidence_quantile=confidence_q,
            novelty_quantile=novelty_q,
            combined=combined,
            p_value=conformal.p_value(self._combined, combined),
            threshold=self._threshold,
            novel=novelty_q > self._threshold,
            should_evolve=combined > self._threshold,
            calibrated_on=known.described,
        )

    def should_evolve(self, trace: Trace) -> bool:
        """Whether the output is more unusual than all but the level's share of right ones."""
        scored = self.score(trace)
        return scored is not None and scored.should_evolve
