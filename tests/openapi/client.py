"""Uses the generated Python client: on the sandbox, then on each example of the document.

    client.py FOLDER_OF_THE_CLIENT DOCUMENT REQUESTS URL

A response counts as parsed if the client makes the described model of it, which has the described
code and says the same again. Nothing here knows an operation: names come from the document.
"""

import importlib
import inspect
import json
import re
import sys
from pathlib import Path

import httpx

PACKAGE = "config_controller_client"
METHODS = ("get", "head", "patch", "put", "delete")

folder, document, requests, url = sys.argv[1:]
sys.path.insert(0, folder)
document = json.loads(Path(document).read_text())
requests = json.loads(Path(requests).read_text())
Client = importlib.import_module(PACKAGE).Client
models = importlib.import_module(f"{PACKAGE}.models")


def resolved(value):
    while "$ref" in value:
        found = document
        for part in value["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        value = found
    return value


def snake(name):
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.replace("-", "_")).lower()
    return f"{name}_" if name in ("type", "continue") else name


OPERATIONS = {
    item[method]["operationId"]: (method, item[method])
    for item in document["paths"].values()
    for method in METHODS
    if method in item
}


def expanded(value):
    """The value, with a text of that many bytes for each {"length": N}."""
    if isinstance(value, dict):
        if list(value) == ["length"]:
            return "x" * value["length"]
        return {key: expanded(inner) for key, inner in value.items()}
    return value


def call(client, operation, given, body=None):
    tag = snake(OPERATIONS[operation][1]["tags"][0].replace(" ", "_"))
    module = importlib.import_module(f"{PACKAGE}.api.{tag}.{snake(operation)}")
    arguments = {snake(name): value for name, value in given.items()}
    if "variables" in given:
        model = getattr(models, operation[0].upper() + operation[1:] + "Variables")
        arguments["variables"] = model.from_dict(given["variables"])
    for name, value in given.items():
        item = getattr(models, f"{operation[0].upper()}{operation[1:]}{name.title()}Item", None)
        if item is not None:
            arguments[snake(name)] = [item(one) for one in value]
    if body is not None:
        content = OPERATIONS[operation][1]["requestBody"]["content"]
        model = content["application/json"]["schema"]["$ref"].split("/")[-1]
        arguments["body"] = getattr(models, model).from_dict(body)
    unknown = set(arguments) - set(inspect.signature(module.sync_detailed).parameters)
    if unknown:
        raise AssertionError(f"{operation} takes no {unknown}")
    return module.sync_detailed(client=client, **arguments)


def described(operation, status):
    """The described body of a response: its media type and its schema, or nothing."""
    responses = OPERATIONS[operation][1]["responses"]
    response = resolved(responses.get(str(status)) or responses["default"])
    return next(iter(response.get("content", {}).items()), (None, {}))


def names_of(schema):
    """The names of the models that a schema allows."""
    if "$ref" in schema:
        return {schema["$ref"].rsplit("/", 1)[1]}
    return {name for part in schema.get("anyOf", []) for name in names_of(part)}


def plain(parsed):
    """What a parsed value says, as JSON has it."""
    if isinstance(parsed, list):
        return [plain(one) for one in parsed]
    value = parsed.to_dict() if hasattr(parsed, "to_dict") else parsed
    return json.loads(json.dumps(value).replace('+00:00"', 'Z"'))


def code_of(parsed):
    code = getattr(getattr(parsed, "detail", parsed), "code", None)
    return getattr(code, "value", code)


def fault(operation, response, status, code):
    """Why this is not the response that was wanted, or nothing."""
    if response.status_code != status:
        return f"status {int(response.status_code)}: {response.content[:300]}"
    media, schema = described(operation, status)
    parsed = response.parsed
    if OPERATIONS[operation][0] == "head" or media is None:
        return None if parsed is None else f"a body without a description: {parsed}"
    text = response.content.decode()
    if media != "application/json":
        return None if parsed == text else f"{media} was parsed to {parsed!r:.100}"
    if not isinstance(parsed, list) and names_of(schema) and type(parsed).__name__ not in names_of(schema):
        return f"parsed to {type(parsed).__name__}, described as {sorted(names_of(schema))}"
    if plain(parsed) != json.loads(text):
        return f"parsed to {parsed!r:.300} from {text:.300}"
    if code is not None and code_of(parsed) != code:
        return f"code {code_of(parsed)}"
    return None


faults, count = [], 0


def check(what, operation, client, given, body, status, code):
    global count
    count += 1
    try:
        found = fault(operation, call(client, operation, given, body), status, code)
    except Exception as error:  # Whatever a client raises is a finding.
        found = f"raised {type(error).__name__}: {error}"
    if found:
        faults.append(f"{what}: {operation} {str(given):.200} ({status} {code or ''}): {found:.600}")


def on_the_sandbox():
    client = Client(base_url=url, timeout=httpx.Timeout(60), raise_on_unexpected_status=True)
    for one in requests:
        given, body = expanded(one.get("with", {})), expanded(one.get("body"))
        check("sandbox", one["operation"], client, given, body, one["status"], one.get("code"))


def examples(response):
    """The examples of a response as media type, value and code; one without a body, if it has none."""
    for media, content in response.get("content", {}).items():
        values = [one["value"] for one in content.get("examples", {}).values()]
        for value in values + [content[key] for key in ("example",) if key in content]:
            outer = value if isinstance(value, dict) else {}
            inner = outer.get("detail") if isinstance(outer.get("detail"), dict) else outer
            yield media, value, inner.get("code")
    if not response.get("content"):
        yield None, None, None


def on_the_examples():
    codes = document["components"]["schemas"]["ErrorCode"]["x-codes"]
    statuses = {one["code"]: one["status"] for one in codes}
    for operation, (method, described_operation) in OPERATIONS.items():
        parameters = [resolved(one) for one in described_operation["parameters"]]
        given = {one["name"]: one["example"] for one in parameters}
        content = described_operation.get("requestBody", {}).get("content", {})
        bodies = [one["value"] for media in content.values() for one in media["examples"].values()]
        for status, response in described_operation["responses"].items():
            for media, value, code in examples(resolved(response)):
                number = int(status) if status != "default" else statuses.get(code, [400])[0]
                text = value if isinstance(value, str) else json.dumps(value)
                answer = httpx.Response(
                    number,
                    headers={"Content-Type": media} if media else {},
                    text="" if media is None or method == "head" else text,
                )
                transport = httpx.MockTransport(lambda _, answer=answer: answer)
                client = Client(
                    base_url="http://example",
                    httpx_args={"transport": transport},
                    raise_on_unexpected_status=True,
                )
                for body in bodies or [None]:
                    check("example", operation, client, given, body, number, code)


on_the_sandbox()
on_the_examples()
print(f"Python client: {count} responses, {len(faults)} not parsed as described")
print("\n".join(faults), end="\n" if faults else "")
sys.exit(bool(faults))
