"""Pictures that kill, hang or overfill whatever works on them cost themselves and no other."""

import random
from pathlib import Path

import pytest
import torch
from fragile_units import HANGS, KILLS, NarrowEncoder
from PIL import Image

from captioner.captions import Caption
from captioner.devices import Numerics
from captioner.fakes import SizeCaptioner, SizeEncoder
from captioner.memory import within_memory
from proofs.small_run import ONE_THREAD
from storage.embeddings import embedding_file_schema, embedding_store
from storage.layout import ShardName, open_root
from storage.plan import ShardOptions
from storage.settled import Settled
from storage.shards import ShardStore
from storage.sources import open_source
from tasks.ingest import IngestOptions
from tasks.lanes import LaneLost, Lanes
from tasks.options import EmbedOptions
from tasks.outstanding import to_cut
from tasks.poison import MOST, embed_around_poison, isolated
from tasks.settings.embed import settle_embeddings
from tasks.units.caption import Writer, captioned
from tasks.units.embed import embed_shard, embedded
from tasks.units.jobs import EmbedJob, ShardJob
from tasks.units.shard import cut_shard


def cut(folder: Path, widths: list[int]) -> tuple[EmbedJob, Settled]:
    """One shard of pictures of these widths, and the work of embedding it."""
    pictures, root = folder / "pictures", str(folder / "root")
    pictures.mkdir()
    for number, width in enumerate(widths):
        Image.new("RGB", (width, 40)).save(pictures / f"{number:03}.png")
    place, source = open_root(root), open_source(str(pictures))
    ingest = IngestOptions(shards=ShardOptions(samples_per_shard=len(widths)))
    (shard,) = to_cut(place, source, ingest).shards
    cut_shard(ShardJob(root=root, shard=str(shard), source=str(pictures)))
    space = settle_embeddings(place, EmbedOptions(encoder="size", compute=ONE_THREAD), 0)
    return EmbedJob(root=root, shard=str(shard), space=space.name, encoder="size"), space


def codes(job: EmbedJob, space: Settled) -> dict[int, str]:
    """Error code of the picture of each width."""
    place, shard = open_root(job.root), ShardName.parse(job.shard)
    found = {}
    for table in embedding_store(place, space).read(shard):
        found |= {row["width"]: row["error_code"] for row in table.to_pylist()}
    return found


@pytest.mark.slow
def test_pictures_that_kill_or_hang_their_lane_become_rows_and_all_others_are_embedded(
    tmp_path: Path,
) -> None:
    widths = [*range(20, 32)]
    job, space = cut(tmp_path, widths)
    with Lanes(1, timeout=5):
        receipt = embed_around_poison(job, "fragile_units:")
    assert receipt.failures == {"timeout": 1, "worker_killed": 1}
    expected = dict.fromkeys(widths, "") | {KILLS: "worker_killed", HANGS: "timeout"}
    assert codes(job, space) == expected


def test_processes_that_really_die_and_hang_tell_the_culprits() -> None:
    def probe(start: int, stop: int) -> str:
        try:
            lanes.call("lane_units:pick", start, stop, (3,), (6,))
        except LaneLost as lost:
            return lost.code
        return ""

    with Lanes(1, timeout=1) as lanes:
        assert isolated(8, probe) == {3: "worker_killed", 6: "timeout"}


def test_bisection_names_the_culprits_whatever_they_are() -> None:
    draw = random.Random(3)
    for _ in range(200):
        count = draw.randrange(1, 200)
        bad = set(draw.sample(range(count), draw.randrange(min(count, MOST) + 1)))
        asked = []

        def probe(start: int, stop: int, bad: set[int] = bad, asked: list[int] = asked) -> str:
            asked.append(stop - start)
            return "worker_killed" if bad & set(range(start, stop)) else ""

        assert isolated(count, probe) == dict.fromkeys(bad, "worker_killed")
        assert len(asked) <= 2 + 2 * len(bad) * (count.bit_length() + 1)


def test_a_machine_that_loses_every_lane_blames_no_picture() -> None:
    with pytest.raises(LaneLost, match="before any picture"):
        isolated(8, lambda *_: "worker_killed")


def test_a_shard_full_of_poison_fails_as_a_whole() -> None:
    with pytest.raises(LaneLost, match=f"more than {MOST}"):
        isolated(100, lambda start, stop: "timeout" if stop > start else "")


def test_a_batch_that_does_not_fit_is_halved_and_equals_one_that_does(tmp_path: Path) -> None:
    job, space = cut(tmp_path, [20 + number for number in range(12) if 20 + number != KILLS])
    samples = list(ShardStore(open_root(job.root)).samples(ShardName.parse(job.shard)))
    numerics = Numerics(device="cpu", dtype="float32", batch_size=11, threads=1)
    schema, narrow = embedding_file_schema(space), NarrowEncoder(room=3)
    whole = list(embedded(samples, SizeEncoder(), numerics, schema))
    assert list(embedded(samples, narrow, numerics, schema)) == whole
    assert narrow.sizes[:3] == [11, 5, 2]
    assert max(narrow.sizes[2:]) <= 3


def test_a_picture_that_fits_not_alone_is_a_row_and_costs_no_other(tmp_path: Path) -> None:
    job, space = cut(tmp_path, [*range(20, 28)])
    samples = ShardStore(open_root(job.root)).samples(ShardName.parse(job.shard))
    numerics = Numerics(device="cpu", dtype="float32", batch_size=8, threads=1)
    tables = embedded(samples, NarrowEncoder(room=99), numerics, embedding_file_schema(space))
    rows = [row for table in tables for row in table.to_pylist()]
    assert {row["width"]: row["error_code"] for row in rows} == {
        width: "out_of_memory" if width == KILLS else "" for width in range(20, 28)
    }


class NarrowCaptioner(SizeCaptioner):
    """Has room for two rows at once, and none for a picture of width `KILLS`."""

    def candidates(
        self, image_BC: torch.Tensor, *rest: object, **more: object
    ) -> list[list[Caption]]:
        if len(image_BC) > 2 or (image_BC[:, 1] == KILLS).any():
            raise torch.OutOfMemoryError("CUDA out of memory, on purpose")
        return super().candidates(image_BC, *rest, **more)  # type: ignore[arg-type]


def test_captions_are_halved_too_and_a_row_without_room_says_so(tmp_path: Path) -> None:
    from storage.reading import embedding_source

    job, space = cut(tmp_path, [*range(20, 28)])
    embed_shard(job)
    rows = embedding_source(open_root(job.root), space).open(ShardName.parse(job.shard))
    writer = Writer(NarrowCaptioner(), SizeCaptioner.decoding, None)
    found = [row for table in captioned(rows, writer, job.shard) for row in table.to_pylist()]
    for row in found:
        lost = row["width"] == KILLS
        assert row["error_code"] == ("out_of_memory" if lost else "")
        text = f"A picture of {row['width']} by 40 pixels."
        assert row["caption"] == (None if lost else text)


def test_any_other_error_of_the_device_is_raised_as_it_is() -> None:
    def broken(start: int, stop: int) -> list[int]:
        raise RuntimeError("CUDA error: device-side assert")

    with pytest.raises(RuntimeError, match="assert"):
        within_memory(broken, 4)
