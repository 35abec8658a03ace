"""Compare the catalogue with the repositories it names, over the network; prints what differs and exits 1 then.

For each repository: does it answer, are there files of the pattern for model and projector, are the quants it is said
to have there, and are published sizes still true. For each tag of Ollama's library: is it there. HF_ENDPOINT, HF_TOKEN
and QWENOPS_REGISTRY count as everywhere.

    python -m scripts.check_catalog [WORD...]
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import PurePosixPath

from qwenops.errors import QwenopsError
from qwenops.model.catalog import Entry, Repo, matching
from qwenops.model.hub import HubFile, list_files, parse_hub
from qwenops.model.registry import registry_files


def main(words: list[str]) -> int:
    """Check the entries that match the words; all without any."""
    differences = [f"{e.id}: {line}" for e in matching(words) for line in differences_of(e)]
    for line in differences:
        print(line)
    print(f"{len(differences)} differences", file=sys.stderr)
    return 1 if differences else 0


def differences_of(entry: Entry) -> Iterator[str]:
    """What of an entry is not as the hub has it."""
    for repo in entry.repos:
        try:
            files = list_files(parse_hub(f"hf:{repo.repo}"), offline=False)
        except QwenopsError as e:
            yield f"{repo.repo}: {e.message}"
            continue
        yield from (f"{repo.repo}: {line}" for line in _of_repo(repo, files))
    yield from _of_sizes(entry)
    if entry.ollama:
        try:
            registry_files(f"ollama:{entry.ollama}", offline=False)
        except QwenopsError as e:
            yield f"Ollama's library: {e.message}"


def _of_repo(repo: Repo, files: tuple[HubFile, ...]) -> Iterator[str]:
    names = [PurePosixPath(f.path).name for f in files]
    quants = _found(repo.model, "{quant}", names)
    if not quants:
        yield f"no file like {repo.model}; there are {', '.join(names[:5]) or 'no GGUF files'}"
    missing = {q.upper() for q in repo.quants} - {q.upper() for q in quants}
    if quants and missing:
        yield f"has no {', '.join(sorted(missing))}"
    if repo.projector and not _found(repo.projector, "{type}", names):
        yield f"no projector like {repo.projector}"


def _of_sizes(entry: Entry) -> Iterator[str]:
    """Published sizes that no repository of the entry has any more."""
    listed: set[int] = set()
    for repo in entry.repos:
        try:
            listed |= {f.size_bytes or 0 for f in list_files(parse_hub(f"hf:{repo.repo}"), offline=True)}
        except QwenopsError:
            return  # said before
    for what, sizes in (("model", entry.model_bytes), ("projector", entry.projector_bytes)):
        for quant, size in sizes.items():
            if size not in listed:
                yield f"no file of {size} bytes, which {what} {quant} was"


def _found(pattern: str, gap: str, names: list[str]) -> list[str]:
    """What stands in the pattern's gap in the names that match it; a shard's number may follow."""
    name = re.escape(PurePosixPath(pattern).name).replace(re.escape(gap), "(.+?)")
    whole = re.compile(name.removesuffix(r"\.gguf") + r"(?:-(?:split-)?\d{5}-of-\d{5})?\.gguf", re.IGNORECASE)
    return [m[1] for n in names if (m := whole.fullmatch(n))]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
