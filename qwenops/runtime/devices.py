"""The devices as the server sees them: `llama-server --list-devices` under the server's own environment.

Each GPU library in its own folder is asked apart, as Ollama does; then devices that the server would drop are
dropped: integrated ones that nobody enabled, and a card that two libraries see.

Source: discover/runner.go (GPUDevices, filterIntegratedGPUs, filterOverlapByLibrary, visibleDeviceFilterTokens),
discover/llama_server.go (the line formats, inferLibrary), discover/native_probe.go (`ollama gpu-discover`),
ml/device.go (Compare, PreferredLibrary); Ollama v0.32.14. Free figures are read after the backend is up.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qwenops.errors import QwenopsError
from qwenops.machine.types import Device, Kind
from qwenops.runtime.child import ask_program
from qwenops.runtime.envconfig import boolean, switch, var
from qwenops.runtime.find import lib_ollama
from qwenops.runtime.flags import child_environment
from qwenops.runtime.types import Backend
from qwenops.units import MIB

_LINE = re.compile(r"^\s+(.+?):\s+(.+?)\s+\((\d+)\s+MiB,\s+(\d+)\s+MiB\s+free\)", re.MULTILINE)
_CAPABILITY = re.compile(r"Device\s+(\d+):.*compute capability\s+(\d+)\.(\d+)")
_GFX = re.compile(r"Device\s+(\d+):.*,\s+(gfx[0-9a-f]+)[\s:(]")
_UMA = re.compile(r"ggml_vulkan:\s+(\d+)\s+=.*\|\s+uma:\s+([01])\s+\|")
_KINDS: dict[str, Kind] = {"CUDA": "cuda", "ROCm": "rocm", "Vulkan": "vulkan", "Metal": "metal"}
# discover/runner.go, defaultIntegratedROCmGFXTargets: this one is used without being asked for.
_INTEGRATED_ROCM = frozenset({"gfx1151"})
_VISIBLE = {"CUDA": ("CUDA_VISIBLE_DEVICES",), "Vulkan": ("GGML_VK_VISIBLE_DEVICES",)}


@dataclass(frozen=True)
class SeenDevice:
    """A device with what Ollama's own filters ask about it."""

    device: Device
    backend: Backend
    gfx: str = ""


def list_devices(
    llama_server: Path,
    environment: Mapping[str, str],
    *,
    ollama: Path | None = None,
    os: str = "linux",
    limit_s: float = 30.0,
) -> tuple[tuple[Device, ...], tuple[Backend, ...], tuple[str, ...]]:
    """The devices that the server would use, their libraries, and notes on what could not be asked.

    `environment` is the server's whole environment; `ollama` is its program, which knows more of a device (its PCI
    address, whether it is integrated). An empty list means that models run on the CPU.
    """
    root = lib_ollama(ollama, goos=os) if ollama else llama_server.parent
    seen: list[SeenDevice] = []
    notes: list[str] = []
    for folder in library_folders(root, environment):
        folders = (folder,) if folder else ()
        child = child_environment(environment, llama_server, folders, {}, os=os)
        command = [str(llama_server), "--list-devices", "--offline", "--verbose"]
        try:
            text = ask_program(command, environment=child, limit_s=limit_s).both
        except QwenopsError as error:
            notes.append(f"devices of {folder or root} are not known: {error.message}")
            continue
        native = _native(ollama, (root, *folders), child, limit_s) if ollama else ()
        seen += parse_devices(text, folders=folders, native=native)
    kept = drop_overlaps(drop_integrated(seen, environment, os=os))
    kept = [_numbered(one, kept, environment, os) for one in kept]
    kept = drop_duplicates(kept)
    return tuple(k.device for k in kept), tuple(k.backend for k in kept), tuple(notes)


def library_folders(root: Path, environment: Mapping[str, str]) -> tuple[Path | None, ...]:
    """The GPU library folders below lib/ollama that the server asks; None stands for lib/ollama itself.

    OLLAMA_LLM_LIBRARY names the only one to ask, OLLAMA_VULKAN=0 leaves Vulkan out, and the Jetson builds are for
    Jetsons.
    """
    folders = sorted({path.parent for path in root.glob("*/*ggml-*")})
    if not folders:
        return (None,)
    wanted = var(environment, "OLLAMA_LLM_LIBRARY")
    jetpack = _jetpack(environment)
    if jetpack and not (root / f"cuda_{jetpack}").is_dir():
        jetpack = ""

    def asked(folder: Path) -> bool:
        if wanted and not wanted.startswith("mlx_") and folder.name != wanted:
            return False
        if jetpack:
            return folder.name == f"cuda_{jetpack}"
        if "cuda_jetpack" in folder.name:
            return False
        return "vulkan" not in folder.name or boolean(environment, "OLLAMA_VULKAN", default=True)

    return tuple(folder for folder in folders if asked(folder))


def parse_devices(
    text: str, *, folders: tuple[Path, ...] = (), native: Sequence[Mapping[str, Any]] = ()
) -> list[SeenDevice]:
    """The devices in the output of --list-devices, with what else the log and the native probe say of them.

    Devices without memory (BLAS and the like) are no devices. Sizes are printed in whole MiB.
    """
    capabilities = {int(i): (int(major), int(minor)) for i, major, minor in _CAPABILITY.findall(text)}
    gfx = {int(i): target for i, target in _GFX.findall(text)}
    uma = {int(i): flag == "1" for i, flag in _UMA.findall(text)}
    known = {(str(n.get("library", "")), int(n.get("index", -1))): n for n in native if n.get("index_matches_backend")}
    found: list[SeenDevice] = []
    for index, (name, description, total, free) in enumerate(_LINE.findall(text)):
        if int(total) == 0:
            continue
        library = library_of(name, description)
        more = known.get((library, index)) or {}
        integrated = library == "Metal" or (library == "Vulkan" and uma.get(index, False))
        if more.get("integrated_known"):
            integrated = bool(more.get("integrated"))
        capability = capabilities.get(index) if library == "CUDA" else None
        if library == "CUDA" and more.get("compute_major"):
            capability = (int(more["compute_major"]), int(more.get("compute_minor") or 0))
        device = Device(
            name=name,
            kind=_KINDS.get(library, "cpu"),
            description=description,
            total_bytes=int(total) * MIB,
            free_bytes=int(free) * MIB,
            index=index,
            unified=integrated,
            integrated=integrated,
            source="runtime",
            compute_capability=capability,
            pci_bus_id=str(more["device_id"]) if more.get("device_id") else None,
        )
        backend = Backend(device=name, library=library, id=str(index), folders=folders)
        found.append(SeenDevice(device, backend, str(more.get("gfx_target") or gfx.get(index, ""))))
    return found


def library_of(name: str, description: str) -> str:
    """Ollama's word for the library of a device (discover/llama_server.go, inferLibrary)."""
    words = f"{name} {description}".lower()
    for library, signs in (
        ("CUDA", ("cuda",)),
        ("ROCm", ("rocm", "hip")),
        ("Metal", ("metal", "apple")),
        ("Vulkan", ("vulkan",)),
    ):
        if any(sign in words for sign in signs):
            return library
    return description


def drop_integrated(seen: Sequence[SeenDevice], environment: Mapping[str, str], *, os: str) -> list[SeenDevice]:
    """Leave out integrated GPUs unless OLLAMA_IGPU_ENABLE asks for them; CUDA ones and one AMD chip stay anyway."""
    if os == "darwin":
        return list(seen)
    enabled = switch(environment, "OLLAMA_IGPU_ENABLE")

    def stays(one: SeenDevice) -> bool:
        if not one.device.integrated:
            return True
        if enabled is not None:
            return enabled
        return one.backend.library == "CUDA" or (one.backend.library == "ROCm" and one.gfx in _INTEGRATED_ROCM)

    return [one for one in seen if stays(one)]


def drop_overlaps(seen: Sequence[SeenDevice]) -> list[SeenDevice]:
    """Of two versions of one library (cuda_v12, cuda_v13), keep for each device the one that the server keeps.

    The newest where all versions see the same devices, else the oldest (discover/runner.go).
    """
    versions: dict[str, dict[str, set[str]]] = {}
    for one in seen:
        folder = str(one.backend.folders[-1]) if one.backend.folders else ""
        versions.setdefault(one.backend.library, {}).setdefault(folder, set()).add(one.backend.id)
    keeper: dict[str, str] = {}
    for library, by_folder in versions.items():
        folders = sorted(by_folder, reverse=True)
        same = all(by_folder[f] == by_folder[folders[0]] for f in folders)
        keeper[library] = folders[0] if same else folders[-1]

    def stays(one: SeenDevice) -> bool:
        best = keeper[one.backend.library]
        folder = str(one.backend.folders[-1]) if one.backend.folders else ""
        return folder == best or one.backend.id not in versions[one.backend.library][best]

    return [one for one in seen if stays(one)]


def drop_duplicates(seen: Sequence[SeenDevice]) -> list[SeenDevice]:
    """Of one card seen by two libraries keep CUDA or ROCm, not Vulkan: by PCI address, else by name and memory."""
    kept: list[SeenDevice] = []
    for one in seen:
        twin = next((i for i, other in enumerate(kept) if _same_card(one, other)), None)
        if twin is None:
            kept.append(one)
        elif kept[twin].backend.library not in ("CUDA", "ROCm"):
            kept[twin] = one
    return kept


def _same_card(a: SeenDevice, b: SeenDevice) -> bool:
    if a.device.pci_bus_id and b.device.pci_bus_id:
        return a.device.pci_bus_id.lower() == b.device.pci_bus_id.lower()
    if {a.backend.library, b.backend.library} not in ({"Vulkan", "CUDA"}, {"Vulkan", "ROCm"}):
        return False
    plain = _plain_name(a.device.description)
    return (
        bool(plain)
        and plain == _plain_name(b.device.description)
        and _alike(a.device.total_bytes, b.device.total_bytes)
    )


def _alike(a: int, b: int) -> bool:
    """Within a twentieth, or half a GiB (ml/device.go, SimilarDeviceMemory)."""
    return a > 0 and b > 0 and abs(a - b) <= max(max(a, b) // 20, 512 * MIB)


def _plain_name(text: str) -> str:
    """Lower case words without what stands in parentheses."""
    without, depth = [], 0
    for c in text.lower():
        if c == "(":
            depth += 1
        elif c == ")" and depth:
            depth -= 1
        elif not depth:
            without.append(c if c.isascii() and c.isalnum() else " ")
    return " ".join("".join(without).split())


def _numbered(one: SeenDevice, kept: Sequence[SeenDevice], environment: Mapping[str, str], os: str) -> SeenDevice:
    """The device with the id it has after filtering, and the one by which it is shown to a child."""
    same = [k for k in kept if k.backend.library == one.backend.library]
    filter_id = one.backend.id
    tokens = _visible_tokens(one.backend.library, environment, os)
    if filter_id.isdigit() and int(filter_id) < len(tokens):
        filter_id = tokens[int(filter_id)]
    return replace(one, backend=replace(one.backend, id=str(same.index(one)), filter_id=filter_id))


def _visible_tokens(library: str, environment: Mapping[str, str], os: str) -> list[str]:
    if library in _VISIBLE:
        return _split(var(environment, _VISIBLE[library][0]))
    if library != "ROCm":
        return []
    if os == "linux" and _split(var(environment, "ROCR_VISIBLE_DEVICES")):
        return _split(var(environment, "ROCR_VISIBLE_DEVICES"))
    for name in ("HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "CUDA_VISIBLE_DEVICES"):
        tokens = _split(var(environment, name))
        if tokens and all(t.isdigit() for t in tokens):
            return tokens
    return []


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _native(
    ollama: Path, folders: Sequence[Path], environment: Mapping[str, str], limit_s: float
) -> tuple[Mapping[str, Any], ...]:
    """What `ollama gpu-discover` (hidden, JSON) adds; nothing where this version has no such command."""
    command = [str(ollama), "gpu-discover"]
    for folder in folders:
        command += ["--lib-dir", str(folder)]
    try:
        value = json.loads(ask_program(command, environment=environment, limit_s=min(limit_s, 15.0)).out)
        return tuple(value["devices"] or ())
    except (QwenopsError, ValueError, KeyError, TypeError):
        return ()


def _jetpack(environment: Mapping[str, str]) -> str:
    """jetpack5 or jetpack6 on a Jetson, else nothing (discover/gpu.go, cudaJetpack)."""
    told = environment.get("JETSON_JETPACK", "")
    if told:
        return f"jetpack{told.split('.')[0]}"
    try:
        release = re.search(r" R(\d+) ", Path("/etc/nv_tegra_release").read_text(encoding="utf-8"))
    except OSError:
        return ""
    return {"35": "jetpack5", "36": "jetpack6"}.get(release.group(1), "") if release else ""
