"""Builds nhwc_conv/libnhwc_conv.so: LibTorch's stable ABI, nothing of Python, the kernels once per instruction set.

NHWC_CONV_NO_EXT=1 installs the Python package alone; its ops then run as NumPy algorithms. NHWC_CONV_TORCH names the
folder of a torch to build against, of another platform too: verify/wheels.py.
"""

import hashlib
import os
import platform
import re
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
# The bodies are vectorised by hand. GCC's own vectoriser would compute the main part of a one-lane loop with
# separate multiplications and additions and its rest with fused ones: then bits would depend on the place in a
# tile.
KERNEL_FLAGS = ["-std=c++17", "-O3", "-g0", "-fno-tree-vectorize", "-fno-exceptions", "-fvisibility=hidden"]
# Else the speed of a loop depends on what the compiler put before it, by up to a tenth where reductions are short.
KERNEL_FLAGS += ["-falign-functions=64", "-falign-loops=64"]
# More of them by the target, where the compiler knows them. Copies of loops, for what stays the same in them, are a
# tenth of the code and a fifth of the build by GCC, and none is faster for it. On Intel's sixth to tenth generation, a
# loop whose last jump meets a boundary of 32 bytes is decoded anew in every turn: up to a tenth; GCC leaves that to its
# assembler. On Arm, compilers order instructions before they give them registers, and then lack some: a quarter of a
# tile's speed by GCC, which need not, and half of a weight gradient's by clang, unless it knows a processor; clang does
# so for x86 too.
TARGET_FLAGS = {
    "x86_64": [
        "-fno-unswitch-loops",
        "-Wa,-mbranches-within-32B-boundaries",
        "-mbranches-within-32B-boundaries",
        "-mllvm=-enable-misched=0",
    ],
    "aarch64": ["-fno-schedule-insns", "-mtune=neoverse-n1"],
}
# Where setuptools keeps the commands of the compilers, that of C++ first: by its version either compiles C++.
COMMANDS = ("compiler_so_cxx", "compiler_so")
SPELLINGS = {"amd64": "x86_64", "arm64": "aarch64"}
ISA_ROW = re.compile(r'^NHWC_ISA\((\w+), (\w+), (\d+), (\d+), "(.*)"\)$', re.MULTILINE)


def torch_folder():
    """torch of the environment installed into, whose folder an isolated build sees but cannot import."""
    installed = [Path(sysconfig.get_path(kind)) / "torch" for kind in ("purelib", "platlib")]
    for folder in [Path(named)] if (named := os.environ.get("NHWC_CONV_TORCH")) else installed:
        if (folder / "include").is_dir():
            return folder.resolve()
    raise SystemExit(
        "nhwc_conv needs torch's headers to build: install torch (>= 2.10) into this environment first, "
        "or set NHWC_CONV_NO_EXT=1 to install without the C++ extension"
    )


def sources():
    """Every file the extension is built from."""
    return [ROOT / "setup.py", *(p for p in (ROOT / "csrc").rglob("*") if p.is_file())]


def digest_of(files):
    """Of their names and contents."""
    digest = hashlib.sha256()
    for path in sorted(p.relative_to(ROOT).as_posix() for p in files):
        digest.update(path.encode() + b"\0" + (ROOT / path).read_bytes() + b"\0")
    return digest.hexdigest()


def build_id():
    """Digest of the sources, so that a test can tell whether a loaded extension is built from them."""
    return digest_of(sources())


class BuildPerInstructionSet(build_ext):
    """build_ext that compiles kernels/isa.cpp once per row of kernels/isa_table.def, with the row's flags."""

    def build_extension(self, ext):
        if self.compiler.compiler_type == "msvc":
            self.use_clang(ext)
        target = self.target()
        # The plainest processor first: -march=native among the user's flags must not leak into every object.
        baseline = ["-march=x86-64"] if target == "x86_64" else []
        ext.extra_compile_args = self.spelled([*ext.extra_compile_args, *baseline])
        known = [flag for flag in TARGET_FLAGS.get(target, []) if self.takes(flag)]
        # At once: each takes a minute, most of the build.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            compiled = [
                pool.submit(self.kernels_of, *row)
                for row in self.isa_rows(target, [*KERNEL_FLAGS, *baseline, *known])
            ]
            ext.extra_objects += [path for objects in compiled for path in objects.result()]
        super().build_extension(ext)

    def use_clang(self, ext):
        """clang-cl in the place of Microsoft's compiler, which has no vectors as the kernels write them."""
        self.compiler.initialize(self.plat_name)
        self.compiler.cc = os.environ.get("CXX", "clang-cl")
        ext.extra_compile_args.append("/EHsc")  # exceptions, which other drivers have unless told
        # Where integers of 128 bits are divided; Microsoft's linker does not look there by itself.
        asked = [*self.command(), *self.spelled(["-print-libgcc-file-name", "--rtlib=compiler-rt"])]
        found = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
        ext.extra_objects.append(found.strip())

    def spelled(self, flags):
        """As clang-cl takes flags of clang."""
        if self.compiler.compiler_type != "msvc":
            return flags
        return [flag if flag.startswith("/") else f"/clang:{flag}" for flag in flags]

    def command(self):
        """Of the compiler for C++, with the flags that it always has."""
        return next(filter(None, self.commands()), None) or [self.compiler.cc]

    def commands(self):
        """Of the compilers for C++ and for C, as far as the kind of compiler has them."""
        return [getattr(self.compiler, kind, None) for kind in COMMANDS]

    def target(self):
        """The architecture that is compiled for, as the compiler says: the machine that builds may be another."""
        asked = [*self.command(), *self.spelled(["-dumpmachine"])]
        said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
        name = said.partition("-")[0].strip()
        return SPELLINGS.get(name, name)

    def takes(self, flag):
        """Whether the compiler knows a flag, and heeds it."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "empty.cpp"
            source.touch()
            flags = [*self.spelled(["-Werror", flag]), "-c", str(source), "-o", str(source.with_suffix(".o"))]
            return subprocess.run([*self.command(), *flags], capture_output=True).returncode == 0

    @staticmethod
    def isa_rows(target, flags):
        """(name, macros, flags) of the instruction sets of an architecture."""
        table = (ROOT / "csrc/kernels/isa_table.def").read_text()
        for name, architecture, vector_bytes, registers, own_flags in ISA_ROW.findall(table):
            if architecture in (target, "any"):
                macros = [
                    ("NHWC_ISA_NAME", name),
                    ("NHWC_ISA_VECTOR_BYTES", vector_bytes),
                    ("NHWC_ISA_REGISTERS", registers),
                ]
                yield name, macros, [*flags, *own_flags.split()]

    def kernels_of(self, name, macros, flags):
        """The objects of a row. They take minutes, so that those that the same command made of the same files stay."""
        folder = os.path.join(self.build_temp, "isa", name)
        made_from = f"{digest_of((ROOT / 'csrc/kernels').iterdir())} {self.commands()} {macros} {flags}"
        stamp, source = Path(folder) / "made_from", ["csrc/kernels/isa.cpp"]
        objects = self.compiler.object_filenames(source, output_dir=folder)
        if self.force or not all(map(os.path.exists, [*objects, stamp])) or stamp.read_text() != made_from:
            stamp.unlink(missing_ok=True)
            own = self.spelled(flags)
            self.compiler.compile(source, output_dir=folder, macros=macros, extra_postargs=own)
            stamp.write_text(made_from)
        return objects

    def get_ext_filename(self, fullname):
        """Without the tag of one Python: C++ programs load the library too."""
        return os.path.join(*fullname.split(".")) + (".dll" if self.plat_name.startswith("win") else ".so")

    def get_export_symbols(self, ext):
        """None that Python looks for: binding/c_interface.h says what is exported."""
        return ext.export_symbols


class WheelForEveryPython(bdist_wheel):
    """bdist_wheel for a package whose library knows nothing of Python."""

    def get_tag(self):
        tag = super().get_tag()
        return ("py3", "none", tag[2]) if self.distribution.has_ext_modules() else tag


def extension():
    torch = torch_folder()
    files = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "csrc").rglob("*.cpp"))
    return Extension(
        "nhwc_conv.libnhwc_conv",
        sources=[f for f in files if f != "csrc/kernels/isa.cpp"],
        # setuptools relinks only for what it knows of: the kernels' objects are compiled behind its back.
        depends=[p.relative_to(ROOT).as_posix() for p in sources()],
        include_dirs=[str(torch / "include")],
        library_dirs=[str(torch / "lib")],
        libraries=["torch_cpu"],
        define_macros=[
            ("TORCH_TARGET_VERSION", "0x020a000000000000"),
            ("NHWC_BUILD_ID", f'"{build_id()}"'),
        ],
        extra_compile_args=[
            *("-std=c++17", "-O2", "-g0", "-fvisibility=hidden"),
            f"-fmacro-prefix-map={torch}/=",  # torch's headers would write into it where they lay
        ],
        language="c++",
    )


if sys.platform == "darwin":
    # A Python that was built for two architectures compiles for both, and torch has one.
    os.environ.setdefault("ARCHFLAGS", f"-arch {platform.machine()}")
without_extension = os.environ.get("NHWC_CONV_NO_EXT") == "1"
setup(
    ext_modules=[] if without_extension else [extension()],
    cmdclass={"build_ext": BuildPerInstructionSet, "bdist_wheel": WheelForEveryPython},
)
