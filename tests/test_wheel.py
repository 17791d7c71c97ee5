"""The wheel: one for every Python, whose library needs nothing of Python, and of torch its stable C functions alone."""

import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from conftest import ROOT

lief = pytest.importorskip("lief")  # reads libraries of every platform
from verify import libraries, wheels  # noqa: E402

pytestmark = [
    pytest.mark.needs_extension,
    pytest.mark.skipif(sys.platform == "win32", reason="libraries.py says nothing of Windows"),
]


def library():
    from nhwc_conv._extension import module as extension

    return extension.path


@cache
def ours():
    return libraries.read(library())


@cache
def of_torch():
    folder = Path(torch.__file__).parent / "lib"
    return [libraries.read(path) for path in folder.iterdir() if path.stem in wheels.OF_TORCH]


@pytest.mark.parametrize("check", libraries.CHECKS, ids=lambda check: check.__name__)
def test_library(check):
    assert list(check(ours(), of_torch())) == []


def test_what_is_read_of_a_library():
    assert len(libraries.declared()) == 12 and len(ours().text) > 1e6
    assert {"aoti_torch_get_dim", "torch_call_dispatcher"} <= set(ours().undefined) - ours().weak
    if sys.platform == "linux":
        assert ours().undefined["memcpy"].startswith("GLIBC_2.")


@pytest.mark.parametrize(
    "changed, fault",
    [
        (dict(needed={"libtorch_cpu.so", "libpython3.12.so.1.0"}), "needs libpython3.12.so.1.0"),
        (dict(needed={"libc.so.6"}), "does not need libtorch_cpu"),
        (
            dict(undefined={"_ZN3c106Device8validateEv": ""}),
            "needs _ZN3c106Device8validateEv of nobody known",
        ),
        (dict(undefined={"PyList_New": ""}), "PyList_New is of Python"),
        (dict(undefined={"strlcpy": "GLIBC_2.38"}), "needs strlcpy of GLIBC_2.38"),
        (dict(undefined={"_ZSt3x": "GLIBCXX_3.4.29"}), "needs _ZSt3x of GLIBCXX_3.4.29"),
        (dict(defined={"main"}), "main is exported"),
    ],
)
def test_faults_of_a_library_are_noticed(changed, fault):
    values = {name: type(getattr(ours(), name))(value) for name, value in changed.items()}
    assert fault in libraries.faults(replace(ours(), **values), of_torch())


def test_what_is_missing_of_a_library_is_noticed():
    bare = replace(ours(), weak=frozenset(), defined=frozenset(), undefined={})
    found = libraries.faults(bare, of_torch())
    assert {f"{name} may not be missing" for name in libraries.OPTIONAL} <= set(found)
    assert "nhwc_conv_explain is not exported" in found
    assert "does not need torch_call_dispatcher of torch" in found


def test_a_function_of_torch_that_is_not_stable_is_noticed():
    name = min(name for name in of_torch()[0].defined if name.startswith("_ZN2at"))
    fault = f"needs {name} of torch, which is not stable"
    assert fault in libraries.faults(replace(ours(), undefined={**ours().undefined, name: ""}), of_torch())


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


def test_one_wheel_for_all_pythons(wheel, tmp_path):
    assert wheels.unpack(wheel, tmp_path / "right") == []
    wrong = tmp_path / wheel.name.replace("py3-none", "cp310-cp310")
    with zipfile.ZipFile(wheel) as right, zipfile.ZipFile(wrong, "w") as archive:
        for name in right.namelist():
            if not name.endswith(("LICENSE", "py.typed")):
                archive.writestr(name, right.read(name))
        archive.writestr("nhwc_conv/gone.py", "")
    assert wheels.unpack(wrong, tmp_path / "wrong") == [
        "nhwc_conv/gone.py is missing or too many",
        "nhwc_conv/py.typed is missing or too many",
        "there is no licence",
        f"{wrong.name} is not for every Python",
    ]


def test_the_wheel_works_where_it_is_unpacked(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    out = run(sys.executable, "-c", USE, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}).splitlines()
    assert out == [str(tmp_path / "nhwc_conv" / "__init__.py"), str(9 * 2 * 3 * 4.0)]


@pytest.mark.parametrize("failing, told", [
    ("", "-     a newcomer's path  macosx_11_0_arm64"),
    ("check_sources", "FAIL  sdist"),
    ("build", "FAIL  macosx_11_0_arm64"),
    ("check", "FAIL  some.whl"),
])  # fmt: skip
def test_what_make_wheels_says(failing, told, tmp_path, monkeypatch, capsys):
    def build(target):
        if failing == "build":
            raise wheels.WheelError("no compiler")
        return tmp_path / "some.whl"

    (tmp_path / "some.whl").touch()
    monkeypatch.setattr(wheels, "DIST", tmp_path / "dist")
    monkeypatch.setattr(wheels, "build", build)
    monkeypatch.setattr(wheels, "python_of", lambda *_: [])
    monkeypatch.setattr(wheels, "check_sources", lambda: ["wrong"] * (failing == "check_sources"))
    monkeypatch.setattr(wheels, "check", lambda *_: ["wrong"] * (failing == "check"))
    assert wheels.main(["macos"]) == (failing != "")
    assert f"\n{told}" in capsys.readouterr().out
