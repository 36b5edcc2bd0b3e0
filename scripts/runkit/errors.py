"""Errors as users see them: one line, exit status 2."""

import sys
from collections.abc import Callable

from agents import StateError, TrainingFailure, UnsupportedSpaceError


class UserError(Exception):
    """Something the user can put right; the message says what is wrong and what would be right."""


def run_main(main: Callable[[list[str]], int]) -> None:
    """Runs a script's ``main`` and turns every error a user can cause into one line, status 2."""
    try:
        status = main(sys.argv[1:])
    except (UserError, StateError, TrainingFailure, UnsupportedSpaceError, OSError) as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)
