"""A child that asks llama.cpp itself: JSON in on stdin, JSON out on the last line of stdout.

    python -m tests.model.ask_llama_cpp headers    [path, ...]                    -> [accepted, ...]
    python -m tests.model.ask_llama_cpp projector  {model, mmproj}                -> accepted
    python -m tests.model.ask_llama_cpp images     {model, mmproj, limits, sizes} -> [[columns, rows, tokens], ...]

A child, because llama.cpp may abort the process it runs in.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def headers(paths: list[str]) -> list[bool]:
    import llama_cpp

    library = ctypes.CDLL(str(next((Path(llama_cpp.__file__).parent / "lib").glob("*ggml-base*"))))

    class Params(ctypes.Structure):
        _fields_ = [("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p)]

    library.gguf_init_from_file.argtypes = [ctypes.c_char_p, Params]
    library.gguf_init_from_file.restype = ctypes.c_void_p
    library.gguf_free.argtypes = [ctypes.c_void_p]

    def accepts(path: str) -> bool:
        context = library.gguf_init_from_file(path.encode(), Params(True, None))
        if context:
            library.gguf_free(context)
        return bool(context)

    return [accepts(p) for p in paths]


def _open(model: str, mmproj: str, limits: tuple[int, int]) -> Any:
    import llama_cpp
    from llama_cpp import mtmd_cpp

    llama_cpp.llama_backend_init()
    text = llama_cpp.llama_model_load_from_file(model.encode(), llama_cpp.llama_model_default_params())
    params = mtmd_cpp.mtmd_context_params_default()
    params.use_gpu, params.warmup, params.print_timings = False, False, False
    params.image_min_tokens, params.image_max_tokens = limits
    return mtmd_cpp.mtmd_init_from_file(mmproj.encode(), text, params)


def projector(asked: dict[str, Any]) -> bool:
    return bool(_open(asked["model"], asked["mmproj"], (-1, -1)))


def images(asked: dict[str, Any]) -> list[list[int]]:
    from llama_cpp import mtmd_cpp

    context = _open(asked["model"], asked["mmproj"], asked["limits"])
    marker = mtmd_cpp.mtmd_default_marker()
    text = mtmd_cpp.mtmd_input_text(text=marker, text_len=len(marker), add_special=False, parse_special=True)
    counted: list[list[int]] = []
    for width, height in asked["sizes"]:
        # without pixels it is a placeholder, which llama.cpp offers for counting
        bitmap = mtmd_cpp.mtmd_bitmap_init(width, height, None)
        chunks = mtmd_cpp.mtmd_input_chunks_init()
        bitmaps = (mtmd_cpp.mtmd_bitmap_p_ctypes * 1)(bitmap)
        status = mtmd_cpp.mtmd_tokenize(context, chunks, ctypes.byref(text), bitmaps, 1)
        if status:
            raise SystemExit(f"mtmd_tokenize answered {status} for {width} x {height}")
        for i in range(mtmd_cpp.mtmd_input_chunks_size(chunks)):
            chunk = mtmd_cpp.mtmd_input_chunks_get(chunks, i)
            if mtmd_cpp.mtmd_input_chunk_get_type(chunk) == mtmd_cpp.MTMD_INPUT_CHUNK_TYPE_IMAGE:
                image = mtmd_cpp.mtmd_input_chunk_get_tokens_image(chunk)
                counted.append(
                    [
                        mtmd_cpp.mtmd_image_tokens_get_nx(image),
                        mtmd_cpp.mtmd_image_tokens_get_ny(image),
                        mtmd_cpp.mtmd_image_tokens_get_n_tokens(image),
                    ]
                )
        mtmd_cpp.mtmd_input_chunks_free(chunks)
        mtmd_cpp.mtmd_bitmap_free(bitmap)
    return counted


if __name__ == "__main__":
    questions: dict[str, Callable[[Any], Any]] = {"headers": headers, "projector": projector, "images": images}
    print("\n" + json.dumps(questions[sys.argv[1]](json.load(sys.stdin))))
