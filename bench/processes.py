"""A number that needs a process of its own: memory that another contender has had is not given back."""

import subprocess
import sys


def from_own_process(script, *arguments):
    """What the script prints, as an integer."""
    command = [sys.executable, script, *map(str, arguments)]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
