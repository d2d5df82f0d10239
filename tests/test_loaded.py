"""Models stay in the process that loaded them, for every stage that asks for the same one."""

import torch

from captioner.configs import Form
from captioner.devices import Numerics
from tasks.units.loaded import captioner_in_lane, encoder_in_lane


def numerics(batch_size: int, threads: int = 1, dtype: str = "float32") -> Numerics:
    return Numerics(device="cpu", dtype=dtype, batch_size=batch_size, threads=threads)


def test_stages_with_batches_of_their_own_share_one_encoder() -> None:
    first = encoder_in_lane("nano", Form(), numerics(64))
    assert encoder_in_lane("nano", Form(), numerics(256)) is first
    assert encoder_in_lane("nano", Form(), numerics(64, dtype="bfloat16")) is not first


def test_a_captioner_keeps_its_batch() -> None:
    first = captioner_in_lane("nano", numerics(64))
    assert captioner_in_lane("nano", numerics(64)) is first
    assert captioner_in_lane("nano", numerics(256)) is not first


def test_a_kept_model_computes_with_the_threads_of_its_stage() -> None:
    before = torch.get_num_threads()
    try:
        for threads in (2, 1):
            encoder_in_lane("nano", Form(), numerics(64, threads))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
