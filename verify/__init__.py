"""What the promises rest on, at sizes that a test suite has no time for: `make verify`, `sanitize`, `aarch64`, ...

Geometries, answers and error bounds are those of tests/.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
