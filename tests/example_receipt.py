"""A receipt with something in every field."""

from storage.receipts import FileFacts, Receipt

RECEIPT = Receipt(
    stage="caption",
    shard="0000/00017",
    fingerprint="f" * 64,
    rows=10_000,
    failures={"truncated": 2, "empty": 1},
    files=(FileFacts(url="captions/run/0000/00017-ab.parquet", size=12_345, sha256="a" * 64),),
    inputs=(
        FileFacts(url="embeddings/nano-1/0000/00017-cd.parquet", size=99, sha256="b" * 64),
        FileFacts(url="s3://elsewhere/ä b.tar", size=1, stamp="etag-1"),
    ),
    facts={"bytes_read": 1.5e10, "name": 'Ünïcode\u2028 "quoted"', "none": None, "list": [1, "a"]},
)
