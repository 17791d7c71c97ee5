"""Arguments at random, most of them wrong: `make verify` tries a hundred thousand."""

import sys

import pytest

from verify.arguments import fuzz


@pytest.mark.needs_extension
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_random_arguments_give_the_answer_or_an_exception():
    """In a process of its own with little memory: a crash or a call without end fails this test, not the suite."""
    outcome = fuzz(3000, seed=1)
    assert outcome["WRONG"] == 0, outcome["said"]
    assert outcome["equal"] > 500 and outcome["raised"] > 500
    assert outcome["peak"] < 2**30
