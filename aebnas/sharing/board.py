"""Notes that every process of a search can read, in the storage of its study."""

from __future__ import annotations

import contextlib
from typing import Any

from optuna.exceptions import DuplicatedStudyError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection

_SUFFIX = "#board"


class Board:
    """Notes by key, each a JSON value, the same for every process that opens the board of this study.

    They are the user attributes of an empty study ``<study_name>#board``, so that any storage of Optuna can hold them
    and samplers see none of them. Every reading reads the whole board: it is for hundreds of small notes, no files.
    A key has at most 512 characters, and MySQL takes 64 KiB for a value. What is written is seen by every later read;
    of two writes to one key at once, either may stay.
    """

    def __init__(self, storage: BaseStorage, study_name: str) -> None:
        self._storage, self._study_id = storage, _study_id(storage, study_name + _SUFFIX)

    @staticmethod
    def exists(storage: BaseStorage, study_name: str) -> bool:
        """Tell whether a study has a board already."""
        try:
            storage.get_study_id_from_name(study_name + _SUFFIX)
        except KeyError:
            return False
        return True

    def put(self, key: str, value: Any) -> None:
        """Write ``value`` (JSON, not null) in the place of what was at ``key``."""
        if value is None:
            raise ValueError(f"the note {key} is null, which says that there is none: remove it instead")
        self._storage.set_study_user_attr(self._study_id, key, value)

    def get(self, key: str) -> Any:
        """Return the note at ``key``; None: there is none."""
        return self._storage.get_study_user_attrs(self._study_id).get(key)

    def items(self, prefix: str) -> dict[str, Any]:
        """Return the notes whose keys begin with ``prefix``, by the rest of their keys, sorted by it."""
        notes = self._storage.get_study_user_attrs(self._study_id).items()
        return {
            key.removeprefix(prefix): value
            for key, value in sorted(notes)
            if key.startswith(prefix) and value is not None
        }

    def remove(self, key: str) -> None:
        """Take the note at ``key`` away, if there is one."""
        # Optuna deletes no attribute: null stands for one that is gone.
        if self.get(key) is not None:
            self._storage.set_study_user_attr(self._study_id, key, None)


def _study_id(storage: BaseStorage, name: str) -> int:
    with contextlib.suppress(KeyError):
        return storage.get_study_id_from_name(name)
    try:
        return storage.create_new_study([StudyDirection.MINIMIZE], name)
    except DuplicatedStudyError:  # somebody was faster
        return storage.get_study_id_from_name(name)
