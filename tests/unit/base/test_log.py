"""What people read in the log."""

from __future__ import annotations

import json
import logging

from morgand.base.log import HumanFormatter, JsonFormatter, name_hosts

RECORD = logging.makeLogRecord(
    {"name": "morgand.planner", "msg": "planned", "levelname": "INFO", "added": ["llm/main@3f2a90"], "to": "9bc1d2"}
)


def test_people_read_names_of_hosts_and_programs_ids() -> None:
    root, handler = logging.getLogger(), logging.StreamHandler()
    handler.setFormatter(HumanFormatter())
    root.addHandler(handler)
    try:
        name_hosts(lambda: {"3f2a90": "attic", "9bc1d2": "cellar"})
    finally:
        root.removeHandler(handler)
    assert "added=['llm/main@attic'] to=cellar" in handler.format(RECORD)
    assert json.loads(JsonFormatter("attic").format(RECORD))["to"] == "9bc1d2"
