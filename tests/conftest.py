"""The suite must not pass without the real thing: this build's extension, or its absence on purpose."""

import hashlib
import os
import platform
import tempfile
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import torch
from case import Case

ROOT = Path(__file__).parent.parent
DISABLED = os.environ.get("NHWC_CONV_DISABLE_EXT", "0") not in ("", "0")
# The extension's alone: those that are called where nothing is recorded, and what the record calls.
SHORT_OPS = (
    set()
    if DISABLED
    else {
        "_convolve",
        "_convolve_packed",
        "_convolve_finished",
        "_convolve_program",
        "_pack_transposed",
        "_conv_transpose",
        "_convolution_gradients",
        "_convolution_backward",
    }  # fmt: skip
)
# Keras reads both where it is first imported, and writes a file of settings into the folder.
os.environ["KERAS_BACKEND"] = "torch"
os.environ["KERAS_HOME"] = os.path.join(tempfile.gettempdir(), "nhwc_conv_tests_keras")
MACHINE = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
ISAS_OF = {
    "x86_64": ("amx_bf16", "avx512_bf16", "avx512", "avx2", "baseline"),
    "aarch64": ("neon", "baseline"),
}
MULTIPLY_PAIRS = ("amx_bf16", "avx512_bf16")  # of bfloat16
KNOWN_ISAS = ISAS_OF.get(MACHINE, ("baseline",))


def source_digest(root=ROOT):
    """What setup.py compiles into the extension as build_id()."""
    files = [*(path for path in (root / "csrc").rglob("*") if path.is_file()), root / "setup.py"]
    digest = hashlib.sha256()
    for name, path in sorted((path.relative_to(root).as_posix(), path) for path in files):
        digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


@pytest.fixture(scope="session", autouse=True)
def this_very_build():
    """Fails every test unless the loaded extension was compiled from the sources beside the tests."""
    if DISABLED:
        return
    from nhwc_conv._extension import module as extension

    if extension.build_id() != source_digest():
        pytest.fail(
            f"{extension.path} was not built from the sources in {ROOT}; run `make test`", pytrace=False
        )


def pytest_configure(config):
    # Most cases are tiny: threads that spin for them on a busy machine cost minutes. `threads` asks for more.
    torch.set_num_threads(1)
    if DISABLED:
        config.addinivalue_line("filterwarnings", "ignore:.*NHWC_CONV_DISABLE_EXT.*")


def pytest_collection_modifyitems(config, items):
    """MULTIPLY_PAIRS are avx512 but for bfloat16: cases of other dtypes would run the same kernels again.

    A function's tests of one case follow one another, whatever else they have: oracle.py remembers the last answers.
    """
    parameters = [item.callspec.params if hasattr(item, "callspec") else {} for item in items]
    kept, again = [], []
    for item, p in zip(items, parameters, strict=True):
        repeats = p.get("isa") in MULTIPLY_PAIRS and "case" in p and p.get("dtype") != torch.bfloat16
        (again if repeats else kept).append(item)
    if again:
        config.hook.pytest_deselected(items=again)
    places = {}
    items[:] = sorted(kept, key=lambda item: places.setdefault(place_of(item), len(places)))


def place_of(item):
    case = item.callspec.params.get("case") if hasattr(item, "callspec") else None
    return (item.function, case) if isinstance(case, Case) else item


def pytest_runtest_setup(item):
    if DISABLED and item.get_closest_marker("needs_extension"):
        pytest.skip("a promise of the C++ extension, which NHWC_CONV_DISABLE_EXT disables")


@contextmanager
def instruction_set(name):
    """The extension's, and afterwards what it was; a test of one that this machine lacks is skipped visibly."""
    from nhwc_conv._extension import module as extension

    if name not in extension.instruction_sets():
        pytest.skip(f"this machine has no {name}")
    previous = extension.instruction_set()
    extension.set_instruction_set(name)
    try:
        yield
    finally:
        extension.set_instruction_set(previous)


@pytest.fixture(params=["python"] if DISABLED else KNOWN_ISAS)
def isa(request):
    """Runs the test once per instruction set."""
    with nullcontext() if request.param == "python" else instruction_set(request.param):
        yield request.param


@pytest.fixture
def threads():
    """torch.set_num_threads, undone after the test; all passes are shared among them, of tiny layers too."""
    from nhwc_conv._extension import module as extension

    previous = torch.get_num_threads()
    if not DISABLED:
        extension.share_all_work(True)
    yield torch.set_num_threads
    torch.set_num_threads(previous)
    if not DISABLED:
        extension.share_all_work(False)


@pytest.fixture
def refusals(monkeypatch):
    """What the op of a program refuses is an error: else the layers would do it."""
    from nhwc_conv.nn import program

    monkeypatch.setattr(program, "NOT_COMPUTED", ())
