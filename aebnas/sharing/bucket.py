"""Buckets of S3, and of servers that speak as it does, as artifact stores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from optuna.artifacts import Boto3ArtifactStore

from aebnas.errors import InputError, MissingExtraError
from aebnas.sharing.artifact_stores import PatientStore
from aebnas.sharing.patience import Patience

_FORM = "s3://BUCKET/PREFIX?endpoint_url=URL"
_OPTIONS = ("endpoint_url", "region_name")
_FOR_NOW = ("SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "RequestTimeTooSkewed")


def open_bucket(where: str, say: Callable[[str], None], patience_s: float) -> PatientStore:
    """Open the bucket at ``where``, which must be there.

    Raises:
        InputError: the address is wrong, boto3 is not installed, or the store refuses. RunFailed: it stayed away.
    """
    parts = urlsplit(where)
    options = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    unknown = next((key for key in options if key not in _OPTIONS), None)
    if unknown is not None:
        raise InputError(f"search.artifacts has the option {unknown}, which is not known: write {_FORM}")
    if "@" in parts.netloc:
        raise InputError("search.artifacts holds credentials: put them where boto3 finds them, such as the environment")
    if not parts.netloc:
        raise InputError(f"search.artifacts names no bucket: write {_FORM}")
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as error:
        raise MissingExtraError("boto3", "s3") from error
    # Servers other than Amazon's have no host for each bucket, and may not know its newest checksums.
    needed = {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
    own: dict[str, Any] = {"s3": {"addressing_style": "path"}, **needed} if "endpoint_url" in options else {}
    config = Config(connect_timeout=10, read_timeout=60, retries={"max_attempts": 2, "mode": "standard"}, **own)
    what = f"the bucket s3://{parts.netloc}"
    try:
        client = boto3.client("s3", config=config, **options)
    except (BotoCoreError, ValueError) as error:
        raise InputError(f"{what} cannot be used ({error}): see to search.artifacts") from error
    patience = Patience(what, _for_now, say=say, seconds=patience_s)
    prefix = f"{path}/" if (path := unquote(parts.path).strip("/")) else ""
    artifacts = Boto3ArtifactStore(parts.netloc, client, avoid_buf_copy=True)
    store = PatientStore(artifacts, what, patience, (BotoCoreError, ClientError), prefix)
    # Told now: later, what is not in a bucket that is missing is merely not there.
    store.patiently(lambda again: client.head_bucket(Bucket=parts.netloc))
    return store


def _for_now(error: Exception) -> str | None:
    from botocore import exceptions

    if isinstance(error, exceptions.ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = error.response.get("Error", {}).get("Code", "")
        return f"{code} {status}" if status >= 500 or status == 429 or code in _FOR_NOW else None
    return str(error) if isinstance(error, (exceptions.ConnectionError, exceptions.HTTPClientError)) else None
