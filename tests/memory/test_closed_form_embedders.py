"""The closed form against real loads of embedders and rerankers, started as Ollama starts them.

The figures are the server's own (build b10434, with --embedding), recorded by scripts/record_families.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from qwenops.machine.types import Device
from qwenops.memory.closed_form import closed_form
from qwenops.memory.graphs import KNOWN
from qwenops.memory.types import LoadSettings
from qwenops.units import GIB
from tests.support.families_embedders import EMBEDDER_BLOCKS, EMBEDDERS
from tests.support.recorded import LOG_ROUNDING, Row, buffers_mib, logged_mib, need_of, recorded, row_name
from tests.support.shapes import TEXT, text_model

RECORDED = recorded("embedders")
CARD = Device("CUDA0", "cuda", "a card", 24 * GIB, 24 * GIB, source="runtime")


@pytest.mark.parametrize("row", RECORDED, ids=row_name)
def test_each_buffer_is_as_large_as_the_server_made_it(row: Row) -> None:
    need = need_of(row)
    assert buffers_mib(need) == pytest.approx(logged_mib(row), abs=LOG_ROUNDING)
    assert need.layers.on_device == row["layers"]
    assert need.notes == ()


def test_every_embedder_is_known_and_was_loaded() -> None:
    assert set(EMBEDDER_BLOCKS) <= KNOWN
    assert {row["shape"] for row in RECORDED} == set(EMBEDDERS)


@pytest.mark.parametrize("shape", [n for n, d in EMBEDDERS.items() if d.architecture in EMBEDDER_BLOCKS])
def test_what_keeps_no_cache_needs_none_on_any_card(shape: str) -> None:
    need = closed_form(text_model(TEXT[shape], "F16"), LoadSettings(num_ctx=512), (CARD,))
    assert need.devices[0].kv_bytes == need.host.kv_bytes == 0
    assert need.devices[0].compute_bytes > 0


def test_an_embedding_server_makes_logits_of_every_row_and_a_decoder_of_one_a_sequence() -> None:
    embedder = TEXT["qwen3-embedding-0.6b"]
    plain = replace(embedder, more_keys=())
    settings = LoadSettings(num_ctx=2048, batch=2048, ubatch=2048)
    every, few = (closed_form(text_model(d), settings, (CARD,)).devices[0].compute_bytes for d in (embedder, plain))
    assert every - few > 0.9 * 2047 * embedder.vocabulary * 4


def test_a_library_that_was_not_asked_to_embed_pools_nothing() -> None:
    """llama-cpp-python makes a context without embeddings unless it is told otherwise."""
    settings = LoadSettings(num_ctx=512, outputs="library")
    pooled, plain = (
        closed_form(text_model(replace(TEXT["bge-base"], more_keys=keys)), settings, ()).host
        for keys in (TEXT["bge-base"].more_keys, tuple(k for k in TEXT["bge-base"].more_keys if k[0] != "pooling_type"))
    )
    assert pooled == plain


def test_a_batch_that_sees_itself_whole_is_cut_to_the_padded_context() -> None:
    """llama_context leaves n_batch alone without a causal mask, and n_ctx is a multiple of 256 (b10434)."""
    model = text_model(TEXT["bge-base"])
    needs = [closed_form(model, LoadSettings(num_ctx=n, batch=512, ubatch=512), (CARD,)) for n in (300, 512)]
    assert needs[0].devices[0].compute_bytes == needs[1].devices[0].compute_bytes


def test_auto_gives_up_the_fused_attention_where_the_card_has_none_for_the_heads() -> None:
    """MiniLM's heads of 32 numbers have no kernel on CUDA; BGE's of 64 have."""
    needs = {name: closed_form(text_model(TEXT[name]), LoadSettings(num_ctx=512), (CARD,)) for name in EMBEDDERS}
    assert needs["all-minilm-l6"].flash_attn is False
    assert needs["bge-base"].flash_attn is True
