"""Plan, register, verify and benchmark vision-language models on hardware you own."""

from __future__ import annotations

__version__ = "0.1.0"
