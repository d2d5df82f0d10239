"""Duplicates are exactly the pairs within reach, joined; the order of rows changes nothing."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curated_runs import Row, failed, lay_run, lay_space, row

from storage.duplicate_hashes import block_masks, near_pairs, popcount
from storage.duplicate_methods import KINDS, Methods
from storage.duplicate_vectors import ROWS_PER_CLUSTER, similar_pairs
from storage.duplicates import DuplicateOptions, Found, find_duplicates
from storage.errors import ConfigurationError

Floats = npt.NDArray[np.float32]
ONE = DuplicateOptions(threads=1)


def flipped(value: int, *bits: int) -> int:
    for bit in bits:
        value ^= 1 << bit
    return value


def unit(image_NC: Any) -> Floats:
    found: Floats = image_NC / np.linalg.norm(image_NC, axis=1, keepdims=True)
    return found.astype(np.float32)


def found_rows(found: Found) -> dict[str, Row]:
    """The rows concerned, by shard and key."""
    listed = pq.read_table(found.outputs[0]).to_pylist()
    return {f"{one['shard']}/{one['key']}": one for one in listed}


def groups(found: Found) -> set[frozenset[str]]:
    parts: dict[str, set[str]] = {}
    for name, one in found_rows(found).items():
        if one["dup_group"]:
            parts.setdefault(one["dup_group"], set()).add(name)
    assert all(min(part) == group for group, part in parts.items())
    return set(map(frozenset, parts.values()))


def by_brute_force(count: int, pairs: Sequence[tuple[int, int]]) -> set[frozenset[int]]:
    """Connected components, the slow way."""
    of = [{number} for number in range(count)]
    for one, other in pairs:
        if of[one] is not of[other]:
            of[one] |= of[other]
            for number in of[other]:
                of[number] = of[one]
    return {frozenset(part) for part in of if len(part) > 1}


def as_set(pairs: Iterator[tuple[Any, Any]]) -> set[tuple[int, int]]:
    return {pair for i, j in pairs for pair in zip(i.tolist(), j.tolist(), strict=True)}


@pytest.mark.parametrize("distance", [1, 2, 4, 8, 11, 16])
def test_no_pair_of_near_hashes_is_missed(distance: int) -> None:
    draw = np.random.default_rng(distance)
    base = draw.integers(0, 2**63, 60, dtype=np.uint64)
    near = [
        flipped(int(value), *draw.choice(64, int(draw.integers(1, 18)), replace=False).tolist())
        for value in base
        for _ in range(4)
    ]
    hash_U = np.unique(np.concatenate([base, np.array(near, np.uint64)]))
    bits = popcount(hash_U[:, None] ^ hash_U[None])
    expected = set(zip(*map(np.ndarray.tolist, np.nonzero(np.triu(bits <= distance, 1))), strict=True))  # fmt: skip  # noqa: E501
    assert len(expected) > 10
    assert as_set(near_pairs(hash_U, distance)) == expected


def test_bits_are_counted() -> None:
    draw = np.random.default_rng(0)
    bits = np.append(draw.integers(0, 2**64, 500, dtype=np.uint64), np.uint64(2**64 - 1))
    assert popcount(bits).tolist() == [int(one).bit_count() for one in bits]


@pytest.mark.parametrize("count", [10, 10**4, 10**6])
def test_masks_leave_room_for_every_difference(count: int) -> None:
    """However the differing bits lie, some mask covers none of them."""
    masks = [int(mask) for mask in block_masks(count, 4)]
    draw = np.random.default_rng(1)
    for _ in range(300):
        apart = sum(1 << int(bit) for bit in draw.choice(64, 4, replace=False))
        assert any(mask & apart == 0 for mask in masks)


@pytest.mark.parametrize("cosine", [0.8, 0.95, 0.99])
def test_no_pair_of_like_embeddings_is_missed_across_clusters(
    cosine: float, tmp_path: Path
) -> None:
    draw = np.random.default_rng(5)
    count = 2 * ROWS_PER_CLUSTER + 1000
    centre = draw.standard_normal((count // 3, 12))
    noise = draw.standard_normal((count // 3 * 3, 12)) * draw.uniform(
        0.01, 0.4, (count // 3 * 3, 1)
    )
    image_NC = unit(centre.repeat(3, 0) + noise)
    likeness = image_NC.astype(np.float64) @ image_NC.astype(np.float64).T
    unsure = np.abs(likeness - cosine) < 1e-9
    assert not unsure.any()
    i, j = np.nonzero(np.triu(likeness >= cosine, 1))
    expected = set(zip(i.tolist(), j.tolist(), strict=True))
    assert len(expected) > 500
    found = similar_pairs(image_NC, np.arange(len(image_NC)), cosine, tmp_path)
    assert as_set(found) == expected


def planted(seed: int = 2) -> tuple[list[Row], Floats]:
    """Rows with copies, near hashes, near embeddings, hashes that embeddings contradict, gaps."""
    draw = np.random.default_rng(seed)
    rows, image_NC = [], []
    for number in range(60):
        base = draw.standard_normal(16)
        value = int(draw.integers(0, 2**63))
        for copy in range(4):
            key = f"{number:03}{copy}"
            bits = draw.choice(64, copy * 3, replace=False).tolist()
            facts: dict[str, Any] = {"phash": flipped(value, *bits)}
            facts["clip_sim"] = [0.3, 0.31, None, 0.3][copy]
            if copy == 1:
                facts["sha256"] = rows[-1]["sha256"]
            if number % 7 == 3:
                facts["phash"] = None
            vector = base + draw.standard_normal(16) * 0.05 * copy
            image_NC.append(draw.standard_normal(16) if number % 9 == 4 else vector)
            rows.append(row(key, **facts))
        rows.append(failed(f"{number:03}x", sha256=rows[-1]["sha256"], phash=rows[-1]["phash"]))
        image_NC.append(base)
    return rows, unit(np.array(image_NC))


def lay_planted(root: Path, order: npt.NDArray[np.int64], shards: int) -> str:
    rows, image_NC = planted()
    runs, spaces = {}, {}
    for at, part in enumerate(np.array_split(order, shards)):
        name = f"0000/{at:05}"
        runs[name] = [rows[number] for number in part]
        spaces[name] = (runs[name], image_NC[part])
    space = lay_space(root, spaces)
    return lay_run(root, runs, space=space)


@pytest.mark.parametrize("kind", [*KINDS, "sha256,phash+embedding", "phash,embedding"])
def test_groups_are_what_comparing_each_with_each_gives(kind: str, tmp_path: Path) -> None:
    rows, image_NC = planted()
    root = lay_planted(tmp_path / "root", np.arange(len(rows)), 1)
    methods = Methods(by=tuple(kind.split(",")))

    def alike(one: int, other: int) -> bool:
        said = []
        for by in methods.by:
            hashes = rows[one]["phash"], rows[other]["phash"]
            bits = 99 if None in hashes else (hashes[0] ^ hashes[1]).bit_count()
            cosine = float(image_NC[one].astype(float) @ image_NC[other].astype(float))
            tests = {
                "sha256": rows[one]["sha256"] == rows[other]["sha256"],
                "phash": bits <= methods.distance_for(by),
                "embedding": cosine >= methods.cosine_for(by),
            }
            said.append(all(tests[part] for part in by.split("+")))
        return any(said)

    sound = [number for number, one in enumerate(rows) if one["status"] == "ok"]
    pairs = [(i, j) for at, i in enumerate(sound) for j in sound[:at] if alike(i, j)]
    expected = {
        frozenset(f"0000/00000/{rows[number]['key']}" for number in part)
        for part in by_brute_force(len(rows), pairs)
    }
    assert len(expected) > 20
    found = find_duplicates(root, methods, ONE)
    assert groups(found) == expected
    assert found.spare == sum(len(part) - 1 for part in expected)


def test_nothing_depends_on_the_order_of_rows_or_on_threads(tmp_path: Path) -> None:
    rows, _ = planted()
    seen = set()
    for at in range(3):
        order = np.random.default_rng(at).permutation(len(rows)) if at else np.arange(len(rows))
        root = lay_planted(tmp_path / str(at), order, 1)
        options = DuplicateOptions(threads=at + 1)
        methods = Methods(by=("sha256", "phash", "embedding"))
        found = find_duplicates(root, methods, options)
        seen.add(Path(found.outputs[0]).read_bytes())
    assert len(seen) == 1


def test_nothing_depends_on_how_rows_are_dealt_into_shards(tmp_path: Path) -> None:
    rows, _ = planted()

    def dealt(place: str, shards: int) -> set[frozenset[str]]:
        order = np.random.default_rng(shards).permutation(len(rows))
        found = find_duplicates(lay_planted(tmp_path / place, order, shards), Methods(), ONE)
        return {frozenset(name.rsplit("/", 1)[1] for name in part) for part in groups(found)}

    assert dealt("one", 1) == dealt("five", 5)


def test_the_best_scored_row_comes_first_and_ties_go_by_name(tmp_path: Path) -> None:
    same = {"sha256": "0" * 64}
    rows = [row("b", clip_sim=0.3, **same), row("c", clip_sim=None, **same)]
    rows += [row("d", clip_sim=0.4, **same), row("a", clip_sim=0.3, **same), row("e")]
    root = lay_run(tmp_path, {"0000/00000": rows})
    found = find_duplicates(root, Methods(by=("sha256",)), ONE)
    ranks = {one["key"]: one["dup_rank"] for one in found_rows(found).values()}
    assert ranks == {"d": 0, "a": 1, "b": 2, "c": 3}
    assert {one["dup_group"] for one in found_rows(found).values()} == {"0000/00000/a"}
    assert {one["dup_sim"] for one in found_rows(found).values()} == {1.0}


def test_likeness_is_to_the_best_row(tmp_path: Path) -> None:
    rows = [row("a", phash=0, clip_sim=0.4), row("b", phash=0b1111, clip_sim=0.3)]
    root = lay_run(tmp_path, {"0000/00000": rows})
    found = find_duplicates(root, Methods(by=("phash",)), ONE)
    like = {one["key"]: one["dup_sim"] for one in found_rows(found).values()}
    assert like == {"a": 1.0, "b": pytest.approx(1 - 4 / 64)}


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_a_held_out_root_has_too_are_flagged(kind: str, tmp_path: Path) -> None:
    rows, image_NC = planted()
    ours = lay_planted(tmp_path / "ours", np.arange(len(rows)), 1)
    held = [5 * number for number in (0, 1, 2, 8)]  # first copies, their hashes and embeddings
    others = [rows[number] | {"key": f"held{number}"} for number in held]
    space = lay_space(tmp_path / "held", {"9/0": (others, image_NC[held])})
    lay_run(tmp_path / "held", {"9/0": others}, space=space)
    found = find_duplicates(ours, Methods(by=(kind,), against=str(tmp_path / "held")), ONE)
    matched = {one["key"]: one["dup_against"] for one in found_rows(found).values()}
    for number in held:
        assert matched[rows[number]["key"]] == f"9/0/held{number}"
    assert found.against == sum(1 for match in matched.values() if match)
    assert found.against < 20
    alone = find_duplicates(ours, Methods(by=(kind,)), ONE)
    assert groups(alone) == groups(found), "a held-out row joined two of our groups"


def test_a_held_out_set_may_be_any_parquet(tmp_path: Path) -> None:
    rows = [row("a", phash=1), row("b", phash=2**40 - 1), row("c", phash=7)]
    root = lay_run(tmp_path / "root", {"0000/00000": rows})
    (tmp_path / "held").mkdir()
    pq.write_table(pa.table({"phash": pa.array([99, 2**40 - 1], pa.int64())}),
                   tmp_path / "held" / "test.parquet")  # fmt: skip
    methods = Methods(by=("phash",), distance=1, against=str(tmp_path / "held"))
    found = find_duplicates(root, methods, ONE)
    matched = {one["key"]: one["dup_against"] for one in found_rows(found).values()}
    assert matched["b"] == "test/000000001"
    assert found.against == 1


def test_what_cannot_be_looked_at_is_refused_in_a_sentence(tmp_path: Path) -> None:
    root = lay_run(tmp_path / "root", {"0000/00000": [row("a"), row("b")]})
    with pytest.raises(ConfigurationError, match="no row has a value for phash"):
        find_duplicates(root, Methods(by=("phash",)), ONE)
    with pytest.raises(ConfigurationError, match="'imagehash'"):
        Methods(by=("imagehash",))
    with pytest.raises(ConfigurationError, match="no run 'rum'"):
        find_duplicates(root, Methods(by=("sha256",)), DuplicateOptions(run="rum"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match="no root, and holds no"):
        find_duplicates(root, Methods(by=("sha256",), against=str(tmp_path / "empty")), ONE)
    rows = [row("a", phash=1)]
    lay_space(tmp_path / "wide", {"0/0": (rows, unit(np.ones((1, 16))))})
    space = lay_space(tmp_path / "narrow", {"0/0": (rows, unit(np.ones((1, 8))))})
    lay_run(tmp_path / "narrow", {"0/0": rows}, space=space)
    methods = Methods(by=("embedding",), against=str(tmp_path / "wide"))
    with pytest.raises(ConfigurationError, match="another width"):
        find_duplicates(str(tmp_path / "narrow"), methods, ONE)


def test_a_run_without_rows_or_with_one_has_no_duplicates(tmp_path: Path) -> None:
    for rows in ([], [row("a", phash=1)], [failed("a")]):
        place = tmp_path / str(len(rows)) / (rows[0]["status"] if rows else "")
        root = lay_run(place, {"0000/00000": rows})
        found = find_duplicates(root, Methods(by=("sha256", "phash")), ONE)
        assert (found.groups, found.spare, found_rows(found)) == (0, 0, {})


def test_embeddings_alone_will_do(tmp_path: Path) -> None:
    image_NC = unit(np.eye(3, 4) + 0.001 * np.eye(3, 4)[:, ::-1])
    rows = [row("a"), row("b"), row("c", sha256=row("a")["sha256"])]
    lay_space(tmp_path, {"0/0": (rows, image_NC)})
    found = find_duplicates(str(tmp_path), Methods(by=("sha256", "embedding")), ONE)
    assert found.among == "laid"
    assert groups(found) == {frozenset({"0/0/a", "0/0/c"})}
