"""URLs of storages: their forms, and what of them may be shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from aebnas.errors import InputError

_STUDY = "aebnas"
_FORMS = "sqlite:///FILE, postgresql://USER@HOST/DATABASE, mysql://USER@HOST/DATABASE or grpc://HOST:PORT"
_GRPC_PORT = 13000


@dataclass(frozen=True)
class Server:
    """The driver of a kind of database: without a word in the URL, SQLAlchemy's choice changes with its version.

    Attributes:
        connect: Options that end the wait for a server that has gone without a word; the URL's own go first.
    """

    driver: str
    extra: str
    connect: dict[str, Any]


SERVERS = {
    "postgresql": Server(
        "psycopg",
        "postgres",
        {
            "connect_timeout": 10,
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 60_000,
        },
    ),
    "mysql": Server("pymysql", "mysql", {"connect_timeout": 10, "read_timeout": 60, "write_timeout": 60}),
}


def study_name(storage: str | None, study: str | None, experiment: str) -> str:
    """Return the name of a run's study: the one that is set, or the experiment's in a storage that runs may share."""
    return study or (_STUDY if storage is None else experiment)


def name_of(url: str) -> str:
    """Return how messages name the storage at ``url``: without password and options."""
    scheme = scheme_of(url)
    if scheme == "grpc":
        host, port = proxy_of(url)
        return f"the storage grpc://{host}:{port}"
    parsed = database_of(url)
    if scheme == "sqlite":
        return str(parsed.database)
    shown = URL.create(scheme, parsed.username, None, parsed.host, parsed.port, parsed.database)
    return f"the storage {shown}"


def scheme_of(url: str) -> str:
    """Return the kind of storage, without its driver."""
    scheme = url.partition(":")[0].partition("+")[0]
    return "postgresql" if scheme == "postgres" else scheme


def database_of(url: str) -> URL:
    """Return ``url`` with the driver that is used; InputError: it is no URL of a database that we know."""
    try:
        parsed = sqlalchemy.make_url(url)
    except (ArgumentError, ValueError):
        # Their texts hold the URL, and so the password.
        raise InputError(f"search.storage is no URL of a storage: write {_FORMS}") from None
    scheme = scheme_of(url)
    if scheme not in ("sqlite", *SERVERS):
        raise InputError(f"search.storage names {scheme}, which is not known: write {_FORMS}")
    if not parsed.database or parsed.database == ":memory:":
        missing = "file" if scheme == "sqlite" else "database"
        raise InputError(f"search.storage names no {missing}: write {_FORMS}")
    if scheme == "sqlite":
        return parsed
    driver = parsed.drivername.partition("+")[2] or SERVERS[scheme].driver
    return parsed.set(drivername=f"{scheme}+{driver}")


def proxy_of(url: str) -> tuple[str, int]:
    """Return host and port of a ``grpc://`` URL; InputError: there is no host in it."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _GRPC_PORT
    except ValueError:
        host = None
    if not host:
        raise InputError("search.storage names no server: write grpc://HOST:PORT")
    return (f"[{host}]" if ":" in host else host), port
