"""`python -m sandbox.kubernetes.emulator --port N` with the administrator's token in the environment."""

from __future__ import annotations

import argparse
import os

import uvicorn

from sandbox.kubernetes.emulator import TOKEN_VARIABLE
from sandbox.kubernetes.emulator.server import create_application


def main() -> None:
    """Serve on loopback until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    token = os.environ.get(TOKEN_VARIABLE)
    if not token:
        parser.error(f"{TOKEN_VARIABLE} is not set: it must hold the administrator's bearer token")
    uvicorn.run(
        create_application(token),
        host="127.0.0.1",
        port=arguments.port,
        log_level="info",
        access_log=False,
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    main()
