"""Measuring over a real ssh connection, and every way in which that can go wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from aebnas.devices.device import Device, Job
from aebnas.devices.identity import identity_model
from aebnas.devices.profile import SshConnection
from aebnas.devices.ssh import ssh_place
from aebnas.devices.store import LatencyStore
from aebnas.devices.yardstick import yardstick_model
from aebnas.errors import DeviceError, MeasurementError, ProfileError

from .conftest import free_port, script

QUICK = {"precision_pct": 20, "time_limit_s": 2}


def only(folder: Path, pattern: str = "*") -> list[str]:
    return sorted(path.name for path in folder.glob(pattern))


def test_a_target_with_numpy_and_onnxruntime_alone_does_everything(ssh_server, target_python, tmp_path):
    profile = ssh_server.profile(target_python, connection={"folder": str(tmp_path)}, protocol=QUICK)
    image = np.random.default_rng(0).standard_normal((5, 8, 32, 32)).astype(np.float32)
    with Device(profile) as device:
        assert device.facts().onnxruntime is not None
        measured = device.measure({"a/b c": Job(identity_model((2,))), "net": Job(yardstick_model())})
        assert 0 < measured["a/b c"].latency_ms < measured["net"].latency_ms
        assert device.noise_pct is not None
        nodes = device.nodes({"net": yardstick_model()})["net"]
        assert "Conv" in nodes.us_by_operator()
        assert device.resident({"net": yardstick_model()})["net"] > 0
        ran = device.run({"net": yardstick_model()}, image, outputs={"net": ["output"]}, repeats=1)["net"]
        assert ran.latency_ms.shape == (5,) and ran.outputs["output"].shape == (5, 10)
        assert only(tmp_path) != []
    assert only(tmp_path) == []


def test_the_same_numbers_come_back_as_from_here(ssh_server, target_python):
    image = np.random.default_rng(0).standard_normal((3, 8, 32, 32)).astype(np.float32)
    results = []
    for profile in (ssh_server.profile(target_python), ssh_server.profile("unused").model_copy(update=LOCAL)):
        with Device(profile) as device:
            results.append(device.run({"net": yardstick_model()}, image, outputs={"net": ["output"]})["net"])
    np.testing.assert_allclose(results[0].outputs["output"], results[1].outputs["output"], rtol=1e-4, atol=1e-2)


LOCAL = {"connection": "local"}


def test_a_good_target_passes_the_check(ssh_server, target_python):
    with Device(ssh_server.profile(target_python)) as device:
        findings = {finding.what: finding for finding in device.check()}
    assert all(finding.ok for finding in findings.values())
    assert "target answers" in findings["connection"].text
    assert "varies by" in findings["trial"].text


def test_the_check_says_how_to_install_what_is_missing(ssh_server, bare_python):
    with Device(ssh_server.profile(bare_python)) as device:
        findings = {finding.what: finding for finding in device.check()}
    assert [what for what, finding in findings.items() if not finding.ok] == ["numpy", "onnxruntime"]
    assert f"target {bare_python} -m pip install numpy onnxruntime" in findings["onnxruntime"].fix
    assert "trial" not in findings


def fails(profile, error=MeasurementError, **options) -> str:
    """Return the one sentence with which measuring fails."""
    with pytest.raises(error) as caught, Device(profile, **options) as device:
        device.measure({"block": Job(identity_model((2,)))})
    message = str(caught.value)
    assert "\n" not in message and "Traceback" not in message
    return message


def test_a_greeting_before_the_agent_is_passed_over(ssh_server, target_python, tmp_path):
    greeting = script(tmp_path / "python", f'echo Welcome; printf "no end of line "; exec {target_python} "$@"')
    with Device(ssh_server.profile(greeting)) as device:
        assert device.facts().numpy is not None


def test_ssh_that_is_not_installed(ssh_server):
    profile = ssh_server.profile("python3", connection={"command": ["no-such-ssh"]})
    assert "cannot start no-such-ssh (No such file or directory): install it" in fails(profile)


def test_a_host_that_nobody_knows(ssh_server):
    profile = ssh_server.profile("python3", host="no-such-host.invalid")
    assert "there is no host no-such-host.invalid: check connection.ssh" in fails(profile)


def test_a_port_where_nothing_listens(ssh_server):
    profile = ssh_server.profile("python3", "-p", str(free_port()))
    assert "target cannot be reached" in (message := fails(profile))
    assert "Connection refused" in message and "check that it is on" in message


def test_a_key_that_is_not_known_there(ssh_server):
    other = ssh_server.folder / "other_config"
    other.write_text(ssh_server.config.read_text().replace("user_key", "other_key"))
    profile = ssh_server.profile("python3", connection={"command": ["ssh", "-F", str(other)]})
    assert "target does not let this user in without a password: put a key there with ssh-copy-id" in fails(profile)


def test_a_host_key_that_is_not_known_here(ssh_server, tmp_path):
    profile = ssh_server.profile("python3", "-o", f"UserKnownHostsFile={tmp_path}/none")
    message = fails(profile)
    assert "the host key of target is not known" in message
    assert f"`ssh -F {ssh_server.config} -o UserKnownHostsFile={tmp_path}/none target`" in message


@pytest.mark.parametrize("python", ["/no/such/python", "python99"])
def test_python_that_is_not_there(ssh_server, python):
    message = fails(ssh_server.profile(python), ProfileError)
    assert f"target has no '{python}' that can be run: install Python 3.8 or newer there, or set" in message


def test_python_that_is_too_old(ssh_server, bare_python, tmp_path):
    code = "import sys; sys.version_info = (3, 7, 1); exec(sys.argv[2])"
    old = script(tmp_path / "python", f"exec {bare_python} -c '{code}' \"$@\"")
    message = fails(ssh_server.profile(old), ProfileError)
    assert "Python 3.7 on target is too old: install Python 3.8 or newer there, and set connection.python" in message


def test_python_that_is_no_python(ssh_server):
    assert "Python did not start on target (exit code 1): look at what" in fails(ssh_server.profile("false"))


def test_a_python_without_onnxruntime(ssh_server, bare_python):
    message = fails(ssh_server.profile(bare_python))
    assert "target cannot measure (Python 3" in message and "numpy is not installed" in message
    assert f"run `{' '.join(ssh_server.command())} target {bare_python} -m pip install numpy onnxruntime`" in message
    assert "python3 -m venv" in message and "aarch64" in message


def test_a_provider_that_is_not_there(ssh_server, target_python):
    message = fails(ssh_server.profile(target_python, provider="CUDA"), ProfileError)
    assert "the onnxruntime of target has no provider 'CUDA': choose one of CPU" in message
    assert "onnxruntime-gpu" in message


def test_cores_that_are_not_there(ssh_server, target_python):
    message = fails(ssh_server.profile(target_python, affinity=[4000]), ProfileError)
    assert "hardware profile 'board' does not fit target: affinity is [4000]" in message


def test_a_folder_that_is_not_there(ssh_server, target_python):
    message = fails(ssh_server.profile(target_python, connection={"folder": "/no/such/folder"}))
    assert "cannot write to the temporary folder of target (/no/such/folder: No such file or directory)" in message
    assert "set connection.folder" in message


def test_a_target_that_does_not_answer(ssh_server, tmp_path):
    mute = script(tmp_path / "python", """echo '{"event": "ready", "protocol": 1}'; exec sleep 600""")
    message = fails(ssh_server.profile(mute), patience_s=1)
    assert "no answer from target for 1 s: look whether it is busy or stuck" in message


def heavy_model(mib: float) -> bytes:
    """Return a model with ``mib`` MiB of weights that do nothing but be added."""
    weight = numpy_helper.from_array(np.zeros((1, int(mib * 2**18)), np.float32), "weight")
    graph = helper.make_graph(
        [helper.make_node("Add", ["input", "weight"], ["output"])],
        "heavy",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 1])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, weight.dims[1]])],
        initializer=[weight],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    return model.SerializeToString()


def test_a_disk_that_is_full(ssh_server, target_python, small_disk, tmp_path):
    store = LatencyStore(tmp_path / "latency")
    profile = ssh_server.profile(target_python, connection={"folder": str(small_disk)}, protocol=QUICK)
    with Device(profile, [store]) as device:
        device.measure({"small": Job(identity_model((2,)))})
        with pytest.raises(MeasurementError, match="cannot write to the temporary folder of target") as caught:
            device.measure({"small": Job(identity_model((2,))), "heavy": Job(heavy_model(2))})
        assert "No space left on device" in str(caught.value)
        assert "free some space there, or set connection.folder to one with more" in str(caught.value)
        # What fits is measured on, by the same process.
        assert device.measure({"small": Job(identity_model((3,)))})["small"].runs > 0
    assert only(small_disk) == []


class CuttingStore(LatencyStore):
    """Cuts the connection when the first measurement arrives."""

    def __init__(self, folder: Path, server) -> None:
        super().__init__(folder)
        self._server, self.cuts = server, 0

    def put(self, key, measurement) -> None:
        super().put(key, measurement)
        if not self.cuts:
            self.cuts += 1
            self._server.cut_connections()


def test_a_connection_that_is_lost_half_way_keeps_what_was_measured_and_goes_on(ssh_server, target_python, tmp_path):
    # The last group takes seconds, the first arrives after a moment: in between the connection is cut.
    jobs = {f"block {width}": Job(identity_model((width,))) for width in range(1, 25)}
    jobs["slow"] = Job(heavy_model(64))
    store = CuttingStore(tmp_path / "latency", ssh_server)
    profile = ssh_server.profile(target_python, protocol={"precision_pct": 50, "time_limit_s": 2})
    with Device(profile, [store]) as device:
        with pytest.raises(MeasurementError, match="the connection to target was lost half-way") as caught:
            device.measure(jobs)
        assert "what was measured so far is kept, and the same command goes on" in str(caught.value)
        kept = {name: store.get(name.stem) for name in store.folder.glob("*.json")}
        assert 0 < len(kept) < len(jobs)
        again = device.measure(jobs)
    assert set(again) == set(jobs) and store.cuts == 1
    for path, measurement in kept.items():
        assert store.get(path.stem) == measurement


def test_an_agent_that_is_killed_there_is_not_called_a_lost_connection(ssh_server, tmp_path):
    dies = script(
        tmp_path / "python",
        """echo '{"event": "ready", "protocol": 1}'; read line; echo "opening 'x'" >&2; kill -9 $$""",
    )
    message = fails(ssh_server.profile(dies))
    assert "the measuring process on target ended half-way (it was killed, perhaps for want of memory; " in message
    assert "the last block that it opened is 'x')" in message


def test_a_block_that_takes_the_agent_down_is_no_lost_device():
    place = ssh_place(SshConnection(ssh="board"))
    for code, said in ((255, "opening 'x'"), (-11, ""), (139, "opening 'x'")):
        assert type(place.lost(code, said)) is MeasurementError
    assert type(place.lost(255, "Connection to board closed by remote host.")) is DeviceError


def test_options_of_the_user_come_before_ours(ssh_server):
    connection = ssh_server.profile("~/my env/bin/python", "-o", "BatchMode=no").connection
    words = list(ssh_place(connection).argv)
    assert words.index("BatchMode=no") < words.index("BatchMode=yes") < words.index("target")
    assert "ConnectTimeout=10" in words
    # The home folder of the target, not of this machine, and a blank that its shell leaves alone.
    assert words[-1].startswith("exec ~/'my env/bin/python' -c ")
