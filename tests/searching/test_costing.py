"""Cost models of a search: which networks they are fitted on, what is kept, what is said."""

from __future__ import annotations

import dataclasses
import json

import pytest

from aebnas.costs.overhead import Overhead
from aebnas.devices.device import Device
from aebnas.devices.profile import HardwareProfile, Limits, Power
from aebnas.errors import ExperimentError, RunError
from aebnas.progress import Progress
from aebnas.run_folder import RunFolder
from aebnas.searching.costing import (
    Kind,
    by_precision,
    calibration_networks,
    check_cascade,
    check_known,
    check_sensor,
    cost_models,
    latency_summary,
    limits_of,
    story,
)
from aebnas.spaces.definition import load_space
from aebnas.spaces.genome import build_genome
from aebnas.spaces.network_genes import NetworkGenes

HERE = HardwareProfile(name="here", description="", connection="local")
FP32 = Kind("fp32", "max-probability")
NOWHERE = HardwareProfile(name="nowhere", description="")


@pytest.fixture
def genome(prepared):
    space = load_space("digits")
    points = prepared.backbone.attach_points
    return build_genome(space, points, 4, NetworkGenes("disjoint", "max-probability"))


def test_the_overhead_is_fitted_on_networks_of_one_two_and_all_exits(genome):
    networks = calibration_networks(genome)
    keys = [tuple(branch.key for branch in network) for network in networks]
    assert len(set(keys)) == len(keys)
    assert {len(network) for network in networks} >= {1, 2}
    order = [point.name for point in genome.points]
    assert all(names == sorted(names, key=order.index) for names in ([b.attach for b in net] for net in networks))


def test_what_was_fitted_is_kept_and_found_again(prepared, toy_experiment, genome, tmp_path):
    folder = RunFolder(tmp_path / "run")
    with Device(HERE) as device:
        made = cost_models(toy_experiment(), prepared, folder, genome, device, Progress())
        overhead = made[FP32].overhead
        assert overhead.paths > 10
        assert overhead.spread > 0
        assert latency_summary(made, device)["overhead"]["fp32"]["scale"] == overhead.scale
        lines = story(made, device)
        path = folder.latency / "overhead-fp32-max-probability.json"
        changed = json.loads(path.read_text()) | {"scale": 1.5}
        path.write_text(json.dumps(changed))
        again = cost_models(toy_experiment(), prepared, folder, genome, device, Progress())[FP32].overhead
        assert again == Overhead(**changed)
    assert "this machine varies by" in lines[0]
    assert f"fitted on {overhead.paths} measured graphs" in lines[1]
    path.write_text("{}")
    with pytest.raises(RunError, match=r"overhead-fp32-max-probability\.json is damaged: delete it"):
        cost_models(toy_experiment(), prepared, folder, genome, None, Progress())


def test_without_a_device_there_is_nothing_to_fit_or_to_say(prepared, toy_experiment, genome, tmp_path):
    folder = RunFolder(tmp_path / "run")
    made = cost_models(toy_experiment(), prepared, folder, genome, None, Progress())
    assert made[FP32].names == ("macs", "model_mib")
    assert not folder.latency.exists()
    assert story(made, None) == []
    assert latency_summary(made, None) is None


def test_a_cost_that_the_device_does_not_tell_is_named(prepared, toy_experiment, genome, tmp_path):
    experiment = toy_experiment(device="local", search__objectives=["accuracy", "peak_memory_mib"])
    model = cost_models(experiment, prepared, RunFolder(tmp_path / "run"), genome, None, Progress())[FP32]
    with pytest.raises(ExperimentError, match="device 'here' does not tell peak_memory_mib: install a newer onnx"):
        check_known(experiment, limits_of(experiment, HERE), model, HERE)


class WithoutSensor(Device):
    def facts(self):
        return dataclasses.replace(super().facts(), sensor=None)


def test_energy_that_nothing_tells_is_refused_before_anything_is_trained(toy_experiment):
    wanted = toy_experiment(device="local", search__objectives=["accuracy", "energy_mj"])
    limits = limits_of(wanted, HERE)
    with WithoutSensor(HERE) as device:
        with pytest.raises(ExperimentError, match="no energy sensor can be read there; add power"):
            check_sensor(wanted, limits, device)
        check_sensor(toy_experiment(), limits_of(toy_experiment(), HERE), device)
    with WithoutSensor(HERE.model_copy(update={"power": Power(active_w=5)})) as device:
        check_sensor(wanted, limits, device)
    check_sensor(wanted, limits, None)


def test_what_cannot_be_measured_can_be_no_limit(toy_experiment):
    experiment = toy_experiment(search__limits={"latency_p95_ms": 1.0})
    with pytest.raises(ExperimentError, match="latency_p95_ms can be no objective, target or limit"):
        limits_of(experiment, NOWHERE)
    limited = NOWHERE.model_copy(update={"limits": Limits(macs_m=2, model_mib=3)})
    assert limits_of(toy_experiment(), limited).limits == {"macs": 2e6, "model_mib": 3.0}


def test_a_cascade_needs_fp32(toy_experiment):
    small = HardwareProfile(name="small", description="", precision="int8")
    for options in ({"cascade": "both"}, {"search__genes": {"cascade": ["none", "inputs"]}}):
        with pytest.raises(ExperimentError, match="cascaded branches run in fp32 only, and device 'small'"):
            check_cascade(toy_experiment(**options), small)
        check_cascade(toy_experiment(**options), NOWHERE)
    check_cascade(toy_experiment(), small)


def test_every_confidence_that_a_network_may_have_has_costs_of_its_own(prepared, toy_experiment, tmp_path):
    choices = {"confidence": ("max-probability", "patience")}
    network = NetworkGenes("disjoint", "max-probability", choices=choices)
    genome = build_genome(load_space("digits"), prepared.backbone.attach_points, 4, network)
    made = cost_models(toy_experiment(), prepared, RunFolder(tmp_path / "run"), genome, None, Progress())
    assert set(made) == {Kind("fp32", "max-probability"), Kind("fp32", "patience")}
    assert by_precision(made, "patience") == {"fp32": made["fp32", "patience"]}
