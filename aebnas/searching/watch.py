"""Leading a search: inviting others, running trials or watching those who do, and seeing to it that none is lost."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import TrialState

from aebnas.processes import Interrupts
from aebnas.progress import Progress, Stage
from aebnas.searching.cost_desk import CostDesk, publish
from aebnas.searching.crew import Crew, Orders
from aebnas.searching.invitation import Invitation, State
from aebnas.searching.loop import Archive, run_trials
from aebnas.searching.meeting import Meeting
from aebnas.searching.study import finished, running
from aebnas.searching.workplace import Workplace
from aebnas.sharing.lost import WORKER

_LOOK_EVERY_S = 0.5
# Trials of workers that this process has not started are read so often.
_READ_EVERY_S = 3.0
_EXPLAINED = (
    "beside the trials stands how good the front is by now, its hypervolume: 0 is no better than the backbone, 1 its "
    "accuracy at no cost, and more is a better accuracy"
)


@dataclass(frozen=True)
class Leader:
    """Leads the search of ``place`` among those of ``met``.

    Args:
        clock: Seconds that ``search.timeout`` is counted in.
    """

    place: Workplace
    met: Meeting
    study: optuna.Study
    progress: Progress
    clock: Callable[[], float] = time.monotonic

    def run(self) -> Archive:
        """Run all trials, with the help of whoever comes; return everything that was found."""
        place, study, settings = self.place, self.study, self.place.experiment.search
        archive = Archive.of(place)
        self.met.returns.give_back(study)
        archive.sync(study.get_trials(deepcopy=False), place.evaluator, make=True)
        label = "trials" if settings.timeout is None else f"trials (at most {settings.timeout:.0f} s)"
        if finished(study) < settings.trials:
            self.progress.say(_EXPLAINED)
        with (
            Interrupts() as interrupts,
            self._invited() as desk,
            self.progress.stage(label, settings.trials, finished(study)) as stage,
        ):
            if settings.timeout is not None:
                stage.within(settings.timeout)
            shown = _Shown(study, stage, interrupts)
            if settings.workers == 1:
                self._run_alone(archive, desk, shown)
            else:
                self._watch(archive, desk, shown)
            self._await_others(desk)
            shown.update(archive)
        # Anew: what others have trained further meanwhile is known here as it was.
        found = Archive.of(place)
        found.sync(study.get_trials(deepcopy=False), place.evaluator, make=True)
        return found.in_order()

    def _run_alone(self, archive: Archive, desk: CostDesk, shown: _Shown) -> None:
        def look(found: Archive) -> None:
            # Also while others run the last trials: they may wait for an answer that will not come.
            desk.check()
            shown.update(found)

        run_trials(self.study, self.place, met=self.met, archive=archive, clock=self.clock, look=look)
        look(archive)

    def _watch(self, archive: Archive, desk: CostDesk, shown: _Shown) -> None:
        place, settings, start = self.place, self.place.experiment.search, self.clock()
        if finished(self.study) >= settings.trials:
            return
        experiment = place.experiment
        if experiment.datasets is not None:
            # As this run has them, and only so: earlier versions of them would be sent along, images and all.
            data = dataclasses.replace(place.prepared.data, before=None)
            experiment = experiment.model_copy(update={"datasets": data})
        orders = Orders.of(experiment, place.folder.path, self.met.address, settings.workers)
        with Crew(orders, settings.workers, shown.stage, self.progress.say) as crew:
            while finished(self.study) < settings.trials:
                if settings.timeout is not None and self.clock() - start >= settings.timeout:
                    break
                self._hear(crew, desk, shown)
                self.met.returns.give_back(self.study)
                archive.sync(self.study.get_trials(deepcopy=False), place.evaluator)
                shown.update(archive)
            crew.wanted = False
            self._say_state("closing")
            while crew.at_work:
                self._hear(crew, desk, shown)
                shown.update(archive)

    def _hear(self, crew: Crew, desk: CostDesk, shown: _Shown) -> None:
        """Follow the workers until there is something new to read: all else would take their processors."""
        end = time.monotonic() + _READ_EVERY_S
        while (left := end - time.monotonic()) > 0 and crew.at_work:
            if crew.look(min(left, _LOOK_EVERY_S)):
                break
            desk.check()
            shown.interrupts.check()

    def _await_others(self, desk: CostDesk) -> None:
        """Let those who helped finish what they are at; what they leave behind is given back for another time."""
        self._say_state("closing")
        said = False
        while self._under_way():
            if not said:
                self.progress.say("waiting for the last trials of other workers")
                said = True
            desk.check()
            self.met.returns.give_back(self.study)
            time.sleep(_LOOK_EVERY_S)

    def _under_way(self) -> bool:
        """Tell whether a worker that is alive runs a trial."""
        workers = {trial.user_attrs.get(WORKER) for trial in running(self.study)} - {None}
        return any(self.met.presence.alive(str(worker)) for worker in workers)

    @contextlib.contextmanager
    def _invited(self) -> Iterator[CostDesk]:
        """Let others join for the length of the block."""
        place, met = self.place, self.met
        publish(place.costs, met.board)
        met.share_backbone()
        prepared, folder = place.prepared, place.folder
        Invitation.to(
            folder.experiment(),
            folder.space(),
            folder.profile(),
            data=prepared.data.fingerprint,
            fingerprint=prepared.fingerprint,
        ).write(met.board)
        with CostDesk(place.costs, met.board, met.presence) as desk:
            yield desk

    def close(self) -> None:
        """Say that the search has its front, and leave nothing of dead workers behind."""
        self._say_state("closed")
        self.met.bury()

    def _say_state(self, state: State) -> None:
        invitation = self.met.invitation()
        assert invitation is not None, "the leader invites before it says anything"
        if invitation.state != state:
            invitation.now(state).write(self.met.board)


class _Shown:
    """The bar of trials, whichever process runs them; and Ctrl-C, where that was lost."""

    def __init__(self, study: optuna.Study, stage: Stage, interrupts: Interrupts) -> None:
        self.stage, self.interrupts = stage, interrupts
        self._study, self._done = study, finished(study)

    def update(self, archive: Archive) -> None:
        self.interrupts.check()
        done = finished(self._study)
        self.stage.note(f"{archive.best_note()}, hypervolume {archive.hypervolume():.3f}")
        self.stage.advance(done - self._done)
        self._done = done


def by_worker(study: optuna.Study) -> dict[str, Any]:
    """Return how many trials each worker has brought to an end, for the summary of the run."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL))
    counts = Counter(str(trial.user_attrs[WORKER]) for trial in trials if WORKER in trial.user_attrs)
    return dict(sorted(counts.items()))
