"""Hand a model over to Ollama: register without a copy, list, show, remove, load, verify, see."""
