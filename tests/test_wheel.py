"""The wheel: one for every Python, whose library needs nothing of Python, and of torch its stable C functions alone."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

pytestmark = pytest.mark.needs_extension


def library():
    from nhwc_conv._extension import module as extension

    return extension.path


def lines_of(*command):
    if not shutil.which(command[0]):
        pytest.skip(f"no {command[0]} here")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def symbols(path, which):
    return {line.split()[-1] for line in lines_of("nm", "-D", which, path)}


def undefined():
    """Names that somebody else must define; versioned ones are of the C and C++ run-time libraries."""
    return {name for name in symbols(library(), "--undefined-only") if "@" not in name}


# References that may stay unresolved.
NEVER_DEFINED = {"__gmon_start__", "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable"}
ANY_MODES_SET = "_ZN3c104impl20TorchDispatchModeTLS13any_modes_setEb"


def test_the_function_that_is_not_stable_may_be_missing():
    weak = {line.split()[-1] for line in lines_of("nm", "-D", library()) if line.split()[-2] == "w"}
    assert ANY_MODES_SET in weak


def test_only_stable_functions_of_torch():
    import torch

    torch_library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    ours = undefined() - {ANY_MODES_SET}
    of_torch = ours & symbols(torch_library, "--defined-only")
    assert "torch_call_dispatcher" in of_torch and "aoti_torch_empty_strided" in of_torch
    assert not [name for name in of_torch if not re.match(r"(aoti_)?torch_[a-z0-9_]+$", name)]
    # Names of C++ begin with _Z; the run-time library's are versioned and not in this set.
    assert not [name for name in ours if name.startswith("_Z")]


def test_everything_else_is_the_c_library():
    """Nothing of Python: a C++ program without it loads the library too."""
    missing = NEVER_DEFINED | {ANY_MODES_SET}
    assert not [name for name in undefined() - missing if not re.match(r"(aoti_)?torch_\w+$", name)]
    assert not [name for name in symbols(library(), "--defined-only") | undefined() if "Py" in name]


def test_only_the_c_interface_is_exported():
    of_linker = {"_edata", "_end", "__bss_start", "_init", "_fini"}
    exported = symbols(library(), "--defined-only") - of_linker
    header = (ROOT / "csrc/binding/c_interface.h").read_text()
    declared = set(re.findall(r"^NHWC_CONV_API .*?(nhwc_conv_\w+)\(", header, re.MULTILINE))
    assert {name for name in exported if not name.startswith("_Z")} == declared and len(declared) == 11


def test_needed_libraries():
    needed = set(re.findall(r"NEEDED.*\[(.*)\]", "\n".join(lines_of("readelf", "-d", library()))))
    assert "libtorch_cpu.so" in needed
    of_system = {"libstdc++.so.6", "libm.so.6", "libgcc_s.so.1", "libc.so.6", "ld-linux-x86-64.so.2"}
    assert needed <= {"libtorch_cpu.so", *of_system}


def run(*command, **kwargs):
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, **kwargs)
    assert done.returncode == 0, done.stderr
    return done.stdout


USE = """
import torch, nhwc_conv
from nhwc_conv import _extension
assert _extension.available, _extension.reason
print(nhwc_conv.__file__)
print(float(nhwc_conv.conv2d(torch.ones(1, 4, 4, 2), torch.ones(3, 3, 2, 3)).sum()))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Packed by setup.py as `make wheel` does, around the library that is built already."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for folder in ("csrc", "nhwc_conv"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    (tree / "setup.cfg").write_text("[build]\nbuild_lib = compiled\n")
    run(sys.executable, "setup.py", "-q", "build_py", cwd=tree)
    shutil.copy(library(), tree / "compiled" / "nhwc_conv")
    run(sys.executable, "setup.py", "-q", "bdist_wheel", "--skip-build", cwd=tree)
    (path,) = (tree / "dist").iterdir()
    return path


def test_one_wheel_for_all_pythons(wheel):
    assert re.fullmatch(r"nhwc_conv-[\d.]+-py3-none-\w+\.whl", wheel.name)
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {p.relative_to(ROOT).as_posix() for p in (ROOT / "nhwc_conv").rglob("*.py")}
    others = {"nhwc_conv/libnhwc_conv.so", "nhwc_conv/py.typed"}
    assert package | others == {name for name in names if ".dist-info/" not in name}
    assert any(name.endswith("LICENSE") for name in names)


def test_the_wheel_works_where_it_is_unpacked(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    out = run(sys.executable, "-c", USE, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}).splitlines()
    assert out == [str(tmp_path / "nhwc_conv" / "__init__.py"), str(9 * 2 * 3 * 4.0)]
