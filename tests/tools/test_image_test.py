"""The test of the image: what a machine cannot do is said and no failure, what is wrong is one."""

from __future__ import annotations

import image_test
import pytest


def test_a_machine_without_podman_is_skipped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(image_test, "PROGRAMS", ("sh", "no-such-program"))
    assert image_test.main() == 0
    assert capsys.readouterr().out == "skipped: not installed: no-such-program\n"


def test_a_fault_is_a_failure_with_the_commands_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        image_test, "test", lambda _: image_test.run("sh", "-c", "echo what it was; exit 3")
    )
    assert image_test.main() == 1
    said = capsys.readouterr().out
    assert "exit code 3" in said and "what it was" in said
    with pytest.raises(image_test.FailedError, match="version: '2', expected '1'"):
        image_test.check("version", "2", "1")
