"""python -m nhwc_conv --doctor."""

import re

import pytest
import torch

from nhwc_conv import __main__ as main
from nhwc_conv import _doctor, _extension
from nhwc_conv._doctor import Facts, advice
from verify import summary

ALL = _doctor.NEEDS["avx2"] | _doctor.NEEDS["avx512"]
GOOD = dict(
    flags=ALL, instruction_set="avx512", usable=("avx512", "avx2", "baseline"), cores=4, threads=4,
    huge_pages="madvise", wrong=0.1, speed=1.5, of_peak=1.4,
)  # fmt: skip


def test_text(capsys):
    threads = torch.get_num_threads()
    assert main.main(["--doctor"]) == 0
    text = capsys.readouterr().out
    for name in (
        "nhwc_conv 0",
        "torch 2",
        "processor: ",
        "caches: ",
        "threads: ",
        "huge pages: ",
        "layer: 3x3",
    ):
        assert name in text
    assert ("GFLOP/s" in text) == _extension.available == ("there is no C++ extension" not in text)
    assert text.splitlines()[-1].startswith(("ADVICE: ", "nothing to advise"))
    assert torch.get_num_threads() == threads


def test_a_wrong_result_is_noticed(capsys, monkeypatch):
    right = _doctor.conv2d
    monkeypatch.setattr(_doctor, "conv2d", lambda x, w, padding: right(x, w, padding=padding) * (1 + 1e-4))
    assert main.main(["--doctor"]) == 1
    assert "ADVICE: results are wrong" in capsys.readouterr().out


def test_nothing_to_advise(capsys, monkeypatch):
    assert advice(Facts(**GOOD)) == [] == advice(Facts(instruction_set="neon", usable=("neon", "baseline")))
    monkeypatch.setattr(_doctor, "advice", lambda facts: [])
    assert main.main(["--doctor"]) == 0
    assert capsys.readouterr().out.endswith("nothing to advise\n")


@pytest.mark.parametrize(
    "changed, text",
    [
        (dict(wrong=1.5), "results are wrong"),
        (dict(instruction_set="", usable=()), "there is no C\\+\\+ extension"),
        (dict(instruction_set="avx2"), "avx2 is in use where avx512 is usable: unset NHWC_CONV_ISA"),
        (
            dict(instruction_set="avx2", usable=("avx2", "baseline")),
            "has avx512, but the extension was built without",
        ),
        (dict(flags={"sse2"}, instruction_set="baseline", usable=("baseline",)), "has no AVX2"),
        (dict(threads=8), "8 threads share 4 cores"),
        (dict(threads=1), "1 of 4 cores"),
        (dict(huge_pages="never"), "echo madvise"),
        (dict(speed=0.4), "0.40 of F.conv2d's speed"),
        (dict(of_peak=0.4), "far from what multiply-adds reach"),
    ],
)
def test_advice(changed, text):
    (found,) = advice(Facts(**{**GOOD, **changed}))
    assert re.search(text, found)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A folder for what Linux tells of a machine of x86-64, empty."""
    monkeypatch.setattr(_doctor, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(_doctor, "HUGE_PAGES", tmp_path / "enabled")
    monkeypatch.setattr(_doctor, "CACHES", tmp_path / "cache")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    return tmp_path


def test_what_the_system_does_not_tell(machine):
    name, flags = _doctor.processor()
    assert name and flags == set() and _doctor.huge_pages() == "" and _doctor.caches() == "unknown"


def test_what_the_system_tells(machine):
    (machine / "cpuinfo").write_text("processor : 0\nmodel name\t: Some CPU\nflags\t\t: avx2 fma\n")
    assert _doctor.processor() == ("Some CPU", {"avx2", "fma"}) and summary.processor() == "Some CPU"
    (machine / "enabled").write_text("always [madvise] never\n")
    assert _doctor.huge_pages() == "madvise"
    for index, told in enumerate(["1 Data 48K", "1 Instruction 32K", "2 Unified 2048K", "3 Unified"]):
        folder = machine / f"cache/index{index}"
        folder.mkdir(parents=True)
        for name, text in zip(("level", "type", "size"), told.split(), strict=False):
            (folder / name).write_text(f"{text}\n")
    assert _doctor.caches() == "L1 48K, L2 2048K"


def test_no_advice_about_x86_64_elsewhere(machine, monkeypatch):
    """Emulators show the file of the machine that they run on."""
    (machine / "cpuinfo").write_text(f"model name : Some CPU\nflags : {' '.join(ALL)}\n")
    here = {**GOOD, "instruction_set": "baseline", "usable": ("baseline",)}
    assert len(advice(Facts(**{**here, "flags": _doctor.processor()[1]}))) == 2
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert advice(Facts(**{**here, "flags": _doctor.processor()[1]})) == []
