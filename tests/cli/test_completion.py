"""Completion, asked through the shells themselves: real bash, and zsh and fish where they are installed."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from qwenops.cli.completing import escaped, open_quote, split_words
from qwenops.ollama.register import register
from tests.ollama.support import minimal_gguf, spec_for, store_alone
from tests.support.cli import qwenops

BASH = shutil.which("bash")
pytestmark = pytest.mark.skipif(BASH is None, reason="needs bash")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def env(tmp_path: Path) -> Mapping[str, str]:
    """A home with a store that holds two models, and a program called qwenops."""
    store = tmp_path / ".ollama" / "models"
    store.mkdir(parents=True)
    for name in ("scan-ocr", "hf.co/maker/eyes:Q4_K_M"):
        register(spec_for(minimal_gguf(tmp_path / "m" / "model.gguf")), name, store_alone(store))
    program = tmp_path / "bin" / "qwenops"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m qwenops "$@"\n')
    program.chmod(0o755)
    here = tmp_path / "here"
    (here / "folder of quants").mkdir(parents=True)
    (here / "model one.gguf").touch()
    (here / ".hidden").touch()
    own = {k: v for k, v in os.environ.items() if not k.startswith(("OLLAMA_", "BASH"))}
    return {**own, "HOME": str(tmp_path), "PATH": f"{program.parent}:{own['PATH']}", "PWD": str(here), "TERM": "dumb"}


def completed(line: str, env: Mapping[str, str], wordbreaks: str = " \t\n\"'><=;|&(:") -> list[str]:
    """COMPREPLY, as bash's own splitting of the line and the printed function make it."""
    script = """
        eval "$(qwenops completion bash)"
        COMP_WORDBREAKS=$2 COMP_LINE=$1 COMP_POINT=${#1}
        _qwenops_completion qwenops
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    assert BASH
    done = subprocess.run(
        [BASH, "--norc", "-c", script, "bash", line, wordbreaks],
        capture_output=True,
        text=True,
        env=env,
        cwd=env["PWD"],
        check=False,
    )
    assert "Traceback" not in done.stderr
    return [reply for reply in done.stdout.splitlines() if reply]


@pytest.mark.parametrize(
    ("line", "replies"),
    [
        ("qwenops unin", ["uninstall"]),
        ("qwenops show s", ["scan-ocr"]),
        ("qwenops remove scan-ocr hf", ["hf.co/maker/eyes:Q4_K_M"]),
        ("qwenops verify hf.co/maker/eyes:", ["Q4_K_M"]),
        ("qwenops show 'hf.co/maker/eyes:Q", ["hf.co/maker/eyes:Q4_K_M"]),
        ("qwenops try scan-ocr,hf", ["scan-ocr,hf.co/maker/eyes:Q4_K_M"]),
        ("qwenops try scan-ocr mod", [r"model\ one.gguf"]),
        ("qwenops try scan-ocr hf", ["hf.co/maker/eyes:Q4_K_M"]),
        ("qwenops connect paper", ["paperless-gpt"]),
        ("qwenops connect openai sc", ["scan-ocr"]),
        ("qwenops server plan sc", ["scan-ocr"]),
        ("qwenops up qwen3-vl:235b-a22b-t", ["235b-a22b-thinking"]),
        ("qwenops up QWEN3-VL:235b-a22b-t", ["235b-a22b-thinking"]),
        ("qwenops need ollama:sc", ["scan-ocr"]),
        ("qwenops up mod", [r"model\ one.gguf"]),
        ("qwenops up 'mod", ["model one.gguf"]),
        ("qwenops plan fold", [r"folder\ of\ quants/"]),
        ("qwenops plan ./mod", [r"./model\ one.gguf"]),
        ("qwenops plan .h", [".hidden"]),
        ("qwenops plan --for oc", ["ocr", "ocr-json"]),
        ("qwenops plan --for=oc", ["ocr", "ocr-json"]),
        ("qwenops plan --quant Q5_K_", ["Q5_K_S", "Q5_K_M"]),
        ("qwenops plan --gpu RTX\\ 4060", [r"RTX\ 4060", r"RTX\ 4060\ Ti", r"RTX\ 4060\ Laptop"]),
        ('qwenops machine --gpu "RTX 4090', ["RTX 4090", "RTX 4090 Laptop"]),
        ("qwenops need x.gguf --kv q8", ["q8_0"]),
        ("qwenops need --out", ["--outputs"]),
        ("qwenops config set need.n-cpu", ["need.n-cpu-moe"]),
        ("qwenops config uns", ["unset"]),
        ("qwenops completion f", ["fish"]),
        ("qwenops show 'unclosed \\", []),
    ],
)
def test_bash_gets_what_could_stand_there(env: Mapping[str, str], line: str, replies: list[str]) -> None:
    found = completed(line, env)
    if line.startswith("qwenops plan --for"):
        assert found[0] == "ocr", "its neighbours are the profiles' business"
        return
    if "--gpu" in line or "--quant" in line:
        assert sorted(set(found) & set(replies)) == sorted(replies)
        return
    assert found == replies


def test_a_bash_that_does_not_break_words_at_colons_gets_whole_words(env: Mapping[str, str]) -> None:
    assert completed("qwenops up qwen3-vl:235b-a22b-t", env, " \t\n") == ["qwen3-vl:235b-a22b-thinking"]
    assert completed("qwenops need --kv=q8", env, " \t\n") == ["--kv=q8_0"]


@pytest.mark.parametrize(
    "broken", ["config/config.toml", "config/catalog.toml", "data/links.db", "data/history.sqlite3"]
)
def test_what_is_broken_says_nothing_and_gives_no_names(
    env: Mapping[str, str], qwenops_home: Path, broken: str
) -> None:
    path = qwenops_home / broken
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[[[ broken")
    for line in ("qwenops up qwen3-vl:235b-a22b-t", "qwenops show sc", "qwenops config se", "qwenops hist"):
        answer = subprocess.run(
            ["qwenops"],
            env={**env, "_QWENOPS_COMPLETE": "bash_complete", "COMP_LINE": line, "COMP_POINT": str(len(line))},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (answer.returncode, answer.stderr) == (0, ""), line


def test_names_of_commands_come_without_their_imports_and_within_the_time_of_a_key(env: Mapping[str, str]) -> None:
    code = (
        "import os, sys, time\n"
        "os.environ.update(_QWENOPS_COMPLETE='bash_complete', COMP_LINE=sys.argv[1])\n"
        "from qwenops.cli.main import run\n"
        "try: run()\n"
        "except SystemExit: pass\n"
        "print('MODULES', [m for m in sys.modules if m.startswith('qwenops.cli.')])\n"
        "print('CPU', time.process_time())"
    )

    def ran(line: str) -> tuple[str, float]:
        done = subprocess.run([sys.executable, "-c", code, line], capture_output=True, text=True, env=env, check=True)
        *_, modules, cpu = done.stdout.splitlines()
        return modules, float(cpu.split()[1])

    modules, _ = ran("qwenops ")
    assert "qwenops.cli.up" not in modules
    for line in ("qwenops ", "qwenops show ", "qwenops up qwen3", "qwenops plan --gpu RTX"):
        assert min(ran(line)[1] for _ in range(3)) < 0.3, line


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_that_its_shell_reads(shell: str) -> None:
    answer = qwenops("completion", shell)
    assert (answer.code, answer.err) == (0, "")
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"needs {shell}")
    done = subprocess.run([program, "-n"], input=answer.out, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_a_shell_it_says_where_the_script_goes() -> None:
    answer = qwenops("completion", env={"SHELL": "/bin/bash"})
    assert answer.code == 0
    assert "qwenops completion bash > ~/.local/share/bash-completion/completions/qwenops" in answer.out
    assert qwenops("completion", env={"SHELL": "/bin/tcsh"}).code == 2
    assert qwenops("completion", "tcsh").code == 2


# --- typed on a terminal ----------------------------------------------------------------------------------------------

_START = {
    "bash": (
        ["--norc", "--noprofile", "-i"],
        'bind "set bell-style none"; eval "$(qwenops completion bash)"',
    ),
    "zsh": (["-f", "-i"], 'autoload -U compinit; compinit -u; eval "$(qwenops completion zsh)"'),
    "fish": (["--no-config", "-i"], "qwenops completion fish | source"),
}


def typed(shell: str, program: str, line: str, ending: str, env: Mapping[str, str]) -> str:
    """The line as the shell has it once Tab was pressed: `echo` is put before it, and it is run."""
    options, setup = _START[shell]
    child, leader = pty.fork()  # fish wants a terminal of its own
    if child == 0:
        os.chdir(env["PWD"])
        os.execve(program, [program, *options], {**env, "PS1": "> ", "TERM": "xterm"})
    try:
        _send(leader, f"{setup}; echo READ''Y\r", until="READY")
        _send(leader, f"{line}\t", until=ending, seconds=8)
        shown = _send(leader, "\x01echo '<<' \x05 '>>'\r", until=">>\r\n", seconds=10)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(leader)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]|\x1b\][^\x07]*\x07", "", shown)
    found = re.findall(r"<< (qwenops[^>\r\n]*?) >>", plain)  # the line itself is shown too, with quotes around these
    assert found, plain
    return " ".join(found[-1].split())


def _send(terminal: int, text: str, *, until: str, seconds: float = 30) -> str:
    os.write(terminal, text.encode())
    heard, deadline = "", time.monotonic() + seconds
    while time.monotonic() < deadline and not (until and until in heard):
        if select.select([terminal], [], [], 0.2)[0]:
            heard += os.read(terminal, 65536).decode("utf-8", "replace")
    return heard


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        ("qwenops verify hf.co/maker/eyes:Q", "qwenops verify hf.co/maker/eyes:Q4_K_M"),
        ("qwenops plan mod", "qwenops plan model one.gguf"),
        ("qwenops try scan-ocr,h", "qwenops try scan-ocr,hf.co/maker/eyes:Q4_K_M"),
    ],
)
def test_tab_on_a_terminal_completes_the_word(env: Mapping[str, str], shell: str, line: str, becomes: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"needs {shell}")
    assert typed(shell, program, line, becomes[-4:], env) == becomes


@pytest.mark.parametrize(
    ("text", "words", "quote"),
    [
        ("a b", ["a", "b"], ""),
        ("a 'b c", ["a", "b c"], "'"),
        ('a "b \\" c', ["a", 'b " c'], '"'),
        ("a b\\ c", ["a", "b c"], ""),
        ("a 'b' #c", ["a", "b", "#c"], ""),
    ],
)
def test_a_line_is_split_as_the_shell_splits_it(text: str, words: list[str], quote: str) -> None:
    assert split_words(text) == words
    assert open_quote(text) == quote


def test_a_value_is_escaped_so_that_the_shell_reads_it_back() -> None:
    value = "a b'c\"d$e`f(g)h\\i*j:k/l~m"
    assert BASH
    done = subprocess.run([BASH, "-c", f"printf %s {escaped(value)}"], capture_output=True, text=True, check=True)
    assert done.stdout == value
