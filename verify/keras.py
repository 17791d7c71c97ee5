"""`python -m verify.keras`: Keras' own tests on its PyTorch backend, as it is and with nhwc_conv.keras enabled.

Every test that passes without has to pass with it; exits with 1 otherwise. A counter shows which of them our ops
served. The tests are those of the installed package. What they import, beside what `pip install .[keras]` brings:

    pip install pytest pandas scipy grain "jax[cpu]" tensorflow-cpu onnx onnxscript onnxruntime

This module is also the pytest plugin that enables, counts and writes down what came out.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from . import ROOT

# Folders and files under keras/src.
TESTS = (
    "layers/convolutional", "layers/pooling", "layers/normalization", "layers/activations", "layers/merging",
    "layers/reshaping", "layers/regularization/dropout_test.py", "layers/core/dense_test.py", "layers/layer_test.py",
    "ops/nn_test.py", "ops/function_test.py", "ops/symbolic_arguments_test.py",
    "models", "trainers", "export/torch_test.py", "export/onnx_test.py",
)  # fmt: skip


class Plugin:
    """What became of each test, and how many calls of our convolutions and of layers directly it made."""

    def __init__(self, path: str, enable: bool) -> None:
        self.path, self.outcomes = Path(path), {}
        self.calls, self.direct = Counter[str](), Counter[str]()
        self.test = "while collecting"
        if enable:
            from nhwc_conv import keras
            from nhwc_conv.keras import convolutions, direct

            tables = (
                (convolutions.FORWARD, self.calls),
                (convolutions.TRANSPOSED, self.calls),
                (direct.TABLE, self.direct),
            )
            for table, counter in tables:
                table.update({key: self.counted(function, counter) for key, function in table.items()})
            keras.enable()

    def counted(self, function: Callable[..., Any], counter: Counter[str]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any) -> Any:
            result = function(*args)
            counter[self.test] += result is not None
            return result

        return call

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.test = item.nodeid
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        before = self.outcomes.get(report.nodeid, "passed")
        self.outcomes[report.nodeid] = report.outcome if before == "passed" else before

    def pytest_sessionfinish(self) -> None:
        self.path.write_text(
            json.dumps({"outcomes": self.outcomes, "calls": self.calls, "direct": self.direct})
        )


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--outcomes")
    parser.addoption("--served", action="store_true")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Plugin(config.getoption("outcomes"), config.getoption("served")))


def run(options: argparse.Namespace, served: bool) -> dict[str, Any]:
    """What the plugin wrote of a run in a process of its own."""
    spec = find_spec("keras")
    if spec is None or spec.origin is None:
        raise SystemExit("there is no Keras: pip install .[keras]")
    source = Path(spec.origin).parent / "src"
    with tempfile.TemporaryDirectory() as folder:
        outcomes = Path(folder) / "outcomes.json"
        command = [
            sys.executable, "-m", "pytest", "-q", "--tb=short", "--continue-on-collection-errors",
            "-p", "verify.keras", "-p", "no:cacheprovider", "-o", "python_files=*_test.py",
            "--rootdir", source, "-c", os.devnull, "--outcomes", outcomes,
            *(["--served"] if served else []), *(["-k", options.k] if options.k else []),
            *(source / name for name in options.tests or TESTS),
        ]  # fmt: skip
        environment = {
            **os.environ,
            "KERAS_BACKEND": "torch",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }
        subprocess.run(command, cwd=folder, env=environment)
        return json.loads(outcomes.read_text())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m verify.keras", description=__doc__)
    parser.add_argument("tests", nargs="*", help="files or folders under keras/src instead of all")
    parser.add_argument("-k", help="pytest's -k: which tests to run")
    options = parser.parse_args(arguments)
    before, after = (run(options, served) for served in (False, True))
    counts = [Counter(found["outcomes"].values()) for found in (before, after)]
    passed = [test for test, outcome in before["outcomes"].items() if outcome == "passed"]
    lost = [test for test in passed if after["outcomes"].get(test) != "passed"]
    served = Counter({test: n for test, n in after["calls"].items() if test in passed})
    for test in lost:
        print(f"passes no longer: {test}")
    for name, count in zip(("as it is", "enabled"), counts, strict=True):
        print(f"{name}: {', '.join(f'{n} {outcome}' for outcome, n in count.most_common())}")
    by_folder: dict[str, Counter[str]] = {}
    for test, calls in served.items():
        by_folder.setdefault(test.split("::")[0], Counter()).update(tests=1, calls=calls)
    for path, count in by_folder.items():
        print(f"  {path}: {count['calls']} calls of our convolutions in {count['tests']} tests that pass")
    direct = {test: n for test, n in after["direct"].items() if test in passed and n}
    print(f"  {sum(direct.values())} calls of layers were direct, in {len(direct)} tests that pass")
    print(f"{len(passed) - len(lost)} of {len(passed)} tests pass as before; {served.total()} calls served")
    return len(lost) or not served


if __name__ == "__main__":
    sys.exit(main() != 0)
