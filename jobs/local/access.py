"""Who can reach Airflow, MLflow and the registry, and whether that is allowed without a login.

`services.host` says on which addresses they listen, `services.password` whether Airflow and MLflow
demand a login. The registry's reads are open to everyone who reaches it.
"""

from __future__ import annotations

import os
import socket

import psutil

from jobs.errors import SettingsError
from jobs.settings import SHORTEST_PASSWORD, ServiceSettings, in_url

USER = "evergreen"  # the one user of Airflow and MLflow, where they demand a login
ALL_ADMINS = "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS"


def check_access(services: ServiceSettings) -> None:
    """Raise SettingsError where the services could be reached by others without a login."""
    if services.beyond_loopback and not services.password:
        raise SettingsError(
            f"services.host is {services.host}, where other machines may reach Airflow and MLflow, "
            "and there is no password for their login. Set EVERGREEN_SERVICES__PASSWORD to at "
            f"least {SHORTEST_PASSWORD} characters, or remove services.host: then the services "
            "listen on loopback only."
        )
    everybody = os.environ.get(ALL_ADMINS, "false").strip().lower()
    if services.password and everybody not in ("false", "f", "0", ""):
        raise SettingsError(
            f"{ALL_ADMINS} is '{everybody}', which opens Airflow to everybody, while "
            "services.password demands a login. Remove one of the two."
        )
    check_host(services.host)


def check_host(host: str) -> None:
    """Raise SettingsError where no service can listen on this address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, 0), family=family).close()
    except OSError as error:
        own = ", ".join(own_addresses())
        raise SettingsError(
            f"services.host is {host}, on which this machine cannot listen ({error.strerror}). "
            f"Its addresses are {own}; 0.0.0.0 stands for all of them."
        ) from None


def own_addresses() -> list[str]:
    """The IP addresses of this machine, of version 4 and 6, those valid on one link left out."""
    found = []
    for interface in psutil.net_if_addrs().values():
        for address in interface:
            is_ip = address.family in (socket.AF_INET, socket.AF_INET6)
            if is_ip and "%" not in address.address:
                found.append(address.address)
    return found


def page_addresses(services: ServiceSettings, port: int) -> list[str]:
    """The addresses under which a browser may open the pages at this port."""
    everywhere = services.host != services.local_host
    hosts = own_addresses() if everywhere else [services.host]
    names = [services.public_host] if services.public_host else []
    names.append(socket.gethostname())
    return [f"http://{in_url(host)}:{port}" for host in [*names, *hosts]]
