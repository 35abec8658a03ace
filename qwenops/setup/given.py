"""From what was typed for a model to the models: files and folders here, names of the catalogue, and references."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qwenops.errors import BadInput, OutOfReach, PartMissing, QwenopsError
from qwenops.model.types import Model

if TYPE_CHECKING:
    from qwenops.model.catalog import Named
    from qwenops.runtime.types import Store

OLLAMA: Final = "ollama:"

_REPOSITORY = 64  # a name stands for whole repositories, whatever one reference may hold

Given = Path | str
"""A file or folder here, the name of a published model, or the text of a reference (hf:, ollama:, https://)."""


def variants(
    given: tuple[Given, ...], mmproj: Given | None, *, offline: bool = False, most: int = 64, drawn: bool = False
) -> tuple[Model, ...]:
    """The variants of one model, with the projector that was named or the one that lies beside them.

    Of references the headers alone are read; `offline` leaves them to what was read before. A repository that holds
    more than `most` is refused unread. A name stands for the repositories that the catalogue has for it, of which the
    first that has a quant gives it; with `drawn`, where the hub is out of reach, for what its dimensions make.
    """
    from qwenops.model.read import in_order, read_variants

    _refuse_exl((*given, mmproj))
    names = [one for one in given if _is_name(one)]
    if names and len(given) > 1:
        raise BadInput(f"{names[0]} names a model; give it alone, or files", do=f"qwenops plan {names[0]}")
    if names:
        return _by_name(str(names[0]), mmproj, offline=offline, most=most, drawn=drawn)
    stored = stored_models(given)
    if stored:
        others = tuple(one for one in given if one not in stored)
        rest = variants(others, mmproj, offline=offline, most=most) if others else ()
        return in_order((*rest, *(_with_projector(model, mmproj) for model in stored.values())))
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

    try:
        return in_order((*local, *read_references(references, mmproj, offline=offline, most=most)))
    except QwenopsError as error:
        wanted = [one[len(OLLAMA) :] for one in references if one.lower().startswith(OLLAMA)]
        _refuse_hidden(wanted)
        near = [name for one in wanted for name in _near_in_store(one)]
        error.do = (*(f"qwenops plan ollama:{name}     (in your store)" for name in near), *error.do)
        raise


def _refuse_exl(given: Iterable[Given | None]) -> None:
    """Raise BadInput for what ExLlama would run: of the commands only need, plan and render know what to do with it."""
    from qwenops.model.exl import is_exl

    for one in given:
        if one is not None and is_exl(one):
            raise BadInput(
                f"{one} is an EXL model, for ExLlama; GGUF is wanted here",
                do=("qwenops plan GGUF-MODEL --beside " + str(one), "qwenops need, plan and render take it alone"),
            )


def only_one(given: Given, models: tuple[Model, ...]) -> Model:
    """The model, where one is wanted. Raises BadInput, naming what there is, where there are several."""
    if len(models) == 1:
        return models[0]
    raise BadInput(
        f"{given} holds {len(models)} models: {', '.join(m.quant for m in models)}",
        do=(f"qwenops need {given} --quant {models[0].quant}", f"qwenops plan {given}     (all of them)"),
    )


def stored_models(given: Iterable[Given | None]) -> dict[str, Model]:
    """Those of the ollama: references that the store of the Ollama in sight holds, readable from here."""
    wanted = [one for one in given if isinstance(one, str) and one.lower().startswith(OLLAMA)]
    if not wanted:
        return {}
    from qwenops.model.stored import find_stored

    store = _store_in_sight()
    found = {one: find_stored(one[len(OLLAMA) :], store) for one in wanted} if store else {}
    return {one: model for one, model in found.items() if model}


def where_it_is(given: tuple[Given, ...], models: Iterable[Model], store: Store | None) -> tuple[str, ...]:
    """Notes on where the models were found, where what was typed leaves that open: the store or the registry, and
    whether Ollama has another model of a name that the catalogue answered for."""
    notes = []
    for model in models:
        if model.stored:
            folder = model.path.parent.parent
            notes.append(f"ollama:{model.stored} is in your store ({folder}): its files are used where they are")
        elif (model.remote or "").startswith(OLLAMA):
            notes.append(f"{model.remote} is in the registry, not in your store: its header was read there")
        elif model.drawn and not notes:
            notes.append(
                f"the hub is out of reach, and no header of {model.name} was read before: this is worked out from its "
                "published dimensions, with the quants as llama-quantize makes them; some published files are larger"
            )
    for one in given:
        if _is_name(one) and store is not None and not notes:
            from qwenops.model.stored import is_stored

            if is_stored(str(one), store):
                notes.append(f"{one} was taken from the catalogue; Ollama has a model of that name too: ollama:{one}")
    return tuple(notes)


def must_be_in_reach(given: tuple[Given | None, ...], what: str) -> None:
    """As must_be_here, for a command that can bring files from the hub or have the server pull them."""
    must_be_here(tuple(one for one in given if not (isinstance(one, str) and _can_be_brought(one))), what)


def _can_be_brought(reference: str) -> bool:
    if reference.lower().startswith(OLLAMA):
        return True  # the server pulls it
    from qwenops.model.hub import hub_address

    if reference.lower().startswith("hf:"):
        return True
    return "://" in reference and hub_address(reference) is not None


def must_be_here(given: tuple[Given | None, ...], what: str) -> None:
    """Raise BadInput, saying how to get it, where `what` needs the whole file and was given a reference to another
    place than the store of the Ollama in sight."""
    _refuse_exl(given)
    stored = stored_models(given)
    for one in given:
        if isinstance(one, str) and one not in stored:
            from qwenops.model.reference import download

            raise BadInput(f"{what} needs the file itself, and {one} is not here", do=download(one))


def _is_name(one: Given) -> bool:
    """Whether this was meant as the name of a published model: no file of that name is here, and it has no folders."""
    from qwenops.model.catalog import looks_like_name

    return isinstance(one, Path) and looks_like_name(str(one)) and not one.exists()


def _by_name(name: str, mmproj: Given | None, *, offline: bool, most: int, drawn: bool) -> tuple[Model, ...]:
    """The variants of a catalogue entry, else the model that Ollama has by that name.

    Raises BadInput with the nearest names where neither has it.
    """
    from qwenops.model.catalog import find_named
    from qwenops.model.read import in_order
    from qwenops.model.reference import read_references

    if not find_named(name) and (own := _registered(name)):
        return (_with_projector(own, mmproj),)
    wanted = _named(name)
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
    if not found and drawn and mmproj is None and isinstance(failed, OutOfReach):
        from qwenops.setup.drawn import drawn_variants

        found = {model.quant: model for model in drawn_variants(wanted)}
    if not found and failed:
        raise failed
    return in_order(found.values())


def _named(name: str) -> Named:
    """The catalogue's entry; the error names what is like it in Ollama's store too."""
    from qwenops.model.catalog import named

    try:
        return named(name)
    except BadInput as error:
        near = _near_in_store(name)
        if near:
            raise BadInput(error.message, do=(*(f"qwenops plan ollama:{one}" for one in near), *error.do)) from None
        raise


def _registered(name: str) -> Model | None:
    from qwenops.model.stored import find_stored
    from qwenops.runtime.names import parse_name

    if not parse_name(name).valid:
        return None
    store = _store_in_sight()
    return find_stored(name, store) if store else None


def _refuse_hidden(names: Iterable[str]) -> None:
    """Raise PartMissing for a model that the registry has not and the server has, in a store out of reach from here."""
    from qwenops.runtime.client import Client
    from qwenops.runtime.discover import discover
    from qwenops.runtime.names import parse_name

    runtime = discover(probe_devices=False)
    listed = {parse_name(tag.name).folded for tag in Client(runtime.url).tags()} if runtime.reachable else set()
    for name in names:
        if parse_name(name).folded in listed:
            where = runtime.store.path if runtime.store else runtime.place
            raise PartMissing(
                f"Ollama at {runtime.url} has {name}, and its files cannot be read from here ({where})",
                do="plan it by its own GGUF file, or where that server's store can be read",
            )


def _near_in_store(name: str) -> list[str]:
    import difflib

    from qwenops.runtime.store import list_manifests

    store = _store_in_sight()
    try:
        names = [m.name.short for m in list_manifests(store).manifests] if store else []
    except QwenopsError:
        return []
    return difflib.get_close_matches(name if ":" in name else f"{name}:latest", names, n=2, cutoff=0.6)


def _store_in_sight() -> Store | None:
    """The store of the Ollama here, unless its server has shown that it lists other models than the folder has."""
    from qwenops.runtime.discover import discover

    runtime = discover(probe_devices=False)
    return runtime.store if not runtime.reachable or (runtime.store and runtime.store.confirmed) else None


def _with_projector(model: Model, mmproj: Given | None) -> Model:
    """A stored model with a projector that was named: by then it is no longer the model that Ollama has."""
    if mmproj is None:
        return model
    if not isinstance(mmproj, Path):
        raise BadInput(f"the model is here and {mmproj} is not", do="download it and name the file with --mmproj")
    from qwenops.model.projector import check_projector, read_projector

    projector = read_projector(mmproj)
    check_projector(model, projector)
    return replace(model, projector=projector, stored=None)


def _there(paths: list[Path]) -> list[Path]:
    """The paths, unless one that is not there was meant as a repository."""
    for path in paths:
        text = str(path)
        if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+(:[\w.-]+)?", text) and not path.parent.exists():
            raise BadInput(
                f"no such file or folder: {text}", do=f"hf:{text}     (for a repository of the Hugging Face hub)"
            )
    return paths
