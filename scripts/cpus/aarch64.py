"""Python, NumPy and h5py of Debian for aarch64, run by qemu: where distbp can train as if on such a CPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

RELEASE = "trixie"  # Debian's: with NumPy 2
PACKAGES = "python3-numpy,python3-h5py,python3-click,python3-threadpoolctl,python3-tqdm,python3-tomli-w"
COMPILER, QEMU = "aarch64-linux-gnu-gcc", "qemu-aarch64-static"
LIBRARIES = "/usr/lib/aarch64-linux-gnu"
SECONDS = 1800


def why_not(system: Path) -> str:
    """What is not installed of what is needed, in words; "" if all is there."""
    needed = [COMPILER, QEMU] if (system / "made").exists() else [COMPILER, QEMU, "debootstrap", "dpkg-deb"]
    if missing := [name for name in needed if not shutil.which(name)]:
        return f"{', '.join(missing)} not installed (Debian: gcc-aarch64-linux-gnu, qemu-user-static, debootstrap)"
    return "" if os.getuid() == 0 or (system / "made").exists() else "debootstrap makes the system as root only"


def make(system: Path) -> None:
    """Fetches the packages of Debian and unpacks them, if that was not done before.  None of their programs is run."""
    if (system / "made").exists():
        return
    print(f"any_cpu: making {system}", file=sys.stderr)
    shutil.rmtree(system, ignore_errors=True)
    system.parent.mkdir(parents=True, exist_ok=True)
    mirror = [os.environ["DEBIAN_MIRROR"]] if "DEBIAN_MIRROR" in os.environ else []
    options = ["--arch=arm64", "--foreign", "--variant=minbase", f"--include={PACKAGES}"]
    subprocess.run(
        ["debootstrap", *options, RELEASE, str(system), *mirror], check=True, stdout=sys.stderr, timeout=SECONDS
    )
    for package in sorted((system / "var/cache/apt/archives").glob("*.deb")):
        subprocess.run(["dpkg-deb", "--extract", str(package), str(system)], check=True, timeout=SECONDS)
    (system / "made").touch()


def command(system: Path, python_path: Path) -> list[str]:
    """What stands before the arguments of Python."""
    python = next((system / "usr/bin").glob("python3.*"))
    kept = {
        "PATH": os.environ["PATH"],
        "HOME": "/",
        "PYTHONHOME": "/usr",
        "PYTHONPATH": str(python_path),
        "PYTHONPYCACHEPREFIX": str(system.resolve() / "pycache"),
    }
    # -E: for the program alone, as qemu is one of this machine.  Both libraries stand beside, which a link would say.
    inside = f"LD_LIBRARY_PATH={LIBRARIES}/blas:{LIBRARIES}/lapack"
    return [
        *("env", "-i", *(f"{name}={value}" for name, value in kept.items())),
        *(QEMU, "-L", str(system.resolve()), "-E", inside, str(python.resolve())),
    ]
