"""Retrieval baseline: the training sentence most like a given one."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

_WORD = re.compile(r"[a-z]+|\d+|[^\sa-z\d]")


class NearestSentence:
    """Cosine similarity of tf-idf vectors over words and pairs of words.

    Args:
        sentences: what is searched.
    """

    def __init__(self, sentences: Sequence[str]) -> None:
        bags = [_terms(sentence) for sentence in sentences]
        frequency: Counter[str] = Counter()
        for bag in bags:
            frequency.update(bag.keys())
        self._weight = {term: math.log(len(bags) / count) for term, count in frequency.items()}
        postings: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
        length = np.zeros(len(bags))
        for row, bag in enumerate(bags):
            for term, count in bag.items():
                value = count * self._weight[term]
                postings[term].append((row, value))
                length[row] += value * value
        self._length = np.sqrt(length).clip(min=1e-9)
        self._postings = {
            term: (np.array([row for row, _ in found]), np.array([value for _, value in found]))
            for term, found in postings.items()
        }

    def find(self, sentence: str) -> int:
        """Index of the most similar sentence."""
        score = np.zeros(len(self._length))
        for term, count in _terms(sentence).items():
            if term in self._postings:
                rows, values = self._postings[term]
                score[rows] += count * self._weight[term] * values
        return int((score / self._length).argmax())


def _terms(sentence: str) -> Counter[str]:
    words = _WORD.findall(sentence.lower())
    return Counter([*words, *(f"{a} {b}" for a, b in itertools.pairwise(words))])
