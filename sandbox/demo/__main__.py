"""``python -m sandbox.demo`` is ``erlmcp-deploy demo``."""

import sys

from starters.__main__ import main

if __name__ == "__main__":
    sys.argv.insert(1, "demo")
    main()
