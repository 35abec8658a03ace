"""From a Modelfile to what must be registered: which of its files are the model, which the projector."""

from __future__ import annotations

from pathlib import Path

from qwenops.errors import BadInput
from qwenops.model.gguf_header import read_header
from qwenops.model.projector import is_projector
from qwenops.modelfile.grammar import parse
from qwenops.modelfile.spec import spec_of
from qwenops.ollama.types import Message, Spec


def spec_from(source: str | bytes, base_dir: Path) -> Spec:
    """Read a Modelfile that lies in `base_dir`. FROM may name the files of a model and its projector in any order.

    Raises BadInput for what Ollama would refuse, NotAGGUF for a broken file.
    """
    said = spec_of(parse(source), base_dir)
    shards: list[Path] = []
    projectors: list[Path] = []
    for path in said.model_paths:
        if path.is_dir():
            raise BadInput(f"FROM {path} is a folder", do="name the .gguf file in it")
        (projectors if is_projector(read_header(path)) else shards).append(path)
    if projectors and not shards and said.base is None:
        raise BadInput(f"FROM names only a projector, {projectors[0]}", do="add a FROM with the model's own file")
    return Spec(
        shards=tuple(shards),
        projectors=tuple(projectors),
        adapters=(said.adapter,) if said.adapter else (),
        draft=said.drafts[0] if said.drafts else None,
        base=None if shards else said.base,
        parameters={k: list(v) if isinstance(v, tuple) else v for k, v in said.parameters.items()},
        template=said.template,
        system=said.system,
        license=said.licenses,
        messages=tuple(Message(m.role, m.content) for m in said.messages),
        renderer=said.renderer,
        parser=said.parser,
        requires=said.requires,
    )
