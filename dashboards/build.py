"""Generator of the boards, the rules and the page of alerts: `python -m dashboards.build`.

After a change in `boards/` or `rules.py`, run the generator and commit the generated files too: a test compares them.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

warnings.filterwarnings("ignore", message="Prefer using dashboardv2", category=DeprecationWarning)

from grafana_foundation_sdk.cog.encoder import JSONEncoder  # noqa: E402
from grafana_foundation_sdk.models.dashboard import Dashboard  # noqa: E402

from dashboards.boards import cost, fleet, health, run, streaming, tools  # noqa: E402
from dashboards.rules import (  # noqa: E402
    ALERTS_PAGE,
    FLEET_RULES_FILE,
    NATIVE_RULES_FILE,
    RULES_FILE,
    alerts_page,
    fleet_rules_text,
    native_rules_text,
    rules_text,
)

HERE = Path(__file__).parent
BOARDS = (fleet, streaming, tools, cost, health, run)


def main() -> None:
    """Write all generated files."""
    (HERE / "generated").mkdir(exist_ok=True)
    for name, text in files().items():
        (HERE / name).write_text(text, encoding="utf-8")
        print((HERE / name).resolve().relative_to(HERE.parent))


def files() -> dict[str, str]:
    """Contents of the generated files, by path relative to this folder."""
    boards = [module.board().build() for module in BOARDS]
    return {
        **{f"generated/{board.uid}.json": _as_json(board) for board in boards},
        f"generated/{RULES_FILE}": rules_text(),
        f"generated/{FLEET_RULES_FILE}": fleet_rules_text(),
        f"generated/{NATIVE_RULES_FILE}": native_rules_text(),
        ALERTS_PAGE: alerts_page(),
    }


def _as_json(board: Dashboard) -> str:
    for number, panel in enumerate(board.panels or [], 1):
        panel.id_val = number  # the builders set no id, and Grafana would assign new ones on each import
    as_dict = json.loads(json.dumps(board, cls=JSONEncoder))
    return json.dumps({"id": None, **as_dict}, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    main()
