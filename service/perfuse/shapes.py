"""Shape annotations: jaxtyping where it is installed (tests check them), inert names where it is not (production)."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING or find_spec("jaxtyping"):
    from jaxtyping import Bool, Float, Float32, Float64, Int, Int64
else:

    class _Shape:
        def __class_getitem__(cls, item: object) -> object:
            return item

    Bool = Float = Float32 = Float64 = Int = Int64 = _Shape

__all__ = ["Bool", "Float", "Float32", "Float64", "Int", "Int64"]
