"""The composition root: settings → clients → activities → Worker. Start it with ``python -m workers``."""
