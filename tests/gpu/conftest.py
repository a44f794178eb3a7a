import pytest
import torch


@pytest.fixture
def card():
    """The first GPU, or the stand-in (``-p stand_in_card``)."""
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device here")
    # Convolutions in full float32: by default they round to ten bits (TF32).
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield torch.device("cuda")
