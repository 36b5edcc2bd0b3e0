"""Keeps quiet what prints from C."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Drops what C code prints meanwhile; exceptions are not printed here, but raised."""
    sys.stdout.flush()
    sys.stderr.flush()
    copies = [(number, os.dup(number)) for number in (1, 2)]
    with open(os.devnull, "wb") as nothing:
        for number, _ in copies:
            os.dup2(nothing.fileno(), number)
    try:
        yield
    finally:
        for number, copy in copies:
            os.dup2(copy, number)
            os.close(copy)
