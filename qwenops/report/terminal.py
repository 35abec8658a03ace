"""The one renderer for people: a result's schema picks the view, and the view reads the same data as the JSON."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from qwenops.result import Result

if TYPE_CHECKING:
    from rich.console import RenderableType

View = Callable[[Mapping[str, Any]], Iterable["RenderableType"]]
"""Draws a result. A plain string is printed to the letter, neither wrapped nor trimmed."""

# schema name without version -> module and function
VIEWS: dict[str, tuple[str, str]] = {
    "qwenops.need": ("need", "need_view"),
    "qwenops.compare": ("need", "compare_view"),
    "qwenops.plan": ("plan", "plan_view"),
    "qwenops.exl-need": ("exl", "need_view"),
    "qwenops.exl-plan": ("exl", "plan_view"),
    "qwenops.beside": ("exl", "beside_view"),
    "qwenops.recommend": ("recommend", "recommend_view"),
    "qwenops.fits": ("fits", "fits_view"),
    "qwenops.quants": ("requants", "quants_view"),
    "qwenops.quants-make": ("make_quants", "make_quants_view"),
    "qwenops.image-tokens": ("images", "image_tokens_view"),
    "qwenops.models": ("catalogue", "models_view"),
    "qwenops.machine": ("machine", "machine_view"),
    "qwenops.modelfile": ("modelfile", "modelfile_view"),
    "qwenops.check": ("modelfile", "check_view"),
    "qwenops.register": ("models", "register_view"),
    "qwenops.list": ("models", "list_view"),
    "qwenops.show": ("models", "show_view"),
    "qwenops.remove": ("models", "remove_view"),
    "qwenops.export": ("lockfile", "export_view"),
    "qwenops.import": ("lockfile", "import_view"),
    "qwenops.gc": ("gc", "gc_view"),
    "qwenops.update": ("update", "update_view"),
    "qwenops.diff": ("diff", "diff_view"),
    "qwenops.verify": ("verify", "verify_view"),
    "qwenops.try": ("trying", "try_view"),
    "qwenops.connect": ("connect", "connect_view"),
    "qwenops.server": ("server", "server_view"),
    "qwenops.server-plan": ("server", "server_plan_view"),
    "qwenops.server-write": ("server", "server_write_view"),
    "qwenops.server-check": ("server", "server_check_view"),
    "qwenops.up": ("up", "up_view"),
    "qwenops.calibrate": ("calibrate", "calibrate_view"),
    "qwenops.bench": ("bench", "bench_view"),
    "qwenops.quality": ("quality", "quality_view"),
    "qwenops.image-plan": ("image_plan", "image_plan_view"),
    "qwenops.image-bench": ("image_bench", "image_bench_view"),
    "qwenops.image-run": ("image_run", "image_run_view"),
    "qwenops.image-settings": ("image", "image_settings_view"),
    "qwenops.image-compare": ("image", "image_compare_view"),
    "qwenops.ocr": ("reading", "ocr_view"),
    "qwenops.image-prompt-check": ("image_prompt", "prompt_check_view"),
    "qwenops.vision": ("vision", "vision_view"),
    "qwenops.image-prompt-write": ("image_prompt", "prompt_write_view"),
    "qwenops.image-text-check": ("image_text", "text_check_view"),
    "qwenops.doctor": ("doctor", "doctor_view"),
    "qwenops.config": ("config", "config_view"),
    "qwenops.history": ("history", "history_view"),
    "qwenops.history-export": ("history", "export_view"),
    "qwenops.history-import": ("history", "import_view"),
    "qwenops.history-clear": ("history", "clear_view"),
    "qwenops.report": ("summary", "report_view"),
    "qwenops.uninstall": ("doctor", "uninstall_view"),
}


def view_of(schema: str) -> View:
    """The view that draws a schema."""
    module, name = VIEWS[schema.split("/")[0]]
    view: View = getattr(import_module(f"qwenops.report.{module}"), name)
    return view


def render(result: Result, *, width: int | None = None) -> None:
    """Print a result for people: without colour where it is not a terminal or NO_COLOR is set."""
    import click
    from rich.console import Console

    width = width or (None if sys.stdout and sys.stdout.isatty() else 100)
    console = Console(width=width, highlight=False, emoji=False, markup=False)
    for part in view_of(result.schema)(result.data):
        if isinstance(part, str):
            click.echo(part, nl=False)
            continue
        with console.capture() as drawn:
            console.print(part)
        # Tables fill their width with blanks, which a log file or a paste should not carry.
        click.echo(re.sub(r"[ ]+$", "", drawn.get(), flags=re.MULTILINE), nl=False)
