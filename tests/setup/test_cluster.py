"""The cluster of one node: what is decided before anything is made. Its life is in `tests/e2e/test_cluster_life.py`."""

import hashlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

import kind_cluster
from single_node import archive, cgroups, configuration, network, node, place, processes
from single_node.place import ClusterError, Place, Record

CGROUP_V1 = """\
25 31 0:22 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw
26 31 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:10 - cgroup cgroup rw,cpu,cpuacct
27 31 0:24 /docker/7f /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory
28 31 0:25 / /sys/fs/cgroup/systemd rw - cgroup systemd rw,xattr,name=systemd
29 31 0:26 / /proc rw - proc proc rw
"""
OWN_V1 = "4:name=systemd:/user/1\n3:memory:/docker/7f/build\n2:cpu,cpuacct:/\n0::/user/1\n"
CGROUP_V2 = "25 31 0:22 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
OWN_V2 = "0::/user.slice/session-3.scope\n"


@pytest.fixture
def script(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`setup/cluster.py` as a module."""
    monkeypatch.delenv("LAKEHOUSE_E2E_KUBECONFIG", raising=False)
    # Two of the scripts have the name of a folder of these tests.
    monkeypatch.setitem(sys.modules, "control_plane", loaded(root, "control_plane"))
    return loaded(root, "cluster")


def loaded(root: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"setup_{name}", root / "setup" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestSubnet:
    def test_the_first_that_the_host_has_no_route_to_is_taken(self) -> None:
        routes = ["default", "192.0.2.0/24", "10.99.7.1", "10.99.8.0/23", "fd00::/64"]
        assert network.free_subnet(routes, start=6) == "10.99.6"
        assert network.free_subnet(routes, start=7) == "10.99.10"

    def test_the_search_goes_round(self) -> None:
        assert network.free_subnet(["10.99.255.0/24", "10.99.0.0/24"], start=255) == "10.99.1"

    def test_a_private_network_behind_a_vpn_is_left_alone(self) -> None:
        assert network.free_subnet(["10.0.0.0/8"], start=3) == "172.30.3"

    def test_when_all_are_taken_it_says_what_to_do(self) -> None:
        with pytest.raises(ClusterError, match="LAKEHOUSE_E2E_KUBECONFIG"):
            network.free_subnet(["10.0.0.0/8", "172.16.0.0/12"])


class TestProcess:
    def test_it_is_known_by_its_number_and_its_start(self) -> None:
        started = processes.start_of(os.getpid())
        assert started is not None
        assert processes.is_alive(os.getpid(), started)
        assert not processes.is_alive(os.getpid(), started - 1)
        assert not processes.is_alive(0, started)

    def test_one_that_has_ended_is_not_alive_though_nobody_has_asked_for_its_code(self) -> None:
        with subprocess.Popen(["true"]) as process:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            assert processes.start_of(process.pid) is None

    def test_its_name_may_look_like_fields(self) -> None:
        assert processes.parse_start("7 (a) R 1 (b) S " + " ".join(map(str, range(4, 30)))) == 22


class TestPlace:
    def test_names_come_from_the_folder_and_fit_the_kernel(self, tmp_path: Path) -> None:
        one, other = Place(tmp_path / "one"), Place(tmp_path / "other")
        assert one.link != other.link
        assert one.cgroup != other.cgroup
        assert len(one.link) <= 15

    def test_what_is_known_is_read_as_it_was_written(self, tmp_path: Path) -> None:
        cluster = Place(tmp_path / "state")
        assert place.read(cluster) is None
        record = Record("node", "10.99.4", ("/sys/fs/cgroup/cpu/x",), 12, 345)
        place.write(cluster, record)
        assert place.read(cluster) == record
        assert [file.name for file in cluster.state.iterdir()] == ["cluster.json"]


class TestCgroups:
    def test_with_version_1_the_clusters_lie_below_the_callers(self) -> None:
        found = cgroups.parse(CGROUP_V1, OWN_V1)
        assert [(each.kind, each.mounted.name, each.options) for each in found] == [
            ("cgroup2", "unified", ""),
            ("cgroup", "cpu,cpuacct", "cpu,cpuacct"),
            ("cgroup", "memory", "memory"),
            ("cgroup", "systemd", "none,name=systemd"),
        ]
        assert [str(directory) for directory in cgroups.directories(found, "lakehouse-1")] == [
            "/sys/fs/cgroup/unified/user/1/lakehouse-1",
            "/sys/fs/cgroup/cpu,cpuacct/lakehouse-1",
            "/sys/fs/cgroup/memory/build/lakehouse-1",
            "/sys/fs/cgroup/systemd/user/1/lakehouse-1",
        ]

    def test_with_version_2_it_lies_at_the_top(self) -> None:
        found = cgroups.parse(CGROUP_V2, OWN_V2)
        assert cgroups.directories(found, "lakehouse-1") == [Path("/sys/fs/cgroup/lakehouse-1")]

    def test_without_any_there_is_no_cluster(self) -> None:
        with pytest.raises(ClusterError, match="no cgroups"):
            cgroups.directories(cgroups.parse("", OWN_V1), "lakehouse-1")

    def test_a_new_one_may_use_what_its_parent_may(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "cpuset.cpus").write_text("0-1\n")
        directory = tmp_path / "lakehouse-1"
        directory.mkdir()
        (directory / "cpuset.cpus").write_text("\n")
        cgroups.make([directory])
        assert (directory / "cpuset.cpus").read_text() == "0-1\n"

    def test_what_is_gone_already_is_no_mistake(self, tmp_path: Path) -> None:
        (tmp_path / "one" / "below").mkdir(parents=True)
        cgroups.remove([tmp_path / "one", tmp_path / "never"])
        assert list(tmp_path.iterdir()) == []


class TestConfiguration:
    def files(self) -> dict[str, str]:
        tokens = {user: f"token-of-{user}" for user in configuration.USERS}
        return configuration.files("10.99.4", tokens, "the certificate", "localhost/pause:1")

    def test_each_user_has_a_token_and_a_kubeconfig_of_its_own(self) -> None:
        files = self.files()
        assert 'token-of-kubelet,system:node:node,system:node:node,"system:nodes"\n' in files["tokens.csv"]
        for user in configuration.USERS:
            config = json.loads(files[f"kubeconfigs/{user}"])
            assert config["users"] == [{"name": user, "user": {"token": f"token-of-{user}"}}]
            assert config["clusters"][0]["cluster"]["server"] == "https://10.99.4.2:6443"

    def test_only_the_administrator_may_do_everything(self) -> None:
        assert [user for user, (_, groups) in configuration.USERS.items() if "system:masters" in groups] == ["admin"]

    def test_no_token_stands_on_a_command_line(self) -> None:
        assert "token-of" not in json.dumps(configuration.plan("10.99.4", []))

    def test_kubelet_lets_nobody_in_without_a_name(self) -> None:
        settings = json.loads(self.files()["kubelet.json"])
        assert settings["authentication"]["anonymous"] == {"enabled": False}
        assert settings["authorization"] == {"mode": "Webhook"}

    def test_every_file_that_is_named_is_written(self) -> None:
        written = {*self.files(), "certificate.pem", "key.pem"}
        said = json.dumps(configuration.plan("10.99.4", [])) + self.files()["kubelet.json"] + self.files()["Corefile"]
        named = {
            word.split("/run/node/")[1]
            for word in said.replace('"', " ").replace(",", " ").split()
            if "/run/node/" in word
        }
        assert named
        assert named <= written

    def test_all_but_the_api_server_and_what_it_needs_wait_for_it(self) -> None:
        waiting = {service.name for service in configuration.services("10.99.4") if service.needs_api}
        assert waiting == {"kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "coredns"}

    def test_the_certificate_is_good_for_every_name_that_the_api_server_has(self, tmp_path: Path) -> None:
        key, certificate = tmp_path / "key", tmp_path / "certificate"
        command = configuration.certificate_command("10.99.4", str(key), str(certificate))
        subprocess.run(command, check=True, capture_output=True)
        for check in ("-checkip=10.99.4.2", "-checkip=10.96.0.1", "-checkhost=kubernetes.default.svc"):
            say = ["openssl", "x509", "-noout", *check.split("="), "-in", str(certificate)]
            assert "does match" in subprocess.run(say, capture_output=True, text=True, check=True).stdout


class TestNode:
    def test_it_starts_in_its_cgroups_and_in_namespaces_of_its_own(self, tmp_path: Path) -> None:
        command = node.command_to_start(Place(tmp_path), [Path("/cg/a"), Path("/cg/b")], {"etcd": tmp_path / "etcd"})
        assert command[4:7] == ["/cg/a", "/cg/b", "--"]
        assert {"--net", "--mount", "--pid", "--cgroup", "--kill-child", "--mount-proc"} <= set(command)
        assert command[-1] == f"etcd={tmp_path / 'etcd'}"

    def test_who_cannot_join_the_cgroups_does_not_start(self, tmp_path: Path) -> None:
        start = node.command_to_start(Place(tmp_path), [tmp_path / "missing"], {})[: -len(["-I", "inside", "f", "l"])]
        answer = subprocess.run([*start[:5], "--", "echo", "started"], capture_output=True, text=True, check=False)
        assert answer.returncode != 0
        assert answer.stdout == ""

    def test_a_program_of_the_host_joins_the_network_and_sees_the_clusters_names(self, tmp_path: Path) -> None:
        command = node.command_to_execute(Place(tmp_path), 12, ["curl", "a b"])
        assert command[:4] == ["nsenter", "--target=12", "--net", "--"]
        assert command[-3:] == [str(tmp_path / "node" / "resolv.conf"), "curl", "a b"]

    @pytest.mark.parametrize(
        ("seen", "ready"),
        [
            (None, False),
            ("not json", False),
            ({"status": {}}, False),
            ({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}, False),
            ({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}, True),
        ],
    )
    def test_it_is_ready_when_the_api_server_says_so(self, seen: object, ready: bool) -> None:
        assert node.is_ready(seen) is ready

    def test_without_root_it_says_what_else_can_be_done(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        with pytest.raises(ClusterError, match=r"needs root: run it with sudo, or install Docker and kind"):
            node.check_rights()

    def test_where_namespaces_are_forbidden_it_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        refused = subprocess.CompletedProcess([], 1, "", "unshare failed: Operation not permitted\n")
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: refused)
        with pytest.raises(
            ClusterError, match=r"may not make namespaces here \(unshare failed: Operation not permitted"
        ):
            node.check_rights()


def test_an_image_is_packed_as_its_readers_expect_it_and_always_the_same(tmp_path: Path) -> None:
    (tmp_path / "pause").write_bytes(b"\x7fELF")
    archive.pack(tmp_path / "one.tar", "localhost/pause:1", tmp_path / "pause")
    archive.pack(tmp_path / "two.tar", "localhost/pause:1", tmp_path / "pause")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as whole:
        parts = {entry.name: content.read() for entry in whole if (content := whole.extractfile(entry))}
    (manifest,) = json.loads(parts["manifest.json"])
    assert manifest["RepoTags"] == ["localhost/pause:1"]
    layer = parts[manifest["Layers"][0]]
    settings = json.loads(parts[manifest["Config"]])
    assert settings["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    assert settings["config"]["User"] == "65535:65535"
    with tarfile.open(fileobj=io.BytesIO(layer)) as content:
        assert [(entry.name, entry.mode) for entry in content] == [("pause", 0o755)]


class TestKind:
    def test_its_command_lines(self, tmp_path: Path, root: Path) -> None:
        cluster = Place(tmp_path)
        name, config = f"--name={cluster.cgroup}", f"--kubeconfig={tmp_path / 'kubeconfig'}"
        create = kind_cluster.command_to_create(cluster)
        assert create[:3] == ["kind", "create", "cluster"]
        assert {name, config, f"--config={root / 'tests' / 'e2e' / 'kind.yaml'}"} <= set(create)
        assert (root / "tests" / "e2e" / "kind.yaml").is_file()
        assert kind_cluster.command_to_delete(cluster) == ["kind", "delete", "cluster", name, config]
        load = kind_cluster.command_to_load(cluster, Path("/a.tar"))
        assert load == ["kind", "load", "image-archive", "/a.tar", name]

    @pytest.mark.parametrize(("code", "possible"), [(0, True), (1, False)])
    def test_it_is_used_only_when_docker_answers(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, possible: bool
    ) -> None:
        for name in ("kind", "docker"):
            (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert kind_cluster.is_possible() is possible
        (tmp_path / "kind").unlink()
        assert kind_cluster.is_possible() is False

    def test_a_cluster_that_it_made_is_removed_by_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        cluster = Place(tmp_path / "state")
        (tmp_path / "kind").write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\n')
        (tmp_path / "kind").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        kind_cluster.up(cluster)
        assert place.read(cluster) == Record("kind")
        assert kind_cluster.down(cluster)
        assert place.read(cluster) is None
        assert not kind_cluster.down(cluster)
        calls = (tmp_path / "calls").read_text().splitlines()
        assert [call.split()[0] for call in calls] == ["create", "delete"]


class TestCommandLine:
    def test_the_folder_may_be_named_before_and_after_the_action(self, script: ModuleType, root: Path) -> None:
        assert script.parse(["--state", "x", "up"]).state == "x"
        assert script.parse(["up", "--state", "x"]).state == "x"
        assert script.parse(["up"]).state == root / ".lakehouse" / "cluster"

    def test_a_command_to_run_keeps_its_options(self, script: ModuleType) -> None:
        assert script.parse(["exec", "--", "curl", "--state", "y"]).operands == ["curl", "--state", "y"]

    def test_ones_own_cluster_is_left_alone(
        self, script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("LAKEHOUSE_E2E_KUBECONFIG", "/home/me/config")
        state = ["--state", str(tmp_path / "state")]
        assert script.main([*state, "up"]) == 0
        out, err = capsys.readouterr()
        assert out == "KUBECONFIG=/home/me/config\n"
        assert "a cluster of your own" in err
        assert script.main([*state, "load", "a.tar"]) == 0
        assert script.main([*state, "down"]) == 0
        # What was to run has not run.
        assert script.main([*state, "exec", "--", "true"]) == 1
        assert not (tmp_path / "state").exists()

    def test_whether_one_can_be_made_is_said_before_anything_is_built(
        self, script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(script.kind_cluster, "is_possible", lambda: False)
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert script.main(["check"]) == 1
        assert script.main(["prepare"]) == 1
        first, second = capsys.readouterr().err.splitlines()
        assert first == second
        assert "needs root" in first
        monkeypatch.setattr(script.kind_cluster, "is_possible", lambda: True)
        assert script.main(["check"]) == script.main(["prepare"]) == 0
        monkeypatch.setenv("LAKEHOUSE_E2E_KUBECONFIG", "/home/me/config")
        assert script.main(["check"]) == script.main(["prepare"]) == 0

    @pytest.mark.parametrize("action", [["load", "a.tar"], ["kubeconfig"], ["exec", "--", "true"]])
    def test_without_a_cluster_it_says_how_to_make_one(
        self, script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], action: list[str]
    ) -> None:
        assert script.main(["--state", str(tmp_path), *action]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("setup/cluster.py: there is no cluster")
        assert err.rstrip().endswith("make one with 'setup/cluster.py up'")

    def test_a_cluster_whose_process_is_gone_runs_nothing(
        self, script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        # The number is in use, but by another process.
        place.write(Place(tmp_path), Record("node", "10.99.4", (), os.getpid(), 1))
        assert script.main(["--state", str(tmp_path), "exec", "--", "true"]) == 1
        assert "make it anew" in capsys.readouterr().err

    def test_taking_down_what_is_not_there_is_no_mistake(
        self, script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert script.main(["--state", str(tmp_path), "down"]) == 0
        assert capsys.readouterr().err == "there is no cluster\n"

    def test_a_process_that_only_has_the_recorded_number_is_left_alone(
        self, script: ModuleType, tmp_path: Path
    ) -> None:
        with subprocess.Popen(["sleep", "60"]) as bystander:
            place.write(Place(tmp_path), Record("node", "10.99.4", (), bystander.pid, 1))
            assert script.main(["--state", str(tmp_path), "down"]) == 0
            assert bystander.poll() is None
            bystander.kill()


def test_a_missing_package_is_installed(script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installed: list[str] = []
    monkeypatch.setattr(script.debian, "install", lambda names, why: installed.extend(names))
    monkeypatch.setattr(script, "SYSTEM_PATH", str(tmp_path))
    monkeypatch.setattr(script, "NEEDED", {"containerd": "containerd", "ip": "iproute2"})
    (tmp_path / "ip").write_text("#!/bin/sh\n")
    (tmp_path / "ip").chmod(0o755)
    script.install_packages()
    assert installed == ["containerd"]
