"""The pieces under the closed form: allocator, scheduler, placement, fit, weights."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from qwenops.machine.types import Device, Kind
from qwenops.memory import tensor as tf
from qwenops.memory.backends import Backend, backend_of
from qwenops.memory.closed_form import closed_form
from qwenops.memory.heap import Heap
from qwenops.memory.kv import cells_per_stream, layer_cells, micro_batch
from qwenops.memory.overhead import overhead_bytes
from qwenops.memory.placement import place
from qwenops.memory.scheduler import Scheduler
from qwenops.memory.shape import shape_of
from qwenops.memory.types import LoadSettings
from qwenops.units import GIB, MIB
from tests.support.shapes import TEXT, Dims, text_model

SOFTWARE = Device("Vulkan0", "vulkan", "llvmpipe (LLVM 15)", 2 * GIB, 2 * GIB, source="runtime")
CPU = Backend("CPU", "cpu", 32)
GPU = Backend("GPU", "cuda", 128)


def _card(free_gib: float, name: str = "CUDA0", kind: Kind = "cuda") -> Device:
    return Device(name, kind, "a card", 48 * GIB, int(free_gib * GIB), source="runtime")


class TestHeap:
    def test_takes_the_smallest_gap_that_holds_it(self) -> None:
        heap = Heap(16, 1 << 40)
        places = [heap.take(n) for n in (64, 16, 32, 16, 128)]
        heap.give_back(places[0], 64)
        heap.give_back(places[2], 32)
        assert heap.take(20) == places[2]
        assert heap.peak_bytes == 256

    def test_joins_gaps_that_touch(self) -> None:
        heap = Heap(16, 1 << 40)
        a, b, c = heap.take(32), heap.take(32), heap.take(32)
        heap.take(16)
        for place_ in (a, c, b):
            heap.give_back(place_, 32)
        assert heap.take(96) == (0, 0)

    def test_starts_a_new_chunk_when_the_largest_is_full(self) -> None:
        heap = Heap(16, 100)
        assert [heap.take(64), heap.take(64), heap.take(200)] == [(0, 0), (1, 0), (2, 0)]
        assert heap.peak_bytes == 64 + 64 + 208

    def test_rounds_up_to_the_alignment(self) -> None:
        heap = Heap(128, 1 << 40)
        heap.take(1)
        assert heap.take(1) == (0, 128)


class TestScheduler:
    @staticmethod
    def _chain(place_: int, rows: int) -> tf.Graph:
        graph = tf.Graph()
        x = tf.graph_input(tf.F32, 256, rows)
        for _ in range(3):
            x = tf.unary(tf.mul_mat(tf.weight(tf.F16, (256, 256), place_), x))
        x.is_output = True
        graph.expand(x)
        return graph

    def test_a_result_nobody_needs_again_is_written_over(self) -> None:
        device, host = Scheduler([GPU, CPU]).peaks(self._chain(0, 64))
        one = 256 * 64 * 4
        assert device == 2 * one  # source and result; the activation works in place
        assert host == one  # the input

    def test_large_batches_on_host_weights_run_on_the_device_with_a_copy_of_the_weight(self) -> None:
        device, _ = Scheduler([GPU, CPU]).peaks(self._chain(1, 64))
        assert device >= 2 * 256 * 64 * 4 + 256 * 256 * 2

    def test_small_batches_on_host_weights_stay_on_the_host(self) -> None:
        device, host = Scheduler([GPU, CPU]).peaks(self._chain(1, 8))
        assert device == 0
        assert host > 0

    def test_a_tensor_beyond_the_device_limit_is_left_to_the_cpu(self) -> None:
        small = replace(GPU, kind="vulkan", max_tensor_bytes=1024)
        device, host = Scheduler([small, CPU]).peaks(self._chain(1, 64))
        assert device == 0
        assert host > 0


class TestPlacement:
    @pytest.mark.parametrize(
        ("blocks", "layers", "free", "expected"),
        [
            (4, 0, (8,), "CCCCC"),
            (4, 1, (8,), "CCCC0"),
            (4, 3, (8,), "CC000"),
            (4, 99, (8,), "00000"),
            (4, 5, (8, 8), "00011"),
            (5, 6, (8, 8), "000111"),
            (7, 8, (4, 12), "00111111"),
            (7, 4, (8, 8), "CCCC0011"),
        ],
    )
    def test_layers_come_from_the_back_and_split_by_free_memory(
        self, blocks: int, layers: int, free: tuple[int, ...], expected: str
    ) -> None:
        devices = [_card(f, f"CUDA{i}") for i, f in enumerate(free)]
        placed = place(blocks, layers, devices)
        assert "".join("C" if b == placed.cpu else str(b) for b in placed.backends) == expected


class TestCache:
    @pytest.mark.parametrize(
        ("num_ctx", "parallel", "cells", "batch"),
        [(4096, 1, 4096, 512), (4000, 1, 4096, 512), (100, 1, 256, 100), (100, 3, 256, 300), (1, 1, 256, 1)],
    )
    def test_cells_are_padded_and_the_batch_is_not(self, num_ctx: int, parallel: int, cells: int, batch: int) -> None:
        settings = LoadSettings(num_ctx=num_ctx, parallel=parallel)
        assert cells_per_stream(settings) == cells
        assert micro_batch(settings) == batch

    def test_a_sliding_window_keeps_its_width_and_one_batch(self) -> None:
        shape = replace(shape_of(text_model(TEXT["qwen3-0.6b"])), window=1000, sliding=(True, False) * 14)
        settings = LoadSettings(num_ctx=32768)
        assert layer_cells(shape, settings, 0) == 1536
        assert layer_cells(shape, settings, 1) == 32768
        assert layer_cells(shape, replace(settings, swa_full=True), 0) == 32768

    @pytest.mark.parametrize(
        ("architecture", "keys", "sliding"),
        [
            ("gemma2", (), "SF" * 13),
            ("gemma2", (("attention.sliding_window", 1024), ("attention.sliding_window_pattern", 3)), "SSF" * 8 + "SS"),
            ("gemma3", (), "F" * 26),
            ("gemma3", (("attention.sliding_window", 512),), "SSSSSF" * 4 + "SS"),
            ("gpt-oss", (("attention.sliding_window", 128),), "SF" * 13),
            (
                "gpt-oss",
                (("attention.sliding_window", 128), ("attention.sliding_window_pattern", [True] * 26)),
                "SF" * 13,
            ),
            ("phi3", (("attention.sliding_window", 2048),), "F" * 26),
            (
                "unheard-of",
                (("attention.sliding_window", 9), ("attention.sliding_window_pattern", [True] * 26)),
                "S" * 26,
            ),
        ],
    )
    def test_the_blocks_with_a_window_are_those_the_runtime_gives_one(
        self, architecture: str, keys: tuple[tuple[str, Any], ...], sliding: str
    ) -> None:
        dims = replace(TEXT["gemma-3-1b"], architecture=architecture, more_keys=keys)
        shape = shape_of(text_model(dims))
        assert "".join("S" if s else "F" for s in shape.sliding) == sliding

    def test_blocks_that_share_a_cache_own_none(self) -> None:
        shape = replace(shape_of(text_model(TEXT["qwen3-0.6b"])), sharing=10)
        assert sum(shape.owns_cache(i) for i in range(shape.layers)) == 18

    def test_a_latent_cache_has_keys_only(self) -> None:
        shape = replace(shape_of(text_model(TEXT["qwen3-0.6b"])), latent_k=576)
        assert (shape.k_width(0), shape.v_width(0)) == (576, 0)


class TestFit:
    @pytest.mark.parametrize(("free_gib", "full"), [(24, True), (6.1, True), (5, False), (2, False)])
    def test_dense_layers_are_spilled_from_the_front(self, free_gib: float, full: bool) -> None:
        card = _card(free_gib)
        need = closed_form(text_model(TEXT["qwen3-8b"]), LoadSettings(gpu_layers="auto"), (card,))
        assert (need.layers.on_device == need.layers.total) is full
        assert need.total_device_bytes <= card.free_bytes
        if not full:
            more = LoadSettings(gpu_layers=need.layers.on_device + 1)
            assert closed_form(text_model(TEXT["qwen3-8b"]), more, (card,)).total_device_bytes > card.free_bytes

    def test_experts_leave_before_layers_do(self) -> None:
        need = closed_form(text_model(TEXT["qwen3-30b-a3b"]), LoadSettings(gpu_layers="auto"), (_card(8),))
        assert need.layers.on_device == need.layers.total
        assert "experts" in need.notes[0]
        assert 6 * GIB < need.total_device_bytes <= 8 * GIB

    def test_two_cards_take_what_one_cannot(self) -> None:
        cards = (_card(4), _card(4, "CUDA1"))
        need = closed_form(text_model(TEXT["qwen3-8b"]), LoadSettings(gpu_layers="auto"), cards)
        assert need.layers.on_device == need.layers.total
        assert all(d.total_bytes <= 4 * GIB for d in need.devices)

    def test_the_reserve_is_left_free(self) -> None:
        card = _card(5.6)
        need = closed_form(
            text_model(TEXT["qwen3-8b"]), LoadSettings(gpu_layers="auto"), (card,), reserve_bytes={"CUDA0": GIB}
        )
        assert need.layers.on_device < need.layers.total
        assert need.devices[0].reserve_bytes == GIB
        assert need.total_device_bytes <= card.free_bytes - GIB


class TestBackends:
    def test_the_software_device_cannot_hold_the_head_of_a_large_vocabulary(self) -> None:
        need = closed_form(text_model(TEXT["qwen3-1.7b"]), LoadSettings(), (SOFTWARE,))
        hardware = closed_form(text_model(TEXT["qwen3-1.7b"]), LoadSettings(), (_card(24),))
        head = 151936 * 2048 // 256 * 210
        assert hardware.devices[0].weights_bytes - need.devices[0].weights_bytes == pytest.approx(head, rel=0.001)

    def test_cuda_pads_quantized_rows_that_512_does_not_divide(self) -> None:
        odd: Dims = replace(TEXT["qwen3-0.6b"], embedding=1280)
        model = text_model(odd, "Q8_0")
        cuda = closed_form(model, LoadSettings(), (_card(24),)).devices[0]
        vulkan = closed_form(model, LoadSettings(), (_card(24, "Vulkan0", "vulkan"),)).devices[0]
        assert cuda.weights_bytes > vulkan.weights_bytes

    @pytest.mark.parametrize(
        ("kind", "head", "fused"),
        [("cuda", 128, True), ("cuda", 60, False), ("metal", 128, True), ("metal", 60, False), ("vulkan", 60, False)],
    )
    def test_auto_falls_back_where_the_device_lacks_the_fused_attention(
        self, kind: Kind, head: int, fused: bool
    ) -> None:
        dims = replace(TEXT["qwen3-0.6b"], head=head)
        need = closed_form(text_model(dims, "F16"), LoadSettings(), (_card(24, kind=kind),))
        assert need.flash_attn is fused

    @pytest.mark.parametrize(
        ("device", "mib"),
        [
            (replace(_card(24), source="nvml"), 456),
            (replace(_card(24), source="runtime"), 0),
            (replace(_card(24, "Vulkan0", "vulkan"), source="--gpu"), 32),
            (replace(SOFTWARE, source="nvml"), 0),
            (replace(_card(24, "MTL0", "metal"), source="wired limit"), 0),
        ],
    )
    def test_overhead_counts_only_where_free_memory_was_read_without_it(self, device: Device, mib: int) -> None:
        assert overhead_bytes(device) == mib * MIB

    def test_llvmpipe_is_known_by_its_name(self) -> None:
        assert backend_of(SOFTWARE).software
        assert not backend_of(_card(1, kind="vulkan")).software


def test_no_heavy_import_on_the_way() -> None:
    code = "import sys, qwenops.memory.closed_form; print(*sorted({'gguf', 'numpy', 'ollama'} & set(sys.modules)))"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == ""


def test_a_quantized_cache_turns_the_fused_attention_on_where_auto_would_leave_it() -> None:
    """Half of an LFM2: the attention of block 8, on the host, comes before a convolution on the device."""
    model, devices = text_model(TEXT["lfm2-350m"]), (SOFTWARE,)
    settings = LoadSettings(num_ctx=8192, gpu_layers=8)
    quantized = replace(settings, kv_type_k="q8_0", kv_type_v="q8_0")
    assert closed_form(model, settings, devices).flash_attn is False
    assert closed_form(model, quantized, devices).flash_attn is True
