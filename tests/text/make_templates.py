#!/usr/bin/env python3
"""Makes what the tests of chat templates compare with: Jinja 2's own results, in tests/data/text.

    python3 -m venv DIR && DIR/bin/pip install jinja2==3.1.6 xxhash==3.6.0
    tests/text/fetch_templates.py --all
    DIR/bin/python tests/text/make_templates.py SHARED
    DIR/bin/python tests/text/make_templates.py SHARED --show TEMPLATE REQUEST

SHARED is the folder with the reference data. Written are:

    templates.jsonl    small templates of ours and two of models, their inputs and outputs
    chats.jsonl        the table of requests of template_chats.py
    renderings.jsonl   for each template of a real model, and some of ours in their style, what Jinja makes of each request in
                       the table: the hash of the rendering, or ! and the message of raise_exception, or ? (another error)

Real templates are named and hashed (XXH3-128) and renderings are hashed, because they are not ours to copy. --show prints a
rendering; TEMPLATE is the end of a name.
"""
import datetime
import functools
import json
import pathlib
import sys

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox
import xxhash

import fetch_templates
import template_cases
import template_chats

OUT = pathlib.Path(__file__).resolve().parent.parent / "data/text"
NOW = 1763726400  # 2025-11-21 12:00:00 UTC

# What we refuse at load, and why: rows of another kind in renderings.jsonl.
UNSUPPORTED = {
    "ByteDance-Seed-OSS.jinja": "the keys of a dict are strings here",
    "Kimi-K2-Instruct.jinja": "the method 'append' is not known",
    "Kimi-K2-Thinking.jinja": "the method 'append' is not known",
    "deepseek-ai-DeepSeek-V3.2.jinja": "the filter 'from_json' is not known",
    "deepseek-ai-DeepSeek-V4.jinja": "the filter 'from_json' is not known",
    "deepseek-ai-DeepSeek-V4-Flash-0731.jinja": "the filter 'from_json' is not known",
    "jamba.jinja": "only what has a name can be called",
}


class Refused(Exception):
    pass


class Generation(jinja2.ext.Extension):
    """{% generation %}, which transformers adds: its body, as it is."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_same"), [], [], body).set_lineno(line)

    def _same(self, caller):
        return caller()


def raise_exception(message):
    raise Refused(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def environment():
    """As Hugging Face's transformers sets it up."""
    made = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = lambda format: datetime.datetime.fromtimestamp(
        NOW, datetime.timezone.utc).strftime(format)
    return made


ENVIRONMENT = environment()


@functools.lru_cache(maxsize=8)
def compiled(template):
    return ENVIRONMENT.from_string(template)


def render(template, variables):
    """Exactly one of output, refused and error."""
    try:
        return {"output": compiled(template).render(**variables)}
    except Refused as refused:
        return {"refused": str(refused)}
    except Exception as error:  # whatever Jinja refuses, we must refuse
        return {"error": type(error).__name__}


def write_lines(name, rows):
    with open(OUT / name, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def make_small(shared):
    rows = []
    config = json.load(open(shared / "golden/tiny-llama/tokenizer_config.json"))
    sources = {
        "smollm2": (shared / "golden/smollm2-135m-instruct-q4_1/chat_template.jinja").read_text(),
        "tiny-llama": config["chat_template"],
    }
    for name, source in sources.items():
        for chat in template_cases.CHATS:
            variables = {"bos_token": "<|bos|>", "eos_token": "<|eos|>", **chat}
            rows.append({"name": name, "template": source, "variables": variables,
                         **render(source, variables)})
    for source, variables in template_cases.SNIPPETS:
        rows.append({"name": "snippet", "template": source, "variables": variables,
                     **render(source, variables)})
    write_lines("templates.jsonl", rows)


# -------------------------------------------------------------------------------------------------
# Whole templates


def templates(shared):
    """The key and value of a row that say where a template is, and its text; each template once."""
    for text in template_cases.STYLES.values():
        yield "template", text, text.encode()
    places = [("shared", p) for p in ("tokenizers/qwen2.5/tokenizer_config.json",
                                      "tokenizers/qwen3/tokenizer_config.json")]
    places += [("shared", str(p.relative_to(shared)))
               for p in sorted(shared.glob("golden/*/chat_template.jinja"))]
    for name, version, _ in fetch_templates.SMALL + fetch_templates.LARGE:
        folder = fetch_templates.cache() / f"{name}-{version}"
        places += [("cache", f"{folder.name}/{p.name}") for p in sorted(folder.glob("*.jinja"))]
    seen = set()
    for where, path in places:
        text = ((shared if where == "shared" else fetch_templates.cache()) / path).read_bytes()
        if path.endswith(".json"):
            text = json.loads(text)["chat_template"].encode()
        if text not in seen:
            seen.add(text)
            yield where, path, text


def digest(data):
    return xxhash.xxh3_128_hexdigest(data)


def result_of(template, variables):
    rendered = render(template, variables)
    if "output" in rendered:
        return digest(rendered["output"].encode())
    return "!" + rendered["refused"] if "refused" in rendered else "?"


def make_renderings(shared):
    chats = template_chats.chats()
    write_lines("chats.jsonl", [{"name": n, "variables": v} for n, v in chats.items()])
    rows = []
    for where, path, text in templates(shared):
        row = {where: path, "hash": digest(text)}
        name = path.rsplit("/", 1)[-1]
        if name in UNSUPPORTED:
            row["unsupported"] = UNSUPPORTED[name]
        else:
            row["results"] = [result_of(text.decode(), v) for v in chats.values()]
        rows.append(row)
    write_lines("renderings.jsonl", rows)
    print(len(rows), "templates,", len(chats), "requests")


def show(shared, template, request):
    for _, path, text in templates(shared):
        if path.endswith(template):
            sys.stdout.write(str(render(text.decode(), template_chats.chats()[request])) + "\n")


def main():
    shared = pathlib.Path(sys.argv[1])
    if len(sys.argv) == 5 and sys.argv[2] == "--show":
        show(shared, sys.argv[3], sys.argv[4])
        return
    print("jinja2", jinja2.__version__)
    make_small(shared)
    make_renderings(shared)


main()
