"""Files that appear whole or not at all; what is written is tested with batch scoring."""

from __future__ import annotations

from pathlib import Path

from sentiment.data.targets import PART, appearing_whole


def test_a_run_clears_up_after_the_dead_and_not_after_the_living(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    dead, other = tmp_path / f".out.csv.0123{PART}", tmp_path / f".another.csv.0123{PART}"
    dead.write_text("half a file")
    other.write_text("of another target")
    with appearing_whole(target) as first:
        assert not dead.exists() and other.exists()
        with appearing_whole(target) as second:
            second.write(b"second")
        assert target.read_bytes() == b"second"
        first.write(b"first")
    assert target.read_bytes() == b"first" and list(tmp_path.glob(f".*{PART}")) == [other]
