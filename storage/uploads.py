"""Uploads in parts that a killed writer never completed: unseen, yet billed, on S3 alone."""

from collections.abc import Iterator
from dataclasses import dataclass

from storage.urls import filesystem, translated


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload that is not complete."""

    url: str
    id: str
    begun: float
    """By the store's clock."""


def uploads(root: str) -> Iterator[Upload]:
    """Those under `root`; none on stores that know no such thing, or do not tell."""
    if not root.startswith("s3://"):
        return
    fs, path = filesystem(root)
    bucket, _, folder = path.partition("/")
    prefix = f"{folder}/" if folder else ""
    mark = {"KeyMarker": "", "UploadIdMarker": ""}
    while mark:
        with translated(root, "list"):
            try:
                page = fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix, **mark)
            except FileNotFoundError:
                return
        for one in page.get("Uploads", ()):
            yield Upload(
                f"s3://{bucket}/{one['Key']}", one["UploadId"], one["Initiated"].timestamp()
            )
        more = page.get("IsTruncated")
        mark = {name: page.get(f"Next{name}", "") for name in mark} if more else {}


def abandon(url: str, upload: str) -> None:
    """Let the store forget the parts of one upload; it never showed them."""
    fs, path = filesystem(url)
    bucket, _, key = path.partition("/")
    with translated(url, "remove"):
        try:
            fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload)
        except FileNotFoundError:
            return  # completed or forgotten meanwhile
