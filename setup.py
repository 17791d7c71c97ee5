"""Builds nhwc_conv/libnhwc_conv.so: LibTorch's stable ABI, nothing of Python, the kernels once per instruction set.

NHWC_CONV_NO_EXT=1 installs the Python package alone; its ops then run as NumPy algorithms.
"""

import hashlib
import os
import platform
import re
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

ROOT = Path(__file__).parent.resolve()
# The bodies are vectorised by hand. GCC's own vectoriser would compute the main part of a one-lane loop with
# separate multiplications and additions and its rest with fused ones: then bits would depend on the place in a
# tile.
KERNEL_FLAGS = ["-std=c++17", "-O3", "-g0", "-fno-tree-vectorize", "-fno-exceptions", "-fvisibility=hidden"]
# Else the speed of a loop depends on what the compiler put before it, by up to a tenth where reductions are short.
KERNEL_FLAGS += ["-falign-functions=64", "-falign-loops=64"]
# On Intel's sixth to tenth generation, a loop whose last jump meets a boundary of 32 bytes is decoded anew in every
# turn: up to a tenth. For the assembler, which binutils has had since 2.34.
WHOLE_JUMPS = "-Wa,-mbranches-within-32B-boundaries"
ISA_ROW = re.compile(r'^NHWC_ISA\((\w+), (\w+), (\d+), (\d+), "(.*)"\)$', re.MULTILINE)


def torch_folder():
    """torch of the environment installed into, whose folder an isolated build sees but cannot import."""
    for folder in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        if (Path(folder) / "torch" / "include").is_dir():
            return Path(folder) / "torch"
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
        machine = {"AMD64": "x86_64"}.get(platform.machine(), platform.machine())
        # The plainest processor first: -march=native among the user's flags must not leak into every object.
        baseline = ["-march=x86-64"] if machine == "x86_64" else []
        ext.extra_compile_args = [*ext.extra_compile_args, *baseline]
        jumps = [WHOLE_JUMPS] if machine == "x86_64" and self.takes(WHOLE_JUMPS) else []
        # At once: each takes a minute, most of the build.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            compiled = [
                pool.submit(self.kernels_of, *row)
                for row in self.isa_rows(machine, [*KERNEL_FLAGS, *baseline, *jumps])
            ]
            ext.extra_objects = [path for objects in compiled for path in objects.result()]
        super().build_extension(ext)

    def takes(self, flag):
        """Whether the compiler knows a flag."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "empty.cpp"
            source.touch()
            try:
                self.compiler.compile([str(source)], output_dir=folder, extra_postargs=[flag])
            except CompileError:
                return False
        return True

    @staticmethod
    def isa_rows(machine, flags):
        """(name, macros, flags) of the instruction sets of a machine."""
        table = (ROOT / "csrc/kernels/isa_table.def").read_text()
        for name, architecture, vector_bytes, registers, own_flags in ISA_ROW.findall(table):
            if architecture in (machine, "any"):
                macros = [
                    ("NHWC_ISA_NAME", name),
                    ("NHWC_ISA_VECTOR_BYTES", vector_bytes),
                    ("NHWC_ISA_REGISTERS", registers),
                ]
                yield name, macros, [*flags, *own_flags.split()]

    def kernels_of(self, name, macros, flags):
        """The objects of a row. They take minutes, so that those that the same command made of the same files stay."""
        folder = os.path.join(self.build_temp, "isa", name)
        compilers = [getattr(self.compiler, kind, None) for kind in ("compiler_so", "compiler_so_cxx")]
        made_from = f"{digest_of((ROOT / 'csrc/kernels').iterdir())} {compilers} {macros} {flags}"
        stamp, source = Path(folder) / "made_from", ["csrc/kernels/isa.cpp"]
        objects = self.compiler.object_filenames(source, output_dir=folder)
        if self.force or not all(map(os.path.exists, [*objects, stamp])) or stamp.read_text() != made_from:
            stamp.unlink(missing_ok=True)
            self.compiler.compile(source, output_dir=folder, macros=macros, extra_postargs=flags)
            stamp.write_text(made_from)
        return objects

    def get_ext_filename(self, fullname):
        """Without the tag of one Python: C++ programs load the library too."""
        return os.path.join(*fullname.split(".")) + ".so"


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
        extra_compile_args=["-std=c++17", "-O2", "-g0", "-fvisibility=hidden"],
        language="c++",
    )


without_extension = os.environ.get("NHWC_CONV_NO_EXT") == "1"
setup(
    ext_modules=[] if without_extension else [extension()],
    cmdclass={"build_ext": BuildPerInstructionSet, "bdist_wheel": WheelForEveryPython},
)
