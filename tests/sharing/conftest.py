"""Storages of every kind, each empty."""

from __future__ import annotations

import os

import pytest
import sqlalchemy

# A server of MySQL or MariaDB that tests may use, mysql://USER:PASSWORD@HOST:PORT/DATABASE; what is in it is dropped.
MYSQL = "AEBNAS_TEST_MYSQL"


@pytest.fixture
def mysql() -> str:
    pytest.importorskip("pymysql", reason="the driver of MySQL (extra mysql) is not installed")
    url = os.environ.get(MYSQL)
    if url is None:
        pytest.skip(f"{MYSQL} names no server")
    engine = sqlalchemy.create_engine(url.replace("mysql:", "mysql+pymysql:", 1))
    database = engine.dialect.identifier_preparer.quote(str(engine.url.database))
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"DROP DATABASE {database}"))
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {database}"))
    engine.dispose()
    return url


@pytest.fixture(params=["sqlite", "postgres", "mysql"])
def url(request, tmp_path) -> str:
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/study.db"
    return request.getfixturevalue(request.param)
