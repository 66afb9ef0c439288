"""The test of the image: what a machine cannot do is said and no failure, what is wrong is one."""

from __future__ import annotations

from pathlib import Path

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


@pytest.mark.parametrize(
    ("broken", "raised"),
    [
        ("run", image_test.SkippedError),  # no container runs here
        ("network", image_test.SkippedError),
        ("build run", image_test.SkippedError),  # nor does pip reach an index
        ("build", image_test.FailedError),  # pip does: so it is our Dockerfile
    ],
)
def test_what_the_machine_cannot_do_is_told_from_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, raised: type[Exception]
) -> None:
    podman = tmp_path / "podman"
    podman.write_text(f'#!/bin/sh\ncase " {broken} " in *" $1 "*) echo broken; exit 125;; esac\n')
    podman.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(raised, match="broken"):
        if "build" in broken:
            image_test.make_project("base", "unknown")
        else:
            image_test.can_run("base")
