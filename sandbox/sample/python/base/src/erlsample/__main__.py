"""``python -m erlsample``: serve until killed."""

from erlsample.server import main

main()
