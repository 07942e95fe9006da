"""A storage of Optuna that waits for its server, and repeats no write that has got through."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Any, TypeVar

from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

from aebnas.sharing.patience import Patience

T = TypeVar("T")


class PatientStorage(BaseStorage):
    """Hands every call on to ``inner``, with patience.

    A connection may break after the server has done what it was asked for. Attributes and parameters can be written
    twice without harm; a trial that has come to the same end is done; a queued trial is known by what is in it. A trial
    that began so may be left without a worker: :class:`aebnas.sharing.lost.Returns` sees to it.

    Raises:
        RunFailed: the server was away for too long.
    """

    def __init__(self, inner: BaseStorage, patience: Patience) -> None:
        self._inner, self._patience = inner, patience

    def _call(self, attempt: Callable[[], T]) -> T:
        return self._patience(lambda again: attempt())

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        return self._call(lambda: self._inner.create_new_study(directions, study_name))

    def delete_study(self, study_id: int) -> None:
        def attempt(again: bool) -> None:
            try:
                self._inner.delete_study(study_id)
            except KeyError:
                if not again:
                    raise

        self._patience(attempt)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._call(lambda: self._inner.set_study_user_attr(study_id, key, value))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._call(lambda: self._inner.set_study_system_attr(study_id, key, value))

    def get_study_id_from_name(self, study_name: str) -> int:
        return self._call(lambda: self._inner.get_study_id_from_name(study_name))

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._call(lambda: self._inner.get_study_name_from_id(study_id))

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._call(lambda: self._inner.get_study_directions(study_id))

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self._call(lambda: self._inner.get_study_user_attrs(study_id))

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._call(lambda: self._inner.get_study_system_attrs(study_id))

    def get_all_studies(self) -> list[FrozenStudy]:
        return self._call(self._inner.get_all_studies)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        if template_trial is None:
            return self._call(lambda: self._inner.create_new_trial(study_id))

        def attempt(again: bool) -> int:
            got_through = self._like(study_id, template_trial) if again else None
            return self._inner.create_new_trial(study_id, template_trial) if got_through is None else got_through

        return self._patience(attempt)

    def _like(self, study_id: int, template: FrozenTrial) -> int | None:
        trials = reversed(self._inner.get_all_trials(study_id, deepcopy=False))
        return next((trial._trial_id for trial in trials if _content(trial) == _content(template)), None)

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        self._call(lambda: self._inner.set_trial_param(trial_id, param_name, param_value_internal, distribution))

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        def attempt(again: bool) -> bool:
            try:
                return self._inner.set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                if again and self._ended(trial_id, state, values):
                    return True
                raise

        return self._patience(attempt)

    def _ended(self, trial_id: int, state: TrialState, values: Sequence[float] | None) -> bool:
        trial = self._inner.get_trial(trial_id)
        return trial.state == state and (values is None or trial.values == [float(value) for value in values])

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        self._call(lambda: self._inner.set_trial_intermediate_value(trial_id, step, intermediate_value))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._call(lambda: self._inner.set_trial_user_attr(trial_id, key, value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._call(lambda: self._inner.set_trial_system_attr(trial_id, key, value))

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        return self._call(lambda: self._inner.get_trial_id_from_study_id_trial_number(study_id, trial_number))

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self._call(lambda: self._inner.get_trial(trial_id))

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return self._call(lambda: self._inner.get_all_trials(study_id, deepcopy, states))

    def remove_session(self) -> None:
        self._inner.remove_session()


def _content(trial: FrozenTrial) -> tuple[object, ...]:
    """Return what a trial is made with; when it was made does not matter."""
    return trial.state, trial.params, trial.values, trial.user_attrs, trial.system_attrs, trial.intermediate_values
