"""How a program in the foreground ends: by Ctrl-C or a signal, in order, and only once."""

import signal

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def heed() -> None:
    """Have each of these signals raise KeyboardInterrupt in the main thread."""
    for ending in ENDINGS:
        signal.signal(ending, _leave)


def _leave(*_: object) -> None:
    for ending in ENDINGS:
        signal.signal(ending, signal.SIG_IGN)  # a second Ctrl-C must not leave half of it running
    raise KeyboardInterrupt
