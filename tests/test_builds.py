"""Scripts that compare builds: what they notice, what they take for noise, which constant they replace."""

import json
import re
import shutil
import stat

import pytest
from cases import BY_NAME
from conftest import ROOT, source_digest

from verify import builds, same_bits

pytestmark = pytest.mark.needs_extension
CONTIGUOUS, STRIDED, GAPS = (
    {name: layouts[i] for name, layouts in same_bits.LAYOUTS.items()} for i in range(3)
)
# Added to a package: where conv2d's results are 0 it is the other zero, 7x7 kernels raise and 5x5 ones end the process.
ALTERED = """
import os
conv2d = ops.conv2d

def altered(x, w, *args, **kwargs):
    if w.shape[0] == 5:
        os.abort()
    if w.shape[0] == 7:
        raise ValueError("not today")
    out = conv2d(x, w, *args, **kwargs)
    return out.where(out != 0, -0.0)

ops.conv2d = altered
"""


@pytest.fixture
def checkout(tmp_path):
    """A checkout with this very library."""
    for name in ("csrc", "setup.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "nhwc_conv", tmp_path / "nhwc_conv", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_what_differs_and_what_fails_is_named(checkout, capsys):
    with open(checkout / "nhwc_conv/__init__.py", "a") as file:
        file.write(ALTERED)
    # pad_over_kernel has outputs without any tap.
    plain = ["empty_batch", "pad_over_kernel", "kernel_7x7", "kernel_5x5", "resnet_3x3"]
    jobs = [(BY_NAME[name], CONTIGUOUS) for name in plain]
    jobs += [(BY_NAME["unbatched"], STRIDED), (BY_NAME["c1_o1"], GAPS)]
    counts = same_bits.compare([checkout, ROOT], jobs, "baseline")
    lines = capsys.readouterr().out.splitlines()
    differ = [line for line in lines if line.startswith("DIFFERS")]
    assert differ == [
        f"DIFFERS pad_over_kernel x:NHWC w:HWIO grad:NHWC, {dtype}, baseline, {threads} thread(s), conv2d"
        for dtype in ("float32", "float64")
        for threads in (1, 2)
    ]
    failed = "\n".join(line for line in lines if line not in differ)
    assert re.match(rf"FAILED {checkout}: kernel_7x7 .*baseline: Traceback", failed)
    assert "ValueError: not today" in failed
    assert re.search(rf"FAILED {checkout}: kernel_5x5 .*baseline: the process was ended by SIGABRT", failed)
    with_winograd, others = 2 * 2 * 12, 2 * 2 * 8
    assert counts == dict(results=4 * with_winograd + others, differences=4, failures=2)


def test_a_worker_answers_in_time_or_is_ended():
    with builds.Worker(ROOT, ("threading", "Event")) as worker:
        assert worker.about["build_id"] == source_digest()
        assert worker.ask("asking", "is_set") is False
        worker.timeout = 0.1
        with pytest.raises(builds.BuildError, match=rf"{ROOT}: waiting: no answer in 0.1 s"):
            worker.ask("waiting", "wait")
        assert worker.closed


def test_a_folder_without_the_package_is_refused(tmp_path):
    with pytest.raises(builds.BuildError, match=f"{tmp_path} is no checkout"):
        builds.Worker(tmp_path, ("threading", "Event"))


def test_a_library_of_other_sources_is_refused(checkout):
    assert builds.about(checkout)["build_id"] == source_digest()
    (checkout / "csrc").unlink()
    (checkout / "csrc").mkdir()
    with pytest.raises(builds.BuildError, match="built from other sources"):
        builds.about(checkout)


def test_random_geometries_of_both_kinds_in_all_layouts():
    lot = same_bits.jobs(200, seed=0)
    assert lot == same_bits.jobs(200, seed=0) != same_bits.jobs(200, seed=1)
    kinds = [case.name.split("_")[0] for case, _ in lot]
    assert (kinds.count("random"), kinds.count("layer")) == (150, 50)
    drawn = {name: {layouts[name] for _, layouts in lot} for name in same_bits.LAYOUTS}
    assert drawn == {name: set(layouts) for name, layouts in same_bits.LAYOUTS.items()}
    assert [case.name for case, _ in same_bits.jobs(0, 0, "^ow1._v")] == [
        f"ow1{i}_viewed" for i in "3344556677"
    ]


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import before_after
    import tune

    return {"before_after": before_after, "tune": tune}


@pytest.mark.parametrize("slow, reruns", [
    (True, [(0.90, 1.00), (0.91, 0.99), (0.92, 1.01)]),
    (True, [(0.90, 0.97), (0.91, 0.95), (0.955, 1.0)]),
    (False, [(0.90, 1.00), (0.91, 0.99), (0.97, 1.01)]),  # one rerun is not short
    (False, [(0.90, 1.00), (0.91, 0.90), (0.92, 1.01)]),  # so much a build differs from itself
    (False, [(0.90, 1.00), (0.91, 1.12), (0.92, 1.01)]),
])  # fmt: skip
def test_what_reruns_confirm(bench, slow, reruns):
    assert bench["before_after"].is_slow(reruns) is slow


class Clock:
    """In a worker's place: a call takes what `seconds` says of its build, rerun or not."""

    about = {"instruction_set": "made up", "torch": "made up"}

    def __init__(self, seconds):
        self.seconds = seconds

    def ask(self, task, method, *arguments):
        return self.seconds

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def compared(bench, monkeypatch, tmp_path, after):
    """The exit code and what is written where the build after takes `after` seconds at its starts, before 1."""
    module, starts = bench["before_after"], iter(after)
    monkeypatch.setattr(module, "start", lambda tree, _: Clock(next(starts) if tree == ROOT else 1.0))
    out = tmp_path / "out.json"
    monkeypatch.setattr(
        "sys.argv", ["before_after.py", "--before", "there", "--layers", "notebook", "--out", str(out)]
    )
    return module.main(), json.loads(out.read_text())


def test_a_slow_build_is_confirmed(bench, monkeypatch, tmp_path, capsys):
    code, written = compared(bench, monkeypatch, tmp_path, [1.25] * 4)
    assert code == 1 and written["mean"] == 0.8
    names = [(row["layer"], row["contender"]) for row in written["rows"]]
    assert names == [("notebook", "conv2d"), ("notebook", "prepacked")]
    for row in written["rows"]:
        assert row["slow"] and row["reruns"] == [{"ratio": 0.8, "noise": 1.0}] * 3
    assert "2 rows below 0.96, 2 of them confirmed" in capsys.readouterr().out


def test_a_slow_run_is_not_confirmed_but_counts_for_the_mean(bench, monkeypatch, tmp_path):
    code, written = compared(bench, monkeypatch, tmp_path, [1.25, 1, 1.25, 1.25])
    assert code == 1 and not any(row["slow"] for row in written["rows"])
    code, written = compared(bench, monkeypatch, tmp_path, [1.0])
    assert code == 0 and written["mean"] == 1 and "reruns" not in written["rows"][0]


SOURCES = {
    "a.h": "constexpr int64_t kFirst = max(1, 2), kSecond = kFirst * int64_t{2};  // constexpr int kThird = 1;\n",
    "b.cpp": "constexpr double kThird =\n    1.5;\nstatic constexpr int kTwice = 1;\nbool is = kFirst == 3;\n",
    "c.cpp": "/* constexpr int kFirst = 3; */\nconstexpr int kTwice = 2;\nconstexpr bool kIs = kFirst == 3;\n",
}


@pytest.mark.parametrize("name, expression, line", [
    ("kFirst", "max(1, 2)", 1), ("kSecond", "kFirst * int64_t{2}", 1), ("kThird", "1.5", 2), ("kIs", "kFirst == 3", 3)
])  # fmt: skip
def test_a_constant_is_found_and_replaced(bench, tmp_path, name, expression, line):
    for file, text in SOURCES.items():
        (tmp_path / file).write_text(text)
    constant = bench["tune"].find_constant(tmp_path, name)
    assert (constant.expression, constant.line) == (expression, line)
    assert constant.replaced("x y") == constant.text.replace(f"= {expression}", "= x y").replace(
        f"=\n    {expression}", "=\n    x y"
    )


@pytest.mark.parametrize("name, found", [
    ("kNone", "found none"), ("kTwice", r"found \S+b.cpp:3, \S+c.cpp:2"), ("Twice", "found none")
])  # fmt: skip
def test_a_constant_that_is_not_defined_once(bench, tmp_path, name, found):
    for file, text in SOURCES.items():
        (tmp_path / file).write_text(text)
    with pytest.raises(LookupError, match=rf"looked in {tmp_path} for .* {name} = .*{found}"):
        bench["tune"].find_constant(tmp_path, name)


COMPILER = """#!/bin/sh
echo "$@" >> {log}
while [ $# -gt 0 ]; do
  case $1 in
    -dumpmachine) uname -m; exit ;;
    -o) out=$2 ;;
    *.cpp) if grep -r no_expression "$(dirname "$1")" >&2; then exit 1; fi ;;
  esac
  shift
done
: > "$out"
"""


def test_values_are_built_and_kernels_only_once(bench, tmp_path, monkeypatch):
    """By a compiler that notes what it is asked for."""
    tune, log, compiler = bench["tune"], tmp_path / "log", tmp_path / "compiler"
    compiler.write_text(COMPILER.format(log=log))
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    for name in ("CC", "CXX"):
        monkeypatch.setenv(name, str(compiler))
    parts = tune.PARTS
    monkeypatch.setattr(tune, "PARTS", [part for part in parts if part != "build"])  # of a real compiler
    constant = tune.find_constant(ROOT / "csrc", "kItemInputBytes")

    def compiled(origin, value):
        log.write_text("")
        folder = tmp_path / value.replace(" ", "")
        tune.build(origin, folder, constant, value)
        text = (folder / constant.path.relative_to(ROOT)).read_text()
        assert re.search(rf"\bkItemInputBytes = {re.escape(value)}[,;]", text)
        assert (folder / "nhwc_conv/libnhwc_conv.so").exists()
        return folder, set(re.findall(r"-c (csrc/\S+)", log.read_text()))

    first, files = compiled(ROOT, "1 * 2")
    assert {"csrc/kernels/isa.cpp", "csrc/conv/passes.cpp"} < files
    monkeypatch.setattr(tune, "PARTS", parts)
    _, again = compiled(first, "3")
    assert again == files - {"csrc/kernels/isa.cpp"}
    with open(first / "csrc/kernels/vector.h", "a") as file:
        file.write("\n")
    second, again = compiled(first, "4")
    assert again == files
    monkeypatch.setenv("CFLAGS", "-DOTHER")
    assert compiled(second, "5")[1] == files
    with pytest.raises(builds.BuildError, match="(?s)value no_expression: .*kItemInputBytes"):
        compiled(second, "no_expression")
