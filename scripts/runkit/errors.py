"""Errors as users see them: one line, exit status 2."""

import re
import sys
import threading
from collections.abc import Callable

from agents import StateError, TrainingFailure, UnsupportedSpaceError
from supervised.data import DataError


class UserError(Exception):
    """Something the user can put right; the message says what is wrong and what would be right."""


# What a user can cause, each with a message that says how to put it right.
EXPECTED = (UserError, DataError, StateError, TrainingFailure, UnsupportedSpaceError, OSError)


def one_line(error: BaseException) -> str:
    """The message, which may quote a damaged file: no line breaks, no control characters."""
    text = " ".join(re.sub(r"[^\x20-\x7e\xa0-\ud7ff\ue000-\uffff]", " ", str(error)).split())
    return text if len(text) <= 1_000 else f"{text[:1_000]} …"


def run_main(main: Callable[[list[str]], int]) -> None:
    """Runs a script's ``main`` and turns every error a user can cause into one line, status 2."""
    before, threading.excepthook = threading.excepthook, _excepthook
    try:
        status = main(sys.argv[1:])
    except EXPECTED as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        status = 2
    except (MemoryError, RuntimeError) as error:
        # PyTorch has no class of its own for main memory.
        if not isinstance(error, MemoryError) and "can't allocate memory" not in str(error):
            raise
        print(f"error: not enough memory: {one_line(error)}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        status = 130
    finally:
        threading.excepthook = before
    sys.exit(status)


def _excepthook(error: threading.ExceptHookArgs) -> None:
    """TensorBoard's thread, which meets a full disk, has it raised again where rows are written."""
    if not isinstance(error.exc_value, OSError):
        threading.__excepthook__(error)
