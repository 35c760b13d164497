"""Tokens and text: a thin layer over a Hugging Face fast tokenizer.

What the engine needs beyond ``encode`` is what each token is *in bytes*: constraints walk
bytes, and text is put together from bytes, so that a character split over two tokens is
never shown half.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

_STRAY = {0xDC00 + byte: f"⟨{byte:02X}⟩" for byte in range(0x80, 0x100)}
"""What Python's "surrogateescape" makes of bytes that are no character, and how they are shown."""


class Tokenizer:
    """Encode, decode, and the byte string of every token.

    Args:
        hf: a ``transformers.PreTrainedTokenizerFast``.
        vocab_size: width of the model's logits; ids past the tokenizer's own are unused.
        eos_ids: token ids that end a text, besides the tokenizer's own.
    """

    def __init__(self, hf: Any, vocab_size: int | None = None, eos_ids: tuple[int, ...] = ()):
        if not getattr(hf, "is_fast", False):
            raise ValueError(
                f"tokenizer {type(hf).__name__} has no fast (Rust) version; "
                "sglnb needs a tokenizer.json"
            )
        self.hf = hf
        self._rust = hf.backend_tokenizer
        self.vocab_size = vocab_size or len(hf)
        own_eos = () if hf.eos_token_id is None else (hf.eos_token_id,)
        self.eos_ids: frozenset[int] = frozenset((*own_eos, *eos_ids))
        spec = json.loads(self._rust.to_str())
        self._special = {t["id"] for t in spec["added_tokens"] if t["special"]}
        self._special |= self.eos_ids
        self._byte_level, self._metaspace = _alphabet(spec)
        self._bos = hf.bos_token if isinstance(hf.bos_token, str) else None

    @classmethod
    def from_pretrained(cls, path: str | Path, **kwargs: Any) -> Tokenizer:
        """Load the tokenizer of a local folder or a hub name."""
        from transformers import AutoTokenizer

        return cls(AutoTokenizer.from_pretrained(str(path), trust_remote_code=False), **kwargs)

    @classmethod
    def from_file(cls, path: str | Path, **kwargs: Any) -> Tokenizer:
        """Load a bare ``tokenizer.json``."""
        from transformers import PreTrainedTokenizerFast

        return cls(PreTrainedTokenizerFast(tokenizer_file=str(path)), **kwargs)

    # -- text to ids -----------------------------------------------------------------------

    def encode(self, text: str) -> list[int]:
        """Ids of a whole prompt. The model's begin-of-text token is put in front when the
        tokenizer does so and ``text`` does not start with it already."""
        starts = self._bos is not None and text.startswith(self._bos)
        return self._rust.encode(text, add_special_tokens=not starts).ids

    def encode_plain(self, text: str) -> list[int]:
        """Ids of ``text`` alone, nothing added. For a SentencePiece tokenizer this still
        puts its dummy space in front of the first word: anchor the text if that matters."""
        return self._rust.encode(text, add_special_tokens=False).ids

    # -- ids to text -----------------------------------------------------------------------

    @cached_property
    def token_bytes(self) -> list[bytes | None]:
        """Bytes of each id, ``vocab_size`` long. None: a special or an unused id, never
        legal as text."""
        out: list[bytes | None] = [None] * self.vocab_size
        for token, i in self._rust.get_vocab(with_added_tokens=True).items():
            if i < self.vocab_size and i not in self._special:
                out[i] = self._to_bytes(token, i)
        return out

    def _to_bytes(self, token: str, i: int) -> bytes:
        if self._byte_level:
            try:
                return bytes(_BYTE_OF_CHAR[c] for c in token)
            except KeyError:  # an added token, stored as plain text
                return token.encode()
        if self._metaspace:
            if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
                return bytes([int(token[3:5], 16)])
            return token.replace("\u2581", " ").encode()
        return self._rust.decode([i], skip_special_tokens=False).encode()

    @cached_property
    def pieces(self) -> list[str]:
        """Display text of each id, ``vocab_size`` long: special tokens by their name, bytes
        that are no character alone as ``⟨E2⟩``."""
        out = []
        for i, raw in enumerate(self.token_bytes):
            if raw is None:
                out.append(self._rust.id_to_token(i) or f"<unused {i}>")
            else:
                out.append(raw.decode("utf-8", errors="surrogateescape").translate(_STRAY))
        return out

    @cached_property
    def special_ids(self) -> dict[str, int]:
        """Ids of the special tokens, by name."""
        rows = enumerate(zip(self.token_bytes, self.pieces, strict=True))
        return {piece: i for i, (raw, piece) in rows if raw is None and piece != f"<unused {i}>"}

    def to_bytes(self, ids: list[int], *, special: bool = False) -> bytes:
        """The bytes that ``ids`` spell; special tokens are left out unless ``special``."""
        table, pieces = self.token_bytes, self.pieces
        parts = []
        for i in ids:
            raw = table[i]
            if raw is not None:
                parts.append(raw)
            elif special:
                parts.append(pieces[i].encode())
        return b"".join(parts)

    def decode(self, ids: list[int], *, special: bool = False) -> str:
        """Text of ``ids``. Bytes that make no character become U+FFFD."""
        return self.to_bytes(ids, special=special).decode("utf-8", errors="replace")

    def shown(self, i: int, *, special: bool = False, first: bool = False) -> bytes | None:
        """The bytes that token ``i`` adds to a text; None if it is not shown.

        Args:
            special: show special tokens by their name.
            first: nothing is shown before it. A SentencePiece tokenizer puts a space in front
                of a text's first word when it encodes and drops it when it decodes.
        """
        raw = self.token_bytes[i]
        if raw is None:
            return self.pieces[i].encode() if special else None
        if first and raw.startswith(b" "):
            alone = self._rust.decode([i], skip_special_tokens=False).encode()
            return raw[max(0, len(raw) - len(alone)) :]
        return raw

    def shows_nothing(self, ids: list[int]) -> bool:
        """Whether ``ids`` are special tokens only."""
        return all(self.token_bytes[i] is None for i in ids)

    # -- chat ------------------------------------------------------------------------------

    @property
    def has_chat_template(self) -> bool:
        """Whether the checkpoint brings a chat template."""
        return bool(getattr(self.hf, "chat_template", None))

    def render_chat(self, messages: list[dict[str, Any]], *, generation_prompt: bool) -> str:
        """``messages`` as the model's chat template writes them."""
        return self.hf.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=generation_prompt
        )

    def __repr__(self) -> str:
        return f"Tokenizer({self.vocab_size:,} ids)"


def _alphabet(spec: dict[str, Any]) -> tuple[bool, bool]:
    """(byte-level BPE, SentencePiece style) of a ``tokenizer.json``."""
    decoder = spec.get("decoder") or {}
    parts = decoder.get("decoders", [decoder])
    kinds = {part.get("type") for part in parts}
    pre = spec.get("pre_tokenizer") or {}
    kinds |= {part.get("type") for part in pre.get("pretokenizers", [pre])}
    return "ByteLevel" in kinds, bool(kinds & {"ByteFallback", "Metaspace", "Replace"})


def _gpt2_bytes() -> dict[str, int]:
    """Byte of each stand-in character of byte-level BPE (the GPT-2 table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(b): b for b in printable}
    others = (b for b in range(256) if b not in set(printable))
    table.update({chr(256 + n): b for n, b in enumerate(others)})
    return table


_BYTE_OF_CHAR = _gpt2_bytes()
