"""``make demo``: three deployments in an embedded world, seen by a person (design, section 7)."""

from sandbox.demo.command import main

__all__ = ["main"]
