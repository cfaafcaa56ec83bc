"""Runs one command, and ends it with all it started when the worker wants so, or is gone.

A program of its own (``python -I -S process_guard.py FD GRACE COMMAND …``): it leads the process group of the
command and holds one end of a socket. End of file there means stop, whether the worker closed its end or
was killed; then the group gets SIGTERM, and SIGKILL after the grace. The exit status goes back through
the socket, so nothing of the group is left when it is known. It needs nothing but the standard library.
"""

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress


def main(channel: int, grace: float, command: list[str]) -> None:
    os.set_inheritable(channel, False)
    wakeup, signalled = os.pipe()
    os.set_blocking(signalled, False)
    signal.set_wakeup_fd(signalled, warn_on_full_buffer=False)
    # Handlers, not SIG_IGN: the command would inherit that.
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        os.write(channel, f"start {error.errno}".encode())
        return
    deadline: float | None = None
    while (status := child.poll()) is None:
        remaining = None if deadline is None else deadline - time.monotonic()
        if remaining is not None and remaining <= 0:
            break
        watched = [wakeup] if deadline is not None else [wakeup, channel]
        ready, _, _ = select.select(watched, [], [], remaining)
        if wakeup in ready:
            os.read(wakeup, 4096)
        if channel in ready:
            deadline = time.monotonic() + grace
            os.killpg(0, signal.SIGTERM)
    with suppress(OSError):
        os.write(channel, f"exit {-signal.SIGKILL if status is None else status}".encode())
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
