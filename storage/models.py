"""Trained models under a root: published whole with a receipt, found by `name` or `name@fp8`."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.commit import remove, replace
from storage.errors import ConfigurationError, ShardError
from storage.fingerprint import sha256_file
from storage.layout import Root, plain_name
from storage.receipts import FileFacts, Receipt, commit_receipt, recorded_all
from storage.settled import SettingsFile
from storage.urls import filesystem, folders, is_local, join, read_bytes, translated

STAGE = "train"


@dataclass(frozen=True, slots=True)
class ModelName:
    """`name@fp8`: one version of a model."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


def model_settings(root: Root, name: str) -> SettingsFile:
    """Where each version's settings are kept: `models/<name>/<fp8>/settings.json`."""
    return SettingsFile(parent=root.model(name), file="settings.json")


def publish_model(
    root: Root, model: ModelName, fingerprint: str, folder: Path, facts: dict[str, Any]
) -> Receipt:
    """Put the files of `folder` under the root, then their receipt: the receipt commits."""
    home = root.model(model.name, model.version)
    files = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        url = join(home, path.relative_to(folder).as_posix())
        replace(url, path)
        size, digest = path.stat().st_size, sha256_file(path)
        files.append(FileFacts(url=root.relative(url), size=size, sha256=digest))
    receipt = Receipt(
        stage=STAGE,
        shard=f"{model.name}/{model.version}",
        fingerprint=fingerprint,
        rows=int(facts.get("examples", 0)),
        files=tuple(files),
        facts=facts,
    )
    return commit_receipt(root.model(model.name), model.version, receipt)


def adopt_model(root: Root, candidate: ModelName, name: str, follows: list[str]) -> Receipt:
    """Publish `candidate` under another name too, as the version that `follows` those.

    Its files are copied; the receipt commits, and a second call finds it.
    """
    model = ModelName(name, candidate.version)
    if receipt := versions(root, name).get(model.version):
        return receipt
    made = versions(root, candidate.name)[candidate.version]
    folder, home = model_folder(root, candidate), root.model(name, model.version)
    files = []
    for file in made.files:
        inside = file.url.split(f"/{candidate.version}/", 1)[1]
        url = join(home, inside)
        replace(url, folder / inside)
        files.append(dataclasses.replace(file, url=root.relative(url)))
    settings = join(root.model(candidate.name, candidate.version), "settings.json")
    replace(join(home, "settings.json"), read_bytes(settings))
    receipt = dataclasses.replace(
        made,
        shard=f"{name}/{model.version}",
        files=tuple(files),
        facts={**made.facts, "follows": follows},
    )
    return commit_receipt(root.model(name), model.version, receipt)


def newest_versions(root: Root, name: str) -> list[ModelName]:
    """The versions of model `name` that no other was published to follow: one, or none at first.

    Several where trainings with different settings were put under one name by hand.
    """
    known = versions(root, name)
    followed = {old for receipt in known.values() for old in receipt.facts.get("follows", ())}
    return [ModelName(name, version) for version in known if version not in followed]


def versions(root: Root, name: str) -> dict[str, Receipt]:
    """The complete versions of model `name`, by the 8 digits that tell them apart."""
    found = recorded_all(root.model(name))
    return {version: record.receipt for version, record in found.items()}


def trained_models(root: Root) -> list[ModelName]:
    """Every complete model under the root."""
    names = folders(join(root.url, "models"))
    return [ModelName(name, version) for name in names for version in versions(root, name)]


def find_trained(root: Root, text: str) -> ModelName | None:
    """The model that `text` (`name` or `name@fp8`) means; None where no such name is here.

    Raises ConfigurationError where a name has several versions and none was chosen.
    """
    name, _, version = text.partition("@")
    known = versions(root, plain_name(name, "model")) if "/" not in name and name else {}
    if not known:
        return None
    if version in known:
        return ModelName(name, version)
    choices = ", ".join(f"{name}@{known_version}" for known_version in known)
    if version or len(known) > 1:
        raise ConfigurationError(f"model {text!r}: choose one of {choices}")
    return ModelName(name, next(iter(known)))


def model_folder(root: Root, model: ModelName) -> Path:
    """A local folder with the model's files; from a remote root they are fetched once."""
    home = root.model(model.name, model.version)
    if is_local(home):
        return Path(filesystem(home)[1])
    receipt = versions(root, model.name)[model.version]
    target = _cache() / model.name / f"{model.version}-{receipt.digest[:16]}"
    for file in receipt.files:
        place = target / file.url.split(f"/{model.version}/", 1)[1]
        if not place.exists() or sha256_file(place) != file.sha256:
            replace(str(place), read_bytes(root.absolute(file.url)))
        if sha256_file(place) != file.sha256:
            raise ShardError(f"model {model}: {place.name!r} is not what its receipt names")
    return target


def discard(url: str) -> None:
    """Take a folder of checkpoints away once its model is committed."""
    fs, path = filesystem(url)
    with translated(url, "remove"):
        names = fs.find(path) if fs.exists(path) else []
    for name in names:
        remove(fs.unstrip_protocol(name))
    if is_local(url) and Path(path).is_dir():
        Path(path).rmdir()


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "nightcap" / "models"
