"""The units of embedding around an encoder that some pictures kill, hang or fill up."""

import os
import signal
import time

import torch
from PIL.Image import Image
from torch import Tensor

from captioner.fakes import SizeEncoder
from storage.receipts import Receipt
from tasks.units import embed
from tasks.units.jobs import EmbedJob

KILLS, HANGS = 23, 29
"""Widths of the pictures that end the process, or never end."""


class FragileEncoder(SizeEncoder):
    """Tells sizes, until it meets a picture of a width that it cannot bear."""

    def preprocess(self, rgb: Image) -> Tensor:
        if rgb.width == KILLS:
            os.kill(os.getpid(), signal.SIGKILL)
        if rgb.width == HANGS:
            time.sleep(600)
        return super().preprocess(rgb)


class NarrowEncoder(SizeEncoder):
    """Has room for `room` pictures at once, and none for one of width `KILLS`."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.sizes: list[int] = []

    def encode_images(self, pixels_BCHW: Tensor) -> Tensor:
        self.sizes.append(len(pixels_BCHW))
        image_BC = super().encode_images(pixels_BCHW)
        if len(image_BC) > self.room or (image_BC[:, 1] == KILLS).any():
            raise torch.OutOfMemoryError("CUDA out of memory, on purpose")
        return image_BC


def _arm() -> None:
    embed.encoder_in_lane = lambda *_: FragileEncoder()


def embed_shard(job: EmbedJob) -> Receipt:
    _arm()
    return embed.embed_shard(job)


def probe_pictures(job: EmbedJob, start: int, stop: int) -> int:
    _arm()
    return embed.probe_pictures(job, start, stop)
