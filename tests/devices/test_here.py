from __future__ import annotations

import pytest

from aebnas.devices.here import here_place


@pytest.mark.parametrize(
    ("code", "said", "reason"),
    [
        (-6, "opening 'a'\nopening 'b'", r"\(Aborted; the last block that it opened is 'b'\)"),
        (-9, "", r"\(Killed\)"),
        (1, "Traceback\nMemoryError\nopening 'b'\n", r"\(MemoryError; the last block that it opened is 'b'\)"),
        (3, "", r"\(exit code 3\)"),
    ],
)
def test_an_agent_that_ended_says_how_and_over_what(code, said, reason):
    for explain in (here_place().lost, here_place().not_started):
        with pytest.raises(Exception, match=f"the measuring process ended half-way {reason}: what was measured so far"):
            raise explain(code, said)
