"""The promises, and the tests that hold them: each is run, and its names are in the report."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from xml.etree import ElementTree

from . import ROOT
from .summary import Line

PROMISES = {
    "Forward and input gradient: the same bits for any number of threads, any batch, any layout, any run; "
    "weight gradient: for any number of threads, any layout, any run": [
        "test_promises.py::test_forward_bits_depend_on_neither_threads_nor_batch",
        "test_promises.py::test_input_gradient_bits_depend_on_neither_threads_nor_batch",
        "test_promises.py::test_weight_gradient_bits_depend_on_neither_threads_nor_run",
        "test_promises.py::test_forward_bits_do_not_depend_on_grad_mode_or_layout",
        "test_promises.py::test_input_gradient_bits_do_not_depend_on_layout",
        "test_promises.py::test_weight_gradient_bits_do_not_depend_on_layout",
        "test_borders.py::test_every_product_is_fused_with_its_addition",
    ],
    "Direct algorithms are exact on integers": [
        "test_ops.py",
        "test_layouts.py",
        "test_prepack.py::test_packed_op_equals_conv2d_on_integers",
    ],
    "Workspace by a published formula, freed on return; no buffer of a whole batch": [
        "test_promises.py::test_workspace_is_what_the_plan_says",
        "test_promises.py::test_workspace_holds_no_batch",
        "test_resources.py::test_workspace_is_never_more_than_planned",
        "test_resources.py::test_out_of_memory_raises_and_leaves_the_process_usable",
    ],
    "Nothing grows with the number of shapes or calls": [
        "test_resources.py::test_memory_is_flat_over_shapes_and_calls",
    ],
    "A bad argument raises an exception that names it; nothing is read or written out of bounds": [
        "test_bad_input.py",
        "test_arguments_at_random.py::test_random_arguments_give_the_answer_or_an_exception",
    ],
    "Without the extension the same ops work": ["test_fallback.py"],
    "Forked children, data loaders, many Python threads, parallel regions": ["test_processes.py"],
}


def run_tests() -> list[Line]:
    """One line for each promise: its tests, and how many of their cases passed."""
    names = sorted({f"tests/{name}" for tests in PROMISES.values() for name in tests})
    with tempfile.NamedTemporaryFile(suffix=".xml") as file:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "--tb=short", f"--junitxml={file.name}", *names],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            print(done.stdout[-4000:], file=sys.stderr)
        seen = ElementTree.parse(file.name).findall(".//testcase") if done.returncode in (0, 1) else []
    lines = []
    for promise, tests in PROMISES.items():
        passed = failed = skipped = 0
        ran = set()
        for case in seen:
            module = case.get("classname").removeprefix("tests.") + ".py"
            name = f"{module}::{case.get('name').split('[')[0]}"
            if name in tests or module in tests:
                ran |= {name, module}
                states = {child.tag for child in case}
                failed += bool(states & {"failure", "error"})
                skipped += "skipped" in states
                passed += not states & {"failure", "error", "skipped"}
        missing = [name for name in tests if name not in ran]
        result = (
            f"{passed} passed"
            + (f", {failed} failed" if failed else "")
            + (f", {skipped} skipped" if skipped else "")
        )
        result += f", no test called {', '.join(missing)}" if missing else ""
        lines.append(
            Line(
                promise,
                ", ".join(f"`{name}`" for name in tests),
                result,
                passed > 0 and not failed and not missing,
            )
        )
    return lines
