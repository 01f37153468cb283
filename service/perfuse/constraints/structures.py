"""JSON Schema and regular expressions over the tokens of a model. Source: DINGO, arXiv 2505.23061.

The automata and the dynamic program are Rust (`native/constraints`; its README lists what of JSON Schema is supported).
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from perfuse._native import Structure, Vocabulary
from perfuse.models.tokenizer import NULL, TextTokenizer

KEPT = 32
"""Structures that are kept for requests to come."""


class Structures:
    """Structures over one tokenizer: built when first asked for, the last `KEPT` of them kept. Safe between threads.

    Args:
        tokenizer: of the model.
    """

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._vocabulary: Vocabulary | None = None
        self._known: OrderedDict[tuple[str | None, str | None], Structure] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, schema: str | None, regex: str | None) -> Structure | None:
        """The structure of a schema (as JSON) or else of a pattern; None where neither is given.

        Raises:
            UnsupportedConstraint: it says something that is not supported; `field` points to it.
            ConstraintTooLarge: its automaton would exceed a bound.
            InvalidRequest: it is no schema or pattern, or nothing satisfies it.
        """
        if schema is None and regex is None:
            return None
        with self._lock:
            known = self._known.get((schema, regex))
            if known is None:
                known = self._known[schema, regex] = self._built(schema, regex)
                if len(self._known) > KEPT:
                    self._known.popitem(last=False)
            self._known.move_to_end((schema, regex))
            return known

    def _built(self, schema: str | None, regex: str | None) -> Structure:
        if self._vocabulary is None:
            self._vocabulary = Vocabulary(self._tokenizer.pieces(), NULL)
        if schema is not None:
            return Structure.of_schema(schema, self._vocabulary)
        assert regex is not None
        return Structure.of_regex(regex, self._vocabulary)
