"""`make wheels`: the source distribution, and a wheel for each platform, built by setup.py, checked, and tried.

One wheel a platform serves every Python and every torch from 2.10 on: its library knows nothing of Python. Wheels of
other platforms are built by cross compilers, and linked against that platform's torch.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from pathlib import Path

from conftest import source_digest

from . import ROOT, libraries, summary
from .platforms import TARGETS, WORK, Target, WheelError, new_environment, platform_options, python_of, run

DIST = ROOT / "dist"
OLDEST_TORCH = "2.10.0"
LIBRARY = "nhwc_conv/libnhwc_conv.so"
OF_TORCH = ("libtorch_cpu", "libtorch_python", "libc10")  # what ours may need; what those need themselves


def torch_of(target: Target) -> Path:
    """The folder of a torch of that platform: the installed one, or a wheel's headers and libraries."""
    if target.is_here:
        return Path(sysconfig.get_path("purelib")) / "torch"
    folder = WORK / target.tag
    if not (folder / "torch/include").is_dir():
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder]
        run(*pip, *platform_options(target, "3.12"), f"torch=={OLDEST_TORCH}")
        (wheel,) = folder.glob("torch-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            wanted = [name for name in archive.namelist() if re.match(r"torch/(include|lib)/", name)]
            archive.extractall(folder, wanted)
        wheel.unlink()
    return folder / "torch"


def torch_libraries(target: Target) -> list[libraries.Library]:
    """Those whose functions ours may need, or that need themselves what ours may need of the system."""
    folder = torch_of(target) / "lib"
    return [libraries.read(path) for path in folder.iterdir() if path.stem in OF_TORCH]


def build(target: Target) -> Path:
    """The wheel in dist/, by setup.py."""
    environment = {}
    if not target.is_here:
        if not shutil.which(target.compiler[0]):
            raise WheelError(f"{target.tag}: no {target.compiler[0]} here")
        command = " ".join(target.compiler)
        environment = {"CC": command, "CXX": command, "AR": "ar", "_PYTHON_HOST_PLATFORM": target.host}
        environment |= {"NHWC_CONV_TORCH": str(torch_of(target)), **dict(target.flags)}
    built = WORK / "built"
    shutil.rmtree(built, ignore_errors=True)
    for stale in (ROOT / "build").glob(f"lib.{target.host}*"):  # whose modules may be gone from the checkout
        shutil.rmtree(stale)
    run(sys.executable, "setup.py", "-q", "bdist_wheel", "-d", built, **environment)
    (wheel,) = built.iterdir()
    DIST.mkdir(exist_ok=True)
    if target.is_macos:
        return Path(shutil.copy(wheel, DIST))
    # Which finds the tag, of any architecture, and puts nothing into it: torch has loaded its library already.
    named = ("--plat", "auto", "--only-plat", "--exclude", "libtorch_cpu.so")
    run(sys.executable, "-m", "auditwheel", "repair", *named, "-w", DIST, wheel)
    (repaired,) = DIST.glob(f"*_{target.host.rpartition('-')[2]}.whl")
    return repaired


def files_of_package() -> set[str]:
    """What a wheel has beside its library and its description."""
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "nhwc_conv").rglob("*.py")}
    return files | {"nhwc_conv/py.typed"}


def unpack(wheel: Path, folder: Path) -> list[str]:
    """Into a folder; returns what is wrong with its name and its files."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
        files = [name for name in archive.namelist() if not name.endswith("/")]
        names = {name for name in files if ".dist-info/" not in name}
        licensed = any(name.endswith("LICENSE") for name in files)
    faults = [f"{name} is missing or too many" for name in sorted(names ^ files_of_package() ^ {LIBRARY})]
    faults += [] if licensed else ["there is no licence"]
    if not re.fullmatch(r"nhwc_conv-[\d.]+-py3-none-\w+\.whl", wheel.name):
        faults.append(f"{wheel.name} is not for every Python")
    return faults


def check(wheel: Path, target: Target) -> list[str]:
    """What is wrong with a wheel."""
    with tempfile.TemporaryDirectory() as folder:
        faults = unpack(wheel, Path(folder))
        library = libraries.read(Path(folder) / LIBRARY)
        faults += libraries.faults(library, torch_libraries(target))
        in_place = ROOT / LIBRARY
        if target.is_here and in_place.exists() and library.text != libraries.read(in_place).text:
            faults.append("its machine code is not that of the library that is built in place")
    return faults if target.is_macos else faults + audited(wheel, target)


def audited(wheel: Path, target: Target) -> list[str]:
    """What auditwheel finds wrong; beside torch's library, which it does not know to be there."""
    shown = json.loads(run(sys.executable, "-m", "auditwheel", "show", "--json", wheel))
    print(f"{wheel.name}: auditwheel finds symbols of {shown['sym_tag']}")
    faults = [f"needs {name}" for name in shown["external_libs"] if name != "libtorch_cpu.so"]
    if glibc_of(shown["sym_tag"]) > glibc_of(target.tag):
        faults.append(f"needs symbols of {shown['sym_tag']}")
    return faults


def glibc_of(tag: str) -> list[int]:
    return [int(number) for number in re.findall(r"_(\d+)", tag)[:2]]


def check_sources() -> list[str]:
    """What is wrong with the source distribution, which is made here."""
    run(sys.executable, "setup.py", "-q", "sdist", "-d", DIST)
    (archive,) = DIST.glob("*.tar.gz")
    with tempfile.TemporaryDirectory() as folder, tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
        (tree,) = Path(folder).iterdir()
        missing = [name for name in sorted(files_of_package()) if not (tree / name).exists()]
        faults = [f"{name} is missing" for name in missing]
        if source_digest(tree) != source_digest():
            faults.append("its csrc/ and setup.py are not those of the checkout")
    return faults


def try_beside(torch: str, wheel: Path, target: Target, python: list[str]) -> str:
    """Installs the wheel into a new environment with that torch, and does what a newcomer does; returns its name."""
    wanted = "torch" if torch == "newest" else f"torch=={torch}"
    with tempfile.TemporaryDirectory() as folder:
        inside = new_environment(Path(folder), target, python, wanted, wheel)
        printed = run(*inside, "-I", ROOT / "verify/newcomer.py")
        return re.search(r"^torch (\S+)$", printed, re.MULTILINE)[1]


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m verify.wheels", description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", choices=[[], *TARGETS], help="all, unless named")
    parser.add_argument(
        "--torch",
        nargs="*",
        default=[OLDEST_TORCH, "2.13.0", "newest"],
        metavar="VERSION",
        help="where this machine's wheel is tried (gigabytes each where they bring CUDA): %(default)s",
    )
    parser.add_argument(
        "--emulate",
        default="",
        metavar="COMMAND",
        help="of a Python for aarch64, to try its wheel, instead of Debian's: 'qemu-aarch64 -L ROOT ROOT/bin/python3'",
    )
    options = parser.parse_args(arguments)
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    lines = []

    def tell(what: str, size: str, faults: list[str], well: str) -> None:
        lines.append(summary.Line(what, size, "; ".join(faults) or well, not faults))
        print(f"{what}, {size}: {lines[-1].result}", flush=True)

    tell("sdist", "csrc/, setup.py, nhwc_conv/", check_sources(), "as in the checkout")
    for name in options.targets or TARGETS:
        target = TARGETS[name]
        try:
            wheel = build(target)
            tell(wheel.name, f"{wheel.stat().st_size >> 10} KiB", check(wheel, target), "as it must be")
            python = python_of(target, options.emulate)
        except WheelError as error:
            tell(target.tag, "-", [str(error)], "")
            continue
        if not python:
            lines.append(summary.Line("a newcomer's path", target.tag, "no such machine here", None))
            continue
        for torch in options.torch if target.is_here else [OLDEST_TORCH]:
            try:
                tell("a newcomer's path", f"torch {try_beside(torch, wheel, target, python)}", [], "right")
            except WheelError as error:
                tell("a newcomer's path", f"torch {torch}", [str(error)], "")
    return summary.show(lines)


if __name__ == "__main__":
    sys.exit(main() != 0)
