"""The catalogue: published Qwen vision models by the names people type, and where their files are.

The data is catalog.toml beside this module, each table with its sources; a user's own entries of the same form in
catalog.toml of the configuration folder, and in files that config.toml names, are laid over it. Nothing is asked over
a network here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

from qwenops.errors import BadInput
from qwenops.model.quants import label_in_name
from qwenops.tables import load_table

Mode = Literal["instruct", "thinking", "both"]

_MOST_REPOS: Final = 2  # each further one costs a listing and some thirty headers
_UNSURE: Final = re.compile(r"by analogy|unverified|not seen")


@dataclass(frozen=True)
class Repo:
    """A repository on the hub. File names are patterns with {quant} or {type}; `sure` is off where nobody saw them."""

    repo: str
    model: str
    projector: str | None = None
    projector_types: tuple[str, ...] = ()
    quants: tuple[str, ...] = ()
    official: bool = False
    seen: str | None = None
    sources: tuple[str, ...] = ()

    @property
    def sure(self) -> bool:
        """Whether the file names were seen, not concluded."""
        return self.seen is None or not _UNSURE.search(self.seen)


@dataclass(frozen=True)
class Entry:
    """One published model. `shape` are its dimensions as the catalogue has them, None where it has none.

    `model_bytes` and `projector_bytes` are published sizes of files by quant and type. `own` marks a user's entry.
    """

    id: str
    title: str
    family: str
    size: str
    mode: Mode
    names: tuple[str, ...]
    repos: tuple[Repo, ...]
    shape: Mapping[str, Any] | None = None
    original: str | None = None
    ollama: str | None = None
    parameters: int | None = None
    licence: str | None = None
    coordinates: str | None = None
    model_bytes: Mapping[str, int] = field(default_factory=dict)
    projector_bytes: Mapping[str, int] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()
    own: bool = False

    @property
    def references(self) -> tuple[str, ...]:
        """Where its files are, the best repository first; those that nobody saw only where there is no other."""
        sure = [r for r in self.repos if r.sure] or list(self.repos)
        return tuple(f"hf:{r.repo}" for r in sure[:_MOST_REPOS])


@dataclass(frozen=True)
class Named:
    """What a name stands for: an entry, and the quant where the name said one ("qwen3-vl:8b-instruct-q8_0")."""

    entry: Entry
    quant: str | None = None

    @property
    def references(self) -> tuple[str, ...]:
        """The references to read, narrowed to the quant."""
        return tuple(f"{r}:{self.quant}" if self.quant else r for r in self.entry.references)


def catalog() -> dict[str, Entry]:
    """Every entry by its id: those that qwenops ships, then the user's own, which replace entries of the same id.

    Raises BadInput, naming file and entry, where the user's file cannot be used.
    """
    shipped = load_table("qwenops.model", "catalog.toml")
    entries = {id_: _entry(id_, row, shipped["shapes"]) for id_, row in shipped["models"].items()}
    return entries | _own_entries(shipped["shapes"])


def looks_like_name(text: str) -> bool:
    """Whether a text that is no file was meant as a name: no folders in it, and no file's ending."""
    return "/" not in text and "\\" not in text and not text.lower().endswith((".gguf", ".toml", ".safetensors"))


def find_named(text: str) -> Named | None:
    """The entry of a name in any usual spelling, or None. Ollama's spelling with a quant at its end is understood too.

    "qwen3-vl:8b" is the Instruct model (Ollama's own tag of that name holds the Thinking one).
    """
    entries = catalog()
    by_name = {_folded(name): e for e in entries.values() for name in (e.id, *e.names)}
    wanted = _folded(text)
    if found := by_name.get(wanted):
        return Named(found)
    quant = label_in_name(text.replace(":", "-"))
    if quant is None:
        return None
    stem = re.sub(rf"[-:@]{re.escape(quant)}$", "", text.strip(), flags=re.IGNORECASE)
    found = by_name.get(_folded(stem))
    return Named(found, quant.upper()) if found and stem != text.strip() else None


def named(text: str) -> Named:
    """As find_named; raises BadInput with the nearest names where there is none."""
    found = find_named(text)
    if found:
        return found
    near = nearest(text)
    raise BadInput(
        f"there is no file and no model in the catalogue called {text!r}",
        do=(*(f"qwenops plan {name}" for name in near), "qwenops models     (all of them)"),
    )


def nearest(text: str, most: int = 3) -> tuple[str, ...]:
    """The names that were probably meant: those of the same family first, else the likest."""
    import difflib

    names = {_folded(name): name for entry in catalog().values() for name in entry.names[:1]}
    wanted = _folded(text)
    near = [names[n] for n in difflib.get_close_matches(wanted, names, n=most, cutoff=0.6)]
    return tuple(near)


def matching(query: Sequence[str]) -> list[Entry]:
    """The entries in which every word of a query occurs: in id, title, names, licence or repositories."""
    words = [_folded(word) for word in query]
    return [e for e in catalog().values() if all(any(word in text for text in _texts(e)) for word in words)]


def _texts(entry: Entry) -> list[str]:
    texts = [
        entry.id,
        entry.title,
        entry.licence or "",
        entry.ollama or "",
        *entry.names,
        *(r.repo for r in entry.repos),
    ]
    return [_folded(text) for text in texts]


def _folded(name: str) -> str:
    """A name without what people write in different ways: case, spaces, hyphens, the colon before the size."""
    return re.sub(r"[\s_:-]+", "", name.strip().lower())


def _own_entries(shapes: Mapping[str, Any]) -> dict[str, Entry]:
    from qwenops.config import extra_catalogs
    from qwenops.paths import config_dir

    own = _entries_of(config_dir() / "catalog.toml", shapes, required=False)
    for path in extra_catalogs():
        own |= _entries_of(path, shapes, required=True)
    return own


def _entries_of(path: Path, shapes: Mapping[str, Any], *, required: bool) -> dict[str, Entry]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if required:
            raise BadInput(
                f"{path} is not there, and [catalog] files names it", do="qwenops config unset catalog.files"
            ) from None
        return {}
    except (OSError, UnicodeDecodeError) as e:
        raise BadInput(f"{path} cannot be read: {e}") from None
    from qwenops.tables import parse_table

    try:
        table = parse_table(text)
        rows = table.get("models", {})
        return {id_: _entry(id_, row, {**shapes, **table.get("shapes", {})}, own=True) for id_, row in rows.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as e:
        raise BadInput(f"{path} is not a catalogue: {e}", do="see the form in docs/catalogue.md") from None


_KINDS: Final[dict[str, tuple[str, ...]]] = {
    "text": ("title", "family", "size", "original", "ollama", "licence", "coordinates", "shape"),
    "a list of texts": ("names", "sources", "unverified"),
}
_REPO_KINDS: Final[dict[str, tuple[str, ...]]] = {
    "text": ("repo", "model", "projector", "seen"),
    "a list of texts": ("quants", "projector_types", "sources"),
}


def _check_kinds(where: str, row: Any, kinds: Mapping[str, tuple[str, ...]]) -> None:
    """Raise ValueError, naming the key, where a value is of another kind than it must be."""
    if not isinstance(row, Mapping):
        raise ValueError(f"{where} is not a table")
    for kind, keys in kinds.items():
        for key in keys:
            value = row.get(key)
            texts = value if kind != "text" and isinstance(value, list) else [value]
            plain = kind == "text" or isinstance(value, list)
            if value is not None and not (plain and all(isinstance(v, str) for v in texts)):
                raise ValueError(f"{key} of {where} is not {kind}")


def _check_row(id_: str, row: Any) -> None:
    where = f"[models.{id_}]"
    _check_kinds(where, row, _KINDS)
    if row.get("mode", "both") not in get_args(Mode):
        raise ValueError(f"mode of {where} is none of {', '.join(get_args(Mode))}")
    if not isinstance(row.get("parameters", 1), int):
        raise ValueError(f"parameters of {where} is not a number")
    repos = row.get("repos")
    if not isinstance(repos, list) or not repos:
        raise ValueError(f"{where} names no repository")
    for repo in repos:
        _check_kinds(f"[[models.{id_}.repos]]", repo, _REPO_KINDS)
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo.get("repo", "")) or not repo.get("model"):
            raise ValueError(f'[[models.{id_}.repos]] needs repo = "OWNER/NAME" and model = "a file\'s pattern"')


def _entry(id_: str, row: Mapping[str, Any], shapes: Mapping[str, Any], *, own: bool = False) -> Entry:
    known = {"title", "family", "size", "mode", "original", "ollama", "parameters", "licence", "coordinates"}
    strange = set(row) - known - {"names", "repos", "shape", "bytes", "sources", "unverified"}
    if strange:
        raise ValueError(f"[models.{id_}] has no {', '.join(sorted(strange))}")
    _check_row(id_, row)
    if "shape" in row and row["shape"] not in shapes:
        raise ValueError(f"there is no shape {row['shape']!r} for [models.{id_}]")
    sizes = row.get("bytes", {})
    facts = {"title": id_, "family": "", "size": "", "mode": "both", **{k: row[k] for k in known if k in row}}
    return Entry(
        id=id_,
        names=tuple(row.get("names", ())) or (id_,),
        repos=tuple(_repo(r) for r in row["repos"]),
        shape=shapes.get(row.get("shape", id_)),
        model_bytes=sizes.get("model", {}),
        projector_bytes=sizes.get("projector", {}),
        sources=(*row.get("sources", ()), *sizes.get("sources", ())),
        unverified=tuple(row.get("unverified", ())),
        own=own,
        **facts,
    )


def _repo(row: Mapping[str, Any]) -> Repo:
    lists = {k: tuple(row.get(k, ())) for k in ("projector_types", "quants", "sources")}
    strange = set(row) - set(Repo.__dataclass_fields__)
    if strange:
        raise ValueError(f"a repository has no {', '.join(sorted(strange))}")
    return Repo(**{**row, **lists})
