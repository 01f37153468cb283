from __future__ import annotations

import pytest
import torch

from perfuse.errors import ConfigError
from perfuse.models.precision import carried, name_of, pick_dtype


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"avx2": True, "avx512_bf16": False}, torch.float32),
        ({"avx512_f": True, "avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"bf16": True}, torch.bfloat16),
    ],
)
def test_a_cpu_computes_in_what_it_multiplies_natively(
    features: dict[str, bool], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    assert pick_dtype() == expected


def test_a_gpu_computes_in_bf16_and_what_is_asked_for_is_taken() -> None:
    assert pick_dtype(device="cuda") == torch.bfloat16
    assert pick_dtype("f32", "cuda") == torch.float32
    assert pick_dtype("bf16") == torch.bfloat16
    assert pick_dtype("int8") == torch.int8
    assert [name_of(dtype) for dtype in (torch.bfloat16, torch.float32, torch.int8)] == ["bf16", "f32", "int8"]


def test_values_between_products_of_bytes_are_fp32() -> None:
    held = [carried(dtype) for dtype in (torch.bfloat16, torch.float32, torch.int8)]
    assert held == [torch.bfloat16, torch.float32, torch.float32]


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        pick_dtype("fp8")
    assert caught.value.detail == "expected a dtype of auto, bf16, f32, int8; got 'fp8'"
    assert caught.value.hint == "use --dtype auto"


def test_a_gpu_computes_in_no_bytes() -> None:
    with pytest.raises(ConfigError) as caught:
        pick_dtype("int8", "cuda")
    assert caught.value.detail == "int8 is computed on CPUs only; the device is cuda"
    assert caught.value.hint == "use --dtype auto"
