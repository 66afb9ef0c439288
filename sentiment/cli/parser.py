"""Parse options, each of which can also come from the environment, and complain in one line.

`--log-url` is also `SENTIMENT_LOG_URL`, or the file that `SENTIMENT_LOG_URL_FILE` names. An option
that is given wins over its variable, which wins over the default.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from sentiment.environment import is_set, variable
from sentiment.errors import EXIT_BAD_INPUT, VariableError
from sentiment.masking import mask, remember

SWITCHES = {"1": True, "true": True, "yes": True, "on": True}
SWITCHES |= {"0": False, "false": False, "no": False, "off": False}


class EnvironmentParser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, without the usage, and exits with code 2."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Formatter, allow_abbrev=False, **options)

    def parse_known_args(  # type: ignore[override]  # there is no namespace of another class
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse; an option that was not given is read from the environment.

        From now on the secrets of every address among the options are masked.
        `from_environment` of the result has the names of those that were.
        """
        remember(*(sys.argv[1:] if args is None else args))
        told = [one for one in self._actions if is_set(variable_of(one))]
        defaults = [one.default for one in told]
        for action in told:
            action.default, action.required = told, False  # no option has this value
        parsed, left = super().parse_known_args(args, namespace)
        names: set[str] = getattr(parsed, "from_environment", set())  # of a command
        for action, default in zip(told, defaults, strict=True):
            if getattr(parsed, action.dest) is told:
                setattr(parsed, action.dest, self._value_of_variable(action, default))
                names.add(action.dest)
        parsed.from_environment = names
        return parsed, left

    def _value_of_variable(self, action: argparse.Action, default: Any) -> Any:
        name = variable_of(action)
        try:
            text = variable(name) or ""
            remember(text)
            said = SWITCHES.get(text.lower())
            if action.nargs == 0 and said is None:
                self.error(f"{name}: '{text}' is neither true nor false")
            if action.nargs in (0, "?") and said is not None:
                return action.const if said else default
            value = self._get_value(action, text)
            self._check_value(action, value)
        except VariableError as error:
            self.error(str(error))
        except argparse.ArgumentError as error:
            self.error(f"{name}: {error.message}")
        return value

    def format_help(self) -> str:
        """Return the help; each option has the name of its variable in brackets."""
        shown = super().format_help()
        if len(self._actions) > 1 and self._subparsers is None:
            shown += (
                "\n[VARIABLE] sets the option too; VARIABLE_FILE names a file that has the value.\n"
            )
        return shown

    def error(self, message: str) -> NoReturn:
        """Print the line and leave."""
        program = self.prog.removeprefix("python -m ").removesuffix(".py")
        self.exit(EXIT_BAD_INPUT, f"{program}: {mask(message)[:200]}; see --help\n")

    def value(
        self,
        flag: str,
        metavar: str | None,
        about: str,
        kind: Callable[[str], Any] = str,
        default: Any = None,
        **more: Any,
    ) -> argparse.Action:
        """Add an option with a value."""
        return self.add_argument(
            flag, metavar=metavar, help=about, type=kind, default=default, **more
        )

    def switch(self, flag: str, about: str) -> None:
        """Add an option that is on where it is given."""
        self.add_argument(flag, action="store_true", help=about)


class Each(argparse.Action):
    """An option with a list of values; one that is given again adds to them."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        """Take in the values of one option."""
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, values if before is self.default else [*before, *values])


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26)

    def _expand_help(self, action: argparse.Action) -> str:
        name = variable_of(action)
        return super()._expand_help(action) + (f" [{name}]" if name else "")


def variable_of(action: argparse.Action) -> str:
    """Return the variable that can set an option; "" for `--help` and what is no option."""
    if not action.option_strings or isinstance(action, argparse._HelpAction):
        return ""
    name = action.option_strings[-1].lstrip("-").replace("-", "_").upper()
    return getattr(action, "variable", f"SENTIMENT_{name}")
