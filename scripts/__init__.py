"""Scripts of the checkout: parts for tests, tables for the documentation, the demonstration."""
