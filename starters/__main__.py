"""``python -m starters`` is ``erlmcp-deploy``."""

from __future__ import annotations

import contextlib
import logging
import os
import sys

from starters.cli import app


def main() -> None:
    """Run the command line; exits with the codes of `starters.errors.ExitCode`."""
    try:
        app(prog_name="erlmcp-deploy")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        # Threads of the Temporal client can abort an interpreter that shuts down before Python 3.14
        # (github.com/temporalio/sdk-python/issues/300), which would replace the exit code by 134.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        logging.shutdown()
        os._exit(code)


if __name__ == "__main__":
    main()
