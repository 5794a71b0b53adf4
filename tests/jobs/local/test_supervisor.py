"""Real small processes: what starts, waits, dies and is stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from jobs.local.services import ROOT, services
from jobs.local.supervisor import Service, ServiceError, Supervisor, read_procfile

SERVER = f"{sys.executable} -m http.server --bind 127.0.0.1"
# A leader that a polite request ends, and a grandchild in a process group of its own that no polite request ends.
STUBBORN = f"""exec {sys.executable} -c '
import os, signal, subprocess, sys, time
stubborn = "import os, signal, time; os.setpgid(0, 0); signal.signal(2, 1); signal.signal(15, 1); print(os.getpid(), flush=True); time.sleep(99)"
subprocess.Popen([sys.executable, "-c", stubborn])
time.sleep(99)
'"""  # noqa: E501


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def supervise(tmp_path):
    """Supervisors that are stopped when the test ends."""
    made = []

    def make(*services: Service) -> Supervisor:
        made.append(Supervisor(list(services), tmp_path / "logs", os.environ))
        return made[-1]

    yield make
    for supervisor in made:
        supervisor.stop()


def web(name: str = "web", **more) -> Service:
    port = free_port()
    return Service(name, f"{SERVER} {port}", port=port, port_option="WEB_PORT", health="/", **more)


def test_a_service_has_answered_when_start_returns(supervise):
    service = web()
    supervise(service).start(tell=lambda line: None)
    assert service.ready()


def test_a_service_starts_after_those_it_needs_answer_and_what_is_to_be_done_before_it(
    supervise, tmp_path
):
    """The server is slow to listen; the one behind it writes down what it found when it started."""
    port = free_port()
    slow = Service("slow", f"sleep 0.5; exec {SERVER} {port}", port=port, health="/")
    found = tmp_path / "found"
    listens = f'socket.socket().connect_ex(("127.0.0.1", {port}))'
    code = f'import os, socket; print({listens}, os.path.exists("{tmp_path}/done"))'
    behind = Service("behind", f"{sys.executable} -c '{code}' > {found}; sleep 99", after=("slow",))
    supervise(slow, behind).start(
        tell=lambda line: None, before={"behind": (tmp_path / "done").touch}
    )
    deadline = time.monotonic() + 10
    while not (found.exists() and found.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found.read_text().split() == ["0", "True"]


def test_a_taken_port_is_named_with_its_holder_and_its_setting_before_anything_starts(supervise):
    holder, free = web("holder"), web("free")
    supervise(holder).start(tell=lambda line: None)
    wanting = Service("wanting", "touch started", port=holder.port, port_option="WANTING_PORT")
    supervisor = supervise(free, wanting)
    with pytest.raises(
        ServiceError, match=rf"Port {holder.port} of wanting is taken by process \d+ .*WANTING_PORT"
    ):
        supervisor.start()
    assert not supervisor.running
    assert not free.ready()


def test_stopping_reaches_all_that_a_service_forked_and_nothing_else(supervise, monkeypatch):
    """The grandchild has left the process group and ignores SIGINT and SIGTERM; a bystander of ours lives on."""
    from jobs.local import supervisor as module

    monkeypatch.setattr(module, "PATIENCE_S", dict.fromkeys(module.PATIENCE_S, 0.5))
    bystander = subprocess.Popen(["sleep", "99"])
    supervisor = supervise(Service("stubborn", STUBBORN))
    supervisor.start(tell=lambda line: None)
    running = supervisor.running["stubborn"]
    while not running.log.read_text():
        time.sleep(0.05)
    grandchild = psutil.Process(int(running.log.read_text()))
    supervisor.stop()
    assert not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE
    assert running.members() == []
    assert bystander.poll() is None
    bystander.kill()


def test_a_service_that_is_asked_politely_may_end_its_own_way(supervise, tmp_path):
    """SIGINT comes first, so a service has the time to tidy up."""
    tidy = f'try: time.sleep(99)\nexcept KeyboardInterrupt: open("{tmp_path}/tidied", "w").close()'
    supervisor = supervise(
        Service("tidy", f"exec {sys.executable} -uc 'import time; print(1)\n{tidy}'")
    )
    supervisor.start(tell=lambda line: None)
    while not supervisor.running["tidy"].log.read_text():
        time.sleep(0.05)
    supervisor.stop()
    assert (tmp_path / "tidied").exists()


def test_a_service_that_dies_early_tells_its_last_lines(supervise):
    dying = Service("dying", "echo first; echo the disk is full; exit 3", port=free_port())
    with pytest.raises(
        ServiceError,
        match=r"'dying' ended by itself with code 3(?s:.*)dying\.log(?s:.*)the disk is full",
    ):
        supervise(dying).start()


def test_a_service_that_never_answers_is_given_up_after_its_patience(supervise):
    mute = Service("mute", "echo thinking; sleep 99", port=free_port(), patience_s=0.5)
    with pytest.raises(
        ServiceError, match=r"'mute' did not answer at sc://.* within 0 s(?s:.*)thinking"
    ):
        supervise(mute).start()


def test_a_service_that_dies_later_is_noticed(supervise):
    service = web()
    supervisor = supervise(service)
    supervisor.start(tell=lambda line: None)
    supervisor.check()
    os.kill(supervisor.running["web"].process.pid, signal.SIGKILL)
    supervisor.running["web"].process.wait()
    with pytest.raises(ServiceError, match="'web' ended by itself with code -9"):
        supervisor.check()


def test_a_process_file_is_read_in_order(tmp_path: Path):
    file = tmp_path / "Procfile"
    file.write_text("# what runs\nweb: serve --port $PORT: here\n\nworker: work\n")
    first, second = read_procfile(file, {"web": {"port": 80}})
    assert (first.name, first.command, first.port) == ("web", "serve --port $PORT: here", 80)
    assert (second.name, second.command, second.port) == ("worker", "work", None)


def test_every_service_of_ours_has_a_port_and_its_setting_or_waits_for_one_that_has(settings):
    """The process file and what jobs/local/services.py knows of it speak of the same services."""
    found = services(settings)
    assert (ROOT / "infra" / "Procfile").exists()
    for service in found:
        assert (service.port and service.port_option) or service.after, service
    names = [service.name for service in found]
    for service in found:
        assert all(names.index(needed) < names.index(service.name) for needed in service.after), (
            service
        )
