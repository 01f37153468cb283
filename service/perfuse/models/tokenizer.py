"""Byte-level BPE with the marks a canvas needs. Any text goes in and comes back byte for byte."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as Steps
from tokenizers.trainers import BpeTrainer

from perfuse.errors import CheckpointError

MARKS = ("<null>", "<mask>", "<bos>", "<eos>", "<sep>")
NULL, MASK, BOS, EOS, SEP = range(5)
# line breaks with the indentation behind them, single digits, parts of names, runs of signs
PIECES = r"\r?\n[ \t]*|\d| ?_?[A-Za-z]+| ?[^\sA-Za-z\d]+|\s"


class TextTokenizer:
    """Text to ids and back; the first five ids are marks that no text produces."""

    def __init__(self, inner: Tokenizer) -> None:
        self._inner = inner

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary: int) -> TextTokenizer:
        """Learns a byte-level BPE of `vocabulary` entries from `texts`."""
        inner = Tokenizer(BPE())
        inner.pre_tokenizer = Steps(
            [Split(Regex(PIECES), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        inner.decoder = ByteLevelDecoder()
        alphabet = ByteLevel.alphabet()
        trainer = BpeTrainer(
            vocab_size=vocabulary, special_tokens=list(MARKS), initial_alphabet=alphabet, show_progress=False
        )
        inner.train_from_iterator(texts, trainer)
        state = json.loads(inner.to_str())
        state["added_tokens"] = []  # marks written out in a text are plain characters
        return cls(Tokenizer.from_str(json.dumps(state)))

    @classmethod
    def load(cls, path: Path) -> TextTokenizer:
        """Reads `tokenizer.json`.

        Raises:
            CheckpointError: the file is missing, damaged, or has other marks.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"cannot read the tokenizer {path.name}: {error}", hint=_HINT) from error
        try:
            inner = Tokenizer.from_str(text)
        except Exception as error:
            raise CheckpointError(f"{path.name} is not a tokenizer: {error}", hint=_HINT) from error
        found = tuple(inner.id_to_token(i) for i in range(len(MARKS)))
        if found != MARKS:
            raise CheckpointError(f"{path.name} starts with the tokens {found}, expected {MARKS}", hint=_HINT)
        return cls(inner)

    def save(self, path: Path) -> None:
        """Writes `tokenizer.json`."""
        path.write_text(self._inner.to_str(), encoding="utf-8")

    @property
    def size(self) -> int:
        """Number of ids."""
        return self._inner.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Ids of `text`; marks written out in the text are plain characters."""
        return self._inner.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        return [e.ids for e in self._inner.encode_batch(list(texts), add_special_tokens=False)]

    def pieces(self) -> list[bytes]:
        """What each id says, as bytes; nothing for marks.

        Byte-level BPE writes a byte as one printable character: itself where it is one, else the next from U+0100 on.
        Source: GPT-2's `bytes_to_unicode`.
        """
        printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        others = [byte for byte in range(256) if byte not in set(printable)]
        signs = {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}
        words = [self._inner.id_to_token(i) or "" for i in range(self.size)]
        return [b"" if i < len(MARKS) else bytes(signs[sign] for sign in word) for i, word in enumerate(words)]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids` without marks; bytes that are not UTF-8 become U+FFFD."""
        return self._inner.decode(said(ids), skip_special_tokens=False)


def said(ids: Sequence[int]) -> list[int]:
    """The ids that stand for text: all but the marks."""
    return [i for i in ids if i >= len(MARKS)]


_HINT = "fetch the model folder again, or train it with `perfuse train code`"
