"""Mask passwords and tokens in whatever leaves the program: lines, logs, tracebacks, errors.

    mask("cannot reach http://ada:geheim@host")  # 'cannot reach http://…@host'

It is the finished message that is masked, since libraries repeat an address in parts, decoded and
encoded. Known are the secrets of the environment (`SECRETS`, `ADDRESSES`, `HOOKS`) and of every
address that `remember` was told of. What looks like one in an unknown address is masked as well.
"""

from __future__ import annotations

import base64
import logging
import os
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, TextIO, cast
from urllib.parse import unquote

ALERTS = "ALERT_URL"
LOG_URL = "SENTIMENT_LOG_URL"
API_TOKEN = "SENTIMENT_API_TOKEN"
# Variables of the environment that are a secret, hold an address, or are an address that is a
# secret as a whole: whoever has that of a webhook may write to it.
SECRETS = (
    API_TOKEN,
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "PREFECT_API_KEY",
    "PREFECT_API_AUTH_STRING",
    "PREFECT_SERVER_API_AUTH_STRING",
    "PGPASSWORD",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_CONNECTION_STRING",
    "DATABRICKS_TOKEN",
)
ADDRESSES = (
    LOG_URL,
    "MLFLOW_TRACKING_URI",
    "MLFLOW_REGISTRY_URI",
    "PREFECT_API_URL",
    "PREFECT_UI_URL",
    "PREFECT_API_DATABASE_CONNECTION_URL",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "http_proxy",
    "https_proxy",
)
HOOKS = (ALERTS,)
PAIRS = ("PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING")  # USER:PASSWORD
USER, PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"  # such a pair in two
KNOWN = (*SECRETS, *ADDRESSES, *HOOKS, USER)
MASK = "…"
# A shorter one, or one of letters alone, is masked as a word of its own only: `test` must not be
# cut out of `test_f1`, nor `postgres` out of `postgresql`.
LONG = 8
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
ADDRESS = re.compile(rf"({SCHEME.pattern})://([^\s'\"]+)")
_NAMES = r"[\w.-]*(?:pass|pwd|token|secret|key|sig|auth|credential)[\w.-]*"
# What looks like a secret in any address: all before an @, and options of such a name
_USER = re.compile(r"(?<=//)[^\s/@'\"]+(?=@)")
# A semicolon begins the next one only where a name follows; SQLAlchemy takes it for a value's part
_OPTION = re.compile(rf"([?&;]{_NAMES}=)(?:[^\s&;'\"#)]|;(?![\w.-]+=))+", re.IGNORECASE)
_AT_SENDERS = re.compile(r"[/@:?&=#,]")  # parts an address of a webhook

_told: set[str] = set()


def remember(*texts: str) -> None:
    """Learn the secrets of all addresses in these texts, such as the words of a command line."""
    for text in texts:
        for scheme, rest in _addresses(text):
            _told.update(_of_address(scheme, rest))


def remember_secret(secret: str) -> None:
    """Learn a secret that is in no address."""
    _told.add(secret)


def remember_variable(name: str, value: str) -> None:
    """Learn the secrets of a variable whose value came from a file."""
    given = {name: value}
    _told.update(_of_environment(tuple(map(given.get, KNOWN))))


def mask(text: str) -> str:
    """Return the text with `…` for each secret. Mask first, and cut it afterwards."""
    _told.update(_of_environment(tuple(map(os.environ.get, KNOWN))))
    if _told:
        text = _pattern(frozenset(_told)).sub(MASK, text)
    if "@" in text:
        text = _USER.sub(MASK, text)
    return _OPTION.sub(rf"\1{MASK}", text) if "=" in text else text


def line(text: object, most: int = 200) -> str:
    """Return a message, such as another library's error, masked, as one line of `most` characters.

    One that is empty is told by the name of its type.
    """
    return mask(" ".join(str(text).split()) or type(text).__name__)[:most]


def mask_logs() -> None:
    """Mask what anybody in this process logs, whatever the handler; a second call does nothing."""
    make = logging.getLogRecordFactory()
    if getattr(make, "masks", False):
        return

    def masked(*arguments: Any, **options: Any) -> logging.LogRecord:
        record = make(*arguments, **options)
        _mask_record(record)
        return record

    masked.masks = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(masked)


def mask_output() -> None:
    """Mask what this process prints or logs from now on, tracebacks too. For a program's start."""
    mask_logs()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, _Masked):
            setattr(sys, name, cast(TextIO, _Masked(stream)))


class _Masked:
    """A stream that masks each piece of text written to it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(mask(text))
        return len(text)

    def writelines(self, texts: list[str]) -> None:
        for text in texts:
            self.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _mask_record(record: logging.LogRecord) -> None:
    if record.stack_info:
        record.stack_info = mask(record.stack_info)
    try:
        said = record.getMessage()
    except Exception:  # whoever formats it will say that arguments are missing
        return
    if (masked := mask(said)) != said:
        record.msg, record.args = masked, ()
    if record.exc_info and record.exc_info[0] is not None:
        trace = logging.Formatter().formatException(record.exc_info)
        if (masked := mask(trace)) != trace:
            record.exc_text = masked  # which formatters take in place of the exception


def _addresses(text: str) -> Iterator[tuple[str, str]]:
    """Yield scheme and rest of the addresses in a text, and of the text as one whole address.

    Only as a whole has it a password with a quotation mark or a blank.
    """
    yield from ADDRESS.findall(text)
    scheme, found, rest = text.strip().partition("://")
    scheme = scheme.rpartition("=")[2]  # of `--log-url=…`
    if found and SCHEME.fullmatch(scheme):
        yield scheme, rest


def _basic(pair: str) -> str:
    """Return USER:PASSWORD as HTTP's basic authentication sends it."""
    return base64.b64encode(pair.encode("utf-8", "replace")).decode()


def _of_address(scheme: str, rest: str) -> Iterator[str]:
    """Yield the secrets of an address; `rest` is what comes after its `://`.

    A password may have a slash or an @ that should have been encoded. What reads it then takes a
    part of it for the host, port or path, and shows that.
    """
    proper = re.split(r"[/?#]", rest, maxsplit=1)[0]
    for place in (proper, rest):
        user, colon, password = place.rpartition("@")[0].partition(":")
        if colon and password:
            yield password
            yield _basic(unquote(f"{user}:{password}"))
            parts = re.split(r"[/@:?#]", unquote(password))
            yield from (part for part in parts if len(part) > 1)
        elif user and place == proper and scheme.startswith("http"):
            yield user  # a token
    for option in (r"[?&;]([^=&;]+)=([^&;#]+)", r"[?&]([^=&]+)=([^&]+)"):  # the latter: SQLAlchemy
        for name, value in re.findall(option, rest):
            if re.fullmatch(_NAMES, name, re.IGNORECASE):
                yield value


def _of_hook(address: str) -> Iterator[str]:
    """Yield the secrets of a webhook: of http(s) all after the host, else the host as well."""
    scheme, _, rest = address.partition("://")
    yield from _of_address(scheme, rest)
    if scheme in ("http", "https"):
        rest = rest.partition("/")[2]  # which may have an @
    for part in (rest, *_AT_SENDERS.split(rest)):
        if len(part) >= LONG or (len(part) > 3 and re.search(r"\d", part)):  # no word
            yield part


@lru_cache(maxsize=8)
def _of_environment(values: tuple[str | None, ...]) -> frozenset[str]:
    given = {name: (value or "").strip() for name, value in zip(KNOWN, values, strict=True)}
    found = {given[name] for name in SECRETS}
    for pair in (*(given[name] for name in PAIRS), f"{given[USER]}:{given[PASSWORD]}"):
        password = pair.partition(":")[2]
        if password:
            found |= {password, _basic(pair)}
    for name in ADDRESSES:
        for scheme, rest in _addresses(given[name]):
            found.update(_of_address(scheme, rest))
    for name in HOOKS:
        for address in given[name].split():
            found.update(_of_hook(address))
    return frozenset(found - {""})


@lru_cache(maxsize=8)
def _pattern(secrets: frozenset[str]) -> re.Pattern[str]:
    """Return what finds the secrets, the longest first, plain and encoded in any way."""
    found = {unquote(secret) for secret in secrets} | secrets
    known = sorted(found - {""}, key=len, reverse=True)
    return re.compile("|".join(map(_spelled, known)), re.IGNORECASE)


def _spelled(secret: str) -> str:
    spelled = "".join(map(_character, secret))
    if len(secret) >= LONG and not secret.isalpha():
        return spelled
    return rf"(?:(?<!\w)|(?<=%[0-9A-F]{{2}})){spelled}(?!\w)"  # such as after %3A


def _character(character: str) -> str:
    """Return a pattern of the character: plain, behind a backslash, or as %2F or %252F."""
    if character.isascii() and character.isalnum():
        return character
    encoded = "".join(f"%(?:25)?{byte:02X}" for byte in character.encode("utf-8", "replace"))
    space = r"|\+" if character == " " else ""
    return rf"(?:\\?{re.escape(character)}|{encoded}{space})"
