"""Runs the services of a process file: starts them in order, waits for each, stops them together.

Every service leads its own session, so that stopping it reaches everything it has forked and
nothing else, and so that Ctrl-C in the terminal reaches only this process. This module is generic:
the services of Evergreen are defined in jobs/local/services.py.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from jobs.errors import EvergreenError
from jobs.settings import in_url

LOOPBACK = "127.0.0.1"
POLL_S = 0.2
COMMAND_COLUMNS = 80  # of a command line that is part of a message
STOP_PATIENCE_S = {  # the signals that stop a service, in order, and the time each is given
    signal.SIGINT: 15.0,
    signal.SIGTERM: 5.0,
    signal.SIGKILL: 5.0,
}


class ServiceError(EvergreenError):
    """A service cannot start or has exited; the message ends with the last lines of its log."""


@dataclass(frozen=True)
class Service:
    """One line of the process file, the address it listens on, and what must be ready before it."""

    name: str
    command: str
    port: int | None = None
    host: str = LOOPBACK  # where a client on this machine reaches it
    scheme: str = "http"  # of its address
    port_option: str = ""  # how a user sets the port
    health: str = ""  # HTTP path that returns 2xx once it is ready; '': an open port is enough
    after: tuple[str, ...] = ()  # services that must be ready before this one starts
    patience_s: float = 120.0  # time it is given to become ready

    @property
    def address(self) -> str:
        return "" if self.port is None else f"{self.scheme}://{in_url(self.host)}:{self.port}"

    def ready(self) -> bool:
        if not self.health:
            return self.port is None or is_open(self.port, self.host)
        try:
            return httpx.get(self.address + self.health, timeout=5).is_success
        except httpx.HTTPError:
            return False


def read_procfile(path: Path, known: Mapping[str, Mapping]) -> list[Service]:
    """The services of a process file (lines `name: command`), in its order.

    known: further fields of each Service, by name.
    """
    services = []
    for line in path.read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, command = (part.strip() for part in line.split(":", 1))
        services.append(Service(name, command, **known.get(name, {})))
    return services


@dataclass
class Running:
    """A started service."""

    service: Service
    process: subprocess.Popen
    log: Path

    def log_tail(self, n: int = 15) -> str:
        """The path of the log and its last n lines, for an error message."""
        lines = self.log.read_text(errors="replace").splitlines()[-n:]
        return f"Its log is {self.log}; the last lines:\n" + "\n".join(lines)

    def members(self) -> list[psutil.Process]:
        """Every living process of its session: the leader and all it has forked, orphans too."""
        members = []
        for process in psutil.process_iter():
            # A process may end while it is being inspected.
            with suppress(ProcessLookupError, psutil.NoSuchProcess):
                in_session = os.getsid(process.pid) == self.process.pid
                if in_session and process.status() != psutil.STATUS_ZOMBIE:
                    members.append(process)
        return members

    def stop(self) -> None:
        """Send SIGINT to the leader, then SIGTERM and SIGKILL to every process that remains."""
        for number, patience_s in STOP_PATIENCE_S.items():
            remaining = self.members()
            for process in remaining:
                # SIGINT to the leader alone: a server knows in which order to end its workers.
                is_leader = process.pid == self.process.pid
                if is_leader or number is not signal.SIGINT:
                    with suppress(psutil.NoSuchProcess):
                        process.send_signal(number)
            psutil.wait_procs(remaining, timeout=patience_s)
            if not self.members():
                break
        self.process.wait()


class Supervisor:
    """Starts services, watches them, and stops those that it started."""

    def __init__(self, services: list[Service], logs: Path, env: Mapping[str, str]) -> None:
        self.services = services
        self.logs = logs
        self.env = dict(env)
        self.running: dict[str, Running] = {}

    def start(
        self,
        report: Callable[[str], None] = print,
        before_start: Mapping[str, Callable[[], None]] | None = None,
    ) -> None:
        """Start all services and wait until each is ready.

        report: receives one line for each service that is ready.
        before_start: functions to call just before a service starts, by its name.
        Raises ServiceError where a port is taken (nothing is started then), a service exits, or it
        does not become ready in time.
        """
        taken = taken_ports(self.services)
        if taken:
            raise ServiceError("\n".join(str(port) for port in taken))
        self.logs.mkdir(parents=True, exist_ok=True)
        hooks = before_start or {}
        started = time.monotonic()
        for service in self.services:
            for required in service.after:
                self.wait(required)
            if service.name in hooks:
                hooks[service.name]()
            self.running[service.name] = self._spawn(service)
        for service in self.services:
            self.wait(service.name)
            elapsed_s = time.monotonic() - started
            report(f"{service.name:<22} {service.address or 'running':<26} {elapsed_s:5.1f} s")

    def _spawn(self, service: Service) -> Running:
        log = self.logs / f"{service.name}.log"
        with log.open("w") as stream:
            process = subprocess.Popen(
                ["bash", "-c", service.command],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                cwd=self.logs,
                env=self.env,
                start_new_session=True,
            )
        return Running(service, process, log)

    def wait(self, name: str) -> None:
        """Wait until the service is ready.

        Raises ServiceError if any service exits first, or if this one exceeds its patience_s.
        """
        running = self.running[name]
        service = running.service
        deadline = time.monotonic() + service.patience_s
        while not service.ready():
            self.check()
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"Service '{name}' was not ready at {service.address}{service.health} within "
                    f"{service.patience_s:g} s. {running.log_tail()}"
                )
            time.sleep(POLL_S)

    def check(self) -> None:
        """Raise ServiceError if a service has exited."""
        for running in self.running.values():
            code = running.process.poll()
            if code is not None:
                raise ServiceError(
                    f"Service '{running.service.name}' exited with code {code}. "
                    f"{running.log_tail()}"
                )

    def stop(self) -> None:
        """Stop what was started, in reverse order."""
        for running in reversed(self.running.values()):
            running.stop()
        self.running.clear()


@dataclass(frozen=True)
class TakenPort:
    """A port that another process holds: the problem, and how to solve it."""

    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.problem}. {self.remedy}"


def taken_ports(services: list[Service]) -> list[TakenPort]:
    """The ports of these services that another process is listening on."""
    taken = []
    for service in services:
        if service.port and is_open(service.port, service.host):
            holder = port_holder(service.port)
            problem = f"Port {service.port} of {service.name} is taken by {holder}"
            remedy = f"Stop that process, or choose another port: {service.port_option}."
            taken.append(TakenPort(problem, remedy))
    return taken


def is_open(port: int, host: str = LOOPBACK) -> bool:
    """Whether a process accepts connections on this port of an address of this machine."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def port_holder(port: int) -> str:
    """The process that listens on a port, as far as this user is allowed to see."""
    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            if listens and connection.pid:
                words = psutil.Process(connection.pid).cmdline()
                command = shlex.join(word for word in words if word)
                return f"process {connection.pid} ({command[:COMMAND_COLUMNS]})"
    return "another process"
