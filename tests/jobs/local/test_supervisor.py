"""The supervisor with real small processes: they start, wait, exit and are stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from jobs.local.supervisor import Service, ServiceError, Supervisor, read_procfile
from tests.ports import reserve_port

SERVER = f"{sys.executable} -m http.server --bind 127.0.0.1"
# A leader that SIGINT ends, and a grandchild in its own process group that only SIGKILL ends.
STUBBORN = f"""exec {sys.executable} -c '
import os, signal, subprocess, sys, time
stubborn = '''
import os, signal, time
os.setpgid(0, 0)
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
time.sleep(99)
'''
subprocess.Popen([sys.executable, "-c", stubborn])
time.sleep(99)
'""".replace("'''", '"""')  # within the single quotes of the shell


@pytest.fixture
def supervise(tmp_path):
    """Creates supervisors, which are stopped when the test ends."""
    supervisors = []

    def create(*services: Service) -> Supervisor:
        supervisors.append(Supervisor(list(services), tmp_path / "logs", os.environ))
        return supervisors[-1]

    yield create
    for supervisor in supervisors:
        supervisor.stop()


def web(name: str = "web", **fields) -> Service:
    port = reserve_port()
    command = f"{SERVER} {port}"
    return Service(name, command, port=port, port_option="WEB_PORT", health="/", **fields)


def ignore(line: str) -> None:
    """A report that is not shown."""


def wait_until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not reached within {seconds} s"
        time.sleep(0.05)


def test_a_service_is_ready_when_start_returns(supervise):
    service = web()
    supervise(service).start(report=ignore)
    assert service.ready()


def test_start_reports_every_service_with_its_address(supervise):
    service = web()
    worker = Service("worker", "sleep 99")
    lines = []
    supervise(service, worker).start(report=lines.append)
    assert [line.split()[:2] for line in lines] == [
        ["web", f"http://127.0.0.1:{service.port}"],
        ["worker", "running"],
    ]


def test_a_service_starts_after_those_it_depends_on_and_after_its_hook(supervise, tmp_path):
    """The server takes a while to listen; the second service records what it finds at its start."""
    port = reserve_port()
    slow = Service("slow", f"sleep 0.5; exec {SERVER} {port}", port=port, health="/")
    hook_ran = tmp_path / "hook-ran"
    result = tmp_path / "result"
    probe = f'socket.socket().connect_ex(("127.0.0.1", {port}))'
    code = f'import os, socket; print({probe}, os.path.exists("{hook_ran}"))'
    command = f"{sys.executable} -c '{code}' > {result}; exec sleep 99"
    dependent = Service("dependent", command, after=("slow",))
    hooks = {"dependent": hook_ran.touch}
    supervise(slow, dependent).start(report=ignore, before_start=hooks)
    wait_until(lambda: result.exists() and result.read_text())
    assert result.read_text().split() == ["0", "True"]


def test_a_taken_port_is_named_with_its_holder_and_its_setting_before_anything_starts(supervise):
    holder = web("holder")
    free = web("free")
    supervise(holder).start(report=ignore)
    blocked = Service("blocked", "touch started", port=holder.port, port_option="BLOCKED_PORT")
    supervisor = supervise(free, blocked)
    message = rf"Port {holder.port} of blocked is taken by process \d+ .*BLOCKED_PORT"
    with pytest.raises(ServiceError, match=message):
        supervisor.start()
    assert not supervisor.running
    assert not free.ready()


def test_stopping_reaches_everything_a_service_forked_and_nothing_else(supervise, monkeypatch):
    """The grandchild has left the process group and ignores SIGINT and SIGTERM."""
    from jobs.local import supervisor as module

    short = dict.fromkeys(module.STOP_PATIENCE_S, 0.5)
    monkeypatch.setattr(module, "STOP_PATIENCE_S", short)
    supervisor = supervise(Service("stubborn", STUBBORN))
    with subprocess.Popen(["sleep", "99"]) as bystander:
        supervisor.start(report=ignore)
        running = supervisor.running["stubborn"]
        wait_until(running.log.read_text)
        grandchild = psutil.Process(int(running.log.read_text()))
        supervisor.stop()
        bystander_lives = bystander.poll() is None
        bystander.kill()
    assert not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE
    assert running.members() == []
    assert bystander_lives


def test_a_service_can_clean_up_when_it_is_stopped(supervise, tmp_path):
    """SIGINT comes first; SIGTERM or SIGKILL would end this process without the clean-up."""
    code = f"""
import time
print("ready")
try:
    time.sleep(99)
except KeyboardInterrupt:
    open("{tmp_path}/cleaned", "w").close()
"""
    supervisor = supervise(Service("tidy", f"exec {sys.executable} -uc '{code}'"))
    supervisor.start(report=ignore)
    wait_until(supervisor.running["tidy"].log.read_text)
    supervisor.stop()
    assert (tmp_path / "cleaned").exists()


def test_the_error_of_a_service_that_exits_early_ends_with_its_log(supervise):
    dying = Service("dying", "echo first; echo the disk is full; exit 3", port=reserve_port())
    message = r"'dying' exited with code 3\. (?s:.*)dying\.log(?s:.*)first\nthe disk is full$"
    with pytest.raises(ServiceError, match=message):
        supervise(dying).start()


def test_a_service_that_does_not_become_ready_is_an_error_after_its_patience(supervise):
    port = reserve_port()
    mute = Service("mute", "echo thinking; sleep 99", port=port, patience_s=0.5)
    message = rf"'mute' was not ready at http://127.0.0.1:{port} within 0\.5 s\.(?s:.*)thinking"
    started = time.monotonic()
    with pytest.raises(ServiceError, match=message):
        supervise(mute).start()
    assert time.monotonic() - started >= mute.patience_s


def test_a_service_that_exits_later_is_noticed(supervise):
    supervisor = supervise(web())
    supervisor.start(report=ignore)
    supervisor.check()
    process = supervisor.running["web"].process
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with pytest.raises(ServiceError, match="'web' exited with code -9"):
        supervisor.check()


def test_a_process_file_is_read_in_order(tmp_path: Path):
    file = tmp_path / "Procfile"
    file.write_text("# what runs\nweb: serve --port $PORT: here\n\nworker: work\n")
    first, second = read_procfile(file, {"web": {"port": 80}})
    assert (first.name, first.command, first.port) == ("web", "serve --port $PORT: here", 80)
    assert (second.name, second.command, second.port) == ("worker", "work", None)
