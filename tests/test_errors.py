"""What became of a Ctrl-C that Python ignored."""

from __future__ import annotations

import signal
import sys
import threading

import pytest

from sentiment.errors import note_interrupts, raise_if_interrupted


class Careless:
    """Something that is interrupted while it is thrown away."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_that_was_lost_comes_when_it_is_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    hook = sys.unraisablehook
    try:
        note_interrupts()
        raise_if_interrupted()
        careless = Careless()
        del careless  # Python ignores what is raised here
        with pytest.raises(KeyboardInterrupt):
            raise_if_interrupted()
        with pytest.raises(KeyboardInterrupt):  # and elsewhere it comes at once
            signal.raise_signal(signal.SIGINT)
        assert capsys.readouterr().err == ""
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGINT, before)


def test_who_ignores_interrupts_goes_on_doing_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        note_interrupts()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    thread = threading.Thread(target=note_interrupts)  # could not set a handler, and need not
    thread.start()
    thread.join()
