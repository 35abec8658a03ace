"""The parts of a model that nobody has here: by the sizes that were published, and by the dimensions behind them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any, Final

from qwenops.errors import BadInput
from qwenops.image.catalogue import ImageModel
from qwenops.image.parts import Part, Role, part_of
from qwenops.image.tensors import diffusion_rows
from qwenops.memory.backends import Backend
from qwenops.model.ggml_types import GGML_TYPES
from qwenops.tables import load_table

BLOCKS: Final = 60
GGUF_HEADER_BYTES: Final = 147_744
"""Header of a 20B file: 1933 tensors and three keys. With it and 16 bits for what lies outside of the blocks, the
published sizes of 2512 in Q8_0 and Q6_K follow from the shapes to the byte."""


def published_quants(model: ImageModel) -> tuple[Part, ...]:
    """The quants of a diffusion model whose sizes were published, the largest first."""
    row: dict[str, Any] = load_table("qwenops.image", "models.toml")["models"][model.id].get("files", {})
    found = [
        Part(
            "diffusion",
            row["pattern"].format(quant=quant),
            size,
            "published",
            quant=quant,
            published_header_bytes=GGUF_HEADER_BYTES,
        )
        for quant, size in row.get("bytes", {}).items()
    ]
    return tuple(sorted(found, key=lambda part: -part.file_bytes))


def repository(model: ImageModel) -> str | None:
    """Where its GGUF files are."""
    row = load_table("qwenops.image", "models.toml")["models"][model.id].get("files")
    return None if row is None else str(row["repo"])


def drawn(quant: str, blocks: int = BLOCKS) -> Part:
    """A diffusion model in one type throughout its blocks, with 16 bits outside of them: unsloth's Q8_0 and Q6_K.

    Raises BadInput for a quant that is not one type.
    """
    numbers = {kind.name: number for number, kind in GGML_TYPES.items()}
    if quant not in numbers:
        raise BadInput(f"{quant} mixes types; only its own header tells them", do="hf:OWNER/REPO:QUANT, or a file")
    table = {}
    for row in diffusion_rows(blocks):
        inside = row.name.startswith("transformer_blocks.")
        kind = numbers["F32"] if row.kind == "vector" else numbers[quant if inside else "F16"]
        table[row.name] = (row.shape, kind)
    part = part_of("diffusion", f"Qwen-Image {quant}", 0, table, known="dimensions")
    data = part.loaded_bytes(Backend("file", "cpu", 32))
    return replace(part, file_bytes=data + GGUF_HEADER_BYTES, quant=quant)


@cache
def published_part(role: Role) -> Part:
    """The text encoder, the projector or the VAE that the documentation of stable-diffusion.cpp names."""
    row = load_table("qwenops.image", "models.toml")["parts"][role]
    if role == "vae":
        return Part("vae", row["name"], row["bytes"], "published", quant="BF16")
    from qwenops.model.blueprint import blueprint
    from qwenops.model.catalog import catalog
    from qwenops.model.quantizer import Recipe
    from qwenops.model.requant import Requantizer

    whole = blueprint(catalog()["qwen2.5-vl-7b"])
    assert whole is not None
    assert whole.projector is not None
    if role == "encoder":
        header, quant = Requantizer(whole).variant(Recipe("Q4_K_M")).model.header, "Q4_K_M"
    else:
        header, quant = whole.projector.header, "F16"
    table = {t.name: (t.shape, t.type) for t in header.tensors}
    return replace(part_of(role, row["name"], row["bytes"], table, known="dimensions"), quant=quant)
