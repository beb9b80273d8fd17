import pytest

pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def one_thread():
    import torch  # noqa: PLC0415

    torch.set_num_threads(1)
