from __future__ import annotations

import subprocess
import sys

import pytest

from aebnas.devices.boot import agent_archive, boot_code, first_message
from aebnas.devices.here import here_place
from aebnas.devices.link import Link, Place
from aebnas.errors import MeasurementError

READY = """import sys, json
def say(**event): print(json.dumps(event), flush=True)
say(event="ready", protocol=1)
source = sys.stdin.buffer
source.read(int(source.readline()))
header = json.loads(source.readline())
sizes = [file["size"] for file in header["files"]]
"""


def place(code: str, start_s: float = 30.0) -> Place:
    """A place where ``code`` is the agent."""

    def ended(what):
        return lambda exit_code, said: MeasurementError(f"{what} {exit_code} {said}")

    return Place("there", (sys.executable, "-c", code), start_s, ended("not started"), ended("lost"))


def ask(link: Link, files=None, patience_s: float = 30.0):
    events = []
    return events, link.request({"command": "any"}, files or {}, events.append, patience_s=patience_s)


def test_events_arrive_up_to_the_end_and_what_is_no_event_is_passed_over():
    code = READY + "print('Welcome'); say(other=1); print('{\"event\"'); say(event='a', x=1); say(event='done')"
    link = Link(place(code))
    assert ask(link) == ([{"event": "a", "x": 1}], None)
    link.close()


def test_files_arrive_whole_though_nobody_reads_the_answers_yet():
    code = READY + "[say(event='noise', text='x' * 1000) for _ in range(2000)]\n"
    code += "say(event='sizes', sizes=[len(source.read(size)) for size in sizes]); say(event='done')"
    link = Link(place(code))
    events, error = ask(link, {"a": b"x" * 3_000_000, "b": b"", "c/d e": b"y"})
    assert events[-1]["sizes"] == [3_000_000, 0, 1] and error is None
    link.close()


def test_an_error_with_a_name_goes_on_and_one_without_ends():
    code = READY + "say(event='error', name='a', kind='block'); say(event='error', name=None, kind='disk')"
    link = Link(place(code))
    events, error = ask(link)
    assert [event["name"] for event in events] == ["a"]
    assert error == {"event": "error", "name": None, "kind": "disk"}
    link.close()


def test_an_agent_that_refuses_to_start_says_why():
    link = Link(place('print(\'{"event": "error", "kind": "python", "message": "Python 3.7"}\')'))
    assert link.refused["message"] == "Python 3.7" and not link.alive
    link.close()


def test_an_agent_that_does_not_come_up_in_time_is_given_up():
    with pytest.raises(MeasurementError, match="no answer from there"):
        Link(place("import time; time.sleep(600)", start_s=0.2))


def test_an_agent_that_fails_to_start_leaves_its_last_words_to_the_place():
    with pytest.raises(MeasurementError, match="not started 3 bad luck"):
        Link(place("import sys; print('bad luck', file=sys.stderr); sys.exit(3)"))


def test_an_agent_of_another_version_is_refused():
    with pytest.raises(MeasurementError, match="there runs the agent of another version"):
        Link(place('print(\'{"event": "ready", "protocol": 99}\')'))


def test_an_agent_that_ends_in_a_request_is_lost_and_takes_no_other():
    link = Link(place(READY + "say(event='a'); sys.exit(7)"))
    with pytest.raises(MeasurementError, match="lost 7"):
        ask(link)
    assert not link.alive


def test_an_agent_that_is_silent_is_ended():
    link = Link(place(READY + "import time; say(event='a'); time.sleep(600)"))
    with pytest.raises(MeasurementError, match="no answer from there for 0"):
        ask(link, patience_s=0.3)
    assert not link.alive


def test_what_goes_wrong_with_an_answer_ends_the_agent():
    """Else the rest of the answers would be taken for those to the next request."""
    link = Link(place(READY + "say(event='a'); say(event='done'); source.readline()"))

    def fail(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        link.request({"command": "any"}, {}, fail, patience_s=30)
    assert not link.alive


def test_the_real_agent_answers_request_after_request_and_leaves_with_the_link():
    link = Link(here_place())
    for _ in range(2):
        events, error = ask_info(link)
        assert [event["event"] for event in events] == ["facts"] and error is None
    assert link.alive
    link.close()
    assert not link.alive


def ask_info(link: Link):
    events = []
    return events, link.request({"command": "info"}, {"unused": b"x" * 100_000}, events.append, patience_s=60)


def test_the_archive_is_the_same_for_the_same_code():
    assert agent_archive() == agent_archive()


@pytest.mark.parametrize("folder", [None, '/tmp/it\'s "here"'])
def test_the_boot_code_survives_a_shell(folder):
    code = boot_code(folder)
    assert "'" not in code and "\n" not in code
    compile(code, "boot", "exec")


def test_the_boot_code_leaves_nothing_behind(tmp_path):
    command = [sys.executable, "-I", "-c", boot_code(str(tmp_path))]
    done = subprocess.run(command, input=first_message(agent_archive()), capture_output=True, check=False)
    assert b'"ready"' in done.stdout
    assert list(tmp_path.iterdir()) == []
