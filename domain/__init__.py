"""What the product knows and decides: models, configuration and pure decisions.

Nothing here does I/O and nothing here knows Temporal; every decision is a plain function over
immutable models, so it can be tested as a table and replayed without surprise.
"""
