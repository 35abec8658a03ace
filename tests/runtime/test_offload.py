"""Where the server's environment says weights go is read as llama-server reads it."""

from __future__ import annotations

import pytest

from qwenops.errors import BadInput
from qwenops.runtime.offload import Offload, offload_flags, offload_in_force, parse_split


@pytest.mark.parametrize(
    ("environment", "in_force"),
    [
        ({}, Offload()),
        ({"LLAMA_ARG_N_CPU_MOE": "12"}, Offload(n_cpu_moe=12)),
        ({"LLAMA_ARG_N_CPU_MOE": " 12 blocks"}, Offload(n_cpu_moe=12)),
        ({"LLAMA_ARG_N_CPU_MOE": "0"}, Offload()),
        ({"LLAMA_ARG_CPU_MOE": "1"}, Offload(n_cpu_moe="all")),
        ({"LLAMA_ARG_CPU_MOE": "true", "LLAMA_ARG_N_CPU_MOE": "3"}, Offload(n_cpu_moe="all")),
        ({"LLAMA_ARG_CPU_MOE": "yes"}, Offload()),
        ({"LLAMA_ARG_TENSOR_SPLIT": "3,1"}, Offload(tensor_split=(3.0, 1.0))),
        ({"LLAMA_ARG_TENSOR_SPLIT": "0.5/0.25//1e1"}, Offload(tensor_split=(0.5, 0.25, 10.0))),
        ({"LLAMA_ARG_TENSOR_SPLIT": "0,0"}, Offload()),
        ({"LLAMA_ARG_SPLIT_MODE": "none", "LLAMA_ARG_MAIN_GPU": "1"}, Offload(main_gpu=1)),
        ({"LLAMA_ARG_SPLIT_MODE": "none"}, Offload(main_gpu=0)),
        ({"LLAMA_ARG_MAIN_GPU": "1"}, Offload()),
        ({"LLAMA_ARG_KV_UNIFIED": "1"}, Offload(kv_unified=True)),
        ({"LLAMA_ARG_KV_UNIFIED": "0"}, Offload()),
        ({"LLAMA_ARG_KV_UNIFIED": "1", "LLAMA_ARG_NO_KV_UNIFIED": "0"}, Offload()),
        ({"LLAMA_ARG_SPLIT_MODE": "row"}, Offload(not_followed=("LLAMA_ARG_SPLIT_MODE",))),
        ({"LLAMA_ARG_OVERRIDE_TENSOR": "exps=CPU"}, Offload(not_followed=("LLAMA_ARG_OVERRIDE_TENSOR",))),
    ],
)
def test_the_environment_says_where_weights_go(environment: dict[str, str], in_force: Offload) -> None:
    assert offload_in_force(environment) == in_force


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"LLAMA_ARG_N_CPU_MOE": "-1"}, "below 0"),
        ({"LLAMA_ARG_N_CPU_MOE": "many"}, "no number"),
        ({"LLAMA_ARG_TENSOR_SPLIT": "3,x"}, "not a list"),
        ({"LLAMA_ARG_KV_UNIFIED": "yes"}, "neither on nor off"),
        ({"LLAMA_ARG_TENSOR_SPLIT": "3,-1"}, "not a list"),
    ],
)
def test_what_no_load_survives_is_refused(environment: dict[str, str], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        offload_in_force(environment)


@pytest.mark.parametrize(
    ("blocks", "split", "flags"),
    [
        (0, (), []),
        (7, (), ["--n-cpu-moe", "7"]),
        ("all", (), ["--cpu-moe"]),
        (0, (3.0, 1.5), ["--tensor-split", "3,1.5"]),
    ],
)
def test_the_same_as_flags(blocks: object, split: tuple[float, ...], flags: list[str]) -> None:
    assert offload_flags(blocks, split) == flags  # type: ignore[arg-type]


def test_shares_are_read_back_as_they_were_said() -> None:
    shares = (0.1, 0.7, 123456.0)
    assert parse_split(offload_flags(0, shares)[1], "--tensor-split") == shares
