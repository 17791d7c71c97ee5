"""Builds of nhwc_conv side by side, each in a process of its own: two libraries in one would register the same ops."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import traceback
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from . import ROOT

# The package is the build's: its folder comes first. All other modules are those of this checkout.
START = f"""
import sys, nhwc_conv
sys.path[:0] = {[str(ROOT), str(ROOT / "bench")]!r}
from verify import builds
builds.serve(int(sys.argv[1]))
"""


class BuildError(Exception):
    """A build that cannot be used, or that failed at a task; the text names its folder and the task."""


def about(tree: Path) -> dict:
    """What a process has loaded.

    Raises:
        BuildError: not the library that belongs to the sources in `tree`.
    """
    import torch
    from conftest import source_digest

    from nhwc_conv import _extension as extension

    build = "run setup.py build_ext --inplace there"
    if extension.module is None:
        raise BuildError(f"no library: {extension.reason}; {build}")
    if extension.module.build_id() != source_digest(tree):
        raise BuildError(f"its library was built from other sources than lie there; {build}")
    names = ("build_id", "instruction_set", "instruction_sets")
    return {"torch": torch.__version__, **{name: getattr(extension.module, name)() for name in names}}


def serve(descriptor: int) -> None:
    """Makes the object that is asked for and calls its methods, until the other end of the pipe is closed."""
    connection = Connection(descriptor)
    target = None
    while True:
        try:
            name, arguments = connection.recv()
        except EOFError:
            return
        try:
            if target is None:
                tree, module, kind = name
                answer = about(tree)
                target = getattr(importlib.import_module(module), kind)(*arguments)
            else:
                answer = getattr(target, name)(*arguments)
            connection.send((answer, None))
        except BuildError as error:
            connection.send((None, str(error)))
        except Exception:
            connection.send((None, traceback.format_exc()))


class Worker:
    """An object in a process that has loaded the build of `tree`, asked over a pipe; idle, it sleeps.

    Args:
        tree: a checkout of the project with its library built.
        kind: module and class of the object, both of this checkout: "verify.same_bits", "Results".
        arguments: of the class; like those of `ask`, and all answers, they are pickled.
        environment: variables of the process beside those of this one.
        timeout: seconds for one answer.

    Raises:
        BuildError: `tree` is no checkout, or the process ended (by which signal), did not answer in time, or raised.
    """

    def __init__(self, tree, kind: tuple[str, str], *arguments, environment=None, timeout: float = 600):
        self.tree, self.timeout = Path(tree).resolve(), timeout
        if not (self.tree / "nhwc_conv/__init__.py").is_file():
            raise BuildError(f"{self.tree} is no checkout of nhwc_conv")
        self._connection, theirs = Pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, str(theirs.fileno())],
            cwd=self.tree,
            env={**os.environ, **(environment or {}), "PYTHONPATH": str(self.tree)},
            pass_fds=[theirs.fileno()],
        )
        theirs.close()  # else the pipe would outlive the process
        try:
            self.about = self.ask("starting", (self.tree, *kind), *arguments)
        except BuildError:
            self.close()
            raise

    def begin(self, task: str, method, *arguments) -> None:
        """Calls a method without waiting for its result; `task` tells what for, should it fail."""
        self.task = task
        try:
            self._connection.send((method, arguments))
        except OSError:
            pass  # the process is gone, and `answer` says how

    def answer(self):
        """The result of what was begun."""
        if not self._connection.poll(self.timeout):
            self.close()
            raise BuildError(f"{self.tree}: {self.task}: no answer in {self.timeout:g} s")
        try:
            answer, error = self._connection.recv()
        except (EOFError, OSError):
            code = self._process.wait()
            self.close()
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
            raise BuildError(f"{self.tree}: {self.task}: the process {how}") from None
        if error is not None:
            raise BuildError(f"{self.tree}: {self.task}: {error.strip()}")
        return answer

    def ask(self, task: str, method, *arguments):
        self.begin(task, method, *arguments)
        return self.answer()

    @property
    def closed(self) -> bool:
        """Whether the process is gone; it outlives exceptions of Python."""
        return self._connection.closed

    def close(self) -> None:
        """Ends the process, whatever it does."""
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_) -> None:
        self.close()
