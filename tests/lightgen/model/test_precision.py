"""Precision of matrix products, and that what is set for them is set back."""

import pytest
import torch

from lightgen.model.precision import float32_products, mixed_precision


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_products_have_the_precision_that_was_asked_for(precision, dtype: torch.dtype) -> None:
    a = torch.randn(3, 3)
    with float32_products(precision), mixed_precision(precision, "cpu"):
        assert (a @ a).dtype == dtype


def test_tf32_is_a_matter_of_gpus_and_set_back_after_a_failure() -> None:
    a = torch.randn(64, 64)
    plain, before = a @ a, torch.backends.cuda.matmul.allow_tf32

    def fail() -> None:
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.equal(a @ a, plain)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), float32_products("tf32"):
        fail()
    with float32_products("fp32"):
        assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cuda.matmul.allow_tf32 == before
