"""The borders between the layers, as text: what includes or imports what, and what the objects export."""

import ast
import re
import shutil
import statistics
import subprocess
import sys
import sysconfig

import pytest
from conftest import KNOWN_ISAS, MACHINE, ROOT

from nhwc_conv._ops import schema
from verify import assembly

FOLDERS = ["binding", "conv", "kernels"]  # downward
MODULES = [
    {"__main__"},
    {"_demo", "_doctor"},
    {"__init__"},
    {"_benchmark", "keras"},
    {"_compile", "_convert", "_explain"},
    {"_prepack"},
    {"nn"},
    {"functional_1d"},
    {"functional"},
    {"_ops"},
    {"_flags"},
    {"reference", "_extension"},
    {"_geometry", "_native"},
]  # downward
SOURCES = [p for p in sorted((ROOT / "csrc").rglob("*")) if p.suffix in (".h", ".cpp", ".def", ".inc")]
PYTHON = sorted((ROOT / "nhwc_conv").rglob("*.py"))


def includes(path):
    """(opening quote or bracket, name) of every #include."""
    return re.findall(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', path.read_text(), re.MULTILINE)


def without_comments(text):
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)


def name_of(path):
    return str(path.relative_to(ROOT))


def test_there_is_something_to_look_at():
    assert SOURCES and PYTHON and all(any(f in p.parts for p in SOURCES) for f in FOLDERS)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_includes_point_downward(path):
    own = FOLDERS.index(path.relative_to(ROOT / "csrc").parts[0])
    for opening, name in includes(path):
        if opening == '"':
            target = (path.parent / name).resolve()
            assert target.is_file(), name
            assert FOLDERS.index(target.relative_to(ROOT / "csrc").parts[0]) >= own, name
        elif re.match(r"(torch|ATen|c10)/", name):
            assert own == 0, f"{name}: only binding/ knows PyTorch"
        else:
            assert not re.match(r"pybind11/|Python\.h", name), f"{name}: C++ programs load this too"


# What binding/ may know of conv/: the passes, and the plain structs that they take.
FACES = {"passes.h", "geometry.h", "operands.h", "parallel.h", "views.h"}


@pytest.mark.parametrize("path", [p for p in SOURCES if "binding" in p.parts], ids=name_of)
def test_binding_includes_no_plan_and_no_runner(path):
    assert {name.removeprefix("../conv/") for _, name in includes(path) if "/conv/" in name} <= FACES


CONV = [p for p in SOURCES if "conv" in p.parts]


def functions(path):
    """(first line, number of lines) of every function of a formatted C++ file, members of classes included."""
    lines = path.read_text().splitlines()
    no_function = (
        r"//|#|\}|namespace|(template <.*> )?(struct|class|enum)\b|using|public|private|if|for|while|return"
    )
    for start, line in enumerate(lines):
        indent = re.match(r"(  )?(?=\S)", line)
        if not indent or re.match(no_function, line[indent.end() :]) or re.match(r"[^(]*[.=]", line):
            continue
        head = next(i for i in range(start, len(lines)) if lines[i].endswith((";", "{", "}", ">")))
        if re.search(r"\) (const )?\{.*\}$", lines[head]):
            yield line.strip(), head + 1 - start
        elif re.search(r"[)}] (const )?(-> [^{]*)?\{$", lines[head]):
            end = next(i for i in range(head + 1, len(lines)) if lines[i].startswith(indent[0] + "}"))
            yield line.strip(), end + 1 - start


def test_what_a_convolution_is_stays_small():
    assert all(len(path.read_text().splitlines()) <= 250 for path in CONV)
    sizes = {f"{path.name}: {name}": size for path in CONV for name, size in functions(path)}
    assert len(sizes) > 100
    assert {name: size for name, size in sizes.items() if size > 60} == {}
    assert statistics.median(sizes.values()) < 20


@pytest.mark.parametrize("path", [p for p in SOURCES if "kernels" in p.parts], ids=name_of)
def test_kernels_hold_neither_std_nor_lambdas(path):
    """A template of std:: would become one weak symbol of several instruction sets."""
    text = without_comments(path.read_text())
    if path.stem.endswith("_body") or path.stem in ("vector", "isa"):
        assert "std::" not in text
        assert not re.search(r"\[[&=]?\w*\]\s*\([^()]*\)\s*(mutable\s*)?(->\s*\w+\s*)?\{", text)


def module_of(path):
    """The name by which MODULES ranks a file: the first one under the package."""
    return path.relative_to(ROOT / "nhwc_conv").parts[0].removesuffix(".py")


def rank(module):
    ranks = [i for i, names in enumerate(MODULES) if module in names]
    assert ranks, f"{module} has no place in MODULES"
    return ranks[0]


def imported_modules(path):
    """The modules of nhwc_conv that a file imports, anywhere in it."""
    package = ("nhwc_conv", *path.relative_to(ROOT / "nhwc_conv").parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            base = [*base, *(node.module.split(".") if node.module else [])]
            names = [[*base, alias.name] for alias in node.names]
        else:
            continue
        for name in names:
            if name[0] == "nhwc_conv":
                known = len(name) > 1 and any(name[1] in names for names in MODULES)
                yield name[1] if known else "__init__"


@pytest.mark.parametrize("path", PYTHON, ids=name_of)
def test_imports_point_downward(path):
    own = module_of(path)
    for other in imported_modules(path):
        assert other == own or rank(other) > rank(own), f"{own} imports {other}"


OPTIONAL = {
    argument.name
    for name in schema.DEFAULTS
    for argument in getattr(schema.ops, name).default._schema.arguments
    if argument.has_default_value()
}


@pytest.mark.parametrize("path", [p for p in PYTHON if module_of(p) == "_ops"], ids=name_of)
def test_defaults_of_ops_stand_in_their_schemas_alone(path):
    """Functions behind the ops take all arguments: `schema.completed` adds what PyTorch leaves out."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.arguments):
            positional = [*node.posonlyargs, *node.args]
            defaults = [None] * (len(positional) - len(node.defaults)) + node.defaults + node.kw_defaults
            for argument, default in zip([*positional, *node.kwonlyargs], defaults, strict=True):
                if default is not None and argument.arg in OPTIONAL:
                    assert ast.unparse(default) == "...", f"line {argument.lineno}: {argument.arg}"


LONG = [
    *SOURCES, *PYTHON, *(path for folder in ("tests", "bench", "verify") for path in (ROOT / folder).glob("*.py")),
    *(ROOT / "verify/native").glob("*"), ROOT / "setup.py",
]  # fmt: skip


@pytest.mark.parametrize("path", LONG, ids=name_of)
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) <= 300


def rows_built():
    """The instruction sets in isa_table.def that setup.py compiles for this architecture."""
    rows = re.findall(
        r"^NHWC_ISA\((\w+), (\w+),", (ROOT / "csrc/kernels/isa_table.def").read_text(), re.MULTILINE
    )
    return {name for name, architecture in rows if architecture in (MACHINE, "any")}


def isa_objects():
    """Those of this platform; verify/ has others under build/, of its own flags or of other platforms."""
    objects = (ROOT / "build").glob(f"temp.{sysconfig.get_platform()}*/**/*.o")
    return [p for p in sorted(objects) if any(isa in str(p.relative_to(ROOT)) for isa in KNOWN_ISAS)]


@pytest.mark.needs_extension
def test_objects_of_an_instruction_set_share_no_symbols():
    """A weak symbol (W, V, u) would be merged across instruction sets: AVX-512 code in the baseline."""
    objects = isa_objects()
    if not objects:
        pytest.skip("no objects under build/ (the extension was built elsewhere)")
    if sys.platform != "linux":
        pytest.skip("nm tells weak symbols of ELF alone")
    assert {isa for isa in KNOWN_ISAS for p in objects if isa in str(p)} == rows_built()
    for path in objects:
        listing = subprocess.run(
            ["nm", "--defined-only", path], capture_output=True, text=True, check=True
        ).stdout
        symbols = [line.split()[-2:] for line in listing.splitlines()]
        assert symbols and not [name for kind, name in symbols if kind in "WVu"], path


# Names of instructions: fused ones, and those that multiply alone.
PRODUCTS = {"x86_64": ("vfmadd.*|vdpbf16ps", "vmul[sp][sd]"), "aarch64": (assembly.FUSED, "fmul")}


@pytest.mark.needs_extension
def test_every_product_is_fused_with_its_addition():
    """Where an instruction set has fused multiply-add, a tile kernel that multiplies apart would have other bits."""
    without_tiles = "baseline", "amx_bf16"  # no such instructions; products of matrices alone
    objects = [p for p in isa_objects() if not any(name in str(p) for name in without_tiles)]
    if not objects or MACHINE not in PRODUCTS or not shutil.which("objdump"):
        pytest.skip("no objects under build/ of a machine with such instructions, or no objdump to read them")
    fused, alone = PRODUCTS[MACHINE]
    for path in objects:
        command = ["objdump", "-dC", "--no-show-raw-insn", path]
        listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        kernels = [function for function in assembly.functions(listing) if function.is_kernel]
        assert sum(bool(kernel.having(fused)) for kernel in kernels) > 100
        assert not [kernel.name[:200] for kernel in kernels if kernel.having(alone)]
