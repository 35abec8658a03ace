"""What a quant is called, how many bits it takes, and which of two is the better one.

The label is the file's own name, as people know it; figures in bytes always come from the tensors.
"""

from __future__ import annotations

import re
from collections import Counter
from math import prod

from qwenops.model.ggml_types import FILE_TYPES, GGML_TYPES, type_name
from qwenops.model.types import Header

GUESSED = 1024
"""The bit of general.file_type that says the writer only guessed (llama.h, LLAMA_FTYPE_GUESSED)."""

_LABEL = re.compile(
    r"(?<![A-Za-z0-9])"
    r"(?P<label>(?:UD-)?"
    r"(?:I?Q[1-8]_(?:K(?:_(?:XXS|XS|S|M|L|XL))?|[01]|NL|XXS|XS|S|M|L|XL)"
    r"|TQ[12]_0|BF16|FP?16|FP?32|MXFP4(?:_MOE)?|NVFP4))"
    r"(?![A-Za-z0-9])",
    re.IGNORECASE,
)

WHOLE_FILE_BITS: dict[str, float] = {
    "IQ1_S": 2.0042,
    "IQ1_M": 2.1460,
    "IQ2_XXS": 2.3824,
    "IQ2_XS": 2.5882,
    "IQ2_S": 2.7403,
    "IQ2_M": 2.9294,
    "Q2_K_S": 2.9697,
    "Q2_K": 3.1593,
    "IQ3_XXS": 3.2548,
    "IQ3_XS": 3.4977,
    "Q3_K_S": 3.6429,
    "IQ3_S": 3.6606,
    "IQ3_M": 3.7628,
    "Q3_K_M": 3.9960,
    "Q3_K_L": 4.2979,
    "IQ4_XS": 4.4597,
    "Q4_0": 4.635,
    "Q4_K_S": 4.6672,
    "IQ4_NL": 4.6818,
    "Q4_K_M": 4.8944,
    "Q4_1": 5.102,
    "Q5_0": 5.569,
    "Q5_K_S": 5.5704,
    "Q5_K_M": 5.7036,
    "Q5_1": 6.037,
    "Q6_K": 6.5633,
    "Q8_0": 8.5008,
    "F16": 16.0005,
    "BF16": 16.0006,
    "F32": 32.0,
}
"""Bits per weight of a whole file, as measured on Llama-3.1-8B (llama.cpp tools/quantize/README.md, b10435).
Q4_0 to Q5_1 are computed for the same model: every tensor of the type, the output head Q6_K."""

_RICHER = 0.05
"""What a name with one part more (_L, _XL, _MOE) ranks above its namesake: some tensors are kept at a higher type."""


def label_in_name(file_name: str) -> str | None:
    """The quant that a file name carries ("Q4_K_M", "UD-Q4_K_XL", "BF16"), or None."""
    labels = [m["label"].upper() for m in _LABEL.finditer(file_name)]
    return labels[-1].replace("FP16", "F16").replace("FP32", "F32") if labels else None


def quant_label(header: Header, file_name: str) -> str:
    """The name of a model's quant: the file name's, else general.file_type's, else the type of most bytes."""
    return label_in_name(file_name) or _file_type(header) or majority_type(header)


def majority_type(header: Header) -> str:
    """The tensor type that holds the most bytes of the model, or "unknown" without tensors."""
    held: Counter[int] = Counter()
    for tensor in header.tensors:
        held[tensor.type] += tensor.size_bytes
    return type_name(held.most_common(1)[0][0]) if held else "unknown"


def parameter_count(header: Header) -> int:
    """Elements of all tensors, vision tensors inside the file included."""
    return sum(prod(t.shape) for t in header.tensors)


def bits_per_weight(header: Header) -> float:
    """Bits that one parameter takes in this file, from its tensors; 0.0 without any."""
    elements = parameter_count(header)
    return 8 * header.tensor_bytes / elements if elements else 0.0


def quality_rank(quant: str) -> float:
    """A number that grows with the bits per weight a quant spends, to order the variants of one model.

    It orders, it does not measure: two neighbours can change places on a given task. Names that are not in the
    table rank by their namesake (Q4_K_XL just above Q4_K_M), by their tensor type, else by the digits in them.
    """
    name = quant.upper()
    if name.startswith("UD-"):
        # a dynamic quant chooses its bits tensor by tensor: above its namesake, below the next one
        return quality_rank(name[3:]) + 0.0001
    if name in WHOLE_FILE_BITS:
        return WHOLE_FILE_BITS[name]
    for kind in GGML_TYPES.values():
        if kind.name == name and name != "Q8_K":
            return WHOLE_FILE_BITS.get(f"{name}_M", kind.bits_per_weight)
    namesake = name.rpartition("_")[0]
    if namesake == "Q8_K":
        namesake = "Q8_0"
    if namesake:
        return quality_rank(namesake) + _RICHER
    digits = re.search(r"\d+", name)
    return float(digits[0]) if digits else 0.0


def _file_type(header: Header) -> str | None:
    value = header.metadata.get("general.file_type")
    return FILE_TYPES.get(value & ~GUESSED) if isinstance(value, int) and value >= 0 else None
