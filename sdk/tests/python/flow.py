"""The generated Python client against a live server: a whole upload, one that is interrupted and resumed with
nothing but its id and token, an error read by its type, and an answer of a newer server. Ends with 0 only if all of
it is so."""

import json
import os
import time

import urllib3
from upflow_client import (
    ApiClient,
    ChunkRequest,
    ChunksApi,
    ConfirmChunks,
    Configuration,
    DownloadsApi,
    InitUpload,
    PresignChunks,
    Problem,
    Upload,
    UploadsApi,
    UploadStatus,
)
from upflow_client.exceptions import ApiException

CHUNK = 64 * 1024
SERVER = os.environ["UPFLOW_SERVER"]
KEY = os.environ["UPFLOW_API_KEY"]
storage = urllib3.PoolManager()


class Calls:
    """The calls of somebody who holds `bearer`."""

    def __init__(self, bearer):
        self.client = client = ApiClient(Configuration(host=SERVER, access_token=bearer))
        self.uploads = UploadsApi(client)
        self.chunks = ChunksApi(client)
        self.downloads = DownloadsApi(client)


server = Calls(KEY)


def init(data, filename):
    wanted = InitUpload(filename=filename, file_size=len(data), chunk_size=CHUNK, metadata={"sdk": "python"})
    return server.uploads.init_upload(wanted, idempotency_key=f"py-{filename}-{time.time()}")


def send(client, upload, data, indexes):
    """Sends these chunks to S3, and has them confirmed."""
    wanted = PresignChunks(chunks=[ChunkRequest(chunk_index=index) for index in indexes])
    for chunk in client.chunks.presign_chunks(upload.upload_id, wanted).chunks:
        start = chunk.chunk_index * upload.chunk_size
        body = data[start : start + chunk.size_bytes]
        answer = storage.request(chunk.method, chunk.url, headers=chunk.headers, body=body)
        assert answer.status == 200, answer.data
    confirmed = client.chunks.confirm_chunks(upload.upload_id, ConfirmChunks(chunks=indexes))
    assert confirmed.confirmed == indexes and confirmed.rejected == []


def finish(client, upload_id, data):
    client.uploads.complete_upload(upload_id)
    done = client.uploads.get_upload(upload_id, wait_for=UploadStatus.COMPLETED, timeout_seconds=60)
    assert done.status == UploadStatus.COMPLETED, done
    found = storage.request("GET", client.downloads.get_download(upload_id).url)
    assert found.data == data


def whole_upload():
    data = os.urandom(3 * CHUNK + 100)
    upload = init(data, "whole.bin")
    assert upload.total_chunks == 4
    send(server, upload, data, [0, 1, 2, 3])
    finish(server, upload.upload_id, data)


def interrupted_upload():
    data = os.urandom(3 * CHUNK)
    begun = init(data, "resumed.bin")
    send(Calls(begun.upload_token), begun, data, [1])
    upload_id, token = begun.upload_id, begun.upload_token
    # The app was ended. What it has kept is the id and the token; what S3 has, the server finds out.
    client = Calls(token)
    upload = client.uploads.reconcile_upload(upload_id)
    assert upload.uploaded_chunks == [1]
    missing = [index for index in range(upload.total_chunks) if index not in upload.uploaded_chunks]
    send(client, upload, data, missing)
    finish(client, upload_id, data)


def problem(call, *arguments):
    try:
        call(*arguments)
    except ApiException as error:
        assert error.headers["content-type"] == "application/problem+json"
        return Problem.from_json(error.body)
    raise AssertionError("this is refused")


def typed_errors():
    upload = init(os.urandom(10), "error.bin")
    incomplete = problem(server.uploads.complete_upload, upload.upload_id)
    assert incomplete.code == "upload_incomplete" and incomplete.missing_chunks == [0]
    used = problem(server.uploads.reconcile_upload, "00000000-0000-4000-8000-000000000000")
    assert used.code == "upload_not_found" and used.status == 404
    assert problem(Calls("upk_wrong").uploads.list_uploads).code == "credentials_invalid"
    assert problem(Calls(upload.upload_token).uploads.list_uploads).code == "api_key_required"


def newer_server():
    """A status and a field that this version does not know are no reason to stop."""
    begun = init(os.urandom(10), "newer.bin")
    raw = server.uploads.get_upload_without_preload_content(begun.upload_id)
    answer = json.loads(raw.data) | {"status": "archived", "shelf": 7}
    upload = server.client.deserialize(json.dumps(answer), "Upload", "application/json")
    assert isinstance(upload, Upload) and upload.upload_id == begun.upload_id
    assert upload.status == UploadStatus.UNKNOWN_DEFAULT_OPEN_API, upload.status


whole_upload()
interrupted_upload()
typed_errors()
newer_server()
print("done")
