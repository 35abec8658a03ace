"""One run of the diffusion model: 60 blocks with a picture stream and a text stream that attend together.

Source: src/qwen_image.hpp and src/common_dit.hpp of stable-diffusion.cpp; widths are fixed there, the number of blocks
is counted in the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from qwenops.image.graphs import pieces as p
from qwenops.memory import tensor as tf
from qwenops.memory.backends import Backend
from qwenops.memory.tensor import F32, Tensor

WIDTH: Final = 3072
HEADS: Final = 24
HEAD: Final = 128
TEXT_WIDTH: Final = 3584
CHANNELS: Final = 16
PATCH: Final = 2
_TIME: Final = 256


@dataclass(frozen=True)
class Step:
    """One evaluation: the latent of the picture, latents of references (width, height), tokens of text.

    `zero_cond` is the mode of Edit-2511, where references are modulated as if they were finished.
    """

    blocks: int
    latent: tuple[int, int]
    text_tokens: int
    references: tuple[tuple[int, int], ...] = ()
    flash: bool = True
    zero_cond: bool = False

    @property
    def picture_tokens(self) -> int:
        """Tokens of the picture and of its references."""
        return sum((w // PATCH) * (h // PATCH) for w, h in (self.latent, *self.references))


@lru_cache(maxsize=64)
def step_bytes(step: Step, backend: Backend) -> int:
    """The compute buffer of one evaluation, in bytes."""
    graph = _Transformer(step)
    return p.buffer_bytes(graph.out(), backend, inputs=(graph.one, graph.zero))


@lru_cache(maxsize=64)
def block_bytes(step: Step, backend: Backend) -> int:
    """The compute buffer where the graph is cut after every block (max_vram), in bytes: of a block in the middle.

    The streams lie in a cache then; the embedding of the time is computed anew in each part.
    """
    graph = _Transformer(step)
    picture, text = p.weight(WIDTH, step.picture_tokens), p.weight(WIDTH, step.text_tokens)
    picture, text = graph.block(picture, text, graph.time())
    picture.is_output = text.is_output = True
    return p.buffer_bytes(picture, backend, inputs=(text,))


def streams_bytes(step: Step) -> int:
    """Both streams between two blocks, in bytes."""
    return 4 * WIDTH * (step.picture_tokens + step.text_tokens)


class _Transformer:
    """One graph being built."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.one, self.zero = p.runner_inputs()
        width, height = step.latent
        self.x = tf.leaf(F32, width, height, CHANNELS, 1)
        self.timesteps = tf.leaf(F32, 1)
        self.context = tf.leaf(F32, TEXT_WIDTH, step.text_tokens)
        self.references = [tf.leaf(F32, w, h, CHANNELS, 1) for w, h in step.references]
        self.pe = tf.leaf(F32, 2, 2, HEAD // 2, step.text_tokens + step.picture_tokens)
        self.index = tf.leaf(F32, step.picture_tokens) if step.zero_cond else None

    def out(self) -> Tensor:
        """The whole run: the change of the latent."""
        width, height = self.step.latent
        picture = _patched(self.x)
        own = picture.ne[1]
        for reference in self.references:
            picture = tf.concat(picture, _patched(reference), 1)
        time = self.time()
        picture = p.linear(picture, WIDTH)
        text = p.linear(p.rms_norm(self.context), WIDTH)
        for _ in range(self.step.blocks):
            picture, text = self.block(picture, text, time)
        if self.step.zero_cond:
            time = p.chunks(time, 2, 1)[0]
        shift_and_scale = p.chunks(p.linear(tf.unary(time), 2 * WIDTH), 2, 0)
        picture = _modulated(p.layer_norm(picture), shift_and_scale[1], shift_and_scale[0])
        out = p.linear(picture, PATCH * PATCH * CHANNELS)
        if out.ne[1] > own:
            out = tf.cont(tf.permute(out, 0, 2, 1, 3))
            out = tf.view_3d(out, (out.ne[0], out.ne[1], own), out.nb[1], out.nb[2])
            out = tf.cont(tf.permute(out, 0, 2, 1, 3))
        return _unpatched(out, width, height)

    def time(self) -> Tensor:
        """The embedding of the time, and beside it that of zero where references need it."""
        embedded = self._time_of(self.timesteps)
        if not self.step.zero_cond:
            return embedded
        nothing = tf.repeat(p.scaled(self.one), 1)
        return tf.concat(embedded, self._time_of(nothing), 1)

    def _time_of(self, timesteps: Tensor) -> Tensor:
        steps = p.scaled(timesteps)
        waves = Tensor(F32, (_TIME, steps.ne[0], 1, 1), "TIMESTEP_EMBEDDING", (steps,))
        return p.linear(p.in_place("UNARY", p.linear(waves, WIDTH)), WIDTH)

    def block(self, picture: Tensor, text: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """One of the blocks."""
        picture_mod = self._modulations(p.linear(tf.unary(time), 6 * WIDTH), self.index)
        if self.step.zero_cond:
            time = p.chunks(time, 2, 1)[0]
        text_mod = self._modulations(p.linear(tf.unary(time), 6 * WIDTH), None)
        spread = self.index is not None
        picture_in = _modulated(p.layer_norm(picture), picture_mod[0], picture_mod[1], spread=spread)
        text_in = _modulated(p.layer_norm(text), text_mod[0], text_mod[1])
        picture_new, text_new = self._attended(picture_in, text_in)
        picture = tf.add(picture, tf.mul(picture_new, picture_mod[2]))
        text = tf.add(text, tf.mul(text_new, text_mod[2]))
        picture_in = _modulated(p.layer_norm(picture), picture_mod[3], picture_mod[4], spread=spread)
        text_in = _modulated(p.layer_norm(text), text_mod[3], text_mod[4])
        picture_new, text_new = _feed_forward(picture_in), _feed_forward(text_in)
        picture = tf.add(picture, tf.mul(picture_new, picture_mod[5]))
        return picture, tf.add(text, tf.mul(text_new, text_mod[5]))

    def _modulations(self, parameters: Tensor, index: Tensor | None) -> Sequence[Tensor]:
        if index is None:
            return p.chunks(parameters, 6, 0)
        flat = tf.reshape(parameters, parameters.elements)
        both = p.chunks(flat, 12, 0)
        spread = tf.repeat(tf.reshape(index, 1, index.ne[0], index.ne[1]), both[0].ne[0], index.ne[0])
        mixed = []
        for first, second in zip(both[:6], both[6:], strict=True):
            rest = tf.same_shape("SUB", tf.repeat(first, *spread.ne), tf.mul(spread, first))
            mixed.append(tf.add(rest, tf.mul(spread, second)))
        return mixed

    def _attended(self, picture: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        of_picture = [_heads(p.linear(picture, WIDTH)) for _ in range(3)]
        of_picture[:2] = [p.rms_norm(x) for x in of_picture[:2]]
        of_text = [_heads(p.linear(text, WIDTH)) for _ in range(3)]
        of_text[:2] = [p.rms_norm(x) for x in of_text[:2]]
        q, k, v = (tf.concat(t, i, 2) for t, i in zip(of_text, of_picture, strict=True))
        q, k = p.rotated(q, self.pe), p.rotated(k, self.pe)
        out = p.attention(q, k, v, HEADS, flash=self.step.flash, kv_scale=True, one=self.one)
        text_out = tf.view_3d(out, (WIDTH, text.ne[1], 1), out.nb[1], out.nb[2])
        picture_out = tf.view_3d(out, (WIDTH, picture.ne[1], 1), out.nb[1], out.nb[2], text.ne[1] * out.nb[1])
        picture_out, text_out = tf.cont(picture_out), tf.cont(text_out)
        return p.linear(picture_out, WIDTH, scale=True), p.linear(text_out, WIDTH, scale=True)


def _heads(x: Tensor) -> Tensor:
    return tf.reshape(x, HEAD, HEADS, x.ne[1], x.ne[2])


def _modulated(x: Tensor, shift: Tensor, scale: Tensor, *, spread: bool = False) -> Tensor:
    if not spread:
        scale = tf.reshape(scale, scale.ne[0], 1, scale.ne[1])
        shift = tf.reshape(shift, shift.ne[0], 1, shift.ne[1])
    return tf.add(tf.add(x, tf.mul(x, scale)), shift)


def _feed_forward(x: Tensor) -> Tensor:
    return p.linear(p.gelu(p.linear(x, 4 * WIDTH), inplace=True), WIDTH, scale=True)


def _patched(x: Tensor) -> Tensor:
    """DiT::patchify: patches of 2 x 2 of the latent as rows."""
    width, height, channels, batch = x.ne
    across, down = width // PATCH, height // PATCH
    x = tf.reshape(x, PATCH, across, PATCH, down * channels * batch)
    x = tf.cont(tf.permute(x, 0, 2, 1, 3))
    x = tf.reshape(x, PATCH * PATCH, across * down, channels, batch)
    x = tf.cont(tf.permute(x, 0, 2, 1, 3))
    return tf.reshape(x, PATCH * PATCH * channels, across * down, batch)


def _unpatched(x: Tensor, width: int, height: int) -> Tensor:
    """DiT::unpatchify_and_crop."""
    across, down, batch = width // PATCH, height // PATCH, x.ne[2]
    x = tf.reshape(x, PATCH * PATCH, CHANNELS, across * down, batch)
    x = tf.cont(tf.permute(x, 0, 2, 1, 3))
    x = tf.reshape(x, PATCH, PATCH, across, down * CHANNELS * batch)
    x = tf.cont(tf.permute(x, 0, 2, 1, 3))
    x = tf.reshape(x, width, height, CHANNELS, batch)
    x = p.part(x, 1, 0, height)
    return p.part(x, 0, 0, width)
