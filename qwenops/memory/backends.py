"""What each backend adds to a tensor, refuses to compute, and takes over from the CPU.

Read in llama.cpp b10434: ggml-vulkan.cpp, ggml-cuda.cu and fattn.cu, ggml-metal.cpp and ggml-metal-ops.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from qwenops.machine.types import Device, Kind
from qwenops.memory.quants import BLOCK, TYPE_BYTES
from qwenops.memory.remember import hashed_once
from qwenops.memory.tensor import F16, F32, Tensor, row_bytes
from qwenops.units import GIB, MIB, pad

ENDLESS: Final = 1 << 62
OFFLOAD_ROWS: Final = 32  # op_offload_min_batch_size of every backend
_CUDA_ROW_PADDING: Final = 512  # MATRIX_ROW_PADDING
_CUDA_FLASH_HEADS: Final = frozenset({40, 64, 72, 80, 96, 112, 128, 256})
# keys that only several heads at once can use: the values beside them, and how many heads
_CUDA_GROUPED_HEADS: Final = {192: (128, 8), 320: (256, 32), 512: (512, 1), 576: (512, 1)}
_CUDA_KEYS: Final = 256  # FATTN_KQ_STRIDE
_SOFTWARE_RANGE: Final = 128 * MIB  # maxStorageBufferRange of Mesa's llvmpipe
_HARDWARE_RANGE: Final = 4 * GIB - 1
_UNPADDED: Final = frozenset({"cpu", "vulkan"})
_METAL_HEADS: Final = frozenset({32, 40, 48, 64, 72, 80, 96, 112, 128, 192, 256, 320, 512, 576})


@hashed_once
@dataclass(frozen=True)
class Backend:
    """One device as the scheduler sees it; `software` is a GPU that is really the CPU (llvmpipe)."""

    name: str
    kind: Kind
    alignment: int
    max_buffer_bytes: int = ENDLESS
    max_tensor_bytes: int = ENDLESS
    software: bool = False

    @property
    def is_host(self) -> bool:
        """Whether this is the CPU."""
        return self.kind == "cpu"

    def allocation_bytes(self, t: Tensor) -> int:
        """Bytes this backend sets aside for a tensor, before alignment."""
        return t.size if self.kind in _UNPADDED else t.size + self._extra(t)

    def row_padding_bytes(self, type_: int, row: int) -> int:
        """What the backend adds to a tensor of this type whose rows have `row` numbers."""
        return _cuda_row_padding(type_, row) if self.kind in ("cuda", "rocm") else 0

    def _extra(self, t: Tensor) -> int:
        return _metal_extra(t) if self.kind == "metal" else _cuda_extra(t)

    def supports(self, t: Tensor) -> bool:
        """Whether the backend computes this operation on tensors of these sizes; the CPU computes all."""
        limit = self.max_tensor_bytes
        if limit < ENDLESS and (t.size > limit or any(s.size > limit for s in t.src)):
            return False
        return self.computes(t)

    def computes(self, t: Tensor) -> bool:
        """Whether the backend computes this operation, however large its tensors are."""
        if self.kind == "cpu":
            return True
        if t.op == "FLASH_ATTN_EXT":
            return self._supports_attention(t)
        if t.op == "MUL_MAT" and self.kind == "vulkan":
            return _vulkan_multiplies(t.src[0], t.src[1])
        if t.op == "GATED_DELTA_NET":
            return self.kind != "vulkan" or t.src[2].ne[0] in (16, 32, 64, 128)
        if t.op == "SSM_SCAN":
            return self._supports_scan(t)
        if t.op == "SSM_CONV":
            return self.kind not in ("cuda", "rocm") or t.src[0].ne[1] % 128 == 0
        if t.op == "GATED_LINEAR_ATTN":
            return self.kind != "metal" and (self.kind != "vulkan" or t.src[0].ne[0] == 64)
        return True

    def _supports_scan(self, t: Tensor) -> bool:
        if self.kind == "metal":
            return True
        state, decay = t.src[0], t.src[3]
        if decay.ne[0] == 1:  # Mamba 2
            return state.ne[0] in (128, 256) and state.ne[1] % 16 == 0
        shape_of_first = state.ne[0] == 16 and state.ne[1] == 1 and state.ne[2] % 128 == 0 and t.src[4].ne[1] == 1
        return self.kind in ("cuda", "rocm") and shape_of_first

    def _supports_attention(self, t: Tensor) -> bool:
        k, v = t.src[1], t.src[2]
        if self.kind == "vulkan":
            return k.ne[0] % 8 == 0 and v.ne[0] % 8 == 0
        if self.kind == "metal":
            return k.ne[0] in _METAL_HEADS and k.type == v.type
        return k.type == v.type and _cuda_attends(t.src[0], k, v)

    def takes_over(self, t: Tensor) -> bool:
        """Whether an operation on a weight that lies on the host is better run here (op offload)."""
        if self.is_host or (self.kind == "metal" and t.op not in ("MUL_MAT", "MUL_MAT_ID")):
            return False
        if t.op == "GET_ROWS":
            rows = 0
        elif t.op == "MUL_MAT":
            rows = t.ne[1]
        elif t.op in ("MUL_MAT_ID", "ROPE"):
            rows = t.ne[2]
        else:
            rows = t.rows
        return rows >= OFFLOAD_ROWS


def backend_of(device: Device) -> Backend:
    """The backend behind a device."""
    software = device.kind == "vulkan" and "llvmpipe" in device.description.lower()
    if device.kind == "vulkan":
        # minStorageBufferOffsetAlignment is 16 on llvmpipe and NVIDIA, 4 on RADV; buffers come in blocks of 1 GiB
        return Backend(
            device.name, "vulkan", 16, GIB, _SOFTWARE_RANGE if software else _HARDWARE_RANGE, software=software
        )
    if device.kind == "metal":
        return Backend(device.name, "metal", 32)
    return Backend(device.name, device.kind, 128)


def host_backend(first: Backend | None) -> Backend:
    """The CPU; its compute buffer is the first device's pinned memory where there is one."""
    if first is not None and first.kind == "vulkan":
        return Backend("CPU", "cpu", 64, GIB)
    return Backend("CPU", "cpu", 32)


def encoder_host_backend() -> Backend:
    """The CPU beside an encoder: plain memory, never pinned."""
    return Backend("CPU", "cpu", 32)


def _vulkan_multiplies(a: Tensor, b: Tensor) -> bool:
    """Vulkan spreads no weight over sequences, and wants the rows of one in blocks side by side."""
    side_by_side = a.nb[1] == row_bytes(a.type, a.ne[0]) and (a.ne[3] == 1 or a.nb[3] == a.nb[2] * a.ne[2])
    return a.ne[3] == b.ne[3] and (BLOCK[a.type] == 1 or side_by_side)


def _cuda_attends(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Which heads the attention of CUDA is made for (ggml_cuda_get_best_fattn_kernel)."""
    if k.ne[0] in _CUDA_FLASH_HEADS:
        return v.ne[0] == k.ne[0]
    width, at_once = _CUDA_GROUPED_HEADS.get(k.ne[0], (0, 1))
    grouped = q.ne[2] // k.ne[2]
    return v.ne[0] == width and grouped >= 2 and grouped % at_once == 0 and k.ne[1] % _CUDA_KEYS == 0


def _cuda_extra(t: Tensor) -> int:
    extra = 0
    if t.op == "FLASH_ATTN_EXT" and t.src[0].ne[1] > 2:
        # prompt kernels read K and V as f16, so a cache in another type gets a copy behind the result
        end = t.size
        k, v = t.src[1], t.src[2]
        within = v.view_of is not None and v.view_of is k.view_of and v.offset == k.offset
        for source in (k,) if within else (k, v):
            if source.type != F16:
                end = pad(end, 128) + source.elements * TYPE_BYTES[F16]
        extra = end - t.size
    return extra + _cuda_row_padding(t.type, t.ne[0])


def _cuda_row_padding(type_: int, row: int) -> int:
    """Room behind the last row of a quantized tensor, so that kernels may read whole tiles."""
    if BLOCK[type_] == 1:
        return 0
    missing = -row % _CUDA_ROW_PADDING
    return row_bytes(type_, missing) if missing else 0


def _metal_extra(t: Tensor) -> int:
    if t.op == "MUL_MAT_ID":
        experts, tokens = t.src[0].ne[2], t.src[2].ne[1]
        return 4 * experts + 4 * experts * tokens
    if t.op == "FLASH_ATTN_EXT":
        return _metal_attention_extra(t)
    return t.size if t.op == "ARGSORT" else 0


def _metal_attention_extra(t: Tensor) -> int:
    q, k, v = t.src[0], t.src[1], t.src[2]
    mask = t.src[3] if len(t.src) > 3 else None
    tail = k.nb[1] * k.ne[2] * k.ne[3] + v.nb[1] * v.ne[2] * v.ne[3]
    if mask is not None:
        tail += 2 * mask.ne[1] * mask.ne[2] * mask.ne[3]
    extra = 64 * tail
    if mask is not None:
        few = q.ne[1] < 20 and q.ne[0] % 32 == 0
        queries, keys = (1, 32) if few else (8, 64)
        blocks = -(-mask.ne[0] // keys) * -(-q.ne[1] // queries)
        extra += pad(blocks * mask.ne[2] * mask.ne[3], 32)
    return extra + TYPE_BYTES[F32] * min(q.ne[1], 32) * q.ne[2] * q.ne[3] * 32 * (v.ne[0] + 2)
