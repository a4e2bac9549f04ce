"""What the Python SDK does, as it comes: a multipart upload there and back, and 2,500 keys listed.

The server is named by the environment, as `upflow s3 --show-keys` prints it."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
from boto3.s3.transfer import TransferConfig

BUCKET = "upflow"
MIB = 1024 * 1024


def same(found, expected):
    if found != expected:
        raise SystemExit(f"{found!r} instead of {expected!r}")


def multipart(s3, folder):
    body = bytes(range(256)) * (17 * MIB // 256) + b"the end"
    (folder / "sent").write_bytes(body)
    config = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
    headers = {"ContentType": "video/mp4", "Metadata": {"kind": "ü".encode().hex()}}
    s3.upload_file(str(folder / "sent"), BUCKET, "dir/a film.mp4", ExtraArgs=headers, Config=config)
    head = s3.head_object(Bucket=BUCKET, Key="dir/a film.mp4", ChecksumMode="ENABLED")
    same(head["ContentLength"], len(body))
    same(head["ContentType"], "video/mp4")
    same(head["ETag"][-3:], '-4"')
    # It computes a checksum of each part by itself, and the server one of the whole.
    same([name for name in head if name.startswith("ChecksumCRC")] != [], True)
    s3.download_file(BUCKET, "dir/a film.mp4", str(folder / "got"), Config=config)
    same((folder / "got").read_bytes() == body, True)
    same(s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []), [])


def listing(s3):
    keys = [f"keys/{number:04} ü&+.txt" for number in range(2500)]
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda key: s3.put_object(Bucket=BUCKET, Key=key, Body=b"x"), keys):
            pass
    pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="keys/"))
    same([len(page["Contents"]) for page in pages], [1000, 1000, 500])
    same([item["Key"] for page in pages for item in page["Contents"]], keys)
    rolled = s3.list_objects_v2(Bucket=BUCKET, Delimiter="/")
    same([prefix["Prefix"] for prefix in rolled["CommonPrefixes"]], ["dir/", "keys/"])
    for start in range(0, len(keys), 1000):
        named = [{"Key": key} for key in keys[start : start + 1000]]
        done = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": named})
        same((len(done["Deleted"]), done.get("Errors", [])), (len(named), []))
    same(s3.list_objects_v2(Bucket=BUCKET, Prefix="keys/")["KeyCount"], 0)


client = boto3.client("s3")
multipart(client, Path(sys.argv[1]))
listing(client)
