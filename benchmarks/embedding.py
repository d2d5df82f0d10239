"""ViT-B-32 from decoded pixels: our share of what matrix products reach."""

from contextlib import ExitStack

from benchmarks.comparing import in_turns, share
from benchmarks.random_clip import GIGAFLOPS, random_clip
from benchmarks.results import Row
from benchmarks.settings import Settings, fast_dtype
from benchmarks.side import Side, SideSpec


def rows(settings: Settings) -> list[Row]:
    """One row, in the precision that a run chooses here."""
    clip = random_clip(settings.cache)
    pixels = SideSpec(
        name="ours",
        module="ours_pixels",
        setup={"encoder": str(clip.folder), "dtype": fast_dtype()}
        | ({"batch": 2} if settings.quick else {}),
        threads=settings.threads,
    )
    setup = {"size": 256} if settings.quick else {}
    products = SideSpec(name="limit", module="limit", setup=setup, threads=settings.threads)
    with ExitStack() as stack:
        ours, limit = (stack.enter_context(Side(spec)) for spec in (pixels, products))
        order = {"items": settings.items(256, 2)}
        rates = in_turns(
            {
                "limit": lambda: limit.run({"what": fast_dtype()}),
                "ours": lambda: ours.run(order),
            },
            settings.rounds,
        )
        return [
            share(
                rates["ours"],
                rates["limit"],
                GIGAFLOPS,
                0.85,
                benchmark="embedding",
                name="ViT-B-32 from pixels, against the matrix product in the same precision",
                unit="GFLOP/s",
                peak_mib=ours.peak_mib,
                note=(
                    f"{rates['ours'].middle:.3g} pictures/s in {fast_dtype()}, "
                    f"batches of {ours.facts['batch']}"
                ),
            )
        ]
