"""Embeddings from JPEG tars end to end: ours against clip-retrieval's inference.

clip-retrieval loads the model in every call, so its rate is that of the pictures between a call on
one tar and a call on all. It gets no more readers than tars: with more it does not end.
"""

from benchmarks.comparing import in_turns
from benchmarks.peers import PeerMissingError, python_of, versions_of
from benchmarks.results import Row
from benchmarks.settings import Settings
from benchmarks.side import Side, SideSpec
from benchmarks.tars import each_tar, inputs, our_spec, tars_row

BENCHMARK = "tars-clip-retrieval"
NAME = "embedding JPEG tars (500x375), ViT-B-32, against clip-retrieval, default dtypes"


def rows(settings: Settings) -> list[Row]:
    """One row, or one that says why there is none."""
    try:
        python = python_of("clip-retrieval", settings)
    except PeerMissingError as error:
        return [Row(benchmark=BENCHMARK, name=NAME, aim="2.3x", note=str(error))]
    with inputs(settings) as (clip, files, root):
        spec = SideSpec(
            name="clip-retrieval",
            module="clip_retrieval_tars",
            setup={"checkpoint": str(clip.checkpoint)},
            python=python,
            threads=settings.threads,
        )
        readers = min(settings.threads, len(files))
        order = {
            "tars": [str(path) for path in files],
            "each": each_tar(settings),
            "workers": readers,
        }
        with Side(our_spec(settings, clip, root, "auto")) as ours, Side(spec) as peer:
            turns = {"ours": lambda: ours.run(order), "peer": lambda: peer.run(order)}
            rates = in_turns(turns, settings.rounds, warm_ups=0 if settings.quick else 1)
            if min(rates["peer"].rounds) <= 0:
                note = (
                    "its loading of the model varies by more than the pictures took: raise --scale"
                )
                return [Row(benchmark=BENCHMARK, name=NAME, aim="2.3x", note=note)]
            note = (
                f"ours in {ours.facts['dtype']}; "
                f"{versions_of(python, 'clip-retrieval', 'torch')}, {readers} readers, its "
                "loading of the model left out"
            )
            mine, theirs = (rates["ours"], ours), (rates["peer"], peer)
            return [tars_row(NAME, 2.3, mine, theirs, benchmark=BENCHMARK, note=note)]
