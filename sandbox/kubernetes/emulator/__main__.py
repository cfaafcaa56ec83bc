"""The emulator as a process of its own; the administrator's token comes in the environment."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
from pathlib import Path

from sandbox.kubernetes.emulator import TOKEN_VARIABLE
from sandbox.kubernetes.emulator.server import serve


def main() -> None:
    """Serve on loopback until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certificate", type=Path, required=True)
    parser.add_argument("--private-key", type=Path, required=True)
    arguments = parser.parse_args()
    token = os.environ.get(TOKEN_VARIABLE)
    if not token:
        parser.error(f"{TOKEN_VARIABLE} is not set: it must hold the administrator's bearer token")
    logging.basicConfig(level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # one line per probe
    asyncio.run(serve(arguments.port, token, arguments.certificate, arguments.private_key))


if __name__ == "__main__":
    main()
