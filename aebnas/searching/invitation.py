"""What a search tells those who want to help it, as a note on the board."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aebnas.devices.profile import HardwareProfile
from aebnas.errors import RunError
from aebnas.experiment import Experiment
from aebnas.files import first_difference
from aebnas.run_folder import comparable
from aebnas.settings import parse_settings
from aebnas.sharing.board import Board
from aebnas.spaces.definition import SpaceDefinition

State = Literal["open", "closing", "closed"]
_KEY = "search"


@dataclass(frozen=True)
class Invitation:
    """A search that is under way, or was.

    Args:
        state: ``open``: trials may be begun; ``closing``: no more of them; ``closed``: there is a front.
        experiment: As JSON, like the space and the profile.
        data: Fingerprint of the data.
        fingerprint: Of data and trained backbone.
    """

    state: State
    experiment: Mapping[str, Any]
    space: Mapping[str, Any]
    profile: Mapping[str, Any]
    data: str
    fingerprint: str

    @classmethod
    def to(
        cls,
        experiment: Experiment,
        space: SpaceDefinition,
        profile: HardwareProfile,
        *,
        data: str,
        fingerprint: str,
    ) -> Invitation:
        """Invite to a search that begins."""
        one, two, three = (described.model_dump(mode="json") for described in (experiment, space, profile))
        return cls("open", one, two, three, data, fingerprint)

    @classmethod
    def read(cls, board: Board) -> Invitation | None:
        """Return what stands on ``board``, None if nothing does.

        Raises:
            RunError: another version of aebnas wrote it.
        """
        note = board.get(_KEY)
        try:
            return None if note is None else cls(**note)
        except TypeError as error:
            raise RunError(f"this search was begun by another version of aebnas ({error}): use the same one") from None

    def write(self, board: Board) -> None:
        """Put it on ``board``, in the place of what stood there."""
        board.put(_KEY, dataclasses.asdict(self))

    def now(self, state: State) -> Invitation:
        """Return the same search in another state."""
        return dataclasses.replace(self, state=state)

    def parsed(self) -> tuple[Experiment, SpaceDefinition, HardwareProfile]:
        """Return experiment, space and profile.

        Raises:
            RunError: another version of aebnas wrote them.
        """
        source = "the search that was to be joined"
        return (
            parse_settings(Experiment, self.experiment, source=source, error=RunError),
            parse_settings(SpaceDefinition, self.space, source=source, error=RunError),
            parse_settings(HardwareProfile, self.profile, source=source, error=RunError),
        )

    def difference(self, experiment: Experiment, space: SpaceDefinition, profile: HardwareProfile) -> str | None:
        """Return the first key by which another search differs from this one, None if it is the same."""
        found = first_difference(comparable(*self.parsed()), comparable(experiment, space, profile))
        return None if found is None else found[0]
