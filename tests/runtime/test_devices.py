"""The device list is read, and filtered as the server filters it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qwenops.errors import ChildDied, PartMissing
from qwenops.runtime import devices as d
from qwenops.runtime.child import ask_program
from qwenops.runtime.find import find_llama_server, llama_server_build
from qwenops.runtime.flags import child_environment, device_environment, gpu_backend_in
from qwenops.runtime.types import Backend
from qwenops.units import MIB
from scripts.parts.layout import Layout
from tests.support.parts import software_gpu_environment

CUDA = """ggml_cuda_init: found 2 CUDA devices:
  Device 0: NVIDIA GeForce RTX 4060 Ti, compute capability 8.9, VMM: yes, VRAM: 16379 MiB
  Device 1: NVIDIA GeForce GTX 1060 6GB, compute capability 6.1, VMM: yes, VRAM: 6063 MiB
Available devices:
  CUDA0: NVIDIA GeForce RTX 4060 Ti (16379 MiB, 14900 MiB free)
  CUDA1: NVIDIA GeForce GTX 1060 6GB (6063 MiB, 5900 MiB free)
"""
ROCM = """ggml_cuda_init: found 1 ROCm devices:
  Device 0: AMD Radeon Pro VII, gfx906:sramecc+:xnack- (0x906), VMM: no, Wave Size: 64, VRAM: 16368 MiB
Available devices:
  ROCm0: AMD Radeon Pro VII (16368 MiB, 16000 MiB free)
"""
VULKAN = """ggml_vulkan: Found 2 Vulkan devices:
ggml_vulkan: 0 = Intel(R) Graphics (TGL GT2) (Intel open-source Mesa driver) | uma: 1 | fp16: 1 | bf16: 0 |
ggml_vulkan: 1 = NVIDIA GeForce RTX 4060 Ti (NVIDIA) | uma: 0 | fp16: 1 | bf16: 0 |
Available devices:
  Vulkan0: Intel(R) Graphics (TGL GT2) (11800 MiB, 11800 MiB free)
  Vulkan1: NVIDIA GeForce RTX 4060 Ti (16379 MiB, 14900 MiB free)
"""
METAL = """Available devices:
  MTL0: Apple M3 Max (98304 MiB, 98303 MiB free)
  BLAS: Accelerate (0 MiB, 0 MiB free)
"""
NONE = "Available devices:\n  (none)\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (CUDA, [("CUDA0", "cuda", 16379, 14900, False, (8, 9)), ("CUDA1", "cuda", 6063, 5900, False, (6, 1))]),
        (ROCM, [("ROCm0", "rocm", 16368, 16000, False, None)]),
        (VULKAN, [("Vulkan0", "vulkan", 11800, 11800, True, None), ("Vulkan1", "vulkan", 16379, 14900, False, None)]),
        (METAL, [("MTL0", "metal", 98304, 98303, True, None)]),
        (NONE, []),
        ("", []),
    ],
    ids=["cuda", "rocm", "vulkan", "metal", "none", "nothing"],
)
def test_a_device_list_is_read(text: str, found: list[tuple[Any, ...]]) -> None:
    seen = []
    for device in (one.device for one in d.parse_devices(text)):
        sizes = (device.total_bytes // MIB, device.free_bytes // MIB)
        seen.append((device.name, device.kind, *sizes, device.integrated, device.compute_capability))
    assert seen == found


def test_the_native_probe_adds_the_address_and_corrects_what_is_integrated() -> None:
    native = [
        {"library": "Vulkan", "index": 0, "index_matches_backend": True, "integrated_known": True, "integrated": False,
         "device_id": "0000:01:00.0"},
        {"library": "Vulkan", "index": 1, "integrated_known": True, "integrated": True},
    ]  # fmt: skip
    first, second = d.parse_devices(VULKAN, native=native)
    assert (first.device.pci_bus_id, first.device.integrated) == ("0000:01:00.0", False)
    assert second.device.integrated is False


@pytest.mark.parametrize(
    ("setting", "kept"),
    [("", ["Vulkan1"]), ("1", ["Vulkan0", "Vulkan1"]), ("0", ["Vulkan1"]), ("x", ["Vulkan0", "Vulkan1"])],
)
def test_integrated_gpus_are_left_out_unless_asked_for(setting: str, kept: list[str]) -> None:
    seen = d.drop_integrated(d.parse_devices(VULKAN), {"OLLAMA_IGPU_ENABLE": setting}, os="linux")
    assert [s.device.name for s in seen] == kept


def test_of_one_card_seen_by_two_libraries_cuda_is_kept() -> None:
    vulkan = d.parse_devices(VULKAN)
    cuda = d.parse_devices(CUDA)
    for order in (vulkan + cuda, cuda + vulkan):
        assert sorted(s.device.name for s in d.drop_duplicates(order)) == ["CUDA0", "CUDA1", "Vulkan0"]


def make(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"")
    return root


@pytest.mark.parametrize(
    ("environment", "folders"),
    [
        ({}, ["cuda_v12", "cuda_v13", "vulkan"]),
        ({"OLLAMA_VULKAN": "0"}, ["cuda_v12", "cuda_v13"]),
        ({"OLLAMA_LLM_LIBRARY": "cuda_v12"}, ["cuda_v12"]),
        ({"OLLAMA_LLM_LIBRARY": "none"}, []),
        ({"JETSON_JETPACK": "6.1"}, ["cuda_jetpack6"]),
        ({"JETSON_JETPACK": "5.0"}, ["cuda_v12", "cuda_v13", "vulkan"]),
    ],
)
def test_the_servers_library_folders_are_asked(tmp_path: Path, environment: dict[str, str], folders: list[str]) -> None:
    root = make(
        tmp_path,
        "libggml-base.so",
        "cuda_v12/libggml-cuda.so",
        "cuda_v13/libggml-cuda.so",
        "cuda_jetpack6/libggml-cuda.so",
        "vulkan/libggml-vulkan.so",
        "other/readme",
    )
    assert [f.name if f else None for f in d.library_folders(root, environment)] == folders


def test_a_flat_folder_is_asked_itself(tmp_path: Path) -> None:
    assert d.library_folders(make(tmp_path, "libggml-vulkan.so"), {}) == (None,)


@pytest.mark.parametrize(
    ("libraries", "environment", "shown"),
    [
        ([("CUDA", "1")], {}, {"CUDA_VISIBLE_DEVICES": "1"}),
        ([("CUDA", "0"), ("CUDA", "2")], {}, {"CUDA_VISIBLE_DEVICES": "0,2"}),
        ([("CUDA", "0"), ("Vulkan", "0")], {}, {}),
        ([("Vulkan", "1")], {}, {"GGML_VK_VISIBLE_DEVICES": "1"}),
        ([("Vulkan", "0"), ("Vulkan", "1")], {}, {}),
        ([("ROCm", "1"), ("Vulkan", "0")], {}, {"ROCR_VISIBLE_DEVICES": "1"}),
        (
            [("ROCm", "3"), ("ROCm", "5")],
            {"HIP_VISIBLE_DEVICES": "3,5"},
            {"ROCR_VISIBLE_DEVICES": "3,5", "HIP_VISIBLE_DEVICES": "0,1"},
        ),
        ([("ROCm", "3")], {"HIP_VISIBLE_DEVICES": "3", "ROCR_VISIBLE_DEVICES": "3"}, {"ROCR_VISIBLE_DEVICES": "3"}),
        ([("Metal", "0")], {}, {}),
        ([], {}, {}),
    ],
)
def test_a_child_is_shown_its_devices(
    libraries: list[tuple[str, str]], environment: dict[str, str], shown: dict[str, str]
) -> None:
    backends = [Backend(f"{library}{i}", library, i, i) for library, i in libraries]
    assert device_environment(backends, environment) == shown


def test_a_child_finds_its_libraries_in_ollamas_order(tmp_path: Path) -> None:
    make(tmp_path, "llama-server", "cuda_v13/libggml-base.so", "cuda_v13/libggml-cuda.so", "vulkan/libggml-vulkan.so")
    cuda, vulkan = tmp_path / "cuda_v13", tmp_path / "vulkan"
    inherited = {"LD_LIBRARY_PATH": f"/mine:{cuda}::/yours", "GGML_BACKEND_PATH": "/old"}
    child = child_environment(inherited, tmp_path / "llama-server", [cuda, vulkan], {})
    assert child["LD_LIBRARY_PATH"].split(":") == [str(tmp_path), str(cuda), str(vulkan), "/mine", "/yours"]
    assert child["GGML_BACKEND_PATH"] == str(cuda / "libggml-cuda.so")
    assert gpu_backend_in(tmp_path) is None


def test_a_program_that_dies_or_hangs_is_said_so(tmp_path: Path) -> None:
    def script(text: str) -> list[str]:
        return ["sh", "-c", text]

    assert ask_program(script("echo out; echo err >&2"), limit_s=10).both == "out\n\nerr\n"
    with pytest.raises(ChildDied, match=r"did not end within 0\.3 s"):
        ask_program(script("sleep 30"), limit_s=0.3)
    with pytest.raises(ChildDied, match=r"SIGILL .*newer CPU"):
        ask_program(script("kill -ILL $$"), limit_s=10)
    with pytest.raises(ChildDied, match="said: no such option"):
        ask_program(script("echo no such option >&2; exit 3"), limit_s=10)
    with pytest.raises(PartMissing, match="cannot be started"):
        ask_program([str(tmp_path / "none")], limit_s=10)


@pytest.mark.server
@pytest.mark.vulkan
def test_the_real_llama_server_lists_the_software_gpu(parts: Layout) -> None:
    llama_server = find_llama_server(parts.ollama)
    assert llama_server is not None
    environment = {"PATH": "/usr/bin:/bin", **software_gpu_environment()}
    devices, backends, notes = d.list_devices(llama_server, environment, ollama=parts.ollama)
    assert notes == ()
    (device,) = devices
    assert (device.name, device.kind, device.source) == ("Vulkan0", "vulkan", "runtime")
    assert 0 < device.free_bytes <= device.total_bytes
    assert [(b.device, b.library, b.filter_id) for b in backends] == [("Vulkan0", "Vulkan", "0")]
    assert llama_server_build(llama_server, environment) is not None


@pytest.mark.server
def test_hidden_devices_give_an_empty_list(parts: Layout) -> None:
    llama_server = find_llama_server(parts.ollama)
    assert llama_server is not None
    environment = {"PATH": "/usr/bin:/bin", "GGML_VK_VISIBLE_DEVICES": "-1"}
    assert d.list_devices(llama_server, environment, ollama=parts.ollama)[0] == ()
