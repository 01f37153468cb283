"""What is shipped, by its name and version."""

from __future__ import annotations

import json
from importlib.resources import files

_DESCRIBED = json.loads((files("perfuse") / "pretrained" / "code-small" / "config.json").read_text(encoding="utf-8"))
CODE = f"{_DESCRIBED['name']}@{_DESCRIBED['version']}"
"""Label of the text model."""
