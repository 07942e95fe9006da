"""Optuna's gRPC proxy, as a storage that outlives restarts of its server."""

from __future__ import annotations

import warnings
from collections.abc import Container
from functools import partial
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, GrpcStorageProxy
from optuna.trial import FrozenTrial, TrialState

from aebnas.errors import MissingExtraError

# A server that has gone without a word is noticed after this.
_DEADLINE_S = 60.0


def open_proxy(host: str, port: int) -> BaseStorage:
    """Open the proxy at an address; MissingExtraError: grpcio is not installed."""
    try:
        import grpc  # noqa: F401  # Optuna imports it as late as its first call
    except ImportError as error:
        raise MissingExtraError("grpcio", "grpc") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return _Proxy(host=host, port=port)


class _Proxy(GrpcStorageProxy):
    """A proxy whose server may forget the trials that it has handed out."""

    def _setup(self) -> None:
        super()._setup()
        stub: Any = _Deadlines(self._stub)
        self._stub = self._cache.grpc_client = stub
        self._studies = set[int]()

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        self._studies.add(study_id)
        return super().create_new_trial(study_id, template_trial)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        self._studies.add(study_id)
        return super().get_all_trials(study_id, deepcopy, states)

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        try:
            super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
        except KeyError:
            # A server that was started anew knows no trial until it has listed those of its study.
            for study_id in self._studies:
                super().get_all_trials(study_id, deepcopy=False)
            super().set_trial_param(trial_id, param_name, param_value_internal, distribution)


class _Deadlines:
    """Calls of a stub that end after a time, whatever became of its server."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    def __getattr__(self, name: str) -> Any:
        return partial(getattr(self._stub, name), timeout=_DEADLINE_S)
