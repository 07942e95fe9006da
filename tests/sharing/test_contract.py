"""Optuna's own suite for storages, on ours: with their patience, they behave as its."""

from __future__ import annotations

import pytest
from optuna.testing.pytest_storages import StorageTestCase

from aebnas.sharing.storage import open_storage


class TestOurStorages(StorageTestCase):
    # Each process opens its own, by the URL.
    test_pickle_storage = None

    @pytest.fixture
    def storage(self, tmp_path):
        return open_storage(f"sqlite:///{tmp_path}/study.db", say=print)
