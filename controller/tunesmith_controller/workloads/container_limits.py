# SPDX-License-Identifier: Apache-2.0
"""CPU and memory limits of a Job's container as limits that this machine can impose.

`process.py` asks the runtime once what it can do; `job_spec.py` turns the limits into options of
its client. Where a user may not use control groups (rootless on cgroup v1, no delegation) there are
none.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any

from tunesmith_controller.workloads.slots import cpu_millis, cpus_text

_SECONDS = 60
_DECIMAL = ("", "k", "M", "G", "T", "P", "E")
_BINARY = ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_SCALES = {
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate(_DECIMAL)},
    **{suffix: Decimal(1024) ** power for power, suffix in enumerate(_BINARY, 1)},
    "m": Decimal("1e-3"),
}
_QUANTITY = re.compile(r"(\+?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?)([A-Za-z]{0,2})")


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a runtime can limit; `cpus` is how many there are at most, 0 when it cannot."""

    cpus: int = 0
    memory: bool = False


def abilities(client: str, environ: Mapping[str, str]) -> Abilities:
    """Asks podman or docker. OSError: it does not answer, or cannot be used; it says why."""
    try:
        ran = subprocess.run(
            [client, "info", "--format", "{{json .}}"],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
        told = json.loads(ran.stdout)
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{client} does not answer") from error
    except ValueError:
        told = {}
    problems = told.get("ServerErrors") if isinstance(told, dict) else ["no object"]
    if ran.returncode or not told or problems:
        said = ran.stderr.decode("utf-8", "replace").strip() or str(problems or "")
        raise OSError(f"{client} cannot be used: {said[-300:]}")
    return _of_podman(told["host"]) if "host" in told else _of_docker(told)


def _of_podman(host: Mapping[str, Any]) -> Abilities:
    rootless = bool((host.get("security") or {}).get("rootless"))
    if rootless and host.get("cgroupVersion") != "v2":
        return Abilities()
    controllers = host.get("cgroupControllers") or ()
    cpus = int(host.get("cpus") or 0) if "cpu" in controllers else 0
    return Abilities(cpus, "memory" in controllers)


def _of_docker(info: Mapping[str, Any]) -> Abilities:
    cpus = int(info.get("NCPU") or 0) if info.get("CpuCfsQuota") else 0
    return Abilities(cpus, bool(info.get("MemoryLimit")))


def options(limits: Mapping[str, Any], able: Abilities) -> list[str]:
    """Of the client, for `resources.limits`. ValueError: one of them is no quantity."""
    found: list[str] = []
    if "cpu" in limits:
        millis = min(cpu_millis(limits["cpu"]), able.cpus * 1000)
        found += ["--cpus", cpus_text(millis)] if able.cpus else []
    if "memory" in limits:
        size = memory_bytes(limits["memory"])
        found += ["--memory", f"{size}b"] if able.memory else []
    return found


def memory_bytes(quantity: object) -> int:
    """A Kubernetes quantity ("512Mi", "1G", 1e9) in bytes, rounded up.

    ValueError: it is none, or is not above zero.
    """
    matched = _QUANTITY.fullmatch(str(quantity))
    if matched is None or isinstance(quantity, bool) or matched[2] not in _SCALES:
        raise ValueError(f"{quantity!r} is no amount of memory such as 512Mi or 2G")
    size = Decimal(matched[1]) * _SCALES[matched[2]]
    if size <= 0:
        raise ValueError(f"{quantity!r} is not above zero")
    return int(size.to_integral_value(ROUND_CEILING))
