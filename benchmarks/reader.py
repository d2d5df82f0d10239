"""Samples a second out of tars in the page cache: our reader against webdataset's."""

from contextlib import ExitStack

from benchmarks.comparing import in_turns, versus
from benchmarks.photographs import tars
from benchmarks.results import Row
from benchmarks.settings import Settings
from benchmarks.side import Side, SideSpec


def rows(settings: Settings) -> list[Row]:
    """One row; ours checks structure and hash of the tar while it reads."""
    each = settings.items(128, 4)
    files = [str(path) for path in tars(settings.cache / f"photographs-{each}", 3, each)]
    with ExitStack() as stack:
        sides = {
            how: stack.enter_context(
                Side(SideSpec(name=how, module="tar_reading", setup={"how": how, "tars": files}))
            )
            for how in ("ours", "webdataset")
        }
        order = {"times": 1 if settings.quick else 10}
        rates = in_turns(
            {
                "ours": lambda: sides["ours"].run(order),
                "webdataset": lambda: sides["webdataset"].run(order),
            },
            settings.rounds,
        )
        return [
            versus(
                rates["ours"],
                rates["webdataset"],
                benchmark="reader",
                name="samples out of tars (500x375 JPEG, caption, JSON), against webdataset",
                unit="/s",
                peak_mib=sides["ours"].peak_mib,
                peer_peak_mib=sides["webdataset"].peak_mib,
                note="ours proves the tar whole while it reads, and hashes all of its bytes",
            )
        ]
