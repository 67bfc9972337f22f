"""Write onnxsemi/plan.schema.json from the types that a plan file is read into.

python docs/make_schema.py
"""

import json
from pathlib import Path

import msgspec

import onnxsemi
from onnxsemi._run.plan_file import SCHEMA, PlanFile

FILE = Path(onnxsemi.__file__).with_name("plan.schema.json")


def text() -> str:
    """The whole file."""
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "onnxsemi/plan.schema.json",
        "title": f"onnxsemi bit plan, schema {SCHEMA}",
    }
    return json.dumps(head | msgspec.json.schema(PlanFile), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
