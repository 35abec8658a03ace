"""From the encoder's buffers as a load makes them to those of the largest image.

llama.cpp reserves the encoder for a square of 46 x 46 tokens; a larger image makes its buffers grow, and they stay so.
A load, and the fit before it, only show the first figure: the difference is the closed form's.
"""

from __future__ import annotations

from qwenops.machine.types import Device
from qwenops.memory.backends import backend_of, encoder_host_backend
from qwenops.memory.encoder import KNOWN_KINDS, WARMUP_TOKENS, encoder_of
from qwenops.model.types import Projector


def grown_encoder(
    projector: Projector,
    tokens: int,
    device: Device | None,
    *,
    warm_device_bytes: int,
    warm_host_bytes: int,
    flash_attn: bool,
) -> tuple[int, int]:
    """The encoder's bytes on its device and on the host for an image of `tokens` tokens, from those at load.

    `device` is None where the encoder runs on the CPU. A kind of projector that the closed form does not know grows
    in proportion to the tokens, as every encoder with fused attention does.
    """
    if tokens <= WARMUP_TOKENS:
        return warm_device_bytes, warm_host_bytes
    if projector.kind not in KNOWN_KINDS:
        ratio = tokens / WARMUP_TOKENS
        return round(warm_device_bytes * ratio), round(warm_host_bytes * ratio)
    backend = backend_of(device) if device is not None else encoder_host_backend()
    warm = encoder_of(projector, WARMUP_TOKENS, flash_attn=flash_attn, backend=backend)
    most = encoder_of(projector, tokens, flash_attn=flash_attn, backend=backend)
    return (
        warm_device_bytes + max(0, most.device_bytes - warm.device_bytes),
        warm_host_bytes + max(0, most.host_bytes - warm.host_bytes),
    )
