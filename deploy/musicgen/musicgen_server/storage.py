"""Cloud Storage through Google's own client: it finds credentials, resumes uploads and checks sums.

Where ``STORAGE_EMULATOR_HOST`` is set the client talks to that, without credentials.
"""

import secrets
from functools import cached_property
from pathlib import Path, PurePosixPath

from google.api_core.exceptions import (
    Forbidden,
    GoogleAPICallError,
    NotFound,
    PreconditionFailed,
    Unauthorized,
)
from google.auth.exceptions import GoogleAuthError
from google.cloud.storage import Client
from requests.exceptions import RequestException

from musicgen_server.contract import WAV_TYPE, impossible, unavailable

_CHUNK_BYTES = 8 * 1024 * 1024
_CALL_TIMEOUT_S = 60
_NAME_BYTES = 16


class CloudStorage:
    """Clips into it, weights from it. The client is made when first needed: answers that fit need none."""

    def put(self, path: Path, prefix: str) -> str:
        """As `musicgen_server.app.Shelf`. Sent in blocks; what has a name already is never replaced."""
        bucket, begin = _split(prefix)
        name = f"{begin}{secrets.token_hex(_NAME_BYTES)}.wav"
        blob = self._client.bucket(bucket).blob(name, chunk_size=_CHUNK_BYTES)
        try:
            blob.upload_from_filename(
                str(path), content_type=WAV_TYPE, if_generation_match=0, timeout=_CALL_TIMEOUT_S
            )
        except PreconditionFailed:
            pass  # nobody else can know the name: an earlier try arrived, and only its answer was lost
        except (Forbidden, NotFound, Unauthorized) as error:
            raise impossible(
                f"The audio cannot be put under {prefix}: Cloud Storage answered {error.code}. The bucket "
                "must be there, and the service account that the model is deployed with needs "
                "roles/storage.objectCreator on it."
            ) from error
        except (GoogleAPICallError, GoogleAuthError, RequestException) as error:
            raise unavailable(
                f"The audio could not be put under {prefix}: {type(error).__name__}."
            ) from error
        return f"gs://{bucket}/{name}"

    def fetch(self, uri: str, directory: Path) -> None:
        """Every object beneath the folder `uri`, into `directory`. Raises what Google's client raises."""
        bucket, begin = _split(uri)
        for blob in self._client.list_blobs(bucket, prefix=begin):
            inside = PurePosixPath(blob.name.removeprefix(begin))
            if blob.name.endswith("/") or inside.is_absolute() or ".." in inside.parts:
                continue
            path = directory / inside
            path.parent.mkdir(parents=True, exist_ok=True)
            blob.download_to_filename(str(path), timeout=_CALL_TIMEOUT_S)
        if not (directory / "config.json").is_file():
            raise FileNotFoundError(f"There is no config.json in {uri}: it holds no model of transformers.")

    @cached_property
    def _client(self) -> Client:
        # Objects need no project, and asking for one would be a call of its own.
        return Client(project="unused")


def _split(uri: str) -> tuple[str, str]:
    """Bucket and what names begin with: nothing, or a path with a slash at its end."""
    bucket, _, path = uri.removeprefix("gs://").partition("/")
    path = path.strip("/")
    return bucket, f"{path}/" if path else ""
