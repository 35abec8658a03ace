"""The real parts that tests and the demonstration run on, fetched or built once and kept.

    python3 -m scripts.parts list          what there is, where, and what is missing
    python3 -m scripts.parts get NAME...   make these, and what they need
    python3 -m scripts.parts all           make everything

Standard library only: it runs before any virtual environment exists. The parts live in
QWENOPS_PARTS, by default ~/.cache/qwenops-parts; deleting that folder is safe.
"""
