"""A second search on a run folder helps the first one."""

from __future__ import annotations

import time

from aebnas.devices.profile import load_profile
from aebnas.experiment import Experiment
from aebnas.locks import Busy
from aebnas.progress import Progress
from aebnas.run_folder import RunFolder
from aebnas.searching.meeting import NoSearch
from aebnas.searching.study import Address
from aebnas.searching.worker import Helped, help_search
from aebnas.spaces.definition import load_space

# How long the process that has the folder may take until there is a search to join.
PATIENCE_S = 60.0
_LOOK_EVERY_S = 0.2


def join(folder: RunFolder, experiment: Experiment, address: Address, busy: Busy, progress: Progress) -> bool:
    """Help the search that another process leads in ``folder``, and wait for its end; False: it was left unfinished.

    Args:
        experiment: What was to be searched there.
        busy: Says who has the folder.

    Raises:
        RunError: it is another experiment; the message names the first key that differs. Busy: it is no search.
    """
    before = _written(folder)
    end = time.monotonic() + PATIENCE_S
    helped: Helped | None = None
    while folder.is_led() and (helped is None or not (helped.led or helped.trials)):
        if time.monotonic() > end:
            raise busy
        if folder.experiment_file.exists():
            folder.check_same(experiment, load_space(experiment.space), load_profile(experiment.device))
            helped = _help(folder, experiment, address, progress, first=helped is None)
        time.sleep(_LOOK_EVERY_S)
    while folder.is_led():
        time.sleep(_LOOK_EVERY_S)
    return _written(folder) not in (None, before)


def _help(
    folder: RunFolder, experiment: Experiment, address: Address, progress: Progress, *, first: bool
) -> Helped | None:
    if first:
        progress.say(f"{folder.path} is being searched by another process: helping it as a worker")
    leaders = folder.experiment()
    there = Address.of(folder, leaders, address.url if leaders.search.storage == experiment.search.storage else None)
    objects = experiment.model is not None or experiment.datasets is not None
    # Where the data lie here is what this process was told, whatever the one that leads was.
    data = {"data.path": experiment.data.path, "data.data_dir": experiment.data.data_dir}
    own = {"accelerator": experiment.accelerator, **data}
    try:
        return help_search(folder, there, own=own, given=experiment if objects else None, progress=progress)
    except NoSearch:  # not yet
        return None


def _written(folder: RunFolder) -> int | None:
    """Return when the front was written, None: it was not."""
    try:
        return folder.front_file.stat().st_mtime_ns
    except FileNotFoundError:
        return None
