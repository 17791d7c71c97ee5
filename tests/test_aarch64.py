"""Builds for another architecture, and what `make aarch64` reads of machine code."""

import json
import runpy
import shutil
from types import SimpleNamespace

import pytest
from conftest import ROOT
from setuptools import Distribution

from verify import aarch64, assembly, native
from verify.geometries import quick_cases

TILE = "void nhwc_conv::neon::(anonymous namespace)::tile<{0}, {0}, {1}, false, {0}>(nhwc_conv::TileArgs<{0}> const&)"
# An outer loop around an inner one with two products; behind it a value of the stack.
LOOPS = """
{at:016x} <{name}>:
     {at:x}: movi	v0.2d, #0x0
     {at:x}4: mov	x9, x1
     {at:x}8: ldr	q1, [x2], #0x10
     {at:x}c: {inner}
    {at:x}10: fmla	v0.4s, v1.4s, v2.s[0]
    {at:x}14: fmla	v3.4s, v1.4s, v2.s[1]
    {at:x}18: subs	x9, x9, #0x1
    {at:x}1c: b.ne	0x{at:x}8 <_ZN4tileEv+0x8> // b.any
    {at:x}20: ldr	q7, [sp, #0x20]
    {at:x}24: cbnz	x3, 0x{at:x}4 <_ZN4tileEv+0x4>
    {at:x}28: b	0x{at:x}2c <_ZN4tileEv+0x2c>
    {at:x}2c: ret
"""


def listing(names, inner="ldr	s2, [x4], #0x4"):
    return "\n".join(LOOPS.format(at=at + 1, name=name, inner=inner) for at, name in enumerate(names))


def functions(*arguments):
    return list(assembly.functions("driver.o:	file format elf64-littleaarch64\n" + listing(*arguments)))


def tiles(count=101):
    return [TILE.format("float", f"4, 3, {m}, false") for m in range(count)]


def test_innermost_loops_are_found():
    function, other = functions([TILE.format("float", "4, 3, 9, false"), "nhwc_conv::neon::copy<float>(int)"])
    assert (function.is_kernel, other.is_kernel) == (True, False)
    assert (len(function.code), function.code[3].name) == (12, "ldr")
    (loop,) = function.innermost_loops()
    assert loop.text == (
        "loop:\nldr q1, [x2], #0x10\nldr s2, [x4], #0x4\nfmla v0.4s, v1.4s, v2.s[0]\nfmla v3.4s, v1.4s, v2.s[1]\n"
        "subs x9, x9, #0x1\nb.ne loop\n"
    )
    assert function.product_loops() == [loop] and not loop.spills
    assert [line.operands for line in function.spills] == ["q7, [sp, #0x20]"]


@pytest.mark.parametrize("name, is_kernel", [
    ("dot<float, float, 4, 3, 8>", True), ("lanewise_tiles<float, float, float, 4, 8, 1, 3, 1>", True),
    ("grouped_tiles<float, 4, 8, 2, 1, 4>", True), ("row_by_transposed<double, 2, 4>", True),
    ("copy_rows<float, 4, float>", False),
    ("finish_transposed<float, float, 1, 4>", False),
])  # fmt: skip
def test_kernels_with_products_are_known_by_name(name, is_kernel):
    full = f"void nhwc_conv::neon::(anonymous namespace)::{name}(nhwc_conv::TileArgs<float> const&)"
    assert assembly.Function(full, []).is_kernel is is_kernel


@pytest.mark.parametrize("inner, symbols, wrong", [
    ("ldr	s2, [x4], #0x4", "0000 T fill", []),
    ("fmul	v4.4s, v1.4s, v2.4s", "0000 T fill", ["multiply apart"]),
    ("str	q9, [sp]", "0000 T fill", ["go to the stack"]),
    ("ldp	d8, d9, [sp, #0x40]", "0000 T fill", ["go to the stack"]),
    ("str	x9, [sp]", "0000 T fill", []),
    ("str	q9, [x29]", "0000 T fill", []),  # no frame pointer, but a register like others
    ("ldr	s2, [x4], #0x4", "0000 T fill\n0004 W tile", ["symbols"]),
    ("ldr	s2, [x4], #0x4", "0000 V fill", ["symbols"]),
    ("ldr	s2, [x4], #0x4", "0000 T fill\n0004 T tile", ["symbols"]),
])  # fmt: skip
def test_what_kernels_must_not_hold_is_noticed(inner, symbols, wrong, capsys):
    lines = aarch64.read("GCC", functions(tiles(), inner), symbols)
    assert len(lines) == 3
    for line in lines:
        assert line.ok is not any(word in line.what for word in wrong), line


@pytest.mark.parametrize("count", [0, 100])
def test_too_few_kernels_are_no_success(count):
    products, stack, symbols = aarch64.read("GCC", functions(tiles(count)), "0000 T fill")
    assert not products.ok and not stack.ok and symbols.ok


def test_main_tiles_are_the_tallest_full_ones():
    names = [TILE.format("float", f"4, {v}, {m}, {where}") for v in (1, 2, 4) for m in (5, 6, 4)
             for where in ("false", "true")]  # fmt: skip
    names += [TILE.format("double", "2, 3, 9, false"), TILE.format("double", "1, 3, 12, false")]
    names += [names[0].replace("false, false, float", "false, true, float").replace("1, 5", "2, 9")]
    found = aarch64.main_loops(functions(names))
    assert {key: loop.name for key, loop in found.items()} == {
        (False, "float 2x6"): TILE.format("float", "4, 2, 6, false"),
        (True, "float 2x6"): TILE.format("float", "4, 2, 6, true"),
        (False, "float 4x6"): TILE.format("float", "4, 4, 6, false"),
        (True, "float 4x6"): TILE.format("float", "4, 4, 6, true"),
        (False, "double 3x9"): TILE.format("double", "2, 3, 9, false"),
    }


def test_rates_are_parts_of_the_peak(monkeypatch):
    """The slowest tile decides, of those of layers alone."""
    names = [
        TILE.format(kind, f"{lanes}, {shape}, {where}")
        for kind, lanes in (("float", 4), ("double", 2)) for shape in ("2, 14", "3, 9", "4, 6")
        for where in ("false", "true")
    ]  # fmt: skip
    speed = {"neoverse-n1": 1.9, "neoverse-v1": 3.5, "neoverse-v2": 3.7}
    monkeypatch.setattr(aarch64, "rate", lambda loop, core: speed[core] + ("4, 6" in loop.name) * 0.1)
    lines = aarch64.rates("GCC", functions(names))
    assert [line.ok for line in lines] == [True, False, True, None, None, None]
    assert lines[0].result.startswith("double 2x14 95%, double 3x9 95%") and "90% of them" in lines[0].size
    assert [line.ok for line in aarch64.rates("GCC", functions(names[:-1]))] == [
        True,
        False,
        True,
        None,
        None,
        None,
    ]
    assert not any(line.ok for line in aarch64.rates("GCC", functions(names[1:])))


def test_rates_are_those_of_the_model():
    if not shutil.which("llvm-mca-19"):
        pytest.skip("no llvm-mca-19 here")
    (function,) = functions([TILE.format("float", "4, 1, 2, false")])
    (loop,) = function.product_loops()
    # Two chains of products: each waits four cycles for its last one, and on the newest core two.
    assert [round(aarch64.rate(loop, core), 1) for core in aarch64.CORES] == [0.5, 0.5, 1.0]


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(
        aarch64.shutil, "which", lambda tool: None if "llvm" in tool or "qemu" in tool else tool
    )
    asked = []
    monkeypatch.setattr(aarch64.subprocess, "run", lambda command, check: asked.append(command))
    for user, installs in ((1000, []), (0, [["llvm-19", "qemu-user"]])):
        monkeypatch.setattr(aarch64.os, "geteuid", lambda user=user: user)
        with pytest.raises(SystemExit, match="needs Debian's llvm-19, qemu-user$"):
            aarch64.prepare()
        assert [command[-2:] for command in asked] == installs
    monkeypatch.setattr(aarch64.shutil, "which", lambda tool: tool)
    assert aarch64.prepare() is None


def script(path, text):
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


TARGETS = [
    ("aarch64-linux-gnu", "aarch64"), ("arm64-apple-darwin23.1.0", "aarch64"), ("x86_64-pc-linux-gnu", "x86_64"),
    ("amd64-unknown-freebsd14", "x86_64"), ("riscv64-linux-gnu", "riscv64"),
]  # fmt: skip


@pytest.fixture
def building(monkeypatch):
    """setup.py's command that builds, without running it."""
    monkeypatch.setenv("NHWC_CONV_NO_EXT", "1")
    monkeypatch.setattr("sys.argv", ["setup.py", "--quiet", "--name"])
    command = runpy.run_path(str(ROOT / "setup.py"))["BuildPerInstructionSet"](Distribution())
    command.plat_name = "win-amd64"
    return command


@pytest.mark.parametrize("said, architecture", TARGETS)
def test_the_compiler_says_what_it_compiles_for(said, architecture, building, tmp_path):
    compiler = script(tmp_path / "c++", f'[ "$2" = -dumpmachine ] && echo {said}\n')
    building.compiler = SimpleNamespace(
        compiler_type="unix", compiler_so=["none"], compiler_so_cxx=[compiler, "-O2"]
    )
    assert building.target() == native.target_of((compiler, "-O2")) == architecture


def test_instruction_sets_are_those_of_the_target(building):
    rows = {
        target: [row[0] for row in building.isa_rows(target, [])] for target in ("aarch64", "x86_64", "s390x")
    }
    assert rows == {
        "aarch64": ["neon", "baseline"],
        "x86_64": ["amx_bf16", "avx512_bf16", "avx512", "avx2", "baseline"],
        "s390x": ["baseline"],
    }


def test_clang_cl_is_asked_in_its_own_way(building, tmp_path):
    says = 'case "$1" in /clang:-dumpmachine) echo x86_64-pc-windows-msvc;; /clang:-Werror) exit 0;; *) exit 1;; esac\n'
    building.compiler = SimpleNamespace(compiler_type="msvc", cc=script(tmp_path / "clang-cl", says))
    assert building.target() == "x86_64"
    assert building.takes("-O2") and building.spelled(["/O2", "-O2"]) == ["/O2", "/clang:-O2"]


def test_a_flag_that_a_compiler_warns_of_is_not_passed(building, tmp_path):
    says = 'case "$*" in *-Werror*-strange*) exit 1;; *-Werror*) exit 0;; esac\nexit 1\n'
    building.compiler = SimpleNamespace(compiler_type="unix", compiler_so=[script(tmp_path / "c++", says)])
    assert building.takes("-known") and not building.takes("-strange")


DRIVER = """
lines=$(wc -l)
echo "$lines $*" >> {log}
echo "{{\\"geometries\\": $lines, \\"instruction_sets\\": 2, \\"calls\\": 7, \\"failures\\": 0}}"
"""


def test_a_process_of_the_emulator_has_few_cases(tmp_path):
    log = tmp_path / "log"
    emulator = script(tmp_path / "emulator", DRIVER.format(log=log))
    variant = native.Variant("made up", (), emulator=(emulator, "-cpu"), place="guard")
    cases = quick_cases()
    done = native.run(tmp_path / "driver", variant, cases, jobs=2, most=10)
    assert len(cases) == 47 and done["ok"]
    assert native.size_of(done) == "47 geometries, 35 calls, 2 instruction sets"
    started = [line.split(maxsplit=1) for line in log.read_text().splitlines()]
    assert sorted(int(lines) for lines, _ in started) == [9, 9, 9, 10, 10]
    assert {words.split(" --threads")[0] for _, words in started} == {f"-cpu {tmp_path}/driver --place guard"}
    assert len(json.dumps(native.run(tmp_path / "driver", variant, cases[:1], jobs=2))) > 0
