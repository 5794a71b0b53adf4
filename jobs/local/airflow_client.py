"""What we ask of Airflow's REST API: a pool, a backfill, how its runs are doing, and what a failed task last said."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import httpx

from jobs.errors import EvergreenError

LONGEST_ERROR = 1000  # characters shown of an exception's message


class AirflowError(EvergreenError):
    """Airflow refused a request; tells which and why."""


class Airflow:
    """A client of the API server on loopback, which asks for no password there."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self._http = httpx.Client(base_url=self.address, timeout=30)

    def call(self, method: str, path: str, **kwargs) -> Any:
        response = self._http.request(method, f"/api/v2{path}", **kwargs)
        if response.status_code == 401:  # no token yet, or an old one
            token = self._http.get("/auth/token").raise_for_status().json()["access_token"]
            self._http.headers["Authorization"] = f"Bearer {token}"
            response = self._http.request(method, f"/api/v2{path}", **kwargs)
        if response.is_error:
            raise AirflowError(
                f"Airflow answered {method} {path} with {response.status_code}: {response.text[:500]}"
            )
        return response.json() if response.content else None

    def all(self, path: str, what: str, **params) -> list[dict]:
        """All pages of a listing; `what` is the key of its rows."""
        rows: list[dict] = []
        while True:
            page = self.call("GET", path, params={"limit": 100, "offset": len(rows), **params})
            rows += page[what]
            if not page[what] or len(rows) >= page["total_entries"]:
                return rows

    def set_pool(self, name: str, slots: int) -> None:
        """Make the pool, or set the slots of the one that is there."""
        pool = {
            "name": name,
            "slots": slots,
            "description": "Steps that use the Spark server at once.",
            "include_deferred": False,
        }
        if any(p["name"] == name for p in self.all("/pools", "pools")):
            self.call("PATCH", f"/pools/{name}", json=pool)
        else:
            self.call("POST", "/pools", json=pool)

    def dags(self) -> list[str]:
        return [dag["dag_id"] for dag in self.all("/dags", "dags")]

    def import_errors(self) -> list[str]:
        return [error["stack_trace"] for error in self.all("/importErrors", "import_errors")]

    def abandon(self, dag_id: str) -> None:
        """End what an interrupted run left: its backfills, and its runs that are not over."""
        for backfill in self.all("/backfills", "backfills", dag_id=dag_id):
            if backfill["completed_at"] is None:
                self.call("PUT", f"/backfills/{backfill['id']}/cancel")
        for run in self.runs(dag_id, state=["queued", "running"]):
            self.call(
                "PATCH", f"/dags/{dag_id}/dagRuns/{run['dag_run_id']}", json={"state": "failed"}
            )

    def backfill(self, dag_id: str, first: date, last: date) -> datetime:
        """Run every day from first to last, one after the other. Returns when that was asked, by Airflow's clock."""
        made = self.call(
            "POST",
            "/backfills",
            json={
                "dag_id": dag_id,
                "from_date": f"{first}T00:00:00Z",
                "to_date": f"{last}T00:00:00Z",
                "reprocess_behavior": "completed",
                "max_active_runs": 1,
            },
        )
        return datetime.fromisoformat(made["created_at"])

    def runs(self, dag_id: str, **params) -> list[dict]:
        return self.all(f"/dags/{dag_id}/dagRuns", "dag_runs", **params)

    def tasks(self, dag_id: str, run_id: str = "~", **params) -> list[dict]:
        return self.all(
            f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances", "task_instances", **params
        )

    def log(self, task: dict, lines: int = 15) -> str:
        """The last lines of a task's last try."""
        run = f"/dags/{task['dag_id']}/dagRuns/{task['dag_run_id']}"
        path = f"{run}/taskInstances/{task['task_id']}/logs/{task['try_number']}"
        answer = self.call(
            "GET", path, params={"full_content": True}, headers={"Accept": "application/json"}
        )
        events = [said(event) for event in answer["content"]]
        return "\n".join([event for event in events if not event.startswith("::")][-lines:])


def said(event: dict) -> str:
    """A log event as a line, with the error that it carries."""
    errors = [
        f"{error['exc_type']}: {error['exc_value'][:LONGEST_ERROR]}"
        for error in event.get("error_detail") or []
    ]
    return "\n".join([event.get("event", ""), *errors])
