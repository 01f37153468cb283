"""The library works with the core dependencies alone: whatever only the server, tests or training brought is hidden.

Nothing is reinstalled: a child process sees exactly the distributions that `perfuse` without extras pulls in, found by
following the installed metadata; the path finder answers "not there" for every other one.
"""

from __future__ import annotations

import subprocess
import sys

HIDE_ALL_BUT_CORE = """
import re, sys
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()

needed, pending = set(), ["perfuse"]
while pending:
    name = normal(pending.pop())
    if name in needed:
        continue
    needed.add(name)
    try:
        lines = requires(name) or []
    except PackageNotFoundError:
        continue
    pending += [re.match(r"[\\w.-]+", line)[0] for line in lines if "extra ==" not in line]

seen = {top for top, names in packages_distributions().items() if needed & {normal(name) for name in names}}
hidden = set(packages_distributions()) - seen

class CorePaths(PathFinder):
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        return None if fullname.partition(".")[0] in hidden else super().find_spec(fullname, path, target)

sys.meta_path[:] = [CorePaths if finder is PathFinder else finder for finder in sys.meta_path]
for name in [name for name in sys.modules if name.partition(".")[0] in hidden and not name.startswith("coverage")]:
    del sys.modules[name]
"""

ABSENT = """
from importlib.util import find_spec
for name in ("fastapi", "jaxtyping", "msgspec", "mujoco", "pydantic", "uvicorn"):
    assert find_spec(name) is None, name
"""

USE = """
import perfuse
assert "torch" not in sys.modules
engine = perfuse.ArrowEngine(device="cpu")
(output,) = engine.diffuse(modality="text", prefix="def double(x):\\n    return ", suffix="\\n", length=8).outputs
assert output.text.startswith("def double(x):\\n    return ") and output.text.endswith("\\n"), output.text
plan = engine.plan(environment="maze2d-umaze", state=(3.0, 1.0, 0.0, 0.0), goal=(1.0, 1.0))
assert plan.status == "verified", plan.status
"""


def test_arrow_engine_works_with_the_core_dependencies_alone() -> None:
    script = HIDE_ALL_BUT_CORE + ABSENT + USE
    child = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
