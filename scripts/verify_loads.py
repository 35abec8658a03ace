"""Hold the memory ladder against real loads, and write docs/memory-verified.md.

Every row is one load through the real Ollama on the software GPU: the need is asked first (of the runtime's probe and
of the closed form), then the model is loaded, then the buffers in the server's log are compared. Models are ghosts of
published shapes: true headers, no data, true buffers. Exits 1 if a row breaks the bar:

    runtime probe   each part on each device within 1 MiB of its buffer, the layers exactly those that were loaded
    closed form     the device total within 3 % or 2 MiB, and never short by more than 1 % or 1 MiB
    verdict         "keeps every layer" said before the load, by both, as the log then shows

    python -m scripts.verify_loads [--only TEXT] [--no-write]
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import math
import re
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from qwenops.memory.ladder import need
from qwenops.memory.probe_log import LoadLines, parse_load_log
from qwenops.memory.reserve import fit_reserve
from qwenops.memory.types import KVType, Layers, LoadSettings, Need
from qwenops.model.read import read_model
from qwenops.model.types import Model
from qwenops.runtime.devices import list_devices
from qwenops.runtime.envconfig import relevant
from qwenops.runtime.find import llama_server_build
from qwenops.runtime.types import Runtime
from qwenops.units import MIB
from tests.support.parts import layout
from tests.support.server import OllamaServer, start_ollama
from tests.support.shapes import TEXT, VISION, write_text, write_vision

PAGE = Path(__file__).resolve().parent.parent / "docs" / "memory-verified.md"
LOAD_SECONDS = 240
STEP = 256
# The image budget at which the encoder's buffers are those of the warm-up, which is all that a load makes.
NO_GROWTH = 1024


@dataclass(frozen=True)
class Case:
    """One load. `layers` is "all", a number or "auto"; `edge` moves a context to the last one that still fits
    ("below") or one step further ("above"), as the closed form sees it. `cut` keeps only the first layers of the
    text model: a projector is loaded after the text model's first run, which a CPU that plays GPU makes long.
    `vision_cut` does it for a projector that Ollama would not put on a device of 2 GiB."""

    model: str
    quant: str = "Q4_K_M"
    num_ctx: int = 4096
    layers: Any = "all"
    batch: int = 512
    kv: KVType = "f16"
    vision: str | None = None
    edge: str = ""
    cut: int = 0
    vision_cut: int = 0
    flash_attn: Literal["auto", "off"] = "auto"
    parallel: int = 1

    @property
    def name(self) -> str:
        """The model as the page names it."""
        cut = f", {self.cut} of {SHAPES[self.model].layers} layers" if self.cut else ""
        projector = " with its projector" if self.vision else ""
        if self.vision and self.vision_cut:
            projector = f" with {self.vision_cut} of {VISION[self.vision].blocks} blocks of its projector"
        return f"{self.model} {self.quant}{cut}{projector}"

    @property
    def server(self) -> dict[str, str]:
        """The settings of the server that this load needs: they are the same for all its models."""
        flash = {"OLLAMA_FLASH_ATTENTION": "0"} if self.flash_attn == "off" else {}
        return {"OLLAMA_KV_CACHE_TYPE": self.kv, "OLLAMA_NUM_PARALLEL": str(self.parallel), **flash}

    def __str__(self) -> str:
        more = f"{'' if self.flash_attn == 'auto' else ', no flash attention'}"
        more += f", {self.parallel} at once" if self.parallel > 1 else ""
        edge = f", just {self.edge} the limit" if self.edge else ""
        return f"{self.name}, context {self.num_ctx}, {self.kv}, layers {self.layers}{edge}{more}"


CASES: tuple[Case, ...] = (
    # dense, every layer, contexts, batches and quants
    Case("qwen3-0.6b"),
    Case("qwen3-0.6b", num_ctx=12288, batch=1024),
    Case("qwen3-0.6b", quant="Q8_0", num_ctx=1000, batch=256),
    Case("qwen3-1.7b"),
    Case("qwen2.5-0.5b", num_ctx=32768, batch=2048),
    Case("qwen2.5-1.5b", num_ctx=8192),
    Case("smollm2-135m", quant="F16", num_ctx=8192),
    Case("tinyllama-1.1b", num_ctx=2048),
    Case("llama-3.2-1b", num_ctx=6000, batch=128),
    # hybrids
    Case("qwen3.5-0.8b", num_ctx=16384),
    Case("qwen3.5-2b", num_ctx=8192),
    # experts
    Case("small-moe", num_ctx=4096),
    # partial offload, asked for
    Case("qwen3-1.7b", layers=10),
    Case("qwen3.5-2b", layers=13),
    Case("small-moe", layers=5),
    # left to the runtime's fit, on both sides of the limit
    Case("qwen3-0.6b", layers="auto", edge="below"),
    Case("qwen3-0.6b", layers="auto", edge="above"),
    Case("qwen3.5-0.8b", layers="auto", edge="below"),
    Case("qwen3.5-0.8b", layers="auto", edge="above"),
    Case("small-moe", layers="auto", num_ctx=32768),
    # with a projector
    Case("qwen3-vl-2b", vision="qwen3-vl-2b", num_ctx=2048, cut=4),
    Case("qwen2.5-vl-3b", vision="qwen2.5-vl-3b", num_ctx=4096, cut=4),
    Case("qwen2.5-vl-3b", vision="qwen2.5-vl-3b", num_ctx=4096, cut=4, vision_cut=9),
    Case("qwen2-vl-2b", vision="qwen2-vl", num_ctx=2048, cut=4, vision_cut=8),
    Case("qwen3.5-0.8b", vision="qwen3.5-0.8b", num_ctx=4096, cut=4),
    Case("qwen3.5-0.8b", vision="qwen3.5-0.8b", layers="auto", edge="below", cut=8),
    Case("qwen3.5-0.8b", vision="qwen3.5-0.8b", layers="auto", edge="above", cut=8),
    Case("qwen3-vl-2b", vision="qwen3-vl-2b", num_ctx=4096, layers=3, cut=4),
    # quantized caches
    Case("qwen3-0.6b", num_ctx=16384, kv="q8_0"),
    Case("qwen3-1.7b", num_ctx=8192, layers=20, kv="q8_0"),
    Case("qwen3.5-0.8b", num_ctx=32768, kv="q4_0"),
    Case("qwen2.5-1.5b", num_ctx=16384, layers="auto", kv="q4_0"),
    # other settings of the server
    Case("qwen3-0.6b", num_ctx=4096, flash_attn="off"),
    Case("qwen3.5-0.8b", num_ctx=8192, layers=12, flash_attn="off"),
    Case("llama-3.2-1b", num_ctx=2500, parallel=3),
)

_MOE = replace(TEXT["qwen3-30b-a3b"], layers=8, embedding=1024, heads=16, experts=64, experts_used=4)
SHAPES = {**TEXT, "small-moe": replace(_MOE, vocabulary=32000)}


@dataclass(frozen=True)
class Row:
    """What was said before one load, and what its log showed."""

    case: Case
    runtime: Need
    formula: Need
    formula_keeps: bool
    loaded: LoadLines
    seconds: float
    versions: str

    @property
    def device(self) -> str:
        """The one device of these loads."""
        return self.runtime.devices[0].name

    def measured(self) -> dict[str, int]:
        """The buffers on the device, by part."""
        name, lines = self.device, self.loaded
        return {
            "weights": lines.device_bytes(name, "model"),
            "kv": lines.device_bytes(name, "KV"),
            "state": lines.device_bytes(name, "RS"),
            "compute": lines.device_bytes(name, "compute"),
            "projector": lines.projector_bytes(name),
            "encoder": lines.device_bytes(name, "compute", projector=True),
        }

    def errors(self) -> dict[str, int]:
        """The probe's figure less the buffer, by part; the host's cache and compute too."""
        said = self.runtime.devices[0]
        real = self.measured()
        errors = {part: getattr(said, f"{part}_bytes") - size for part, size in real.items()}
        host = self.runtime.host
        errors["host kv"] = host.kv_bytes - self.loaded.host_bytes("KV")
        errors["host state"] = host.state_bytes - self.loaded.host_bytes("RS")
        errors["host compute"] = host.compute_bytes - self.loaded.host_bytes("compute")
        errors["host encoder"] = host.encoder_bytes - self.loaded.host_bytes("compute", projector=True)
        return errors

    def formula_error(self) -> int:
        """The closed form's device total less the sum of the buffers."""
        said = self.formula.devices[0]
        return said.total_bytes - said.overhead_bytes - sum(self.measured().values())

    def faults(self) -> list[str]:
        """Every way in which this row breaks the bar."""
        faults = []
        if not self.loaded.complete or self.loaded.layers is None:
            return [f"it did not load: {self.loaded.error or 'no buffers in the log'}"]
        faults += [f"probe: {part} off by {e / MIB:+.2f} MiB" for part, e in self.errors().items() if abs(e) > MIB]
        if self.runtime.layers != self.loaded.layers:
            faults.append(f"probe: {_layers(self.runtime.layers)} layers, the log has {_layers(self.loaded.layers)}")
        if self.case.layers == "auto" and self.formula_keeps != self.kept:
            faults.append(f"closed form: it said {_verdict(self.formula_keeps)}")
        if self.formula.layers != self.loaded.layers:
            faults.append(f"closed form: {_layers(self.formula.layers)} layers")
        total, error = sum(self.measured().values()), self.formula_error()
        if abs(error) > max(total * 0.03, 2 * MIB):
            faults.append(f"closed form: off by {error / MIB:+.2f} MiB")
        if error < -max(total * 0.01, MIB):
            faults.append(f"closed form: short by {-error / MIB:.2f} MiB")
        return faults

    @property
    def kept(self) -> bool:
        """Whether every layer was loaded on the device."""
        layers = self.loaded.layers
        return layers is not None and layers.on_device == layers.total and not self.loaded.overflowing_layers


class Lab:
    """One real server on the software GPU with a store of its own, and the ghosts registered there."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.server: OllamaServer = start_ollama(folder, settings={"OLLAMA_DEBUG": "1", **settings})
        environment = relevant(self.server.env)
        devices, backends, _ = list_devices(layout().llama_server, self.server.env, ollama=layout().ollama)
        self.runtime = Runtime(
            place="local",
            url=self.server.url,
            version=str(self._ask("/api/version")["version"]),
            ollama_path=layout().ollama,
            llama_server_path=layout().llama_server,
            llama_server_build=llama_server_build(layout().llama_server, self.server.env),
            devices=devices,
            backends=backends,
            environment=environment,
            pid=self.server.pid,
        )

    @property
    def versions(self) -> str:
        """What the loads ran on."""
        r = self.runtime
        device = ", ".join(f"{d.description} of {d.total_bytes // MIB} MiB ({d.name})" for d in r.devices)
        return f"Ollama {r.version}, llama-server {r.llama_server_build}, {device}"

    def run(self, case: Case) -> Row:
        """Ask both rungs, load, read the log, unload."""
        model, name = self._registered(case)
        settings = self._settings(case, model)
        asked = self._need(model, settings, "runtime")
        formula = self._need(model, settings, "closed form")
        keeps = _keeps(self._need(model, replace(settings, gpu_layers="all"), "closed form"))
        started = time.monotonic()
        loaded = self._load(name, model, settings)
        seconds = time.monotonic() - started
        return Row(replace(case, num_ctx=settings.num_ctx), asked, formula, keeps, loaded, seconds, self.versions)

    def _need(self, model: Model, settings: LoadSettings, rung: str) -> Need:
        reserve = fit_reserve(model, settings, self.runtime.devices, self.runtime.environment)
        return need(model, settings, self.runtime.devices, runtime=self.runtime, rung=rung, reserve_bytes=reserve)

    def _settings(self, case: Case, model: Model) -> LoadSettings:
        settings = LoadSettings(
            num_ctx=case.num_ctx,
            batch=case.batch,
            ubatch=case.batch,
            kv_type_k=case.kv,
            kv_type_v=case.kv,
            gpu_layers=case.layers,
            image_tokens=NO_GROWTH,
            flash_attn=case.flash_attn,
            parallel=case.parallel,
        )
        if not case.edge:
            return settings

        def fits(step: int) -> bool:
            there = replace(settings, num_ctx=step * STEP, gpu_layers="all")
            return _keeps(self._need(model, there, "closed form"))

        low, high = 1, model.hparam("context_length") // STEP
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return replace(settings, num_ctx=(low if case.edge == "below" else high) * STEP)

    def _registered(self, case: Case) -> tuple[Model, str]:
        """The ghost as a blob of the store with a manifest, as a linked model would be."""
        name = re.sub(r"[^a-z0-9]", "", case.name.lower())
        blobs = self.server.store / "blobs"
        blobs.mkdir(exist_ok=True)
        ghost = self._blob(blobs, f"{case.model} {case.quant} {case.cut}")
        if not ghost.exists():
            dims = SHAPES[case.model]
            write_text(ghost, replace(dims, layers=case.cut or dims.layers), case.quant)
        layers = [_layer("model", ghost)]
        projector = None
        if case.vision:
            projector = self._blob(blobs, f"projector {case.vision} {case.vision_cut}")
            if not projector.exists():
                eyes = VISION[case.vision]
                write_vision(projector, replace(eyes, blocks=case.vision_cut or eyes.blocks))
            layers.append(_layer("projector", projector))
        model = read_model(ghost, mmproj=projector)
        config = _stored(
            blobs,
            {
                "model_format": "gguf",
                "model_family": model.architecture,
                "model_families": [model.architecture],
                "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
            },
        )
        manifest = self.server.store / "manifests/registry.ollama.ai/library" / name / "latest"
        manifest.parent.mkdir(parents=True, exist_ok=True)
        docker = "application/vnd.docker"
        manifest.write_text(
            json.dumps(
                {
                    "schemaVersion": 2,
                    "mediaType": f"{docker}.distribution.manifest.v2+json",
                    "config": {"mediaType": f"{docker}.container.image.v1+json", **config},
                    "layers": layers,
                }
            )
        )
        return model, name

    @staticmethod
    def _blob(blobs: Path, what: str) -> Path:
        # A ghost's digest is not its contents': gigabytes of zeros need not be hashed, and the server does not check.
        return blobs / f"sha256-{hashlib.sha256(what.encode()).hexdigest()}"

    def _load(self, name: str, model: Model, settings: LoadSettings) -> LoadLines:
        options: dict[str, Any] = {"num_ctx": settings.num_ctx, "num_batch": settings.batch}
        if settings.gpu_layers != "auto":
            total = int(model.hparam("block_count")) + 1
            options["num_gpu"] = total if settings.gpu_layers == "all" else settings.gpu_layers
        before = len(self.server.log())
        # The buffers stand, and are logged, before the model is warmed up: that part may take a minute on a CPU that
        # plays GPU, and says nothing about memory.
        standing = "loaded multimodal model" if model.projector else "warming up the model"
        request = threading.Thread(target=self._start, args=({"model": name, "options": options, "keep_alive": 600},))
        request.start()
        while request.is_alive() and standing not in self.server.log()[before:]:
            time.sleep(0.05)
        self._end_load()
        request.join()
        while self._ask("/api/ps")["models"]:
            time.sleep(0.05)
        return parse_load_log(self.server.log()[before:], model=model.path.name)

    def _start(self, body: dict[str, Any]) -> None:
        # The load is cut short, so the request ends with an error; whether it loaded is what the log says.
        with contextlib.suppress(OSError):
            self._ask("/api/generate", body)

    def _end_load(self) -> None:
        import psutil

        for child in psutil.Process(self.server.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps({"stream": False, **body}).encode()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(self.server.url + path, data), timeout=LOAD_SECONDS) as answer:
            return dict(json.load(answer))


def _layer(kind: str, blob: Path) -> dict[str, Any]:
    digest = blob.name.replace("-", ":", 1)
    return {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": digest, "size": blob.stat().st_size}


def _stored(blobs: Path, value: dict[str, Any]) -> dict[str, Any]:
    data = json.dumps(value).encode()
    digest = hashlib.sha256(data).hexdigest()
    (blobs / f"sha256-{digest}").write_bytes(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}


def _keeps(whole: Need) -> bool:
    """The verdict: every layer on the device fits what is free less what the runtime keeps free."""
    return all(d.total_bytes - d.overhead_bytes + d.reserve_bytes <= d.free_bytes for d in whole.devices)


def _verdict(keeps: bool) -> str:
    return "every layer fits" if keeps else "it spills"


def _layers(layers: Layers | None) -> str:
    return f"{layers.on_device}/{layers.total}" if layers else "?"


def runs(cases: Sequence[Case]) -> Iterator[Row]:
    """Every case, one server for each set of server settings."""
    with tempfile.TemporaryDirectory(prefix="qwenops-verify-") as folder:
        ordered = sorted(cases, key=lambda c: (c.server != cases[0].server, sorted(c.server.items())))
        for number, (_, group) in enumerate(groupby(ordered, key=lambda c: c.server)):
            together = list(group)
            lab = Lab(Path(folder) / str(number), together[0].server)
            try:
                for case in together:
                    row = lab.run(case)
                    _report(row)
                    yield row
            finally:
                lab.server.stop()


def _report(row: Row) -> None:
    print(f"{'FAIL' if row.faults() else 'ok  '} {row.seconds:5.1f} s  {row.case}", file=sys.stderr)
    for fault in row.faults():
        print(f"       {fault}", file=sys.stderr)


def page(rows: Sequence[Row]) -> str:
    """docs/memory-verified.md."""
    worst = max((abs(e) for r in rows for e in r.errors().values()), default=0)
    formula_worst = max((abs(r.formula_error()) for r in rows), default=0)
    good = sum(1 for r in rows if not r.faults())
    spilled = sum(1 for r in rows if not r.kept and r.case.layers == "auto")
    lines = [
        "# Memory, verified",
        "",
        "Written by `python -m scripts.verify_loads`; do not edit.",
        "",
        f"{date.today():%Y-%m-%d}, {rows[0].versions}.",
        "",
        "Each row is one load through Ollama. The need was asked before it, of the runtime (`probe`) and of the",
        "formulas (`closed form`); the buffers are those that the server then logged. The models are ghosts: the true",
        "headers and shapes of published models without their data, so every buffer is real and the weights are not.",
        "What a projector takes is shown where Ollama put it on the device.",
        "",
        f"- {good} of {len(rows)} rows within the bar.",
        f"- Probe: no part of any row is more than {_bound(worst)} MiB off its buffer (bar: 1 MiB).",
        f"- Closed form: no device total is more than {_bound(formula_worst)} MiB off (bar: 3 % or 2 MiB, and short by",
        "  at most 1 % or 1 MiB).",
        "- Layers on the device: as the probe and the closed form foretold them, and as the server loaded them; where",
        f"  `auto` was asked the runtime's own fit chose, and in {spilled} rows it did not keep them all.",
        "",
        "All sizes in MiB.",
        "",
        "| Model | Context | KV | Batch | Layers asked | Weights | KV cache | State | Compute | Projector | Encoder "
        "| Device total | Probe, worst part | Closed form, total | Layers: probe, closed form, loaded "
        "| Within the bar |",
        "|---|--:|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|---|",
        *map(_line, rows),
        "",
    ]
    return "\n".join(lines)


def _bound(n_bytes: int) -> str:
    """The next hundredth of a MiB above: the log gives no more digits."""
    return f"{max(1, math.ceil(n_bytes / MIB * 100)) / 100:.2f}"


def _line(row: Row) -> str:
    case, real = row.case, row.measured()
    part, error = max(row.errors().items(), key=lambda item: abs(item[1]))
    context = f"{case.num_ctx}{f' x {case.parallel}' if case.parallel > 1 else ''}"
    kv = f"{case.kv}{', no flash attention' if case.flash_attn == 'off' else ''}"
    said = [_layers(layers) for layers in (row.runtime.layers, row.formula.layers, row.loaded.layers)]
    over = row.loaded.overflowing_layers
    cells = [
        case.name,
        context,
        kv,
        str(case.batch),
        f"{case.layers}{f', just {case.edge} the limit' if case.edge else ''}",
        *(f"{size / MIB:.2f}" if size else "" for size in real.values()),
        f"{sum(real.values()) / MIB:.2f}",
        f"{_signed(error)} ({part})" if abs(error) >= MIB / 200 else "0.00",
        _signed(row.formula_error()),
        ", ".join(said) + (f" ({over} without their experts)" if over else ""),
        "yes" if not row.faults() else "; ".join(row.faults()),
    ]
    return "| " + " | ".join(cells) + " |"


def _signed(n_bytes: int) -> str:
    return f"{n_bytes / MIB:+.2f}" if abs(n_bytes) >= MIB / 200 else "0.00"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", default="", help="run only cases whose description contains this text")
    parser.add_argument("--no-write", action="store_true", help="do not write the page")
    asked = parser.parse_args()
    cases = [c for c in CASES if asked.only in str(c)]
    started = time.monotonic()
    rows = list(runs(cases))
    bad = [r for r in rows if r.faults()]
    print(f"{len(rows)} loads, {len(bad)} break the bar, {time.monotonic() - started:.0f} s", file=sys.stderr)
    if not asked.no_write and not asked.only:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page(rows), "utf-8")
    return 1 if bad or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
