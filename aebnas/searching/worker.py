"""A process that helps a search which another process leads."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aebnas.data.placing import options_of
from aebnas.errors import RunError
from aebnas.experiment import Experiment
from aebnas.files import digest
from aebnas.locks import Quiet
from aebnas.prepare import data_of
from aebnas.progress import Progress
from aebnas.run_folder import RunFolder
from aebnas.searching.cost_desk import Inquiry
from aebnas.searching.costing import limits_of
from aebnas.searching.invitation import Invitation
from aebnas.searching.loop import Archive, run_trials
from aebnas.searching.meeting import Meeting, NoSearch, meet
from aebnas.searching.sampler import make_sampler
from aebnas.searching.study import Address, without_password
from aebnas.searching.workplace import Workplace, quiet_here
from aebnas.training.accelerator import pick_accelerator

_LOOK_EVERY_S = 0.5
# Whether there is a search by now is asked so often.
_ASK_EVERY_S = 2.0


@dataclass(frozen=True)
class Helped:
    """What a worker did.

    Args:
        trials: That it ran.
        closed: Whether the search has its front already.
        led: Whether a process still leads the search.
    """

    trials: int
    closed: bool
    led: bool


def help_search(
    folder: RunFolder,
    address: Address,
    *,
    own: Mapping[str, Any] | None = None,
    data_dir: Path | None = None,
    given: Experiment | None = None,
    progress: Progress | None = None,
    goes_on: Callable[[], bool] = lambda: True,
    told: Callable[[Archive], object] = lambda _: None,
    patient: bool = True,
) -> Helped:
    """Run trials of the search at ``address`` until there are enough of them, or it is closed.

    Args:
        folder: The run folder of the search, or one of this process's own, which is filled with what it needs.
        own: Settings of this process, dotted keys of the experiment: ``data.path``, ``accelerator``.
        data_dir: Where the data set's files lie here, as of :func:`~aebnas.data.placing.placed`.
        given: The experiment where its model or data are Python objects.
        goes_on: Asked before each trial.
        told: After each trial.
        patient: Where the search takes no more trials, stay until it is closed. The processes that its leader has
            started do not: the leader waits for them.

    Raises:
        RunError: there is no such search, it needs other data, or the folder belongs to another one.
        RunFailed: the storage is away, or the leader that measures is.
    """
    shown = progress or Progress()
    with meet(folder, address, shown.say, first=False) as met:
        invitation = _invited(met, shown, patient)
        if invitation.state != "open":
            return Helped(0, closed=invitation.state == "closed", led=met.led())
        experiment = _experiment(invitation, address, own or {}, data_dir, given)
        _move_in(met, invitation, experiment)
        trials = _Helper(met, experiment, shown, goes_on, told).run(invitation)
        last = met.invitation()
        return Helped(trials, closed=last is not None and last.state == "closed", led=met.led())


def once_begun(help_it: Callable[[], Helped], *, wait_s: float, say: Callable[[str], None]) -> Helped:
    """Return what ``help_it`` does, once there is a search to help.

    Args:
        wait_s: Seconds after which there will be none.

    Raises:
        NoSearch: there was none within that time.
    """
    end, said = time.monotonic() + wait_s, False
    while True:
        try:
            return help_it()
        except NoSearch:
            if time.monotonic() >= end:
                raise
        if not said:
            say(f"there is no such search yet: waiting for it, at most {wait_s:g} s")
            said = True
        time.sleep(_ASK_EVERY_S)


def _invited(met: Meeting, progress: Progress, patient: bool) -> Invitation:
    """Wait until the search is prepared, or, if ``patient``, has come to its end."""
    said = False
    while (found := met.invitation()) is None or (patient and found.state != "open" and met.led()):
        if found is None and not met.led():
            raise NoSearch(
                f"the search {met.address.study} was left before it had begun: run the same `aebnas search` again"
            )
        if not said:
            progress.say("waiting for the process that leads the search")
            said = True
        time.sleep(_LOOK_EVERY_S)
    return found


def _experiment(
    invitation: Invitation, address: Address, own: Mapping[str, Any], data_dir: Path | None, given: Experiment | None
) -> Experiment:
    experiment = invitation.parsed()[0] if given is None else given
    # When it is time to end, the leader knows.
    search = experiment.search.model_copy(update={"timeout": None})
    here = experiment.model_copy(update={"search": search}).override(own)
    return here.override(options_of(here.data, data_dir))


def _move_in(met: Meeting, invitation: Invitation, experiment: Experiment) -> None:
    """Make the folder one of this search; refuse that of another one, and other data."""
    folder, (_, space, profile) = met.folder, invitation.parsed()
    if folder.experiment_file.exists():
        key = invitation.difference(folder.experiment(), folder.space(), folder.profile())
        if key is not None:
            raise RunError(f"{folder.path} belongs to a search whose {key} differs: choose another folder")
    else:
        here = {
            "search.storage": without_password(met.address.url),
            "search.study": met.address.study,
            "search.artifacts": met.address.artifacts,
        }
        folder.start(experiment.override(here), space, profile)
    met.fetch_backbone()
    if not folder.backbone_file.exists():
        raise RunError(
            f"{folder.backbone_file} is missing: give the run folder of the search, or --artifacts, through which its "
            "files are shared"
        )


class _Helper:
    def __init__(
        self,
        met: Meeting,
        experiment: Experiment,
        progress: Progress,
        goes_on: Callable[[], bool],
        told: Callable[[Archive], object],
    ) -> None:
        self._met, self._experiment, self._progress = met, experiment, progress
        self._goes_on, self._told = goes_on, told
        self._trials = 0

    def run(self, invitation: Invitation) -> int:
        """Run trials; return how many."""
        met, experiment, quiet = self._met, self._experiment, quiet_here()
        inquiry = Inquiry(met.board, met.presence, self._leader, self._progress.say, quiet)
        with inquiry.tidy():
            place = self._place(invitation, quiet, inquiry)
            settings = experiment.search
            study = met.study(settings)
            seed = experiment.seed + len(study.get_trials(deepcopy=False)) + _own_number(met)
            study.sampler = make_sampler(settings, seed, place.genome)
            run_trials(study, place, met=met, goes_on=self._may_go_on, done=self._count)
        return self._trials

    def _place(self, invitation: Invitation, quiet: Quiet, inquiry: Inquiry) -> Workplace:
        experiment, folder = self._experiment, self._met.folder
        # Once, and looked at before anything else is done with it.
        data = data_of(experiment).version(invitation.data)
        if data.fingerprint != invitation.data:
            same = "folder with the same files with --data-dir" if experiment.datasets is None else "same datasets"
            raise RunError(
                f"the data here are not those of the search (fingerprint {data.fingerprint}, not {invitation.data}): "
                f"give the {same}"
            )
        experiment = experiment.model_copy(update={"datasets": data})
        place = Workplace.open(
            experiment,
            folder,
            limits=limits_of(experiment, folder.profile()),
            accelerator=pick_accelerator(experiment.accelerator),
            target=None,
            progress=self._progress,
            quiet=quiet,
            inquiry=inquiry,
        )
        if place.prepared.fingerprint != invitation.fingerprint:
            raise RunError(f"{folder.backbone_file} is not the backbone of the search: choose another folder")
        return place

    def _leader(self) -> str:
        return self._met.leader() or ""

    def _may_go_on(self) -> bool:
        # Every time: whoever begins a trial after the leader has closed finds nobody who measures for it.
        invitation = self._met.invitation()
        return invitation is not None and invitation.state == "open" and self._goes_on()

    def _count(self, archive: Archive) -> None:
        self._trials += 1
        self._told(archive)


def _own_number(met: Meeting) -> int:
    """Return a number that no other worker has, so that no two sample the same."""
    return int(digest(met.presence.worker), 16) % 2**24
