"""Trials whose worker died: given back to the queue, with the same genes."""

from __future__ import annotations

import contextlib
import logging

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from aebnas.sharing.board import Board
from aebnas.sharing.claims import Claims
from aebnas.sharing.presence import Presence

logger = logging.getLogger(__name__)
# User attributes of trials. A failed one without FAILURE was lost, and is no finished trial.
WORKER, FAILURE, AGAIN_OF, TIMES_LOST = "worker", "failure", "again_of", "times_lost"
MOST_TIMES = 3
_CLAIM = "lost trials"


def mark(trial: Trial, presence: Presence) -> None:
    """Say whose trial it is; to be called right after ``study.ask()``."""
    trial.set_user_attr(WORKER, presence.worker)


class Returns:
    """Gives back the running trials of workers that died; a process has one of these.

    Args:
        board: That of the study.
    """

    def __init__(self, board: Board, presence: Presence) -> None:
        self._presence, self._claims = presence, Claims(board, presence, "returns")
        self._unmarked_since: dict[int, float] = {}

    def give_back(self, study: optuna.Study) -> int:
        """Tell the trials of dead workers FAIL and queue them again with their genes; return how many there were.

        A trial is given back once, whoever else looks at the same time and whenever this process is killed; a worker
        that was taken for dead and was not finds its trial finished when it tells. A trial without a mark is lost if
        no other worker is alive, or if that lasts for ``presence.grace_s``: so call this from the thread that asks for
        trials. There is nothing to queue if it has no genes yet. One that was given back ``MOST_TIMES`` times kills
        its workers: it is not queued again, and its attribute FAILURE says so.
        """
        if not self._lost(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))):
            return 0
        if not self._claims.claim("trials"):
            return 0
        try:
            # Read anew: somebody may have given them back before the claim was ours.
            trials = study.get_trials(deepcopy=False)
            lost = self._lost([trial for trial in trials if trial.state == TrialState.RUNNING])
            queued = {trial.user_attrs.get(AGAIN_OF) for trial in trials}
            for trial in lost:
                with contextlib.suppress(UpdateFinishedTrialError):  # its worker was not dead, and has just told
                    _give_back(study, trial, queued=trial.number in queued)
            for worker in {trial.user_attrs[WORKER] for trial in lost if WORKER in trial.user_attrs}:
                self._presence.forget(worker)
            return len(lost)
        finally:
            self._claims.release("trials")

    def _lost(self, running: list[FrozenTrial]) -> list[FrozenTrial]:
        unmarked = [trial.number for trial in running if WORKER not in trial.user_attrs]
        now = self._presence.clock()
        self._unmarked_since = {number: self._unmarked_since.get(number, now) for number in unmarked}
        alone = bool(unmarked) and not self._presence.others()

        def lost(trial: FrozenTrial) -> bool:
            if WORKER in trial.user_attrs:
                return not self._presence.alive(trial.user_attrs[WORKER])
            return alone or now - self._unmarked_since[trial.number] > self._presence.grace_s

        return [trial for trial in running if lost(trial)]


def _give_back(study: optuna.Study, trial: FrozenTrial, *, queued: bool) -> None:
    # A queued trial that was killed before it was sampled has its genes in the system attributes only.
    genes = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
    times = trial.user_attrs.get(TIMES_LOST, 0) + 1
    if times > MOST_TIMES:
        reason = f"its worker died, {times} times in all"
        study._storage.set_trial_user_attr(trial._trial_id, FAILURE, reason)
        logger.warning("trial %d is given up: %s", trial.number, reason)
    elif genes and not queued:
        # Before it is told: if this process is killed in between, the next one finds it queued already.
        study.enqueue_trial(genes, user_attrs={AGAIN_OF: trial.number, TIMES_LOST: times})
        logger.info("trial %d was lost and runs again", trial.number)
    study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
