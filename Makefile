# What a person types: make demo, make test. Everything goes into .venv and .cache here, and into the parts
# folder (QWENOPS_PARTS, by default ~/.cache/qwenops-parts).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# With CI=true a part that cannot be made is a failure; on a person's machine it is named and left out.
LENIENT := $(if $(filter true 1 yes,$(CI)),,--possible)

.DEFAULT_GOAL := help
.PHONY: help venv parts library test check demo docs clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

$(VENV)/.ready: pyproject.toml
	@echo "venv: making $(VENV) with qwenops and its development tools; about a minute"
	@$(PYTHON) -m venv $(VENV) || { echo "venv: needs Python's venv (Debian: apt install python3-venv)"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# llama-cpp-python and stable-diffusion-cpp-python are taken as wheels that the parts hold, never compiled here unasked.
library: $(VENV)/.ready
	@wheels="$$($(BIN)/python -m scripts.parts folder)/wheels"; \
	if ls "$$wheels"/llama_cpp_python-*.whl >/dev/null 2>&1; then \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --find-links "$$wheels" \
			--only-binary llama-cpp-python --editable '.[dev,bench]'; \
	else \
		echo "venv: no llama-cpp-python yet, so no benchmarks (make parts compiles it)"; \
	fi; \
	if ls "$$wheels"/stable_diffusion_cpp_python-*.whl >/dev/null 2>&1; then \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --find-links "$$wheels" \
			--only-binary stable-diffusion-cpp-python --editable '.[image]'; \
	else \
		echo "venv: no stable-diffusion-cpp-python yet, so no pictures (make parts compiles it)"; \
	fi

venv: library ## the virtual environment, with llama-cpp-python where it was built

parts: $(VENV)/.ready ## the real Ollama, llama.cpp, software GPU and small models that tests run on
	@$(BIN)/python -m scripts.parts all $(LENIENT)

check: $(VENV)/.ready ## ruff, ruff format, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: parts ## every check and every test, real server and software GPU included
	@$(MAKE) --no-print-directory library check
	$(BIN)/python -m pytest

demo: $(VENV)/.ready ## the main job from nothing: two models set up, verified and measured
	@$(BIN)/python -m scripts.demo

docs: library ## write again what scripts write into docs/ and modelfiles/
	@for script in scripts/make_docs.py scripts/render_modelfiles.py; do \
		if [ -e "$$script" ]; then echo "docs: $$script"; $(BIN)/python "$$script" || exit 1; fi; \
	done

clean: ## remove .venv, .cache and what tools left here; the parts folder stays
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
