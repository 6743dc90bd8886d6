"""CPU quotas, in trees of control groups that are made for the test."""

from __future__ import annotations

from pathlib import Path

import pytest

from distbp.ranks.control_groups import groups, quotas

V1 = ("cpu.cfs_quota_us", "cpu.cfs_period_us")


def cores(tmp_path: Path, membership: str, files: dict[str, str]) -> list[float]:
    tree, said = tmp_path / "cgroup", tmp_path / "membership"
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text + "\n")
    said.write_text(membership)
    return [quota.cores for quota in quotas(tree, said)]


def v1(group: str, quota: int, period: int = 100_000) -> dict[str, str]:
    return {f"{group}/{V1[0]}": f"{quota}", f"{group}/{V1[1]}": f"{period}"}


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000"}, [1.5]),  # docker run --cpus 1.5, seen from inside
        ("0::/\n", {"cpu.max": "max 100000"}, []),
        ("0::/\n", {"cgroup.procs": ""}, []),  # of the machine itself
        (  # a job in a slice with less
            "0::/slurm/job_7/step_0\n",
            {
                "slurm/cpu.max": "200000 100000",
                "slurm/job_7/cpu.max": "400000 100000",
                "slurm/job_7/step_0/cpu.max": "max 100000",
            },
            [4.0, 2.0],
        ),
        ("0::/kubepods/pod1\n", {"kubepods/pod1/cpu.max": "50000 100000"}, [0.5]),
        ("0::/gone/away\n", {"cpu.max": "300000 100000"}, [3.0]),
        ("0::/\n", {"cpu.max": "100000"}, []),
        ("0::/\n", {"cpu.max": "much 100000"}, []),
        ("0::/\n", {"cpu.max": "100000 0"}, []),
        ("", {"cpu.max": "100000 100000"}, []),
        ("4:memory:/a\n3:cpu,cpuacct:/a/b\n", v1("cpu,cpuacct/a/b", 250_000), [2.5]),
        ("3:cpu,cpuacct:/a/b\n", v1("cpu/a/b", 250_000) | v1("cpu/a", 50_000, 25_000), [2.5, 2.0]),
        ("3:cpu:/a\n", v1("cpu/a", -1) | v1("cpu", -1), []),
        ("3:cpu:/docker/0123\n", v1("cpu", 400_000), [4.0]),  # in a container: that path is not seen
        ("3:cpuset:/a\n1:cpuacct:/a\n", v1("cpuset/a", 100_000) | v1("cpuacct/a", 100_000), []),
        (  # both versions at once
            "1:cpu:/a\n0::/b\n",
            v1("cpu/a", 300_000) | {"unified/b/cpu.max": "100000 50000"},
            [3.0, 2.0],
        ),
    ],
)
def test_cpu_quotas(tmp_path: Path, membership: str, files: dict[str, str], expected: list[float]) -> None:
    assert cores(tmp_path, membership, files) == expected


def test_no_control_groups(tmp_path: Path) -> None:
    """Of macOS, and of a container without /proc."""
    assert quotas(tmp_path, tmp_path / "none") == ()
    assert list(groups("memory", tmp_path, tmp_path / "none")) == []


def test_who_shares_a_quota_sees_the_same_group(tmp_path: Path) -> None:
    files = {f"{name}cpu.max": "200000 100000" for name in ("a/", "a/b/", "a/c/")}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    seen = []
    for path in ("a/b", "a/c"):
        (tmp_path / "membership").write_text(f"0::/{path}\n")
        seen.append([quota.group for quota in quotas(tmp_path, tmp_path / "membership")])
    assert seen[0][0] != seen[1][0]
    assert seen[0][1] == seen[1][1]
