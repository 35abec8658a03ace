"""Models that the quantizer treats apart: by architecture, by their number of layers, heads or experts, by their rows.

It looks at names, shapes and a few keys, so a model is here the tensors that matter and the keys that it is read by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.gguf_bytes import Row, write_gguf


@dataclass(frozen=True)
class Unusual:
    """One such model, as it is written to a file."""

    architecture: str
    layers: int
    block: Callable[[int], Iterable[Row]]
    outside: tuple[Row, ...]
    heads: Any = 32
    kv_heads: Any = 8
    keys: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> Path:
        """The model with no data behind its header."""
        a = self.architecture
        keys: dict[str, Any] = {
            "general.architecture": a,
            "general.name": "unusual",
            f"{a}.context_length": 4096,
            f"{a}.embedding_length": 2048,
            f"{a}.feed_forward_length": 4096,
            f"{a}.block_count": self.layers,
            f"{a}.attention.layer_norm_rms_epsilon": 1e-5,
            f"{a}.attention.layer_norm_epsilon": 1e-5,
            **{f"{a}.{key}": value for key, value in SSM.items()},
            "tokenizer.ggml.model": "no_vocab",
        }
        if self.heads is not None:
            keys[f"{a}.attention.head_count"] = self.heads
        if self.kv_heads is not None:
            keys[f"{a}.attention.head_count_kv"] = self.kv_heads
        keys |= {f"{a}.{key}": value for key, value in self.keys.items()}
        rows = [*self.outside]
        for layer in range(self.layers):
            rows += self.block(layer)
        return write_gguf(path, keys, rows)


SSM = {
    "ssm.conv_kernel": 4,
    "ssm.inner_size": 4096,
    "ssm.state_size": 16,
    "ssm.time_step_rank": 128,
    "ssm.group_count": 8,
}
E, F = 2048, 4096


def w(name: str, *shape: int, type_: str = "F16") -> Row:
    return (f"{name}.weight", shape, type_)


def outside(*, tied: bool = False, width: int = E) -> tuple[Row, ...]:
    rows = (w("token_embd", width, 1000), w("output_norm", width, type_="F32"))
    return rows if tied else (*rows, w("output", width, 1000))


def dense(layer: int, width: int = E, ffn: int = F, kv: int = 512) -> list[Row]:
    b = f"blk.{layer}"
    return [
        w(f"{b}.attn_norm", width, type_="F32"),
        w(f"{b}.attn_q", width, width),
        w(f"{b}.attn_k", width, kv),
        w(f"{b}.attn_v", width, kv),
        w(f"{b}.attn_output", width, width),
        w(f"{b}.ffn_gate", width, ffn),
        w(f"{b}.ffn_up", width, ffn),
        w(f"{b}.ffn_down", ffn, width),
    ]


def fused(layer: int) -> list[Row]:
    b = f"blk.{layer}"
    return [
        w(f"{b}.attn_qkv", E, E + 128),
        w(f"{b}.attn_output", E, E),
        w(f"{b}.ffn_up", E, F),
        w(f"{b}.ffn_down", F, E),
    ]


def experts(count: int) -> Callable[[int], list[Row]]:
    def block(layer: int) -> list[Row]:
        b = f"blk.{layer}"
        return [
            *dense(layer)[:5],
            w(f"{b}.ffn_gate_inp", E, count, type_="F32"),
            w(f"{b}.ffn_gate_exps", E, 768, count),
            w(f"{b}.ffn_up_exps", E, 768, count),
            w(f"{b}.ffn_down_exps", 768, E, count),
            w(f"{b}.ffn_gate_up_exps", E, 1536, count),
            w(f"{b}.ffn_down_shexp", 768, E),
        ]

    return block


def split_experts(layer: int) -> list[Row]:
    b = f"blk.{layer}"
    return [*dense(layer)[:5], *(w(f"{b}.ffn_{kind}.{x}", E, E) for x in range(8) for kind in ("down", "gate", "up"))]


def mla(layer: int) -> list[Row]:
    b = f"blk.{layer}"
    return [
        w(f"{b}.attn_kv_a_mqa", E, 576),
        w(f"{b}.attn_kv_b", 512, 4096),
        w(f"{b}.attn_q_a", E, 1536),
        w(f"{b}.attn_output", E, E),
        w(f"{b}.indexer.k_proj", E, 128),
        *(experts(64)(layer)[5:] if layer else dense(0)[5:]),
    ]


def encoder_and_decoder(layer: int) -> list[Row]:
    rows = []
    for side in ("enc", "dec"):
        b = f"{side}.blk.{layer}"
        rows += [w(f"{b}.attn_{x}", E, E) for x in ("q", "k", "v", "o")]
        rows += [w(f"{b}.attn_rel_b", 32, 32), w(f"{b}.ffn_gate", E, F), w(f"{b}.ffn_down", F, E)]
        rows.append(w(f"{b}.cross_attn_v", E, E))
    return rows


def rwkv(layer: int) -> list[Row]:
    b = f"blk.{layer}"
    small = ["first", *(f"{x}{i}" for x in "wva" for i in range(3)), "g1", "g2", "lerp_fused", "decay_w1", "decay_w2"]
    return [w(f"{b}.time_mix_{name}", E, 64) for name in (*small, "key", "output")] + [
        w(f"{b}.channel_mix_value", F, E)
    ]


def state_space(layer: int) -> list[Row]:
    b = f"blk.{layer}"
    return [
        w(f"{b}.ssm_conv1d", 4, F),
        w(f"{b}.ssm_in", E, F),
        w(f"{b}.ssm_x", F, 96),
        w(f"{b}.ssm_dt", 128, F),
        w(f"{b}.ssm_out", F, E),
        (f"{b}.ssm_a", (16, F), "F32"),
    ]


def hybrid(layer: int) -> list[Row]:
    return dense(layer) if layer % 8 == 4 else state_space(layer)


def nested(layer: int) -> list[Row]:
    b = f"blk.{layer}"
    extra = ("altup_router", "altup_predict_coef", "laurel_l", "laurel_r", "inp_gate", "proj", "post_norm")
    return [*dense(layer), *(w(f"{b}.{name}", E, 64) for name in extra)]


def odd_rows(*widths: int) -> Callable[[int], list[Row]]:
    return lambda layer: dense(layer, widths[0], widths[1], 128)


NAMES = (
    w("token_types", E, 2),
    w("position_embd", E, 512),
    w("per_layer_token_embd", 256, 1000),
    w("per_layer_model_proj", E, 256, type_="BF16"),
    ("abcde", (E, 64), "F16"),
    ("abcdef", (E, 64), "F16"),
    ("weight", (E, 64), "F16"),
    ("weight.x", (E, 64), "F16"),
    w("flat", E),
    w("row", E, 1),
    w("cube", E, 1, 3),
    w("matrix_of_three", E, 4, 1),
    w("blk.2.ffn_gate_tid2eid", E, 64),
    w("v.blk.0.attn_v", E, 64),
    w("v.patch_embd", E, 64),
    w("blk.10.zz", E, 64),
    w("blk.9.zz", E, 64),
)

UNUSUAL: dict[str, Unusual] = {
    "Falcon": Unusual("falcon", 32, fused, outside(), 71, 1),
    "Falcon, head tied": Unusual("falcon", 60, fused, outside(tied=True), 128, 8),
    "Mixtral": Unusual("llama", 32, experts(8), outside(), keys={"expert_count": 8, "expert_used_count": 2}),
    "Mixtral, experts apart": Unusual(
        "llama", 9, split_experts, outside(), keys={"expert_count": 8, "expert_used_count": 2}
    ),
    "four experts": Unusual("llama", 9, experts(4), outside(), 8, keys={"expert_count": 4, "expert_used_count": 2}),
    "two experts": Unusual("llama", 9, experts(2), outside(), 8, keys={"expert_count": 2, "expert_used_count": 2}),
    "80 layers, heads grouped": Unusual("llama", 80, dense, outside(), 64, 8),
    "80 layers, heads not grouped": Unusual("llama", 80, dense, outside(), 64, 64),
    "80 layers, no count of value heads": Unusual("llama", 80, dense, outside(), 64, None),
    "80 layers, eight experts": Unusual(
        "llama", 80, experts(8), outside(), 64, keys={"expert_count": 8, "expert_used_count": 2}
    ),
    "Qwen2-72B": Unusual("qwen2", 80, odd_rows(2048, 29568), outside(), 64, 64),
    "Deci, heads layer by layer": Unusual("deci", 80, dense, outside(), [64] * 80, [16] * 80),
    "OLMo 80 layers": Unusual("olmo", 80, dense, outside(), 64, 64),
    "Jais 2": Unusual("jais2", 68, dense, outside(), 52, 52),
    "T5": Unusual(
        "t5",
        24,
        encoder_and_decoder,
        outside(),
        16,
        None,
        {"attention.relative_buckets_count": 32, "attention.key_length": 64, "attention.value_length": 64},
    ),
    "BERT": Unusual("bert", 12, fused, (*NAMES, *outside(tied=True)), 12, None),
    "names": Unusual("llama", 3, dense, (*NAMES, *outside())),
    "RWKV 7": Unusual(
        "rwkv7",
        24,
        rwkv,
        outside(),
        None,
        None,
        {
            "wkv.head_size": 64,
            "attention.decay_lora_rank": 64,
            "attention.iclr_lora_rank": 64,
            "attention.value_residual_mix_lora_rank": 32,
        },
    ),
    "Mamba": Unusual("mamba", 24, state_space, outside(tied=True), None, None),
    "Jamba": Unusual("jamba", 32, hybrid, outside(), 32, [8 if i % 8 == 4 else 0 for i in range(32)]),
    "DeepSeek V2": Unusual(
        "deepseek2",
        27,
        mla,
        outside(),
        16,
        1,
        {
            "expert_count": 64,
            "expert_used_count": 6,
            "expert_feed_forward_length": 768,
            "expert_shared_count": 2,
            "attention.kv_lora_rank": 512,
            "attention.q_lora_rank": 1536,
        },
    ),
    "Gemma 3n": Unusual("gemma3n", 30, nested, (*NAMES, *outside(tied=True)), 8, 2, {"attention.sliding_window": 512}),
    "Nanbeige, two loops": Unusual("nanbeige", 16, dense, outside(), 32, 8, {"num_loops": 2}),
    "rows of 2880": Unusual("llama", 16, odd_rows(2880, 2880), outside(width=2880)),
    "rows of 96": Unusual("llama", 4, odd_rows(96, 160), outside(width=96, tied=True)),
    "rows of 48": Unusual("llama", 4, odd_rows(48, 48), outside(width=48)),
    "rows of 48 below": Unusual("llama", 4, odd_rows(2048, 48), outside()),
}
