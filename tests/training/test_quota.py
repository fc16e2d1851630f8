"""The number of cores that a container grants, in both versions of control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from persona.threads import cores, free_cores, quota


@pytest.mark.parametrize(
    ("process", "files", "wanted"),
    [
        ("0::/", {"cpu.max": "200000 100000"}, 2),
        ("0::/", {"cpu.max": "150000 100000"}, 2),
        ("0::/", {"cpu.max": "10000 100000"}, 1),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/a/b", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ("0::/a/b", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "100000 100000"}, 1),
        ("4:memory:/\n1:cpu,cpuacct:/d", {"cpu/d/cpu.cfs_quota_us": "400000", "cpu/d/cpu.cfs_period_us": "100000"}, 4),
        ("1:cpu:/d", {"cpu/d/cpu.cfs_quota_us": "-1", "cpu/d/cpu.cfs_period_us": "100000"}, None),
        ("0::/../other", {"cpu.max": "what"}, None),
        ("", {}, None),
    ],
)
def test_the_quota_of_a_container(tmp_path: Path, process: str, files: dict[str, str], wanted: int | None) -> None:
    (tmp_path / "self").write_text(process)
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    assert quota(tmp_path / "self", tmp_path / "groups") == wanted


def test_there_is_always_a_core() -> None:
    assert cores() >= 1
    assert quota(Path("/nowhere"), Path("/nowhere")) is None


def test_cores_that_other_programs_leave_free() -> None:
    assert free_cores(0.0) == cores()
    assert free_cores(0.4) == cores()
    assert free_cores(cores() - 1) == 1
    assert free_cores(100.0) == 1
