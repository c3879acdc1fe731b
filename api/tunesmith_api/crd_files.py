# SPDX-License-Identifier: Apache-2.0
"""The definitions as files: `python -m tunesmith_api.crd_files deploy/crds` writes them anew."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from tunesmith_api.crd import definitions

_HEAD = (
    "# SPDX-License-Identifier: Apache-2.0\n# Made from the models by tunesmith_api.crd_files.\n"
)


def files() -> Mapping[str, str]:
    """Texts by file name."""
    return {
        f"{each['spec']['names']['plural']}.yaml": _HEAD
        + yaml.safe_dump(each, sort_keys=False, width=100)
        for each in definitions()
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (folder / name).write_text(text, encoding="utf-8")
