"""What data and addresses can make Nightcap do: nothing but become rows, or be refused."""

import ast
import io
import json
import os
import pickle
import tarfile
from pathlib import Path

import pytest

from captioner.errors import ModelError
from captioner.language import load_language
from storage.errors import ConfigurationError
from storage.layout import open_root, safe_name
from storage.redaction import redact_text
from storage.tar_reader import TarReader
from storage.urls import filesystem

HERE = Path(__file__).parents[1]
SECRET = "hunter2canary"  # noqa: S105
BANNED_CALLS = {
    *("os.system", "os.popen", "eval", "exec", "pickle.load", "pickle.loads"),
    *("tar.extract", "tar.extractall", "archive.extract", "archive.extractall", "torch.hub.load"),
    "shutil.unpack_archive",
}
BANNED_OPTIONS = {
    ("weights_only", False),
    ("allow_pickle", True),
    ("shell", True),
    ("trust_remote_code", True),
}


class Trap:
    """Leaves a file behind as soon as a pickle of it is read."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize(
    "url",
    [
        f"s3://user:{SECRET}@bucket/root",
        f"s3://bucket/root?X-Amz-Signature={SECRET}",
        f"gs://bucket/root?a=1&token={SECRET}",
        f"s3://bucket/a.tar?AWSAccessKeyId=me&Signature={SECRET}",
    ],
)
def test_an_address_with_a_credential_is_refused_before_anything_keeps_it(url: str) -> None:
    """A flow's parameters lie in clear in Prefect's database: a root with a secret gets nowhere."""
    for use in (filesystem, open_root):
        with pytest.raises(ConfigurationError, match="credential") as caught:
            use(url)
        assert SECRET not in str(caught.value)


def test_a_wildcard_is_no_credential() -> None:
    assert filesystem("memory://bucket/0000?.tar")[1] == "/bucket/0000?.tar"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (f"Could not connect to 'http://me:{SECRET}@host:9/b?X-Amz-Signature={SECRET}'", "host:9"),
        (f"GET https://host/a/b.png?token={SECRET}&x=1 failed", "host/a/b.png failed"),
    ],
)
def test_what_a_client_says_of_a_request_loses_its_secrets(said: str, kept: str) -> None:
    told = redact_text(said)
    assert SECRET not in told
    assert kept in told


def test_no_module_calls_what_runs_data_or_unpacks_it() -> None:
    """Every call of a name that executes data, and every option that allows it."""
    found = []
    for package in ("flows", "tasks", "captioner", "storage"):
        for path in (HERE / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call):
                    continue
                options = {
                    (one.arg, one.value.value)
                    for one in node.keywords
                    if isinstance(one.value, ast.Constant)
                }
                if ast.unparse(node.func) in BANNED_CALLS or options & BANNED_OPTIONS:
                    found.append(f"{path.relative_to(HERE)}:{node.lineno}")
    assert found == []


def test_pickles_in_a_tar_are_counted_and_never_read(tmp_path: Path) -> None:
    trap = pickle.dumps(Trap(tmp_path / "canary"))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("a.jpg", "a.pkl", "a.pth", "a.pyd", "a.npy", "a.pickle"):
            info = tarfile.TarInfo(name)
            info.size = len(trap)
            tar.addfile(info, io.BytesIO(trap))
    reader = TarReader(io.BytesIO(buffer.getvalue()), "x.tar")
    (sample,) = list(reader)
    assert sample.image == trap
    assert reader.skipped == {"other ending": 5}
    assert not (tmp_path / "canary").exists()
    pickle.loads(trap)  # noqa: S301 - the trap does work
    assert (tmp_path / "canary").exists()


def test_a_language_model_that_brings_code_is_not_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "lm"
    folder.mkdir()
    config = {"model_type": "canary", "auto_map": {"AutoModelForCausalLM": "code.Model"}}
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["Model"]}))
    (folder / "code.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'canary')!r})\n")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_language(tmp_path)
    assert not (tmp_path / "canary").exists()


def test_weights_as_a_pickle_are_not_loaded_in_place_of_safetensors(tmp_path: Path) -> None:
    folder = tmp_path / "lm"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_layer": 1}))
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "canary")))
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_language(tmp_path)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", ["../../etc/x", "/abs", "a\0b", "..", "x" * 400, "é\u0301/..", ""])
def test_a_name_from_data_never_leaves_its_folder(name: str) -> None:
    made = safe_name(name)
    assert made == Path(made).name
    assert made not in {"", ".", ".."}
    assert len(made.encode()) <= 255
    assert "\0" not in made
