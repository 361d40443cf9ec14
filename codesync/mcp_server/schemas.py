"""A tool's schemas as a client reads them: what pydantic derives, without what says nothing.

A client puts every schema into its model's context, so each word is paid for in each conversation. What is left is
true of every argument and every result, only less of it is said: of nested objects no more than that they are objects.
"""

from typing import Any

from mcp_types import Tool

Schema = dict[str, Any]
NULL = {"type": "null"}


def compact(tool: Tool) -> Tool:
    """Return the tool with short schemas."""
    update: Schema = {"input_schema": _input(tool.input_schema)}
    if tool.output_schema is not None:
        update["output_schema"] = _output(tool.output_schema)
    return tool.model_copy(update=update)


def _input(schema: Schema) -> Schema:
    """Every argument with its type and description; a default of null is an argument that is left out."""
    properties = {name: _argument(found) for name, found in schema["properties"].items()}
    short: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    if required := schema.get("required"):
        short["required"] = required
    return short


def _argument(found: Schema) -> Schema:
    chosen = next((option for option in found.get("anyOf", ()) if option != NULL), found)
    kept = {name: chosen[name] for name in ("type", "minimum", "maximum") if name in chosen}
    return kept | {"description": found["description"]}


def _output(schema: Schema) -> Schema:
    """Every field with its type, one level deep."""
    return {"type": "object", "properties": {name: _field(p) for name, p in schema["properties"].items()}}


def _field(found: Schema) -> Schema:
    if "anyOf" in found:
        return {"anyOf": [_field(option) for option in found["anyOf"]]}
    if "enum" in found:
        return {"enum": found["enum"]}
    return {"type": found.get("type", "object")}  # a reference is to one of our records
