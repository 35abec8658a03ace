"""How many tokens a prompt takes: by the encoder's own tokenizer, or between two bounds that hold for any text.

The limit is of the prompt's tokens: diffusers puts the prompt into a message, takes the message's head off the result
and keeps so many tokens of what is left, which begins with the prompt (pipeline_qwenimage.py, _get_qwen_prompt_embeds).
stable-diffusion.cpp cuts nothing off.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from qwenops import worker
from qwenops.errors import BadInput

_LIMIT_S: Final = 120.0
QWEN_TOKENIZER: Final = "qwen2"
"""What a GGUF calls it (tokenizer.ggml.pre); Qwen2-VL to Qwen3-VL share it."""


@dataclass(frozen=True)
class TokenCount:
    """Tokens of a prompt: `least` equals `most` where a tokenizer counted. `cuts` has the character at which each limit
    that was asked for would cut."""

    least: int
    most: int
    tokenizer: str | None = None
    cuts: Mapping[int, int] | None = None

    @property
    def exact(self) -> bool:
        """Whether it was counted."""
        return self.tokenizer is not None


def bounds(text: str) -> TokenCount:
    """What holds for every tokenizer of this kind without asking one.

    At most a token a byte, since single bytes are tokens. At least one for each run of letters and one for each digit,
    since the rule that cuts a text before pairs are merged never joins two of these (pre-tokenizer "qwen2", llama.cpp
    src/llama-vocab.cpp).
    """
    plain = unicodedata.normalize("NFC", text)
    runs = groupby(plain, key=lambda c: unicodedata.category(c)[0])
    least = sum(1 if kind == "L" else len(list(run)) for kind, run in runs if kind in "LN")
    return TokenCount(max(1, least), len(plain.encode()))


def count(text: str, file: Path, shown_as: str, limits: Sequence[int] = ()) -> TokenCount:
    """What the tokenizer of a GGUF makes of a text, its vocabulary loaded alone, in a child.

    Raises PartMissing without llama-cpp-python, ChildDied or BadInput where the file has no vocabulary.
    """
    plain = unicodedata.normalize("NFC", text)
    asked = {"file": str(file), "text": plain, "limits": list(limits)}
    answer = worker.run("qwenops.image.prompt_tokens:count_in_child", asked, limit_s=_LIMIT_S)
    cuts = {int(limit): place for limit, place in answer["cuts"].items()}
    return TokenCount(answer["tokens"], answer["tokens"], shown_as, cuts)


def count_in_child(request: Mapping[str, Any], emit: Callable[..., None]) -> dict[str, Any]:
    """The child's half: load the vocabulary, cut the text, find the characters at which limits fall."""
    from qwenops import llama_library

    lib = llama_library.load()
    params = lib.llama_model_default_params()
    params.vocab_only = True
    params.n_gpu_layers = 0
    model = lib.llama_model_load_from_file(request["file"].encode(), params)
    if not model:
        raise BadInput(f"{request['file']} has no vocabulary that llama.cpp can read", do="--tokenizer MODEL.gguf")
    vocabulary = lib.llama_model_get_vocab(model)
    raw = request["text"].encode()
    tokens = (lib.llama_token * (len(raw) + 8))()
    # No special tokens are added, and none is read out of the text: the prompt's own are counted.
    n = lib.llama_tokenize(vocabulary, raw, len(raw), tokens, len(tokens), False, False)
    if n < 0:
        raise BadInput("the prompt cannot be cut into tokens", do="give another text")
    cuts = {}
    for limit in request["limits"]:
        if n > limit:
            before = b"".join(_piece(lib, vocabulary, tokens[i]) for i in range(limit))
            cuts[str(limit)] = len(before.decode("utf-8", "ignore"))
    return {"tokens": int(n), "cuts": cuts}


def _piece(lib: Any, vocabulary: Any, token: int) -> bytes:
    import ctypes

    room = ctypes.create_string_buffer(512)
    length = lib.llama_token_to_piece(vocabulary, token, room, len(room), 0, True)
    return room.raw[: max(0, length)]
