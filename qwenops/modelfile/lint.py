"""Finds what is wrong with a Modelfile before Ollama does, or in silence does something else.

Three looks: at the words alone, at the files that FROM names, and at what the words do to those files. Nothing is
loaded; the models' headers are read where they are here.
"""

from __future__ import annotations

from pathlib import Path

from qwenops.modelfile.grammar import decode, parse
from qwenops.modelfile.lint_files import LintFacts, find_files
from qwenops.modelfile.lint_model import check_model
from qwenops.modelfile.lint_words import check_words
from qwenops.modelfile.types import CannotParse, Finding

__all__ = ["LintFacts", "check"]


def check(text: str | bytes, *, base_dir: Path, facts: LintFacts | None = None) -> tuple[Finding, ...]:
    """Every finding of a Modelfile that lies in `base_dir`, in the order of its lines.

    `facts` says what the file cannot: the images to make room for, the version of Ollama, and the model's own facts
    where its files are elsewhere. What is read from the files here comes first.
    """
    facts = facts or LintFacts()
    source = text if isinstance(text, str) else decode(text)
    try:
        modelfile = parse(text)
    except CannotParse as fault:
        return (Finding(fault.line, "error", "cannot-parse", fault.cause, " ".join(fault.do)),)
    found = list(check_words(modelfile, source, facts.ollama_version))
    files = find_files(modelfile, base_dir, facts)
    found += files.findings
    found += check_model(modelfile, files.facts)
    return tuple(sorted(set(found), key=lambda f: (f.line, f.level, f.code, f.message)))
