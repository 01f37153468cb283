"""What holds for all tests: shapes in annotations are checked, torch computes on one thread, examples are bounded."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

# Child processes (servers, engines) read this when they start; this process when it imports torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Annotations with shapes are compared with the tensors that come and go, in the packages that compute.
install_import_hook(["perfuse.diffusion", "perfuse.models", "perfuse.planning"], "beartype.beartype")

_SLOW_MACHINES = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("test", max_examples=50, deadline=None, suppress_health_check=_SLOW_MACHINES, print_blob=True)
settings.register_profile("proof", settings.get_profile("test"), max_examples=2000)
settings.load_profile("test")
