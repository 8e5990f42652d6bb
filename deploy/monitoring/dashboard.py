# noqa: INP001 - a script beside what it makes, not a part of a package
"""Makes dashboard.json, in this directory: ``python dashboard.py > dashboard.json``.

Grafana's JSON says everything twenty times; here a graph is its title, its unit and its queries. Counters are
summed over instances; what waits in the database every instance tells alike, and the greatest is shown.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_PER_LINE = 3
_WIDTH = 24 // _PER_LINE
_HEIGHT = 7

_JOB = 'job=~"$job"'
_MODEL = f'{_JOB},model=~"$model"'
_CALLS = f'{_MODEL},mode=~"$mode"'


@dataclass(frozen=True, slots=True)
class Graph:
    """``queries`` are expressions, by what their lines are called. ``unit`` is one of Grafana's."""

    title: str
    unit: str
    queries: Mapping[str, str]


def rate(metric: str, labels: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}{{{labels}}}[$__rate_interval]))"


def quantile(share: float, metric: str, labels: str, by: str) -> str:
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', labels, f'{by}, le')})"


def quantiles(metric: str, labels: str, by: str) -> dict[str, str]:
    return {
        f"{{{{{by}}}}} p{round(share * 100)}": quantile(share, metric, labels, by) for share in (0.5, 0.95)
    }


def greatest(metric: str, labels: str, by: str) -> str:
    return f"max by ({by}) ({metric}{{{labels}}})"


TRAFFIC = (
    Graph("Requests by route", "reqps", {"{{route}}": rate("gateway_http_requests_total", _JOB, "route")}),
    Graph(
        "Faults of ours (5xx)",
        "reqps",
        {
            "{{status}} {{route}}": rate(
                "gateway_http_requests_total", f'{_JOB},status=~"5.."', "route, status"
            )
        },
    ),
    Graph(
        "Refusals (4xx)",
        "reqps",
        {"{{status}}": rate("gateway_http_requests_total", f'{_JOB},status=~"4.."', "status")},
    ),
    Graph(
        "Time to answer, waiting for music included",
        "s",
        quantiles("gateway_http_request_seconds", f'{_JOB},route=~"/api/.*"', "route"),
    ),
    Graph(
        "Abuse guard",
        "reqps",
        {
            "{{guard}} refused": rate("gateway_guard_refused_total", _JOB, "guard"),
            "{{guard}} uncounted, {{outcome}}": rate("gateway_guard_uncounted_total", _JOB, "guard, outcome"),
        },
    ),
    Graph("Event streams open", "short", {"{{job}}": f"sum by (job) (gateway_event_streams{{{_JOB}}})"}),
)

TASKS = (
    Graph("Tasks that entered a state", "ops", {"{{state}}": rate("gateway_tasks_total", _CALLS, "state")}),
    Graph(
        "Tasks waiting",
        "short",
        {"{{job}} {{model}}": greatest("gateway_tasks_waiting", _MODEL, "job, model")},
    ),
    Graph(
        "Age of the oldest task that waits",
        "s",
        {"{{job}} {{model}} {{mode}}": greatest("gateway_tasks_oldest_seconds", _CALLS, "job, model, mode")},
    ),
    Graph(
        "Tasks running",
        "short",
        {"{{instance}}": f"sum by (instance) (gateway_tasks_running{{{_JOB}}})"},
    ),
    Graph("Tasks deleted", "ops", {"{{cause}}": rate("gateway_tasks_deleted_total", _JOB, "cause")}),
)

MODELS = (
    Graph(
        "Calls by outcome",
        "ops",
        {"{{model}} {{outcome}}": rate("gateway_upstream_calls_total", _CALLS, "model, outcome")},
    ),
    Graph(
        "Calls that delivered, of those that were not busy",
        "percentunit",
        {
            "{{model}}": rate("gateway_upstream_calls_total", f'{_CALLS},outcome="delivered"', "model")
            + " / "
            + rate("gateway_upstream_calls_total", f'{_CALLS},outcome!="busy"', "model")
        },
    ),
    Graph("Time of a call", "s", quantiles("gateway_upstream_seconds", _CALLS, "model")),
    Graph("Received", "Bps", {"{{model}}": rate("gateway_received_bytes_total", _CALLS, "model")}),
)

STORAGE = (
    Graph("Audio stored", "Bps", {"{{model}}": rate("gateway_stored_bytes_total", _MODEL, "model")}),
    Graph(
        "Given to storage again",
        "ops",
        {"{{outcome}}": rate("gateway_uploads_retried_total", _JOB, "outcome")},
    ),
    Graph(
        "Objects deleted, and orphans found",
        "ops",
        {
            "{{outcome}}": rate("gateway_objects_deleted_total", _JOB, "outcome"),
            "orphans of {{job}}": rate("gateway_orphans_found_total", _JOB, "job"),
        },
    ),
)

WEBHOOKS = (
    Graph("Tries by outcome", "ops", {"{{outcome}}": rate("gateway_webhook_tries_total", _JOB, "outcome")}),
    Graph("Waiting to be sent", "short", {"{{job}}": greatest("gateway_webhooks_pending", _JOB, "job")}),
    Graph("From event to delivery", "s", quantiles("gateway_webhook_seconds", _JOB, "job")),
)

PROCESS = (
    Graph("Answering scrapes", "short", {"{{instance}}": f"up{{{_JOB}}}"}),
    Graph(
        "Instances by version",
        "short",
        {"{{job}} {{version}}": f"count by (job, version) (gateway_build_info{{{_JOB}}})"},
    ),
    Graph("Uptime", "s", {"{{instance}}": f"time() - process_start_time_seconds{{{_JOB}}}"}),
    Graph("Cores in use", "short", {"{{instance}}": rate("process_cpu_seconds_total", _JOB, "instance")}),
    Graph("Resident memory", "bytes", {"{{instance}}": f"process_resident_memory_bytes{{{_JOB}}}"}),
    Graph(
        "Lateness of the event loop, p99",
        "s",
        {"{{instance}}": quantile(0.99, "gateway_event_loop_lag_seconds", _JOB, "instance")},
    ),
    Graph(
        "Open files, of those allowed",
        "percentunit",
        {"{{instance}}": f"process_open_fds{{{_JOB}}} / process_max_fds{{{_JOB}}}"},
    ),
    Graph(
        "Scrapes that did not reach the database",
        "ops",
        {"{{instance}}": rate("gateway_scrapes_incomplete_total", _JOB, "instance")},
    ),
)

ROWS = {
    "Traffic and errors": TRAFFIC,
    "Tasks and queue": TASKS,
    "Models": MODELS,
    "Storage": STORAGE,
    "Webhooks": WEBHOOKS,
    "Process": PROCESS,
}


def dashboard() -> Json:
    panels: list[Json] = []
    y = 0
    for title, graphs in ROWS.items():
        panels.append(
            {
                "type": "row",
                "title": title,
                "id": len(panels) + 1,
                "collapsed": False,
                "gridPos": {"h": 1, "w": 24, "x": 0, "y": y},
                "panels": [],
            }
        )
        y += 1
        for number, graph in enumerate(graphs):
            place = {"h": _HEIGHT, "w": _WIDTH, "x": number % _PER_LINE * _WIDTH, "y": y}
            panels.append(_panel(graph, len(panels) + 1, place))
            if number % _PER_LINE == _PER_LINE - 1 or number == len(graphs) - 1:
                y += _HEIGHT
    return {
        "uid": "music-gateway",
        "title": "Music gateway",
        "tags": ["music-gateway"],
        "timezone": "browser",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "panels": panels,
    }


def _panel(graph: Graph, number: int, place: Json) -> Json:
    return {
        "type": "timeseries",
        "title": graph.title,
        "id": number,
        "gridPos": place,
        "datasource": _DATASOURCE,
        "fieldConfig": {"defaults": {"unit": graph.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + n), "datasource": _DATASOURCE, "expr": expr, "legendFormat": legend}
            for n, (legend, expr) in enumerate(graph.queries.items())
        ],
    }


def _variables() -> list[Json]:
    return [
        {"name": "datasource", "label": "Source", "type": "datasource", "query": "prometheus"},
        _choice("job", "Gateway", "label_values(gateway_build_info, job)", "All"),
        _choice("model", "Model", 'label_values(gateway_tasks_total{job=~"$job"}, model)', "All"),
        _choice("mode", "Mode", 'label_values(gateway_tasks_total{job=~"$job"}, mode)', "live"),
    ]


def _choice(name: str, label: str, query: str, first: str) -> Json:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _DATASOURCE,
        "query": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": [first], "value": ["$__all" if first == "All" else first]},
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(dashboard(), indent=2) + "\n")
