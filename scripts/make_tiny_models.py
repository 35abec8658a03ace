"""Makes small random vision-language models that llama.cpp and Ollama really load.

    python scripts/make_tiny_models.py --tokenizer SmolLM2-135M-Instruct.Q4_1.gguf --out FOLDER [FAMILY...]

Each has the tensors, metadata and projector of its family at a size of about 30 MiB, and takes a picture
as the real one does. To whatever is asked it answers one short sentence and stops: a model of nothing but
random numbers repeats one token for ever, which Ollama breaks off without an end. The tokenizer is borrowed
from a real model's file. The weights come from PCG64's raw stream: the same tokenizer gives the same bytes
everywhere.
Tensor names and shapes: llama.cpp b10435, src/models/{qwen3vl,qwen2vl,qwen35}.cpp and tools/mtmd/clip.cpp.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gguf
    import numpy as np
    from numpy.typing import NDArray

VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
CONTROL_TOKEN = 3
F16_FILE = 1

# The text side, the same in every family: rows of 256 so that every quantization applies.
WIDTH, HEADS, KV_HEADS, HEAD_DIM, FEED_FORWARD = 256, 4, 2, 64, 512
CONTEXT = 32768
# What they say, as GPT-2 style tokenizers write a leading space. One hidden dimension stands for "before the
# sentence", one for each of its words.
SENTENCE = ("A", "Ġsmall", "Ġrandom", "Ġmodel", ".")
# How strongly a token marks its dimension, the last layer notices it, and the next word is written.
MARK, NOTICE, WRITE = 0.5, 20.0, 2.0

# The vision side.
EYE_WIDTH, EYE_HEADS, EYE_FEED_FORWARD, EYE_LAYERS = 64, 4, 128, 2
MERGED = EYE_WIDTH * 4


@dataclass(frozen=True)
class Tokenizer:
    """What a model's file says about its tokens, with the four vision tokens of Qwen added.

    `says` are the tokens of the sentence that the model answers with, each of them another one; where it does not
    end, the last is said for ever.
    """

    tokens: list[str]
    types: list[int]
    merges: list[str]
    pre: str
    bos: int
    eos: int
    chat_template: str
    says: tuple[str, ...] = SENTENCE
    ends: bool = True


def read_tokenizer(source: Path) -> Tokenizer:
    """Take the tokenizer out of another GGUF."""
    from gguf import GGUFReader

    fields = GGUFReader(source).fields

    def value(key: str) -> Any:
        return fields[f"tokenizer.{key}"].contents()

    return Tokenizer(
        tokens=[*value("ggml.tokens"), *VISION_TOKENS],
        types=[*value("ggml.token_type"), *[CONTROL_TOKEN] * len(VISION_TOKENS)],
        merges=value("ggml.merges"),
        pre=value("ggml.pre"),
        bos=value("ggml.bos_token_id"),
        eos=value("ggml.eos_token_id"),
        chat_template=value("chat_template"),
    )


class Weights:
    """Adds tensors of small random numbers to a writer, the same ones for the same seed."""

    def __init__(self, writer: gguf.GGUFWriter, seed: int) -> None:
        import numpy as np

        self._writer = writer
        self._stream = np.random.PCG64(seed)

    def _draw(self, shape: tuple[int, ...], spread: float) -> NDArray[np.float32]:
        import numpy as np

        count = int(np.prod(shape))
        raw = self._stream.random_raw((count + 3) // 4).astype("<u8").view("<i2")[:count]
        return (raw.astype(np.float32) * (spread / 32768)).reshape(shape)

    def matrix(self, name: str, *shape: int) -> None:
        """A weight in f16; shape is numpy's, rows first."""
        self._add(name, self._draw(shape, 0.1))

    def _add(self, name: str, values: NDArray[np.float32]) -> None:
        import numpy as np

        self._writer.add_tensor(name, values.astype(np.float16))

    def embedding(self, words: Tokenizer) -> None:
        """The token table. Every token marks one of the state dimensions: its place in the sentence, or 0."""
        table = self._draw((len(words.tokens), WIDTH), 0.1)
        said = [words.tokens.index(word) for word in words.says]
        states = self._states = len(said) + 1
        table[:, :states] = 0
        table[:, 0] = MARK
        for place, token in enumerate(said, 1):
            table[token, :states] = 0
            table[token, place] = MARK
        self._next_words = table[[*said, words.eos if words.ends else said[-1]]].copy()
        self._next_words[:, :states] = 0
        self._table = table
        self._add("token_embd.weight", table)

    def head(self, name: str) -> None:
        """An output head of its own, with the values that a tied one would have."""
        self._add(name, self._table)

    def quiet_output(self, name: str, columns: int) -> None:
        """What a block adds to the stream, except to the state dimensions: those keep what the token marked."""
        matrix = self._draw((WIDTH, columns), 0.1)
        matrix[: self._states] = 0
        self._add(name, matrix)

    def feed_forward(self, block: str, *, speaks: bool) -> None:
        """The gated feed-forward. In the layer that speaks, one unit a state writes the word that comes next."""
        gate = self._draw((FEED_FORWARD, WIDTH), 0.1)
        up = self._draw((FEED_FORWARD, WIDTH), 0.1)
        down = self._draw((WIDTH, FEED_FORWARD), 0.1)
        down[: self._states] = 0
        if speaks:
            for state in range(self._states):
                gate[state] = up[state] = 0
                gate[state, state] = up[state, state] = NOTICE
                down[:, state] = WRITE * self._next_words[state]
        self._add(f"{block}.ffn_gate.weight", gate)
        self._add(f"{block}.ffn_up.weight", up)
        self._add(f"{block}.ffn_down.weight", down)

    def vector(self, name: str, *shape: int) -> None:
        """A bias or another tensor that files keep in f32."""
        self._writer.add_tensor(name, self._draw(shape, 0.04))

    def ones(self, name: str, *shape: int) -> None:
        """The weight of a normalisation."""
        import numpy as np

        self._writer.add_tensor(name, np.ones(shape, np.float32))

    def linear(self, name: str, rows: int, columns: int) -> None:
        """A matrix with its bias."""
        self.matrix(f"{name}.weight", rows, columns)
        self.vector(f"{name}.bias", rows)

    def norm(self, name: str, width: int) -> None:
        """A layer norm with its bias."""
        self.ones(f"{name}.weight", width)
        self.vector(f"{name}.bias", width)


def _describe_text(writer: gguf.GGUFWriter, words: Tokenizer, name: str, layers: int) -> None:
    writer.add_name(name)
    writer.add_file_type(F16_FILE)
    writer.add_block_count(layers)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(words.pre)
    writer.add_token_list(words.tokens)
    writer.add_token_types(words.types)
    writer.add_token_merges(words.merges)
    writer.add_bos_token_id(words.bos)
    writer.add_eos_token_id(words.eos)
    writer.add_pad_token_id(words.eos)
    writer.add_add_bos_token(False)
    writer.add_chat_template(words.chat_template)


def _text_ends(weights: Weights, words: Tokenizer) -> None:
    weights.embedding(words)
    weights.ones("output_norm.weight", WIDTH)


def write_qwen3vl_text(writer: gguf.GGUFWriter, words: Tokenizer) -> None:
    """Qwen3-VL: query and key norms, one deepstack layer."""
    layers = 4
    _describe_text(writer, words, "Tiny Qwen3-VL", layers)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_rope_freq_base(5e6)
    writer.add_rope_dimension_sections([12, 10, 10, 0])
    writer.add_num_deepstack_layers(1)
    weights = Weights(writer, seed=3001)
    _text_ends(weights, words)
    for i in range(layers):
        block = f"blk.{i}"
        weights.ones(f"{block}.attn_norm.weight", WIDTH)
        weights.ones(f"{block}.ffn_norm.weight", WIDTH)
        weights.ones(f"{block}.attn_q_norm.weight", HEAD_DIM)
        weights.ones(f"{block}.attn_k_norm.weight", HEAD_DIM)
        weights.matrix(f"{block}.attn_q.weight", HEADS * HEAD_DIM, WIDTH)
        weights.matrix(f"{block}.attn_k.weight", KV_HEADS * HEAD_DIM, WIDTH)
        weights.matrix(f"{block}.attn_v.weight", KV_HEADS * HEAD_DIM, WIDTH)
        weights.quiet_output(f"{block}.attn_output.weight", HEADS * HEAD_DIM)
        weights.feed_forward(block, speaks=i == layers - 1)


def write_qwen25vl_text(writer: gguf.GGUFWriter, words: Tokenizer) -> None:
    """Qwen2.5-VL: biases on query, key and value; its own output head."""
    layers = 4
    _describe_text(writer, words, "Tiny Qwen2.5-VL", layers)
    writer.add_rope_freq_base(1e6)
    writer.add_rope_dimension_sections([8, 12, 12, 0])
    weights = Weights(writer, seed=2501)
    _text_ends(weights, words)
    weights.head("output.weight")
    for i in range(layers):
        block = f"blk.{i}"
        weights.ones(f"{block}.attn_norm.weight", WIDTH)
        weights.ones(f"{block}.ffn_norm.weight", WIDTH)
        weights.linear(f"{block}.attn_q", HEADS * HEAD_DIM, WIDTH)
        weights.linear(f"{block}.attn_k", KV_HEADS * HEAD_DIM, WIDTH)
        weights.linear(f"{block}.attn_v", KV_HEADS * HEAD_DIM, WIDTH)
        weights.quiet_output(f"{block}.attn_output.weight", HEADS * HEAD_DIM)
        weights.feed_forward(block, speaks=i == layers - 1)


def write_qwen35_text(writer: gguf.GGUFWriter, words: Tokenizer) -> None:
    """Qwen3.5: three recurrent layers (gated delta net), then one of gated attention."""
    layers, interval = 4, 4
    state, key_heads, value_heads, kernel = 64, 2, 4, 4
    inner = state * value_heads
    mixed = 2 * state * key_heads + inner
    _describe_text(writer, words, "Tiny Qwen3.5", layers)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_rope_freq_base(1e7)
    writer.add_rope_dimension_count(HEAD_DIM // 4)
    writer.add_rope_dimension_sections([3, 3, 2, 0])
    writer.add_full_attention_interval(interval)
    writer.add_ssm_conv_kernel(kernel)
    writer.add_ssm_state_size(state)
    writer.add_ssm_group_count(key_heads)
    writer.add_ssm_time_step_rank(value_heads)
    writer.add_ssm_inner_size(inner)
    weights = Weights(writer, seed=3501)
    _text_ends(weights, words)
    for i in range(layers):
        block = f"blk.{i}"
        weights.ones(f"{block}.attn_norm.weight", WIDTH)
        weights.ones(f"{block}.post_attention_norm.weight", WIDTH)
        if (i + 1) % interval == 0:
            weights.matrix(f"{block}.attn_q.weight", 2 * HEADS * HEAD_DIM, WIDTH)
            weights.matrix(f"{block}.attn_k.weight", KV_HEADS * HEAD_DIM, WIDTH)
            weights.matrix(f"{block}.attn_v.weight", KV_HEADS * HEAD_DIM, WIDTH)
            weights.quiet_output(f"{block}.attn_output.weight", HEADS * HEAD_DIM)
            weights.ones(f"{block}.attn_q_norm.weight", HEAD_DIM)
            weights.ones(f"{block}.attn_k_norm.weight", HEAD_DIM)
        else:
            weights.matrix(f"{block}.attn_qkv.weight", mixed, WIDTH)
            weights.matrix(f"{block}.attn_gate.weight", inner, WIDTH)
            weights.vector(f"{block}.ssm_conv1d.weight", mixed, kernel)
            weights.vector(f"{block}.ssm_dt.bias", value_heads)
            weights.vector(f"{block}.ssm_a", value_heads)
            weights.matrix(f"{block}.ssm_beta.weight", value_heads, WIDTH)
            weights.matrix(f"{block}.ssm_alpha.weight", value_heads, WIDTH)
            weights.ones(f"{block}.ssm_norm.weight", state)
            weights.quiet_output(f"{block}.ssm_out.weight", inner)
        weights.feed_forward(block, speaks=i == layers - 1)


def _describe_eye(writer: gguf.GGUFWriter, name: str, projector: str, patch: int, image: int) -> None:
    writer.add_type("mmproj")
    writer.add_name(name)
    writer.add_file_type(F16_FILE)
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type(projector)
    writer.add_vision_image_size(image)
    writer.add_vision_patch_size(patch)
    writer.add_vision_embedding_length(EYE_WIDTH)
    writer.add_vision_feed_forward_length(EYE_FEED_FORWARD)
    writer.add_vision_projection_dim(WIDTH)
    writer.add_vision_block_count(EYE_LAYERS)
    writer.add_vision_head_count(EYE_HEADS)
    writer.add_vision_attention_layernorm_eps(1e-6)
    writer.add_vision_spatial_merge_size(2)
    writer.add_vision_image_mean([0.5, 0.5, 0.5])
    writer.add_vision_image_std([0.5, 0.5, 0.5])


def _eye_ends(weights: Weights, patch: int) -> None:
    weights.matrix("v.patch_embd.weight", EYE_WIDTH, 3, patch, patch)
    weights.matrix("v.patch_embd.weight.1", EYE_WIDTH, 3, patch, patch)
    weights.linear("mm.0", MERGED, MERGED)
    weights.linear("mm.2", WIDTH, MERGED)


def _write_merger_eye(writer: gguf.GGUFWriter, name: str, seed: int, deepstack: bool) -> None:
    patch, image = 16, 256
    _describe_eye(writer, name, "qwen3vl_merger", patch, image)
    writer.add_vision_use_gelu(True)
    writer.add_vision_is_deepstack_layers([deepstack and i == 0 for i in range(EYE_LAYERS)])
    weights = Weights(writer, seed)
    _eye_ends(weights, patch)
    weights.vector("v.patch_embd.bias", EYE_WIDTH)
    weights.vector("v.position_embd.weight", (image // patch) ** 2, EYE_WIDTH)
    weights.norm("v.post_ln", EYE_WIDTH)
    for block in (f"v.blk.{i}" for i in range(EYE_LAYERS)):
        weights.norm(f"{block}.ln1", EYE_WIDTH)
        weights.norm(f"{block}.ln2", EYE_WIDTH)
        weights.linear(f"{block}.attn_qkv", 3 * EYE_WIDTH, EYE_WIDTH)
        weights.linear(f"{block}.attn_out", EYE_WIDTH, EYE_WIDTH)
        weights.linear(f"{block}.ffn_up", EYE_FEED_FORWARD, EYE_WIDTH)
        weights.linear(f"{block}.ffn_down", EYE_WIDTH, EYE_FEED_FORWARD)
    if deepstack:
        weights.norm("v.deepstack.0.norm", MERGED)
        weights.linear("v.deepstack.0.fc1", MERGED, MERGED)
        weights.linear("v.deepstack.0.fc2", WIDTH, MERGED)


def write_qwen3vl_eye(writer: gguf.GGUFWriter) -> None:
    """Qwen3-VL's projector, with one deepstack layer as the model expects."""
    _write_merger_eye(writer, "Tiny Qwen3-VL", seed=3002, deepstack=True)


def write_qwen35_eye(writer: gguf.GGUFWriter) -> None:
    """Qwen3.5's projector: Qwen3-VL's without deepstack."""
    _write_merger_eye(writer, "Tiny Qwen3.5", seed=3502, deepstack=False)


def write_qwen25vl_eye(writer: gguf.GGUFWriter) -> None:
    """Qwen2.5-VL's projector: RMS norms, a gated feed-forward, window attention on every other layer."""
    patch = 14
    _describe_eye(writer, "Tiny Qwen2.5-VL", "qwen2.5vl_merger", patch, image=560)
    writer.add_vision_use_silu(True)
    writer.add_vision_n_wa_pattern(EYE_LAYERS)
    weights = Weights(writer, seed=2502)
    _eye_ends(weights, patch)
    weights.ones("v.post_ln.weight", EYE_WIDTH)
    for block in (f"v.blk.{i}" for i in range(EYE_LAYERS)):
        weights.ones(f"{block}.ln1.weight", EYE_WIDTH)
        weights.ones(f"{block}.ln2.weight", EYE_WIDTH)
        for part in ("attn_q", "attn_k", "attn_v", "attn_out"):
            weights.linear(f"{block}.{part}", EYE_WIDTH, EYE_WIDTH)
        weights.linear(f"{block}.ffn_gate", EYE_FEED_FORWARD, EYE_WIDTH)
        weights.linear(f"{block}.ffn_up", EYE_FEED_FORWARD, EYE_WIDTH)
        weights.linear(f"{block}.ffn_down", EYE_WIDTH, EYE_FEED_FORWARD)


@dataclass(frozen=True)
class Family:
    """How the two files of a family are written."""

    architecture: str
    text: Callable[[gguf.GGUFWriter, Tokenizer], None]
    eye: Callable[[gguf.GGUFWriter], None]


FAMILIES = {
    "qwen3vl": Family("qwen3vl", write_qwen3vl_text, write_qwen3vl_eye),
    "qwen25vl": Family("qwen2vl", write_qwen25vl_text, write_qwen25vl_eye),
    "qwen35": Family("qwen35", write_qwen35_text, write_qwen35_eye),
}


def make(family: str, words: Tokenizer, folder: Path) -> tuple[Path, Path]:
    """Write tiny-FAMILY-f16.gguf and mmproj-tiny-FAMILY-f16.gguf into folder; returns the two paths."""
    recipe = FAMILIES[family]
    model = folder / f"tiny-{family}-f16.gguf"
    projector = folder / f"mmproj-tiny-{family}-f16.gguf"
    _write(projector, "clip", recipe.eye)
    # The model last: where it is, its projector is whole too.
    _write(model, recipe.architecture, lambda writer: recipe.text(writer, words))
    return model, projector


def _write(path: Path, architecture: str, fill: Callable[[gguf.GGUFWriter], None]) -> None:
    from gguf import GGUFWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tiny-", dir=path.parent) as scratch:
        draft = Path(scratch) / path.name
        writer = GGUFWriter(draft, architecture)
        fill(writer)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        os.replace(draft, path)


def main(arguments: Iterable[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(FAMILIES)}; default all")
    parser.add_argument("--tokenizer", type=Path, required=True, help="a GGUF to take the tokenizer from")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write into")
    options = parser.parse_args(None if arguments is None else list(arguments))
    if unknown := set(options.families) - set(FAMILIES):
        parser.error(f"no such family: {', '.join(sorted(unknown))}; there are {', '.join(FAMILIES)}")
    words = read_tokenizer(options.tokenizer)
    for family in options.families or FAMILIES:
        for path in make(family, words, options.out):
            print(f"{path}  {path.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
