"""What exported files are called: strangers choose paths and keys, never places."""

import json
from pathlib import Path

from collections_of_pictures import snapshot
from curated_runs import lay_run, row
from hypothesis import given
from hypothesis import strategies as st

from storage.export import ExportOptions, export
from storage.export_names import folded, key_name, member_name, path_name

HOSTILE_PATHS = (
    *("../../etc/passwd", "/etc/passwd", "a/../../b.png", "C:\\windows\\x.png", "a\x00b.png"),
    *("CON.png", "aux", ".hidden/.x.png", "-rf.png", "~/x.png", "a\nb.png", "\u202egnp.exe"),
    *("x.jpg/y.png", "x.jpg", "é.png", "e\u0301.png", "B.png", "b.png", "same.jpg", "same.png"),
    *("n" * 300 + ".png", "/".join(["d"] * 60) + "/x.png", "", ".", "..", "//", "a b. /c .png"),
    *("metadata.json", "__init__/x.png", ".nightcap/export.json", "what?<>:*|.png"),
)


def test_hostile_paths_and_keys_stay_inside_and_none_replaces_another(tmp_path: Path) -> None:
    rows = [
        row(key, path=path, caption=f"caption {number}")
        for number, path in enumerate(HOSTILE_PATHS)
        for key in [f"{number:03}"]
    ]
    keyed = [
        row(path or "none", path=None, caption=f"keyed {number}")
        for number, path in enumerate(HOSTILE_PATHS)
    ]
    root = lay_run(tmp_path / "root", {"0000/00000": rows, "0000/00001": keyed})
    before = snapshot(tmp_path)
    out = tmp_path / "deep" / "out"
    for to, names in (("txt", "path"), ("txt", "key"), ("kohya", "path")):
        export(root, str(out / to / names), ExportOptions(to=to, names=names))
    expected = {f"caption {n}" for n in range(len(rows))} | {f"keyed {n}" for n in range(len(rows))}
    for names in ("path", "key"):
        files = list((out / "txt" / names).rglob("*.txt"))
        assert sorted(file.read_text() for file in files) == sorted(expected)
        assert not any(
            part.startswith(".") for file in files for part in file.relative_to(out).parts
        )
    metadata = json.loads((out / "kohya" / "path" / "metadata.json").read_text())
    assert {one["caption"] for one in metadata.values()} == expected
    after = snapshot(tmp_path)
    assert {
        name for name in after.keys() - before.keys() if not name.startswith("deep/out/")
    } == set()
    assert {name: after[name] for name in before} == before


@given(st.text(max_size=80), st.text(max_size=20))
def test_no_name_leaves_its_folder_or_is_longer_than_a_disk_allows(path: str, key: str) -> None:
    for name in (path_name(path, "0000/00000", key), key_name("0000/00000", key), member_name(key)):
        parts = name.split("/")
        assert all(part and part.strip(". ") and not part.startswith((".", "-")) for part in parts)
        assert all(len(part.encode()) <= 143 for part in parts)
        assert name.isprintable()
        assert "~" not in name  # which marks a name that was taken
        assert "\\" not in name
    assert "." not in member_name(key).rpartition("/")[2]
    assert folded(path_name(path.upper(), "b/s", key)) == folded(
        path_name(path.upper(), "b/s", key)
    )


def test_names_that_a_disk_takes_for_one_get_numbers(tmp_path: Path) -> None:
    paths = ("a/Dog.png", "a/dog.png", "a/dog.jpg", "a/d\u00f6g.png", "a/do\u0308g.png")
    rows = [row(f"{n}", path=path, caption=f"{n}") for n, path in enumerate(paths)]
    root = lay_run(tmp_path / "root", {"0000/00000": rows})
    done = export(root, str(tmp_path / "out"), ExportOptions(to="txt"))
    names = sorted(path.stem for path in (tmp_path / "out").rglob("*.txt"))
    assert names == sorted(["Dog", "dog~2", "dog~3", "d\u00f6g", "do\u0308g~2"])
    assert done.counts.renamed == 3
