"""bench/shapes.py: what its list holds, how parts become a run again, and which ratio counts."""

import json
import math

import pytest
import torch
from conftest import ROOT
from oracle import four_sides, pair

import nhwc_conv
from nhwc_conv._extension import module as extension

pytestmark = pytest.mark.needs_extension


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import shapes

    return shapes


@pytest.fixture
def run(bench, monkeypatch):
    def call(*arguments):
        quick = ["--rounds", "1", "--seconds", "0"]
        monkeypatch.setattr("sys.argv", ["shapes.py", *quick, *map(str, arguments)])
        bench.main()

    threads = torch.get_num_threads()
    yield call
    torch.set_num_threads(threads)


def test_the_list_is_what_it_says(bench):
    cases = list(bench.shapes())
    assert len(cases) == len({case.name for case in cases}) == 1500
    geometries = {(case.x, case.w, *map(str, case.geometry.values())) for case in cases}
    assert len(geometries) == 1500
    flops = []
    for case in cases:
        steps = case.stride, case.padding, case.dilation, case.groups
        flops.append(nhwc_conv.explain(case.x, case.w, *steps)["flops"])
        top, bottom, left, right = four_sides(case)
        assert top == bottom and left == right  # F.conv2d takes no others
    assert max(flops) <= 8e9

    def span(values):
        values = list(values)
        return min(values), max(values)

    assert span(v for case in cases for v in (case.x[3], case.w[3])) == (1, 4096)
    assert span(v for case in cases for v in case.x[1:3]) == (1, 512)
    assert span(v for case in cases for v in case.w[:2]) == (1, 31)
    assert span(case.x[0] for case in cases) == (1, 8)
    many = {
        "depthwise": lambda case: case.groups == case.x[3] > 1,
        "groups": lambda case: 1 < case.groups < case.x[3],
        "dilation": lambda case: case.dilation != 1,
        "stride": lambda case: case.stride != 1,
        "1x1": lambda case: case.w[:2] == (1, 1),
        "3x3": lambda case: case.w[:2] == (3, 3),
        "even kernels": lambda case: case.w[0] % 2 == 0,
        "not square": lambda case: case.w[0] != case.w[1],
        "odd sizes": lambda case: case.x[1] > 1 and case.x[1] % 2 == 1,
        "large kernels": lambda case: max(case.w[:2]) >= 9,
        "few channels": lambda case: min(case.x[3], case.w[3]) <= 4,
        "batches": lambda case: case.x[0] > 1,
    }
    for kind, holds in many.items():
        assert sum(map(holds, cases)) >= 75, kind


def test_a_row_of_the_list(bench):
    row = dict(zip("batch height width inputs outputs".split(), "2 9 11 8 12".split(), strict=True))
    row |= {"kernel": "5x1", "stride": "2x1", "padding": "2x0", "dilation": "1", "groups": "4"}
    case = bench.as_case(row)
    assert case.name == "2x9x11_8-12_5x1_s2x1_groups4"
    assert (case.x, case.w) == ((2, 9, 11, 8), (5, 1, 2, 12))
    assert (case.stride, case.padding, case.dilation, case.groups) == ((2, 1), (2, 0), 1, 4)
    others = {"kernel": "3", "stride": "1", "padding": "0", "dilation": "2", "groups": "8", "outputs": "8"}
    case = bench.as_case({**row, **others})
    assert case.name == "2x9x11_8-8_3x3_d2_p0_depthwise"
    assert (case.stride, case.padding, case.dilation) == (1, 0, 2) and pair(case.dilation) == (2, 2)
    assert bench.as_case({**row, **others, "outputs": "16"}).name == "2x9x11_8-16_3x3_d2_p0_groups8"


SMALL = "^(1_|7_.*depthwise)"


@pytest.mark.parametrize("pass_, dtype", [("forward", "float32"), ("train", "float64")])
def test_parts_are_joined_to_a_run(bench, run, monkeypatch, tmp_path, capsys, pass_, dtype):
    options = "--pass", pass_, "--dtype", dtype, "--layers", SMALL, "--number", 6, "--seed", 3
    parts = [tmp_path / f"{i}.json" for i in (1, 2)]
    for i, path in enumerate(parts, 1):
        run(*options, "--part", f"{i}/2", "--out", path)
    rows = [row for path in parts for row in json.loads(path.read_text())["rows"]]
    ratios = {row["name"]: f"{row['ratio']:.2f}" for row in rows}
    assert len(ratios) == 6
    capsys.readouterr()
    drawn = {}
    monkeypatch.setattr(bench, "draw", lambda runs, path: drawn.update({path: runs}))
    run("--join", *parts, "--slowest", 2, "--out", tmp_path / "all")
    printed = capsys.readouterr().out
    assert "conv2d: rows 6, mean" in printed and ("prepacked: rows 6" in printed) == (pass_ == "forward")
    slowest = sorted(rows, key=lambda row: row["ratio"])
    shown = [line.split()[1] for line in printed.splitlines() if line.startswith("| ")]
    assert shown == ["layer", *(row["name"] for row in slowest[:2])]
    assert len(slowest[0]["runners"]) == (1 if pass_ == "forward" else 3)
    lines = (tmp_path / "all.csv").read_text().splitlines()
    assert lines[0] == f'layer,"{pass_} {dtype}, {extension.instruction_set()}"'
    assert dict(line.split(",") for line in lines[1:]) == ratios
    ((path, runs),) = drawn.items()
    assert path == tmp_path / "all.png" and [len(rows) for rows in runs.values()] == [6]
    with pytest.raises(ValueError, match="is in a file before it, too"):
        run("--join", parts[0], parts[0])


def test_the_picture(bench, tmp_path):
    pytest.importorskip("matplotlib")
    head = dict.fromkeys("pass dtype instruction_set processor torch date".split(), "made up")
    bench.draw({tuple(head.items()): [{"ratio": 0.5}, {"ratio": 2.0}]}, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def timed(bench, monkeypatch, run, tmp_path, ratios):
    """The rows of one layer whose measurements give these ratios, one after the other."""
    given = iter(ratios)
    monkeypatch.setattr(bench, "times", lambda *_, **__: {"conv2d": 1.0, "F.conv2d_nchw": next(given)})
    run("--layers", "^1_", "--number", 1, "--out", tmp_path / "out.json")
    assert next(given, None) is None
    return json.loads((tmp_path / "out.json").read_text())["rows"][0]


def test_slow_rows_are_timed_anew(bench, monkeypatch, capsys, run, tmp_path):
    row = timed(bench, monkeypatch, run, tmp_path, [0.5, 1.5, 0.8, 0.95])
    assert row["first"] == 0.5 and row["ratio"] == row["seconds"]["F.conv2d_nchw"] == 0.95
    assert "lowest 0.95" in capsys.readouterr().out
    row = timed(bench, monkeypatch, run, tmp_path, [0.9])
    assert row["ratio"] == 0.9 and "first" not in row


def test_figures(bench):
    def row(ours, better, packed):
        names = ["conv2d", "prepacked", *bench.contenders.RIVALS]
        return {"seconds": dict(zip(names, (ours, packed, 9.0, better), strict=True))}

    few = [row(1e-4, 1.5e-4, 2e-4), row(1e-5, 0.5e-5, 1e-5), row(1e-4, 0.95e-4, 1e-4)]
    figures = bench.summary(few + [row(1.0, 8.0, 2.0)] * 17)
    assert figures["rows"] == 20 and figures["lowest"] == 0.5
    assert figures["5 % quantile"] == pytest.approx(0.95)
    assert figures["under 0.9"] == 1 and figures["under 1"] == 2
    long = math.prod([1.5, 0.95] + [8] * 17)
    assert figures["mean of 50 us and more"] == pytest.approx(long ** (1 / 19))
    assert figures["mean"] == pytest.approx((long * 0.5) ** (1 / 20))
    packed = bench.summary(few, "prepacked")
    assert packed["lowest"] == 0.5 and packed["mean"] == pytest.approx((0.75 * 0.5 * 0.95) ** (1 / 3))


def test_a_wrong_answer_stops_it(bench, run, monkeypatch):
    import contenders

    right = contenders.contender

    def wrong(name, *arguments):
        function = right(name, *arguments)
        return (lambda: function() + 0.01) if name == "conv2d" else function

    monkeypatch.setattr(contenders, "contender", wrong)
    monkeypatch.setattr(bench, "LIMIT", 0)  # a rerun would do
    with pytest.raises(AssertionError, match="elements are off"):
        run("--layers", "^7_.*depthwise", "--number", 1)


def test_a_layout_that_torch_refuses_is_left_out(bench, run, monkeypatch, tmp_path):
    import contenders

    right = contenders.contender

    def refusing(name, *arguments):
        function = right(name, *arguments)

        def refused():
            raise RuntimeError("slow_conv2d: grad_weight must be contiguous")

        return refused if name == "F.conv2d_channels_last" else function

    monkeypatch.setattr(contenders, "contender", refusing)
    run("--layers", "^1_", "--number", 1, "--out", tmp_path / "out.json")
    (row,) = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert list(row["seconds"]) == ["conv2d", "prepacked", "F.conv2d_nchw"]


def test_an_unknown_layer(run, capsys):
    with pytest.raises(SystemExit):
        run("--layers", "notebook")
    assert "no layer is called 'notebook'" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["0/2", "3/2", "1", "a/b"])
def test_a_part_that_there_is_not(run, capsys, part):
    with pytest.raises(SystemExit):
        run("--part", part)
    assert f"--part: invalid part value: '{part}'" in capsys.readouterr().err
