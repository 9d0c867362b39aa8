"""Facts about a machine: pure parsers by samples, and the real machine once."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from morgand.base.errors import ConfigError
from morgand.fingerprint import cpu, engines, gpu, laptop, memory, network, probe
from morgand.fingerprint.collect import collect
from morgand.fingerprint.network import Interface, choose
from morgand.fingerprint.override import apply_override, read_override
from morgand.roles.catalog import CLUSTER_PROGRAMS, engine_sources
from morgand.roles.db.usable import usable
from morgand.state.hosts import Duty, Engine, Gpu
from tests.fakes.clusters import profile
from tests.fakes.postgres import binaries, needed

LAN = Interface("eth0", ("192.0.2.7", "2001:db8::7"))
WIFI = Interface("wlan0", ("192.0.2.8",), wired=False)


@pytest.mark.parametrize(
    ("found", "address"),
    [
        ([LAN], "192.0.2.7"),
        ([WIFI, LAN], "192.0.2.7"),
        ([LAN, Interface("wlp3s0", ("198.51.100.2",), wired=False, default_route=True)], "198.51.100.2"),
        ([Interface("docker0", ("172.17.0.1",)), WIFI], "192.0.2.8"),
        ([Interface("br-1f2e", ("172.18.0.1",)), Interface("veth12", ("172.18.0.2",)), LAN], "192.0.2.7"),
        ([Interface("virbr0", ("192.168.122.1",)), LAN], "192.0.2.7"),
        ([Interface("tun0", ("10.8.0.2",), default_route=True), LAN], "192.0.2.7"),
        ([Interface("wg0", ("10.9.0.2",)), Interface("tailscale0", ("100.101.1.1",)), WIFI], "192.0.2.8"),
        ([Interface("corp", ("100.101.1.1",)), WIFI], "192.0.2.8"),
        ([Interface("NordVPN", ("10.5.0.2",), default_route=True), WIFI], "192.0.2.8"),
        ([Interface("eth0", ("169.254.3.4", "fe80::1")), WIFI], "192.0.2.8"),
        ([Interface("eth0", ("192.0.2.7",), up=False), WIFI], "192.0.2.8"),
        ([Interface("eth0", ("2001:db8::7",))], "2001:db8::7"),
        ([Interface("br0", ("192.0.2.9",), default_route=True)], "192.0.2.9"),
        ([Interface("lo", ("127.0.0.1", "::1"))], "127.0.0.1"),
        ([Interface("lo", ("127.0.0.1",)), Interface("docker0", ("172.17.0.1",))], "127.0.0.1"),
        ([], "127.0.0.1"),
    ],
)
def test_the_interface_others_can_reach_is_chosen(found: list[Interface], address: str) -> None:
    """In whatever order the system lists them."""
    assert choose(found).address == choose(list(reversed(found))).address == address


def test_the_default_route_with_the_lowest_metric_counts() -> None:
    head = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
    rows = [
        "tun0 00000000 0100000A 0003 0 0 50 00000000 0 0 0",
        "wlan0 00000000 010200C0 0003 0 0 600 00000000 0 0 0",
        "eth0 00000000 010200C0 0003 0 0 100 00000000 0 0 0",
        "eth0 000200C0 00000000 0001 0 0 0 00FFFFFF 0 0 0",
    ]
    assert network.parse_routes(head + "\n".join(rows)) == "eth0"
    assert network.parse_routes(head) is None


def test_processor_names_are_found_on_pc_and_pi() -> None:
    assert cpu.parse_cpuinfo("processor : 0\nmodel name\t: AMD Ryzen 7\n") == "AMD Ryzen 7"
    assert cpu.parse_cpuinfo("processor : 0\nHardware : BCM2835\nModel : Raspberry Pi 5\n") == "Raspberry Pi 5"
    assert cpu.parse_cpuinfo("") is None
    assert [cpu.normalise_arch(one) for one in ("AMD64", "aarch64", "x86_64")] == ["x86_64", "arm64", "x86_64"]


def test_a_control_group_limits_memory() -> None:
    assert memory.limited(16_000, ["max\n".strip(), "8000", None]) == 8_000
    assert memory.limited(16_000, ["9223372036854771712"]) == 16_000


def test_amd_cards_are_read_from_both_formats() -> None:
    old = {"card0": {"VRAM Total Memory (B)": "17163091968", "Card series": "Radeon RX 6800"}, "system": {"x": "1"}}
    new = {"card0": {"VRAM Total Memory (B)": "25753026560", "Card Series": "Radeon RX 7900 XTX"}}
    assert gpu.parse_rocm(old) == [Gpu("Radeon RX 6800", 16368, vendor="amd")]
    assert gpu.parse_rocm(new) == [Gpu("Radeon RX 7900 XTX", 24560, vendor="amd")]
    assert gpu.parse_rocm(["nonsense"]) == []


def test_amd_cards_are_read_from_the_kernel(tmp_path: Path) -> None:
    """An integrated card with a little memory of its own does not count."""
    for name, vendor, size in (("card0", "0x1002", 512), ("card1", "0x1002", 8192), ("card2", "0x10de", 8192)):
        device = tmp_path / name / "device"
        device.mkdir(parents=True)
        (device / "vendor").write_text(vendor + "\n")
        (device / "mem_info_vram_total").write_text(str(size * 2**20))
    (tmp_path / "card1-HDMI-A-1").mkdir()
    assert [one.vram_mb for one in gpu.amd(tmp_path)] == [8192]


def test_an_apple_gpu_shares_the_ram() -> None:
    text = '{"SPDisplaysDataType": [{"sppci_model": "Apple M2", "spdisplays_vendor": "sppci_vendor_Apple"}]}'
    assert gpu.parse_apple(json.loads(text), 16384) == [Gpu("Apple M2", 10813, vendor="apple")]
    assert gpu.parse_apple(None, 16384) == []


def test_a_driver_that_hangs_costs_its_deadline() -> None:
    def hang() -> list[Gpu]:
        time.sleep(5)
        return [Gpu("late", 1)]

    started = time.monotonic()
    assert gpu.within(hang, deadline_s=0.05) is None
    assert time.monotonic() - started < 3


def test_what_does_not_answer_in_time_is_what_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that is busy for a while keeps its roles; what answers that it is gone is gone."""
    slow, gone = tmp_path / "etcd", tmp_path / "serf"
    slow.write_text("#!/bin/sh\nexec sleep 5\n")
    gone.write_text("#!/bin/sh\nexit 1\n")
    for one in (slow, gone):
        one.chmod(0o755)
    monkeypatch.setattr(probe, "DEADLINE_S", 0.2)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    before = (Engine("etcd", "3.4.23", str(slow)), Engine("serf", "0.8.2", str(gone)))
    found = {one.name: one.version for one in engines.engines(CLUSTER_PROGRAMS, before)}
    assert (found["etcd"], found["serf"]) == ("3.4.23", "unknown")
    assert {one.name: one.version for one in engines.engines(CLUSTER_PROGRAMS)}["etcd"] == "unknown"

    def busy() -> list[Gpu]:
        raise TimeoutError

    cards = (Gpu("RTX 4090", 24564, vendor="nvidia"), Gpu("RX 7900", 24560, vendor="amd"))
    monkeypatch.setattr(gpu, "nvidia", busy)
    monkeypatch.setattr(gpu, "amd", list)
    assert gpu.gpus(16384, cards) == cards[:1]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "15.18"),
        ("ollama version is 0.12.3", "0.12.3"),
        ("Serf v0.8.2-dev", "0.8.2-dev"),
        ("etcd Version: 3.4.23\nGit SHA: x", "3.4.23"),
        ("Redis server v=7.0.15 sha=0", "7.0.15"),
        ("version 30GB 3.80 linux amd64", "3.80"),
        ("patroni 4.1.0", "4.1.0"),
        ("", "unknown"),
    ],
)
def test_versions_are_found_in_what_programs_print(text: str, version: str) -> None:
    assert engines.parse_version(text) == version


def test_an_old_postgresql_is_none() -> None:
    old = Engine("postgresql", "14.9", "/usr/lib/postgresql/14/bin/postgres")
    assert usable(old) is None


def test_a_postgresql_that_cannot_be_run_is_none(tmp_path: Path) -> None:
    """The program alone is not enough: its account must be able to run it, and what lies beside it."""
    (tmp_path / "postgres").touch(mode=0o755)
    assert usable(Engine("postgresql", "17.2", str(tmp_path / "postgres"))) is None


@needed
def test_postgresql_is_where_its_other_programs_are(tmp_path: Path) -> None:
    """Not where a link to it is."""
    folder = binaries()
    assert folder is not None
    (tmp_path / "postgres").symlink_to(folder / "postgres")
    found = usable(Engine("postgresql", "15.4", str(tmp_path / "postgres")))
    assert found is None or found.path == str((folder / "postgres").resolve())


def test_laptops_are_told_by_chassis_or_battery() -> None:
    assert laptop.is_laptop("10\n", battery=False)
    assert laptop.is_laptop("", battery=True)
    assert not laptop.is_laptop("3\n", battery=False)


def test_this_machine_has_a_profile(tmp_path: Path) -> None:
    found = collect(tmp_path, engine_sources(), duty=Duty.SOMETIMES, address="192.0.2.99", models=("b", "a"))
    assert found.ram_mb > 100
    assert found.disk.fsync_ms > 0
    assert found.network.address == "192.0.2.99"
    assert found.models == ("a", "b")
    assert {"assistant", "folder", "memory", "sqlite", "llama.cpp", "onnx"} <= {one.name for one in found.engines}
    assert list(tmp_path.iterdir()) == []


def test_an_override_replaces_facts(tmp_path: Path) -> None:
    file = tmp_path / "facts.json"
    file.write_text('{"ram_mb": 65536, "gpus": [{"name": "RTX 3090", "vram_mb": 24576}], "disk": {"free_mb": 7}}')
    found = apply_override(profile(), read_override(file))
    assert (found.ram_mb, found.vram_mb, found.disk.free_mb, found.cpu_cores) == (65536, 24576, 7, 4)
    assert [one.name for one in apply_override(found, {"engines": ["ollama"]}).engines] == ["ollama"]


def test_an_override_names_all_its_faults() -> None:
    with pytest.raises(ConfigError) as caught:
        apply_override(profile(), {"ram": 1, "cpu_cores": "four", "ram_mb": 0})
    for words in ("ram: unknown fact; did you mean", "cpu_cores:", "ram_mb: must be at least 1"):
        assert words in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_an_override_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "facts.json"
    file.write_text(text)
    with pytest.raises(ConfigError):
        read_override(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_override(tmp_path / "missing.json")
