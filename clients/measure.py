"""Print what the Python client weighs: bytes of its wheel, and milliseconds of its imports (the best of ten).

python clients/measure.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGE = Path(__file__).parent / "python"
_ROUNDS = 10
_TIMED = "import time; began = time.perf_counter(); {}; print(time.perf_counter() - began)"


def wheel_bytes() -> int:
    """Size of a freshly built wheel."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder]
        subprocess.run(command, cwd=PACKAGE, check=True, capture_output=True)  # noqa: S603
        return next(Path(folder).glob("*.whl")).stat().st_size


def milliseconds(statement: str) -> float:
    """Time of a statement in a fresh interpreter."""
    command = [sys.executable, "-c", _TIMED.format(statement)]
    taken = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(_ROUNDS)]  # noqa: S603
    return round(1000 * min(map(float, taken)), 1)


if __name__ == "__main__":
    figures = {
        "wheel_bytes": wheel_bytes(),
        "import_ms": milliseconds("import perfuse_client"),
        "import_client_ms": milliseconds("from perfuse_client import AsyncClient"),
        "import_httpx2_and_pydantic_ms": milliseconds("import httpx2, pydantic; pydantic.BaseModel"),
    }
    print(json.dumps(figures, indent=1))
