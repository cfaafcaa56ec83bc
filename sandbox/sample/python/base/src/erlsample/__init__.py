"""A counter behind HTTP."""
