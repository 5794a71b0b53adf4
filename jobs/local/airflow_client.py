"""A client of Airflow's REST API: pools, backfills, runs, tasks and their logs."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import httpx

from jobs.errors import EvergreenError
from jobs.local.access import USER
from jobs.settings import ServiceSettings

LONGEST_ERROR = 1000  # characters shown of an exception's message
PAGE = 100  # rows per request; Airflow's default maximum


class AirflowError(EvergreenError):
    """Airflow refused a request; the message has the request, the status and the reason."""


class Airflow:
    """A client of this home's API server.

    It hands out a token for the password of the settings; without one, to everyone on loopback.
    """

    def __init__(self, services: ServiceSettings) -> None:
        self.address = services.airflow_at
        self._password = services.password.get_secret_value()
        self._http = httpx.Client(base_url=self.address, timeout=30)

    def __enter__(self) -> Airflow:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def call(self, method: str, path: str, **kwargs) -> Any:
        """The decoded response of one request; the path is below /api/v2. Raises AirflowError."""
        response = self._http.request(method, f"/api/v2{path}", **kwargs)
        if response.status_code == 401:  # no token yet, or it has expired
            self._http.headers["Authorization"] = f"Bearer {self._token()}"
            response = self._http.request(method, f"/api/v2{path}", **kwargs)
        if response.is_error:
            raise AirflowError(
                f"Airflow responded to {method} {path} with status {response.status_code}: "
                f"{response.text[:500]}"
            )
        return response.json() if response.content else None

    def _token(self) -> str:
        if self._password:
            return self._token_of_user()
        response = self._http.get("/auth/token")
        if response.is_error:
            raise AirflowError(
                f"Airflow at {self.address} requires a login (status {response.status_code}), "
                "which Evergreen does not have. "
                "Remove AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS, or set it to true."
            )
        return response.json()["access_token"]

    def _token_of_user(self) -> str:
        login = {"username": USER, "password": self._password}
        response = self._http.post("/auth/token", json=login)
        if response.is_error:
            raise AirflowError(
                f"Airflow at {self.address} refused the login of '{USER}' (status "
                f"{response.status_code}). Set services.password to the password that the services "
                "were started with, or restart them with this one."
            )
        return response.json()["access_token"]

    def rows(self, path: str, key: str, **params) -> list[dict]:
        """All pages of a listing, joined. key: the field of the response that holds the rows."""
        rows: list[dict] = []
        while True:
            query = {"limit": PAGE, "offset": len(rows), **params}
            page = self.call("GET", path, params=query)
            rows += page[key]
            if not page[key] or len(rows) >= page["total_entries"]:
                return rows

    def set_pool(self, name: str, slots: int) -> None:
        """Create the pool, or set the slots of the existing one."""
        pool = {
            "name": name,
            "slots": slots,
            "description": "Steps that use the Spark server at the same time.",
            "include_deferred": False,
        }
        existing = [row["name"] for row in self.rows("/pools", "pools")]
        if name in existing:
            self.call("PATCH", f"/pools/{name}", json=pool)
        else:
            self.call("POST", "/pools", json=pool)

    def dags(self) -> list[str]:
        return [dag["dag_id"] for dag in self.rows("/dags", "dags")]

    def import_errors(self) -> list[str]:
        errors = self.rows("/importErrors", "import_errors")
        return [error["stack_trace"] for error in errors]

    def cancel_unfinished(self, dag_id: str) -> None:
        """Cancel a DAG's backfills that are not complete; fail its runs that have not ended.

        Airflow allows one active backfill per DAG, and an interrupted demo leaves its own active.
        """
        for backfill in self.rows("/backfills", "backfills", dag_id=dag_id):
            if backfill["completed_at"] is None:
                self.call("PUT", f"/backfills/{backfill['id']}/cancel")
        for run in self.runs(dag_id, state=["queued", "running"]):
            path = f"/dags/{dag_id}/dagRuns/{run['dag_run_id']}"
            self.call("PATCH", path, json={"state": "failed"})

    def backfill(self, dag_id: str, first: date, last: date, at_once: int = 1) -> datetime:
        """Run every day from first to last, in order, also those that have run before.

        at_once: how many days may run side by side; two of them take both places at the Spark
        server from a new day. Returns the time of the request by Airflow's clock.
        """
        request = {
            "dag_id": dag_id,
            # Airflow reads both as times in the DAG's own zone. A day's tick is at some time of the
            # day, so the last day must be included whole.
            "from_date": f"{first}T00:00:00Z",
            "to_date": f"{last}T23:59:59Z",
            "reprocess_behavior": "completed",  # by default, days that have run are left out
            "max_active_runs": at_once,
        }
        backfill = self.call("POST", "/backfills", json=request)
        return datetime.fromisoformat(backfill["created_at"])

    def trigger(self, dag_id: str, day: date) -> None:
        """Run a DAG on one day. Airflow's own operator cannot pass a partition key (3.3)."""
        request = {"logical_date": None, "partition_key": str(day)}
        self.call("POST", f"/dags/{dag_id}/dagRuns", json=request)

    def runs(self, dag_id: str, **params) -> list[dict]:
        return self.rows(f"/dags/{dag_id}/dagRuns", "dag_runs", **params)

    def runs_of_day(self, dag_id: str, day: date) -> list[dict]:
        """The runs with this day as their partition key, newest first."""
        runs = self.runs(dag_id, partition_key_prefix_pattern=str(day), order_by="-id")
        return [run for run in runs if run["partition_key"] == str(day)]

    def tasks(self, dag_id: str, run_id: str = "~", **params) -> list[dict]:
        """The task instances of one run; of all runs by default."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        return self.rows(path, "task_instances", **params)

    def log(self, task: dict, lines: int = 15) -> str:
        """The last log events of a task instance's last try, each as `event_text` writes it."""
        run = f"/dags/{task['dag_id']}/dagRuns/{task['dag_run_id']}"
        path = f"{run}/taskInstances/{task['task_id']}/logs/{task['try_number']}"
        # The default is a stream of one JSON document per line.
        headers = {"Accept": "application/json"}
        log = self.call("GET", path, params={"full_content": True}, headers=headers)
        texts = []
        for event in log["content"]:
            text = event_text(event)
            # "::group::" and the like fold the log in Airflow's page.
            if not text.startswith("::"):
                texts.append(text)
        return "\n".join(texts[-lines:])


def event_text(event: dict) -> str:
    """A log event as text: its message and the exceptions it carries, one per line."""
    texts = [event.get("event", "")]
    for error in event.get("error_detail") or []:
        texts.append(f"{error['exc_type']}: {error['exc_value'][:LONGEST_ERROR]}")
    return "\n".join(texts)
