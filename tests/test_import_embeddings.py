"""ClipCap's pickled embeddings become a folder of arrays; anything else in them is refused."""

import io
import json
import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from captioner.errors import ModelError
from captioner.importing.embeddings import read_embeddings
from flows.cli import app
from storage.errors import ConfigurationError
from tasks.embeddings_import import ImportedEmbeddings, import_embeddings

CAPTIONS = [("17", "a dog"), ("4", "a cat"), ("17", "a brown dog"), ("25", "Zoë's café")]


def content(image_NC: torch.Tensor | None = None) -> dict[str, Any]:
    """As parse_coco.py fills it: a row for each caption, equal for one picture's captions."""
    rows = torch.randn(3, 6) if image_NC is None else image_NC
    entries = [
        {"image_id": key, "caption": text, "clip_embedding": number}
        for number, (key, text) in enumerate(CAPTIONS)
    ]
    return {"clip_embedding": rows[[0, 1, 0, 2]], "captions": entries}


def pickled(path: Path, what: object) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch on its own pickles
        path.write_bytes(pickle.dumps(what))
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_every_picture_is_a_row_with_all_its_captions(
    dtype: torch.dtype, protocol: int, tmp_path: Path
) -> None:
    image_NC = torch.randn(3, 6).to(dtype)
    (tmp_path / "coco.pkl").write_bytes(pickle.dumps(content(image_NC), protocol=protocol))
    done = import_embeddings(tmp_path / "coco.pkl", str(tmp_path / "out"), part=2)
    assert done == ImportedEmbeddings(3, 4, 6, str(dtype).removeprefix("torch."))
    arrays = [np.load(tmp_path / "out" / "img_emb" / f"img_emb_000{n}.npy") for n in (0, 1)]
    assert [len(array) for array in arrays] == [2, 1]
    np.testing.assert_array_equal(np.concatenate(arrays), image_NC.numpy())
    tables = [
        pq.read_table(tmp_path / "out" / "metadata" / f"metadata_000{n}.parquet") for n in (0, 1)
    ]
    assert [table.to_pylist() for table in tables] == [
        [
            {"key": "17", "caption": ["a dog", "a brown dog"]},
            {"key": "4", "caption": ["a cat"]},
        ],
        [{"key": "25", "caption": ["Zoë's café"]}],
    ]


def test_a_part_of_a_larger_tensor_is_read_as_that_part(tmp_path: Path) -> None:
    """A view is pickled with all of its storage."""
    whole = torch.randn(10, 8)
    path = pickled(
        tmp_path / "coco.pkl",
        {"clip_embedding": whole[2:8, 1:7], "captions": content()["captions"][:2]},
    )
    np.testing.assert_array_equal(read_embeddings(path).image_NC, whole[2:8, 1:7].numpy())


def test_the_command_counts_what_it_wrote(tmp_path: Path) -> None:
    path = pickled(tmp_path / "coco.pkl", content())
    done = CliRunner().invoke(app, ["import-embeddings", str(path), str(tmp_path / "a")])
    assert done.stdout.endswith("3 pictures with 4 captions, embeddings 6 wide in float32\n")
    words = ["import-embeddings", str(path), str(tmp_path / "b"), "--json"]
    told = json.loads(CliRunner().invoke(app, words).stdout.splitlines()[-1])
    assert (told["ok"], told["pictures"], told["captions"]) == (True, 3, 4)


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


class Inner:
    """A tensor's numbers that are a trap themselves: torch's own reader would spring it."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> tuple[Any, ...]:
        return torch.storage._load_from_bytes, (self.data,)


def test_code_in_a_pickle_is_named_and_not_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    path = pickled(tmp_path / "trap.pkl", content() | {"trap": Trap(canary)})
    with pytest.raises(ModelError, match=r"asks for posix\.mkdir"):
        import_embeddings(path, str(tmp_path / "out"))
    assert not canary.exists()
    assert not (tmp_path / "out").exists()
    pickle.loads(path.read_bytes())  # noqa: S301 - to see that it is one
    assert canary.exists(), "the trap was none"


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_tensors_numbers_is_not_run_either(zipped: bool, tmp_path: Path) -> None:
    canary, file = tmp_path / "canary", io.BytesIO()
    torch.save(Trap(canary), file, _use_new_zipfile_serialization=zipped)
    path = pickled(tmp_path / "trap.pkl", {"clip_embedding": Inner(file.getvalue())})
    with pytest.raises(ModelError, match=r"trap\.pkl"):
        import_embeddings(path, str(tmp_path / "out"))
    assert not canary.exists()
    pickle.loads(path.read_bytes())  # noqa: S301 - to see that it is one
    assert canary.exists(), "the trap was none"


@pytest.mark.parametrize(
    "name", ["builtins.eval", "os.system", "numpy.core.multiarray._reconstruct", "torch.load"]
)
def test_no_other_name_is_known(name: str, tmp_path: Path) -> None:
    module, _, attribute = name.rpartition(".")
    path = tmp_path / "trap.pkl"
    path.write_bytes(f"c{module}\n{attribute}\n.".encode())
    with pytest.raises(ModelError, match=f"asks for {name}, and code"):
        read_embeddings(path)


def one_picture_twice(what: dict[str, Any]) -> object:
    what["captions"][2]["image_id"] = "4"
    return what


def a_row_too_far(what: dict[str, Any]) -> object:
    what["captions"][2]["clip_embedding"] = 4
    return what


def no_caption(what: dict[str, Any]) -> object:
    del what["captions"][2]["caption"]
    return what


def integers(what: dict[str, Any]) -> object:
    return what | {"clip_embedding": torch.ones(4, 6, dtype=torch.long)}


def no_captions(what: dict[str, Any]) -> object:
    return what | {"captions": []}


def a_list(what: dict[str, Any]) -> object:
    return [what]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (one_picture_twice, "the picture '4' two different embeddings"),
        (a_row_too_far, "Entry 2 of 'captions' .* no row among the 4"),
        (no_caption, "Entry 2 of 'captions' .* no caption"),
        (integers, r"are torch.int64 of shape \(4, 6\)"),
        (no_captions, "holds no embeddings of ClipCap"),
        (a_list, "holds no embeddings of ClipCap"),
    ],
)
def test_what_does_not_fit_together_is_told_and_nothing_written(
    damage: Callable[[dict[str, Any]], object], message: str, tmp_path: Path
) -> None:
    path = pickled(tmp_path / "coco.pkl", damage(content()))
    with pytest.raises(ModelError, match=message) as caught:
        import_embeddings(path, str(tmp_path / "out"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_no_cut_and_no_flipped_byte_ends_in_a_traceback(tmp_path: Path) -> None:
    data = pickled(tmp_path / "coco.pkl", content()).read_bytes()
    chance, refused = torch.Generator().manual_seed(1), 0
    flips = [
        data[:at] + bytes([int(torch.randint(256, (), generator=chance))]) + data[at + 1 :]
        for at in range(0, len(data), 2)
    ]
    for changed in [*flips, *(data[:at] for at in range(0, len(data), 9))]:
        (tmp_path / "coco.pkl").write_bytes(changed)
        try:
            read_embeddings(tmp_path / "coco.pkl")
        except ModelError:
            refused += 1
    assert refused > len(data) // 9


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    path = pickled(tmp_path / "coco.pkl", content())
    with pytest.raises(ConfigurationError, match="not an empty folder"):
        import_embeddings(path, str(tmp_path))
    with pytest.raises(ModelError, match="no file"):
        import_embeddings(tmp_path / "none.pkl", str(tmp_path / "out"))
    assert sorted(tmp_path.iterdir()) == [path]
