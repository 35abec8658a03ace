"""Defaults of options: from the file, over it from a variable, over both from what is typed."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest
import tomllib
from hypothesis import given
from hypothesis import strategies as st

from qwenops.cli.main import COMMANDS
from qwenops.cli.settings import DEFAULTS, settings_of
from qwenops.config import toml_value, with_value
from qwenops.errors import BadInput
from tests.support.cli import qwenops


@pytest.fixture
def file(qwenops_home: Path) -> Path:
    """Where the settings go; the folder is there, the file is not."""
    path = qwenops_home / "config" / "config.toml"
    path.parent.mkdir(parents=True)
    return path


def test_what_is_typed_wins_over_a_variable_and_a_variable_over_the_file(file: Path) -> None:
    def cards(*typed: str, env: dict[str, str] | None = None) -> list[str]:
        answer = qwenops("machine", "--json", *typed, env=env)
        assert answer.code == 0, answer.err
        return [device["description"] for device in answer.data["devices"]]

    shared = "[defaults]\ngpu = 'RTX 4090'\n"
    assert cards() == []
    file.write_text(shared)
    assert "4090" in cards()[0]
    file.write_text(f"{shared}[machine]\ngpu = 'RTX 3060 12GB'\n")
    assert "3060" in cards()[0]
    assert "3050" in cards(env={"QWENOPS_GPU": "RTX 3050 8GB"})[0]
    both = {"QWENOPS_GPU": "RTX 3050 8GB", "QWENOPS_MACHINE_GPU": "RTX 4080"}
    assert "4080" in cards(env=both)[0]
    assert cards("--gpu", "none", env=both) == []


def test_a_variable_of_an_option_that_may_be_repeated_keeps_its_blanks(qwenops_home: Path, tmp_path: Path) -> None:
    from tests.support.shapes import TEXT, write_text

    model = write_text(tmp_path / "qwen3-4b-Q4_K_M.gguf", TEXT["qwen3-4b"])
    answer = qwenops("fits", model, "--json", env={"QWENOPS_FITS_GPU": "RTX 3060 12GB;RTX 4090"})
    assert answer.code == 0, answer.err
    assert len(answer.data["cards"]) == 2
    file = qwenops_home / "config" / "config.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('[fits]\ngpu = "RTX 3060 12GB"\n')
    assert len(qwenops("fits", model, "--json").data["cards"]) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[machin]\ngpu = '8GiB'", ":1: there is no command 'machin'; did you mean 'machine'?"),
        ("# a comment\n[machine]\n\ngpuu = '8GiB'", ":4: [machine] has no 'gpuu'; did you mean 'gpu'?"),
        ("[defaults]\noffline = true\nctx = 5", ":3: [defaults] has no 'ctx'"),
        ("[machine]\ngpu = 8", ":2: machine.gpu is 8, and a text is wanted"),
        ("[machine]\ngpu = ['8GiB']", ":2: machine.gpu is a list, and one value is wanted"),
        ("[defaults]\ngpu = true", ":2: defaults.gpu is True, and a text is wanted"),
        ("[machine.sub]\ngpu = '8GiB'", ":1: machine takes no settings at [machine.sub]"),
        ("[catalog]\nfile = ['x']", ":2: [catalog] has no 'file'; did you mean 'files'?"),
        ("gpu = '8GiB'", "gpu stands in no table"),
        ("[machine]\ngpu = ", ":2"),
        ("[config]\nall = true", "there is no command 'config'"),
    ],
)
def test_what_is_wrong_in_the_file_is_said_with_its_line(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    answer = qwenops("machine")
    assert (answer.code, answer.out) == (2, "")
    assert f"{file}{said}" in answer.err or (said in answer.err and str(file) in answer.err), answer.err
    assert "Traceback" not in answer.err
    assert qwenops("machine", "--help").code == 0
    if "=" in text and not text.endswith("= "):
        shown = qwenops("config", "--json")
        assert shown.code == 2


def test_a_value_out_of_an_options_range_is_said_with_its_line(file: Path, tmp_path: Path) -> None:
    file.write_text("[history.show]\nlimit = 0\n")
    answer = qwenops("history")
    assert answer.code == 2
    assert f"{file}:2: history.show.limit is wrong: 0 is not in the range" in answer.err


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("QWENOPS_HISTORY_SHOW_LIMIT", "many", "QWENOPS_HISTORY_SHOW_LIMIT is 'many', and a whole number is wanted"),
        ("QWENOPS_HISTORY_SHOW_LIMIT", "0", "QWENOPS_HISTORY_SHOW_LIMIT is wrong: 0 is not in the range"),
        ("QWENOPS_HISTORY_SHOW_JSON", "perhaps", "QWENOPS_HISTORY_SHOW_JSON is 'perhaps', and true or false is wanted"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str, said: str) -> None:
    answer = qwenops("history", env={variable: value})
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert qwenops("machine", env={variable: value}).code == 0


@pytest.mark.parametrize("command", ["need", "plan", "render", "fits", "quants", "image-tokens", "up"])
@pytest.mark.parametrize("said", ["typed", "QWENOPS_OFFLINE", "HF_HUB_OFFLINE", "the file"])
def test_offline_said_in_any_way_keeps_every_command_from_the_network(file: Path, command: str, said: str) -> None:
    """The hub's address is one where nothing listens: a command that asked it would say so."""
    model = "hf:someone/nothing-GGUF:Q4_K_M"
    args = [model] if command != "image-tokens" else ["page.png", "--model", model]
    if command == "render":  # takes names of the catalogue, and no references
        args = ["qwen3-vl:8b"]
    if said == "the file":
        file.write_text("[defaults]\noffline = true\n")
    env = {"HF_ENDPOINT": "http://127.0.0.1:9"} | ({said: "1"} if said.isupper() else {})
    answer = qwenops(command, *args, *(["--offline"] if said == "typed" else []), env=env)
    assert answer.code == 3, answer.err
    assert "the network is not to be used" in answer.err


def test_one_commands_mistake_does_not_stop_another(file: Path) -> None:
    file.write_text("[need]\nctx = 'many'\n")
    assert qwenops("machine").code == 0
    assert qwenops("config").code == 2


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("set", "need.ctx", "many"), 2, "need.ctx is 'many', and a whole number is wanted"),
        (("set", "need.ctx", "0"), 2, "need.ctx is wrong"),
        (("set", "need.kv", "q7"), 2, "need.kv is wrong"),
        (("set", "need.ctx", "1", "2"), 2, "takes one value"),
        (("set", "need.ctxx", "1"), 2, "did you mean 'need.ctx'?"),
        (("set", "offline", "true"), 2, "did you mean 'defaults.offline'?"),
        (("set", "defaults.offline", "perhaps"), 2, "true or false is wanted"),
        (("set", "up.yes", "true"), 2, "there is no setting 'up.yes'"),
        (("set", "calibrate.yes", "true"), 2, "there is no setting 'calibrate.yes'"),
        (("set", "gc.downloads", "true"), 2, "there is no setting"),
        (("unset", "up.for"), 2, "does not set 'up.for'"),
        (("get", "nothing"), 2, "there is no setting 'nothing'"),
    ],
)
def test_a_wrong_setting_is_refused_and_nothing_is_written(
    qwenops_home: Path, args: tuple[str, ...], code: int, said: str
) -> None:
    answer = qwenops("config", *args)
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err
    assert not (qwenops_home / "config").exists()


def test_set_get_unset_and_what_is_in_force(file: Path) -> None:
    assert qwenops("config", "path").out == f"{file}\n"
    assert "every option has its own default" in qwenops("config").out
    for words in (("up.for", "ocr"), ("defaults.offline", "yes"), ("fits.gpu", "RTX 3060 12GB", "RTX 4090")):
        assert qwenops("config", "set", *words).code == 0
    assert tomllib.loads(file.read_text()) == {
        "up": {"for": "ocr"},
        "defaults": {"offline": True},
        "fits": {"gpu": ["RTX 3060 12GB", "RTX 4090"]},
    }
    (got,) = qwenops("config", "get", "up.for", "--json").data["settings"]
    assert got == {"name": "up.for", "value": "ocr", "source": f"{file}:2", "hides": None}
    (got,) = qwenops("config", "get", "up.for", "--json", env={"QWENOPS_UP_FOR": "chat"}).data["settings"]
    assert got == {"name": "up.for", "value": "chat", "source": "QWENOPS_UP_FOR", "hides": f"{file}:2"}
    rows = {row["name"]: row["value"] for row in qwenops("config", "--json").data["settings"]}
    assert rows == {"up.for": "ocr", "defaults.offline": True, "fits.gpu": ["RTX 3060 12GB", "RTX 4090"]}
    assert qwenops("config", "unset", "up.for").code == 0
    assert "up.for" not in qwenops("config").out
    assert not [path for path in file.parent.iterdir() if path != file]


def test_a_table_that_no_command_knows_can_be_unset(file: Path) -> None:
    file.write_text("[gone]\nkey = 1\n")
    assert qwenops("config", "unset", "gone.key").code == 0
    assert "key" not in file.read_text()


def test_a_link_to_the_file_stays_a_link_and_its_mode_stays(file: Path, tmp_path: Path) -> None:
    target = tmp_path / "dotfiles.toml"
    target.write_text("# mine\n")
    target.chmod(0o600)
    file.symlink_to(target)
    assert qwenops("config", "set", "up.for", "ocr").code == 0
    assert file.is_symlink()
    assert target.read_text() == '# mine\n\n[up]\nfor = "ocr"\n'
    assert target.stat().st_mode & 0o777 == 0o600


def test_a_catalogue_file_that_is_named_gives_models_and_one_that_is_gone_is_said(file: Path, tmp_path: Path) -> None:
    team = tmp_path / "team.toml"
    team.write_text('[models.ours]\n[[models.ours.repos]]\nrepo = "a/b"\nmodel = "x-{quant}.gguf"\n')
    assert qwenops("config", "set", "catalog.files", team).code == 0
    listed = qwenops("models", "ours", "--json")
    assert listed.code == 0, listed.err
    assert "ours" in listed.out
    team.unlink()
    answer = qwenops("models", "ours")
    assert answer.code == 2
    assert "team.toml is not there, and [catalog] files names it" in answer.err


def test_help_reads_no_settings_even_where_they_are_broken(file: Path) -> None:
    file.write_text("[[[")
    assert qwenops("--help").code == 0
    assert qwenops("--version").code == 0
    code = (
        "import sys; sys.argv = ['qwenops', '--help']\n"
        "from qwenops.cli.main import cli\n"
        "cli(standalone_mode=False)\n"
        "print('LOADED', [m for m in ('tomllib', 'platformdirs', 'qwenops.config') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED []"


def test_defaults_hold_what_several_commands_share_and_every_variable_is_one_options() -> None:
    commands = {name: import_module(f"qwenops.cli.{module}").command for name, (module, _) in COMMANDS.items()}
    settings = [s for name, command in commands.items() if name != "config" for s in settings_of(command, name)]
    shared = {key: [s for s in settings if s.key == key] for key in DEFAULTS}
    assert all(len(found) > 1 for found in shared.values()), shared
    names = [setting.name for setting in settings]
    assert len(names) == len(set(names))


def test_every_command_that_reads_models_by_reference_has_offline() -> None:
    """--mmproj takes references, and so does every argument of that kind."""
    from qwenops.cli.common import ModelType

    def check(command: click.Command, name: str) -> None:
        for below in command.commands.values() if isinstance(command, click.Group) else ():
            check(below, f"{name} {below.name}")
        takes = any(isinstance(param.type, ModelType) for param in command.params)
        has = any("--offline" in param.opts for param in command.params if isinstance(param, click.Option))
        assert has or not takes, name

    for name, (module, _) in COMMANDS.items():
        check(import_module(f"qwenops.cli.{module}").command, name)


# --- editing lines ----------------------------------------------------------------------------------------------------

WRITTEN = """\
# at the top
[up]  # what I do
  for = "ocr"   # pages # twice
quant = '#Q4'  # not a comment inside
long = [
  "a",  # one
  "b",
]

# before need
[ need ]
ctx = 8192

[server.write]
"""


@pytest.mark.parametrize(
    ("table", "key", "value", "before", "after"),
    [
        ("up", "for", "chat", '  for = "ocr"   # pages # twice', '  for = "chat"   # pages # twice'),
        ("up", "quant", "x", "quant = '#Q4'  # not a", 'quant = "x"  # not a'),
        ("up", "long", ["c"], 'long = [\n  "a",  # one\n  "b",\n]\n', 'long = ["c"]\n'),
        ("up", "new", True, '  "b",\n]\n', '  "b",\n]\nnew = true\n'),
        ("need", "ctx", 4096, "ctx = 8192", "ctx = 4096"),
        ("server.write", "as", "env", "[server.write]\n", '[server.write]\nas = "env"\n'),
        ("up", "for", None, '  for = "ocr"   # pages # twice\n', ""),
        ("fits", "gpu", "é\n\x7f", "[server.write]\n", '[server.write]\n\n[fits]\ngpu = "é\\n\\u007f"\n'),
    ],
)
def test_an_edit_changes_one_value_and_nothing_else(
    table: str, key: str, value: object, before: str, after: str
) -> None:
    assert with_value(WRITTEN, table, key, value) == WRITTEN.replace(before, after)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["up = { for = 'ocr' }\n", "up.for = 'ocr'\n", "[up]\n'for' = 'ocr'\n"])
def test_what_lines_cannot_say_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="cannot be edited line by line"):
        with_value(text, "up", "for", "chat")


_VALUES = st.one_of(st.booleans(), st.integers(), st.text(), st.lists(st.text(), max_size=3))
_KEYS = st.sampled_from(["for", "ctx", "gpu", "image-tokens"])


@given(st.lists(st.tuples(st.sampled_from(["up", "need", "server.write"]), _KEYS, st.none() | _VALUES), max_size=8))
def test_law_edits_end_in_the_values_that_were_set_and_keep_every_comment(
    edits: list[tuple[str, str, bool | int | str | list[str] | None]],
) -> None:
    text, wanted = WRITTEN, tomllib.loads(WRITTEN)
    for table, key, value in edits:
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**63:
            continue
        text = with_value(text, table, key, value)
        here = wanted
        for part in table.split("."):
            here = here.setdefault(part, {})
        here.pop(key, None)
        if value is not None:
            here[key] = value
    assert tomllib.loads(text) == wanted
    assert "# at the top" in text
    assert "# before need" in text


@given(_VALUES)
def test_law_a_value_reads_back_as_it_was(value: bool | int | str | list[str]) -> None:
    assert tomllib.loads(f"x = {toml_value(value)}")["x"] == value
