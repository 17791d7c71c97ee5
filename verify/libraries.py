"""What the library may need of others and offer to them, as its file says; the same for every platform.

`python -m verify.wheels` asks it of each wheel, tests/test_wheel.py of the library in use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lief

from . import ROOT

NEEDED = re.compile(
    # torch has loaded its own already, so that no path to it stands in the file.
    r"libtorch_cpu\.so|lib(stdc\+\+\.so\.6|m\.so\.6|gcc_s\.so\.1|c\.so\.6)|ld-linux-(x86-64\.so\.2|aarch64\.so\.1)"
    r"|@rpath/libtorch_cpu\.dylib|/usr/lib/lib(System\.B|c\+\+\.1)\.dylib"
)
STABLE = re.compile(r"(aoti_)?torch_[a-z0-9_]+")
NEVER_DEFINED = {"__gmon_start__", "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable"}
# Not stable, and in later versions alone: what the library does without.
OPTIONAL = {
    "_ZN3c104impl20TorchDispatchModeTLS13any_modes_setEb",
    "torch_library_def_with_tags",
    "torch_tag_pt2_compliant_tag",
}
# The run-time library of C++ has these on every macOS, though no library of torch asks for them.
OF_EVERY_MACOS = {"_ZTVNSt3__115basic_streambufIcNS_11char_traitsIcEEEE", "_ZdlPvm"}
OF_LINKERS = {"_edata", "_end", "__bss_start", "_init", "_fini"}
OF_LINKERS |= {"__bss_start__", "__bss_end__", "_bss_end__", "__end__"}  # on Arm
OF_LINKERS |= {"_mh_dylib_header", "__dso_handle", "dyld_stub_binder"}  # on macOS
# The newest that systems of manylinux_2_28 have: glibc, and what GCC 8 came with.
NEWEST = {"GLIBC": (2, 28), "GLIBCXX": (3, 4, 25), "CXXABI": (1, 3, 11), "GCC": (8, 0)}


@dataclass(frozen=True)
class Library:
    """`weak` are those that may be missing of `undefined`, the names that others must define.

    These come with a version, or on macOS with a library of the system, or with "".
    """

    needed: frozenset[str]
    undefined: dict[str, str]
    weak: frozenset[str]
    defined: frozenset[str]
    text: bytes  # the machine code

    @property
    def is_elf(self) -> bool:
        return any(".so" in name for name in self.needed)


def read(path: Path) -> Library:
    lief.logging.disable()
    binary = lief.parse(path)
    if isinstance(binary, lief.ELF.Binary):
        symbols = [s for s in binary.dynamic_symbols if s.name and s.binding != s.BINDING.LOCAL]
        missing = [s for s in symbols if s.shndx == 0]
        return Library(
            frozenset(binary.libraries),
            {s.name: _version(s) for s in missing},
            frozenset(s.name for s in missing if s.binding == s.BINDING.WEAK),
            frozenset(s.name for s in symbols if s.shndx != 0),
            bytes(binary.get_section(".text").content),
        )
    others = [command for command in binary.libraries if command.command != command.TYPE.ID_DYLIB]
    missing = list(binary.imported_symbols)
    return Library(
        frozenset(command.name for command in others),
        {_plain(s.name): _system(s) for s in missing},
        frozenset(_plain(s.name) for s in missing if s.has_binding_info and s.binding_info.weak_import),
        frozenset(_plain(s.name) for s in binary.exported_symbols),
        bytes(binary.get_section("__text").content),
    )


def _version(symbol) -> str:
    version = symbol.symbol_version if symbol.has_version else None
    return version.symbol_version_auxiliary.name if version and version.has_auxiliary_version else ""


def _system(symbol) -> str:
    """The library of the system that has it, if one was named when ours was linked."""
    bound = symbol.has_binding_info and symbol.binding_info.has_library
    name = symbol.binding_info.library.name if bound else ""
    return name if name.startswith("/usr/lib/") else ""


def _plain(name: str) -> str:
    """A symbol as C spells it: on macOS another underscore stands before."""
    return name.removeprefix("_")


def declared() -> set[str]:
    """The functions of the C interface."""
    header = (ROOT / "csrc/binding/c_interface.h").read_text()
    return set(re.findall(r"^NHWC_CONV_API .*?(nhwc_conv_\w+)\(", header, re.MULTILINE))


def offered(torch: list[Library]) -> tuple[set[str], set[str]]:
    """What torch exports: its own, and functions of the C++ library, which its builds for Arm have in themselves."""
    names = set().union(*(other.defined for other in torch))
    of_cxx = {name for name in names if re.match(r"_ZN?K?St", name)}
    return names - of_cxx, of_cxx


def needed(library: Library, torch: list[Library]) -> Iterator[str]:
    """libtorch_cpu and the run-time libraries of C and C++."""
    for name in sorted(library.needed):
        if not NEEDED.fullmatch(name):
            yield f"needs {name}"
    if not any("libtorch_cpu" in name for name in library.needed):
        yield "does not need libtorch_cpu"


def stable(library: Library, torch: list[Library]) -> Iterator[str]:
    """Of torch, functions of its stable ABI alone."""
    found = set(library.undefined) & offered(torch)[0]
    for name in sorted(name for name in found - OPTIONAL if not STABLE.fullmatch(name)):
        yield f"needs {name} of torch, which is not stable"
    for name in sorted({"torch_call_dispatcher", "aoti_torch_empty_strided"} - found):
        yield f"does not need {name} of torch"


def optional(library: Library, torch: list[Library]) -> Iterator[str]:
    """Functions that a torch may lack are weak."""
    for name in sorted(OPTIONAL - library.weak):
        yield f"{name} may not be missing"


def others(library: Library, torch: list[Library]) -> Iterator[str]:
    """All else is of the system's libraries: their version or name says so, or that torch itself asks for it."""
    own = (other.undefined for other in torch)
    known = offered(torch)[1] if library.is_elf else OF_EVERY_MACOS.union(*own)
    for name, version in library.undefined.items():
        if not (version or name in known | NEVER_DEFINED | OPTIONAL | OF_LINKERS or STABLE.fullmatch(name)):
            yield f"needs {name} of nobody known"
    for name in sorted(library.defined | set(library.undefined)):
        if "Py" in name:
            yield f"{name} is of Python"


def exported(library: Library, torch: list[Library]) -> Iterator[str]:
    """The C interface, and nothing else in C."""
    names = {name for name in library.defined - OF_LINKERS if not name.startswith("_Z")}
    for name in sorted(names ^ declared()):
        yield f"{name} is {'not exported' if name in declared() else 'exported'}"


def versions(library: Library, torch: list[Library]) -> Iterator[str]:
    """Old enough for manylinux_2_28."""
    for name, version in library.undefined.items():
        family, _, number = version.partition("_")
        if family in NEWEST and tuple(map(int, number.split("."))) > NEWEST[family]:
            yield f"needs {name} of {version}"


CHECKS = (needed, stable, optional, others, exported, versions)


def faults(library: Library, torch: list[Library]) -> list[str]:
    """What is wrong with it, beside those libraries of torch."""
    return [fault for check in CHECKS for fault in check(library, torch)]
