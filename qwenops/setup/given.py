"""From what was typed for a model to the models: files and folders here, names of the catalogue, and references."""

from __future__ import annotations

import re
from pathlib import Path

from qwenops.errors import BadInput, PartMissing, QwenopsError
from qwenops.model.types import Model

_REPOSITORY = 64  # a name stands for whole repositories, whatever one reference may hold

Given = Path | str
"""A file or folder here, the name of a published model, or the text of a reference (hf:, ollama:, https://)."""


def variants(
    given: tuple[Given, ...], mmproj: Given | None, *, offline: bool = False, most: int = 64
) -> tuple[Model, ...]:
    """The variants of one model, with the projector that was named or the one that lies beside them.

    Of references the headers alone are read; `offline` leaves them to what was read before. A repository that holds
    more than `most` is refused unread. A name stands for the repositories that the catalogue has for it, of which the
    first that has a quant gives it.
    """
    from qwenops.model.read import in_order, read_variants

    names = [one for one in given if _is_name(one)]
    if names and len(given) > 1:
        raise BadInput(f"{names[0]} names a model; give it alone, or files", do=f"qwenops plan {names[0]}")
    if names:
        return _by_name(str(names[0]), mmproj, offline=offline, most=most)
    references = [one for one in given if isinstance(one, str)]
    paths = _there([one for one in given if isinstance(one, Path)])
    if isinstance(mmproj, Path) or (mmproj is None and not references):
        local = read_variants(paths, mmproj or "auto") if paths else ()
        if not references:
            return local
    elif mmproj is not None and paths:
        raise BadInput(f"the model is here and {mmproj} is not", do="download it and name the file with --mmproj")
    else:
        local = read_variants(paths) if paths else ()
    from qwenops.model.reference import read_references

    return in_order((*local, *read_references(references, mmproj, offline=offline, most=most)))


def only_one(given: Given, models: tuple[Model, ...]) -> Model:
    """The model, where one is wanted. Raises BadInput, naming what there is, where there are several."""
    if len(models) == 1:
        return models[0]
    raise BadInput(
        f"{given} holds {len(models)} models: {', '.join(m.quant for m in models)}",
        do=(f"qwenops need {given} --quant {models[0].quant}", f"qwenops plan {given}     (all of them)"),
    )


def must_be_in_reach(given: tuple[Given | None, ...], what: str) -> None:
    """As must_be_here, for a command that can bring files from the hub by itself."""
    must_be_here(tuple(one for one in given if not (isinstance(one, str) and _on_hub(one))), what)


def _on_hub(reference: str) -> bool:
    from qwenops.model.hub import hub_address

    if reference.lower().startswith("hf:"):
        return True
    return "://" in reference and hub_address(reference) is not None


def must_be_here(given: tuple[Given | None, ...], what: str) -> None:
    """Raise BadInput, saying how to get it, where `what` needs the whole file and was given a reference."""
    for one in given:
        if isinstance(one, str):
            from qwenops.model.reference import download

            raise BadInput(f"{what} needs the file itself, and {one} is not here", do=download(one))


def _is_name(one: Given) -> bool:
    """Whether this was meant as the name of a published model: no file of that name is here, and it has no folders."""
    from qwenops.model.catalog import looks_like_name

    return isinstance(one, Path) and looks_like_name(str(one)) and not one.exists()


def _by_name(name: str, mmproj: Given | None, *, offline: bool, most: int) -> tuple[Model, ...]:
    """The variants of a catalogue entry. Raises BadInput with the nearest names where there is none of that name."""
    from qwenops.model.catalog import named
    from qwenops.model.read import in_order
    from qwenops.model.reference import read_references

    wanted = named(name)
    found: dict[str, Model] = {}
    failed: QwenopsError | None = None
    for reference in wanted.references:
        try:
            models = read_references((reference,), mmproj, offline=offline, most=max(most, _REPOSITORY))
        except (BadInput, PartMissing) as e:
            failed = failed or e
            continue
        for model in models:
            found.setdefault(model.quant, model)
    if not found and failed:
        raise failed
    return in_order(found.values())


def _there(paths: list[Path]) -> list[Path]:
    """The paths, unless one that is not there was meant as a repository."""
    for path in paths:
        text = str(path)
        if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+(:[\w.-]+)?", text) and not path.parent.exists():
            raise BadInput(
                f"no such file or folder: {text}", do=f"hf:{text}     (for a repository of the Hugging Face hub)"
            )
    return paths
