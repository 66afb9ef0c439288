"""Read settings that the environment gives: `NAME`, or the file that `NAME_FILE` names.

A container is given its secrets as files, so that they stand in no list of variables.
"""

from __future__ import annotations

import os
from pathlib import Path

from sentiment.errors import VariableError
from sentiment.masking import remember_variable


def is_set(name: str) -> bool:
    """Return whether the environment says something of `name`; an empty value says nothing."""
    return bool(os.environ.get(name) or os.environ.get(f"{name}_FILE"))


def variable(name: str) -> str | None:
    """Return what the environment says, without the line break that ends a file; None if nothing.

    What a file says is masked from now on where it is a secret. Raises `VariableError` where both
    are set, or the file cannot be read.
    """
    value, file = os.environ.get(name), os.environ.get(f"{name}_FILE")
    if not file:
        return value
    if value:
        raise VariableError(f"{name} and {name}_FILE are both set; unset one")
    try:
        value = Path(file).read_text("utf-8").rstrip("\r\n")
        remember_variable(name, value)
        return value
    except OSError as error:
        reason = error.strerror or "error"
    except ValueError:
        reason = "not a text in UTF-8"
    raise VariableError(f"{name}_FILE: {file[-100:]}: cannot be read ({reason})")
