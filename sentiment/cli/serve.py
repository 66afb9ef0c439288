"""Serve the production version: `python -m sentiment serve`.

Nothing is trained here. The version comes from the registry, and one that is promoted meanwhile is
picked up without a restart. Any WSGI server can serve the same app: `sentiment.serving.app` has
`create_app()`.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from sentiment.cli.options import LOOPBACK, is_loopback
from sentiment.console import Terminal
from sentiment.serving.app import create_app
from sentiment.serving.config import Limits, ServingConfig, look_ahead
from sentiment.serving.server import Listener, run_server

if TYPE_CHECKING:
    from flask import Flask


def run(options: Namespace) -> int:
    """Serve until a signal and return 0. Raise `UserError` before anything listens."""
    terminal = Terminal(quiet=options.quiet)
    config = serving_config(options)
    listener = Listener(options.host, options.port)
    with terminal:  # to its end, since processes are forked from now on
        terminal.step("opening the store and the log")
        warning = look_ahead(config)
        log = config.open_log()
    if warning:
        terminal.say(warning)
    if config.token is None and not is_loopback(options.host):
        terminal.say(
            f"whoever reaches {options.host} may send feedback, and read /model, /drift and, with "
            "customers' texts, /ab and /complaints: set SENTIMENT_API_TOKEN to ask for a token"
        )

    def ready(app: Flask) -> None:
        terminal.say(f"http://{listener}: {_serving(app)}")

    if options.debug:
        app = create_app(config, log=log)
        ready(app)
        listener.socket.close()
        app.run(listener.host, listener.port, debug=True, use_reloader=False, threaded=True)
        return 0
    return run_server(
        lambda: create_app(config, log=log),
        listener,
        workers=options.workers,
        threads=options.threads,
        ready=ready,
    )


def serving_config(options: Namespace) -> ServingConfig:
    """Return the options as the app takes them. Raise `ServingConfigError`."""
    return ServingConfig(
        store=None if options.store is None else str(Path(options.store).resolve()),
        project=options.project,
        refresh_seconds=options.refresh,
        ab=options.ab,
        shadow=options.shadow,
        experiment=options.ab_name,
        log_url=options.log_url,
        store_text=not options.no_store_text,
        retention_days=options.retention,
        allow_origins=options.allow_origin,
        trust_proxies=options.trust_proxy,
        hosts=_own_names(options),
        limits=Limits(options.max_body, options.max_texts, options.max_characters),
    )


def _own_names(options: Namespace) -> tuple[str, ...] | None:
    """Return by which names this server is asked; None for any.

    One on loopback has few names, unless a proxy passes on its own.
    """
    if not is_loopback(options.host) or options.trust_proxy:
        return None
    return (*LOOPBACK, options.host)


def _serving(app: Flask) -> str:
    """Say in words what the first worker answers with."""
    arms = app.extensions["serving"].watcher.arms
    if arms is None:  # it was there a moment ago; /health says what happened
        return "no version yet"
    versions = [f"version {arms.champion.version} ({arms.champion.algorithm}) is in production"]
    if arms.challenger is not None:
        versions.append(
            f"compared with version {arms.challenger.version} ({arms.challenger.algorithm})"
        )
    return ", ".join(versions)
