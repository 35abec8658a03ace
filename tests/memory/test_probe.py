"""The runtime is asked, answers what a load then takes, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from qwenops.errors import PartMissing
from qwenops.machine.types import Device
from qwenops.memory.load_log import LoadLines, parse_load_log
from qwenops.memory.probe import probe
from qwenops.memory.probe_run import listen, scratch_folder
from qwenops.memory.types import Layers, LoadSettings, Need
from qwenops.model.gguf_header import read_header
from qwenops.model.read import read_model
from qwenops.model.types import Model
from qwenops.runtime.types import Runtime
from tests.support.parts import layout, software_gpu_environment
from tests.support.runtime import software_runtime
from tests.support.shapes import TEXT, write_text
from tests.support.tiny import TinyModel

MIB = 1024**2
real = [pytest.mark.server, pytest.mark.vulkan]


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    """The real llama-server with the software GPU, as found beside an Ollama."""
    return software_runtime()


@pytest.fixture
def small(tmp_path: Path) -> Model:
    """A ghost of a real 0.6B shape."""
    return read_model(write_text(tmp_path / "qwen3-0.6b-Q4_K_M.gguf", TEXT["qwen3-0.6b"]))


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    """An executable that stands where llama-server is: an old one, a broken one, one that hangs."""

    def write(text: str) -> Path:
        path = tmp_path / "llama-server"
        path.write_text(f"#!/bin/sh\n{textwrap.dedent(text)}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return write


def really_loaded(model: Model, *flags: str) -> LoadLines:
    """What the same llama-server logs when it loads the model, read up to its first run."""
    with scratch_folder() as folder:
        command = [str(layout().llama_server), "--model", str(model.path), "--host", str(folder / "s.sock")]
        command += ["--no-webui", "--offline", "-np", "1", "--log-verbosity", "4", "--no-log-prefix", *flags]
        env = {**os.environ, **software_gpu_environment(), "LD_LIBRARY_PATH": str(layout().ollama_libs)}
        text, seen = listen(command, env, lambda line: "warming up the model" in line, 120)
    assert seen, text[-2000:]
    return parse_load_log(text)


def mib(n_bytes: int) -> float:
    return n_bytes / MIB


class TestAgainstRealLoads:
    pytestmark = real

    @pytest.mark.parametrize(
        ("settings", "flags"),
        [
            (LoadSettings(num_ctx=2048), "-ngl 29 -c 2048 -b 512 -ub 512"),
            (LoadSettings(num_ctx=2048, gpu_layers=9, batch=256, ubatch=64), "-ngl 9 -c 2048 -b 256 -ub 64"),
            (LoadSettings(num_ctx=9000, gpu_layers="auto"), "-c 9000 -b 512 -ub 512"),
            (
                LoadSettings(num_ctx=4096, kv_type_k="q8_0", kv_type_v="q8_0"),
                "-ngl 29 -c 4096 -b 512 -ub 512 --cache-type-k q8_0 --cache-type-v q8_0",
            ),
            (
                LoadSettings(num_ctx=4096, kv_type_k="q8_0", kv_type_v="f16", flash_attn="off"),
                "-ngl 29 -c 4096 -b 512 -ub 512 --cache-type-k q8_0 --flash-attn off",
            ),
            (LoadSettings(num_ctx=2048, gpu_layers=0), "-ngl 0 -c 2048 -b 512 -ub 512"),
        ],
        ids=["every layer", "some layers", "left to the fit", "quantized cache", "no flash attention", "no layer"],
    )
    def test_every_part_is_within_a_mib_of_the_buffer_that_is_made(
        self, small: Model, runtime: Runtime, settings: LoadSettings, flags: str
    ) -> None:
        said = probe(small, settings, runtime)
        made = really_loaded(small, *flags.split())
        (device,) = said.devices
        assert said.layers == made.layers
        assert mib(device.weights_bytes) == pytest.approx(mib(made.device_bytes("Vulkan0", "model")), abs=1)
        assert mib(device.kv_bytes) == pytest.approx(mib(made.device_bytes("Vulkan0", "KV")), abs=0.02)
        assert mib(device.compute_bytes) == pytest.approx(mib(made.device_bytes("Vulkan0", "compute")), abs=0.02)
        assert mib(said.host.kv_bytes) == pytest.approx(mib(made.host_bytes("KV")), abs=0.02)
        assert mib(said.host.compute_bytes) == pytest.approx(mib(made.host_bytes("compute")), abs=0.02)
        assert said.band.low <= made.device_bytes("Vulkan0") <= said.band.high
        assert set(said.sources.values()) == {"runtime"}

    def test_recurrent_state_is_told_apart_from_the_cache(self, tiny_qwen35: TinyModel, runtime: Runtime) -> None:
        model = read_model(tiny_qwen35.model, mmproj=None)
        (device,) = probe(model, LoadSettings(), runtime).devices
        made = really_loaded(model, *["-ngl", "99", "-c", "4096", "-b", "512", "-ub", "512"])
        assert device.state_bytes == made.device_bytes("Vulkan0", "RS") > 0
        assert device.kv_bytes == made.device_bytes("Vulkan0", "KV") > 0

    def test_without_a_device_everything_is_on_the_host(self, small: Model, runtime: Runtime) -> None:
        hidden = replace(runtime, devices=(), backends=(), environment={"GGML_VK_VISIBLE_DEVICES": "-1"})
        said = probe(small, LoadSettings(num_ctx=2048), hidden)
        assert said.devices == ()
        assert said.layers == Layers(0, 29)
        assert mib(said.host.kv_bytes) == 224
        assert said.host.weights_bytes > small.header.tensor_bytes - MIB

    def test_memory_that_idle_models_hold_is_counted_as_free_where_the_plan_counts_it(
        self, small: Model, runtime: Runtime
    ) -> None:
        settings = LoadSettings(num_ctx=6656, gpu_layers="auto")
        (card,) = runtime.devices
        assert probe(small, settings, runtime).layers == Layers(29, 29)
        # The software GPU always has 2048 MiB free: say that a plan may count on less, then on what is not free yet.
        less = probe(small, settings, runtime, devices=(replace(card, free_bytes=1800 * MIB),))
        assert less.layers.on_device < 29
        held = replace(runtime, devices=(replace(card, free_bytes=1800 * MIB),))
        assert probe(small, settings, held, devices=(card,)).layers == Layers(29, 29)
        much = replace(runtime, devices=(replace(card, free_bytes=500 * MIB),))
        with pytest.raises(PartMissing, match=r"idle models hold 1.51 GiB"):
            probe(small, settings, much, devices=(card,))


class TestGhosts:
    pytestmark = real

    def test_a_header_alone_gives_the_answer_of_the_whole_file(
        self, small: Model, runtime: Runtime, tmp_path: Path
    ) -> None:
        cut = tmp_path / "fetched" / small.path.name
        cut.parent.mkdir()
        with small.path.open("rb") as file:
            cut.write_bytes(file.read(read_header(small.path).data_offset))
        settings = LoadSettings(num_ctx=2048, gpu_layers="auto")
        assert probe(replace(small, shards=(cut,)), settings, runtime) == probe(small, settings, runtime)

    def test_nothing_is_left_of_a_probe_that_is_ended_by_a_signal(
        self, small: Model, runtime: Runtime, tmp_path: Path
    ) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            child = subprocess.Popen(
                [sys.executable, "-c", _probing(small.path)],
                env={**os.environ, "TMPDIR": str(tmp_path / "t"), "QWENOPS_HOME": str(tmp_path / "h")},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            (tmp_path / "t").mkdir(exist_ok=True)
            servers = _wait_for(lambda child=child: psutil.Process(child.pid).children())
            os.kill(child.pid, number)
            child.wait(30)
            assert _wait_for(lambda servers=servers: not any(s.is_running() for s in servers))
            assert list((tmp_path / "t").iterdir()) == []

    def test_a_probe_that_is_killed_takes_its_server_along(self, small: Model, tmp_path: Path) -> None:
        if sys.platform != "linux":
            pytest.skip("asked of the kernel on Linux only")
        (tmp_path / "t").mkdir()
        child = subprocess.Popen(
            [sys.executable, "-c", _probing(small.path)],
            env={**os.environ, "TMPDIR": str(tmp_path / "t"), "QWENOPS_HOME": str(tmp_path / "h")},
        )
        servers = _wait_for(lambda: psutil.Process(child.pid).children())
        child.kill()
        child.wait()
        assert _wait_for(lambda: not any(s.is_running() for s in servers))


class TestProjector:
    pytestmark = real

    @pytest.fixture
    def model(self, tiny_qwen3vl: TinyModel) -> Model:
        return read_model(tiny_qwen3vl.model, mmproj=tiny_qwen3vl.projector)

    def test_it_is_split_into_weights_and_encoder(self, model: Model, runtime: Runtime) -> None:
        (device,) = probe(model, LoadSettings(image_tokens=1024), runtime).devices
        assert model.projector is not None
        assert device.projector_bytes == model.projector.header.tensor_bytes
        assert 40 < mib(device.encoder_bytes) < 60

    def test_the_encoder_grows_with_the_largest_image_and_never_below_its_size_at_load(
        self, model: Model, runtime: Runtime
    ) -> None:
        sizes = [
            probe(model, LoadSettings(image_tokens=n), runtime).devices[0].encoder_bytes
            for n in (256, 46 * 46, 3000, 4096)
        ]
        assert sizes[0] == sizes[1] < sizes[2] < sizes[3]

    def test_on_the_cpu_it_takes_nothing_of_the_device(self, model: Model, runtime: Runtime) -> None:
        need = probe(model, LoadSettings(projector_device="cpu"), runtime)
        assert (need.devices[0].projector_bytes, need.devices[0].encoder_bytes) == (0, 0)
        assert need.host.projector_bytes > 0
        assert need.host.encoder_bytes > 0
        assert need.devices[0].reserve_bytes == 1024 * MIB

    def test_with_some_layers_on_the_host_it_goes_there_too_as_ollama_has_it(
        self, model: Model, runtime: Runtime
    ) -> None:
        need = probe(model, LoadSettings(gpu_layers=2), runtime)
        assert need.devices[0].projector_bytes == 0
        assert any("projector on the CPU" in note for note in need.notes)

    def test_where_too_little_is_free_now_it_is_not_tried_and_the_formulas_stand_in(
        self, model: Model, runtime: Runtime
    ) -> None:
        settings = LoadSettings(gpu_layers="auto")
        held = replace(runtime, devices=tuple(replace(d, free_bytes=1000 * MIB) for d in runtime.devices))
        asked = probe(model, settings, runtime)
        spared = probe(model, settings, held, devices=runtime.devices)
        assert (asked.sources["projector"], spared.sources["projector"]) == ("runtime", "closed form")
        for part in ("weights", "kv", "compute", "projector", "encoder"):
            both = [getattr(n.devices[0], f"{part}_bytes") / MIB for n in (asked, spared)]
            assert both[0] == pytest.approx(both[1], rel=0.05, abs=1)
        assert any("too little memory is free now" in note for note in spared.notes)

    def test_the_reserve_is_the_target_that_ollama_sets(self, model: Model, runtime: Runtime) -> None:
        assert model.projector is not None
        (device,) = probe(model, LoadSettings(), runtime).devices
        assert device.reserve_bytes == 1025 * MIB


class TestWhoCannotBeAsked:
    @pytest.mark.parametrize(
        ("place", "why"),
        [
            ("container", "in a container"),
            ("remote", "on another machine"),
            ("wsl", "other side of WSL"),
            ("none", "no Ollama server"),
        ],
    )
    def test_a_runtime_out_of_reach_says_why(self, small: Model, place: str, why: str) -> None:
        runtime = Runtime(place=place, url="http://10.0.0.1:11434")  # type: ignore[arg-type]
        with pytest.raises(PartMissing, match=why):
            probe(small, LoadSettings(), runtime)

    def test_outputs_of_the_library_are_not_a_question_for_the_server(
        self, small: Model, script: Callable[[str], Path]
    ) -> None:
        with pytest.raises(PartMissing, match="row of outputs for every batch token"):
            probe(small, LoadSettings(outputs="library"), _standing(script("exit 0")))

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("echo 'error: invalid argument: --fit' >&2; exit 1", "invalid argument: --fit"),
            ("echo \"error loading model: unknown model architecture: 'new'\"; exit 1", "architecture: 'new'"),
            ("exit 132", "it wrote nothing"),
            ("echo 'x: projected to use 12 MiB of device memory'; sleep 30", "no memory table that is understood"),
            ("sleep 60", "no answer within 2 s"),
        ],
        ids=["too old", "unknown model", "silent death", "no table", "hangs"],
    )
    def test_a_server_that_does_not_answer_is_quoted(
        self, small: Model, script: Callable[[str], Path], text: str, why: str
    ) -> None:
        with pytest.raises(PartMissing, match=why):
            probe(small, LoadSettings(), _standing(script(text)), timeout_s=2)

    def test_a_server_that_is_not_there_or_may_not_be_started_is_named(
        self, small: Model, script: Callable[[str], Path]
    ) -> None:
        path = script("exit 0")
        path.chmod(0o644)
        with pytest.raises(PartMissing, match="may not be started"):
            probe(small, LoadSettings(), _standing(path))
        path.unlink()
        with pytest.raises(PartMissing, match=r"was not found at .*llama-server"):
            probe(small, LoadSettings(), _standing(path))


class TestWhatIsAsked:
    """The question is put with Ollama's own flags and environment, and only once."""

    @pytest.fixture
    def asked(self, small: Model, script: Callable[[str], Path], tmp_path: Path) -> Callable[..., str]:
        log = tmp_path / "asked"

        def ask(settings: LoadSettings, **environment: str) -> str:
            server = script(f'echo "$@" >> {log}; env | sort >> {log}; cat {FIT_LOG}; sleep 30')
            probe(small, settings, replace(_standing(server), environment=environment))
            return log.read_text()

        return ask

    @pytest.mark.parametrize(
        ("settings", "flags"),
        [
            (LoadSettings(num_ctx=4096, parallel=2), "-c 8192 -np 2"),
            (LoadSettings(gpu_layers="all"), "-ngl 29"),
            (LoadSettings(gpu_layers=7), "-ngl 7"),
            (LoadSettings(batch=1024, ubatch=1024), "-b 1024 -ub 1024"),
            (LoadSettings(batch=1024, ubatch=256), "-ub 256"),
            (LoadSettings(kv_type_k="q4_0", kv_type_v="q4_0"), "--cache-type-k q4_0 --cache-type-v q4_0"),
            (LoadSettings(kv_type_k="q8_0", kv_type_v="f16"), "--cache-type-k q8_0 --cache-type-v f16"),
            (LoadSettings(flash_attn="off"), "--flash-attn off"),
            (LoadSettings(mmap=False), "--load-mode none"),
            (LoadSettings(swa_full=True), "--swa-full"),
        ],
    )
    def test_settings_become_flags(self, asked: Callable[..., str], settings: LoadSettings, flags: str) -> None:
        assert flags in asked(settings)

    def test_a_load_left_to_the_fit_names_no_layers(self, asked: Callable[..., str]) -> None:
        assert "-ngl" not in asked(LoadSettings(gpu_layers="auto"))

    def test_the_servers_environment_is_handed_on_and_the_shells_is_not(
        self, asked: Callable[..., str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LLAMA_ARG_N_CPU_MOE", "9")
        text = asked(LoadSettings(), LLAMA_ARG_FIT_TARGET="256", LLAMA_ARG_FIT="off")
        assert "LLAMA_ARG_FIT_TARGET=256" in text
        assert "LLAMA_ARG_FIT=on" in text
        assert "LLAMA_ARG_N_CPU_MOE" not in text

    def test_the_same_question_is_asked_once(self, small: Model, script: Callable[[str], Path], tmp_path: Path) -> None:
        log = tmp_path / "starts"
        runtime = _standing(script(f"echo x >> {log}; cat {FIT_LOG}; sleep 30"))
        card = Device("Vulkan0", "vulkan", "llvmpipe", 2048 * MIB, 1500 * MIB)

        def ask(free_mib: int, **settings: int) -> Need:
            devices = (replace(card, free_bytes=free_mib * MIB),)
            return probe(small, LoadSettings(**settings), runtime, devices=devices)  # type: ignore[arg-type]

        first, second = ask(1500), ask(700)
        assert log.read_text().count("x") == 1
        assert replace(first, devices=()) == replace(second, devices=())
        assert [n.devices[0].free_bytes // MIB for n in (first, second)] == [1500, 700]
        ask(1500, num_ctx=8192)
        assert log.read_text().count("x") == 2

    def test_a_damaged_answer_is_asked_again(
        self, small: Model, script: Callable[[str], Path], tmp_path: Path, qwenops_home: Path
    ) -> None:
        log = tmp_path / "starts"
        runtime = _standing(script(f"echo x >> {log}; cat {FIT_LOG}; sleep 30"))
        first = probe(small, LoadSettings(), runtime)
        (kept,) = qwenops_home.rglob("probes/*.json")
        kept.write_text(kept.read_text()[:40])
        assert probe(small, LoadSettings(), runtime) == first
        assert log.read_text().count("x") == 2


FIT_LOG = Path(__file__).parent / "logs" / "fit-spilled.txt"


def _standing(server: Path) -> Runtime:
    return Runtime(place="local", url="http://127.0.0.1:11434", llama_server_path=server)


def _wait_for(check: Callable[[], object], seconds: float = 20) -> object:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := check():
            return found
        time.sleep(0.02)
    return check()


def _probing(path: Path) -> str:
    """A program that asks again and again until it is ended, with a ghost in play."""
    return textwrap.dedent(f"""
        from dataclasses import replace
        from pathlib import Path
        from qwenops.memory.probe import probe
        from qwenops.memory.types import LoadSettings
        from qwenops.model.read import read_model
        from qwenops.runtime.types import Runtime
        from tests.support.parts import layout, software_gpu_environment
        model = read_model({str(path)!r}, mmproj=None)
        cut = Path({str(path)!r} + ".cut")
        with model.path.open("rb") as file:
            cut.write_bytes(file.read(model.header.data_offset))
        runtime = Runtime(place="local", url="http://127.0.0.1:11434", llama_server_path=layout().llama_server,
                          environment=software_gpu_environment())
        while True:
            probe(replace(model, shards=(cut,)), LoadSettings(gpu_layers="auto"), runtime)
    """)
