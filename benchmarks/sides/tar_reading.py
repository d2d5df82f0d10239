"""Reading every sample's bytes out of tars: our reader, or webdataset's."""

from pathlib import Path

import webdataset

from benchmarks.serving import Facts, Work, serve
from storage.tar_reader import TarReader


def prepare(setup: Facts) -> tuple[Work, Facts]:
    """`how` is ours or webdataset."""
    paths = [Path(path) for path in setup["tars"]]

    def ours() -> int:
        count = 0
        for path in paths:
            with path.open("rb") as file:
                count += sum(sample.image is not None for sample in TarReader(file, path.name))
        return count

    def theirs() -> int:
        names = [str(path) for path in paths]
        reader = webdataset.WebDataset(names, shardshuffle=False, empty_check=False)
        return sum("jpg" in sample for sample in reader)

    read = ours if setup["how"] == "ours" else theirs

    def work(order: Facts) -> Facts:
        return {"items": sum(read() for _ in range(order["times"]))}

    return work, {}


if __name__ == "__main__":
    serve(prepare)
