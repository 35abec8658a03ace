"""Two estimators beside the same loads: what scripts/compare_gguf_parser.py is made of."""
