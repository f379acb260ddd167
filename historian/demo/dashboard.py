"""The dashboard that the demo brings: key figures of the fillers, and what stands behind them."""

from __future__ import annotations

from typing import Any

from historian.demo.points import LINES, SITE

NAME = "packaging"

_TITLES = {"line1": "Line 1", "line2": "Line 2"}


def dashboard() -> dict[str, Any]:
    """The document, as `PUT /v1/dashboards/{name}` takes it."""
    tiles: list[dict[str, Any]] = []
    for n, line in enumerate(LINES):
        y = 7 * n
        filler = f"{SITE}/packaging/{line}/filler"
        tiles += [
            _tile("text", 0, y, 12, 1, text=f"{_TITLES[line]} · filler", heading=True),
            _kpi(line, "oee", 0, y + 1, 3, 4, target=0.75, alarm=0.6),
            _kpi(line, "availability", 3, y + 1, 2, 2, target=0.85, alarm=0.7),
            _kpi(line, "performance", 5, y + 1, 2, 2, target=0.9, alarm=0.75),
            _kpi(line, "quality", 7, y + 1, 2, 2, target=0.97, alarm=0.94),
            _tile(
                "gauge",
                9,
                y + 1,
                3,
                4,
                title="Speed",
                tag=f"{filler}/speed",
                decimals=0,
                stale_after="30s",
            ),
            _tile(
                "value",
                3,
                y + 3,
                2,
                2,
                title="State",
                tag=f"{filler}/state",
                alarm_states=["fault"],
                warning_states=["stopped", "waiting"],
                stale_after="3m",
            ),
            _kpi(line, "good", 5, y + 3, 2, 2),
            _kpi(line, "rejects", 7, y + 3, 2, 2),
            _tile("states", 0, y + 5, 12, 2, title="States of the last hour", tags=[f"{filler}/state"], span="1h"),
        ]
    y = 7 * len(LINES)
    tiles += [
        _tile("text", 0, y, 12, 1, text="Brewing", heading=True),
        _tile(
            "trend",
            0,
            y + 1,
            6,
            4,
            title="Temperature of the reactors",
            tags=[f"{SITE}/brewing/{line}/reactor1/temperature" for line in LINES],
            span="30m",
        ),
        _tile("sparkline", 6, y + 1, 2, 2, title="Steam", tag=f"{SITE}/utilities/steam/pressure", span="15m"),
        _tile(
            "sparkline", 6, y + 3, 2, 2, title="Cooling water", tag=f"{SITE}/utilities/cooling_water/temperature", span="15m", decimals=1
        ),
        _tile(
            "alarms",
            8,
            y + 1,
            4,
            4,
            title="Alarms of the last hour",
            span="1h",
            rules=[
                {"tags": f"{SITE}/+/+/+/state", "states": ["fault"]},
                {"tags": f"{SITE}/brewing/+/reactor1/high_temperature_alarm", "states": ["true"]},
                {"tags": f"{SITE}/utilities/+/+"},
                {"tags": f"{SITE}/brewing/#", "bad": True, "severity": "warning"},
            ],
        ),
    ]
    return {
        "title": "Packaging: key figures",
        "description": "Overall equipment effectiveness of both fillers in the shift at hand.",
        "shifts": {"interval": "8h", "origin": "06:00", "tz": "UTC"},
        "equipment": {
            line: {
                "title": f"{_TITLES[line]} filler",
                "state": f"{SITE}/packaging/{line}/filler/state",
                "running": ["running"],
                "planned_stops": ["cleaning"],
                "total": f"{SITE}/packaging/{line}/filler/total",
                "good": f"{SITE}/packaging/{line}/filler/good",
                "ideal_cycle": f"{SITE}/packaging/{line}/filler/ideal_cycle_time",
            }
            for line in LINES
        },
        "tiles": tiles,
    }


def _tile(kind: str, x: int, y: int, w: int, h: int, **more: Any) -> dict[str, Any]:
    return {"type": kind, "x": x, "y": y, "w": w, "h": h, **more}


def _kpi(line: str, show: str, x: int, y: int, w: int, h: int, **more: Any) -> dict[str, Any]:
    return _tile("kpi", x, y, w, h, equipment=line, show=show, **more)
