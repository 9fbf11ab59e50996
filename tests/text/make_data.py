#!/usr/bin/env python3
"""Makes tests/data/text: what other programs say about text handling, for tests to compare with.

    python3 -m venv DIR && DIR/bin/pip install jinja2==3.1.6 tokenizers==0.23.3 gguf==0.19.0
    DIR/bin/python tests/text/make_data.py SHARED SMOLLM2.gguf

SHARED is the folder with the reference data (golden/, tokenizers/). Written are:

    golden_smollm2.jsonl   prompts, their rendering and token ids (from golden/)
    golden_tiny_llama.jsonl
    tiny_llama.source      the tokenizer of tiny-llama in the canonical form of lib/text/source.h
    vectors.jsonl          nasty strings and their ids by Hugging Face's tokenizers
    templates.jsonl        templates, inputs and what Jinja 2 makes of them
"""
import datetime
import json
import pathlib
import random
import struct
import sys
import unicodedata

import gguf
import jinja2
import jinja2.ext
import jinja2.sandbox
import tokenizers
from tokenizers import Tokenizer, models, pre_tokenizers

OUT = pathlib.Path(__file__).resolve().parent.parent / "data/text"
NOW = 1763726400  # 2025-11-21 12:00:00 UTC
NONE = 0xFFFFFFFF


def write_lines(name, rows):
    with open(OUT / name, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_lines(path):
    return [json.loads(line) for line in open(path, encoding="utf-8")]


# -------------------------------------------------------------------------------------------------
# Golden prompts


def make_golden(shared):
    prompts = {p["id"]: p for p in read_lines(shared / "golden/prompts.jsonl")}
    rows = []
    for row in read_lines(shared / "golden/smollm2-135m-instruct-q4_1/golden.jsonl"):
        prompt = prompts[row["id"]]
        kept = {"id": row["id"], "tokens": row["tokens"]}
        if row["kind"] == "chat":
            kept.update(messages=prompt["messages"], rendered=row["rendered"])
        else:
            kept["text"] = prompt["text"]
        rows.append(kept)
    write_lines("golden_smollm2.jsonl", rows)
    sequences = json.load(open(shared / "golden/tiny-llama/golden.json"))["sequences"]
    keys = ("id", "text", "messages", "tokens")
    write_lines("golden_tiny_llama.jsonl",
                [{k: s[k] for k in keys if s[k] is not None} for s in sequences])


# -------------------------------------------------------------------------------------------------
# Tokenizers


def gguf_fields(path):
    fields = gguf.GGUFReader(path).fields
    return lambda key, default=None: fields[key].contents() if key in fields else default


def make_source(path):
    """The canonical form, written independently of lib/text/source.c."""
    get = gguf_fields(path)
    tokens = get("tokenizer.ggml.tokens")
    types = get("tokenizer.ggml.token_type")
    pre = get("tokenizer.ggml.pre").encode()
    template = get("tokenizer.chat_template", "").encode()
    ids = {token: i for i, token in reversed(list(enumerate(tokens)))}
    is_llama = pre == b"llama-bpe"
    flags = (1 if get("tokenizer.ggml.add_bos_token", is_llama) else 0) | (4 if is_llama else 0)
    out = b"TDTEXT\x03\x00" + struct.pack("<BB", flags, 0)
    for name in ("bos", "eos", "eot", "eom", "unknown"):
        out += struct.pack("<I", get(f"tokenizer.ggml.{name}_token_id", NONE))
    out += struct.pack("<I", 0)
    out += struct.pack("<H", len(pre)) + pre + struct.pack("<I", len(template)) + template
    out += b"\0"  # no generation defaults
    out += struct.pack("<I", len(tokens))
    for token, kind in zip(tokens, types):
        data = token.encode()
        out += struct.pack("<BH", kind, len(data)) + data
    merges = get("tokenizer.ggml.merges")
    out += struct.pack("<I", len(merges))
    for merge in merges:
        space = merge.index(" ", 1)
        out += struct.pack("<II", ids[merge[:space]], ids[merge[space + 1:]])
    return out


def smollm2_tokenizer(path):
    get = gguf_fields(path)
    tokens = get("tokenizer.ggml.tokens")
    merges = [(m[:m.index(" ", 1)], m[m.index(" ", 1) + 1:]) for m in get("tokenizer.ggml.merges")]
    made = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    made.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    return made


def is_assigned(character):
    """In Unicode 14, which all the tables that are compared agree on."""
    return unicodedata.category(character) not in ("Cn", "Cs")


def nasty_strings(count):
    rng = random.Random(20251121)
    spaces = [" ", " ", "  ", "\t", "\n", "\r\n", "\n\n", "\v", "\f", "\x85", "\xa0", "\u1680",
              "\u2003", "\u2028", "\u202f", "\u3000", "\u180e", "\u200b", "\x1c", "\x1f"]
    words = ["the", "The", "lamp", "was", "Größe", "naïve", "Привет", "мир", "こんにちは", "世界",
             "안녕", "مرحبا", "עברית", "हिन्दी", "ไทย", "Ελλάδα", "Cafe\u0301", "A\u030a", "ﬁn",
             "ǅ", "ʰ", "ª", "x" * 70, "ab" * 40]
    digits = ["1", "12", "123", "1234", "1234567", "١٢٣", "Ⅷ", "½", "²", "三", "〇", "๓"]
    marks = [".", ",", "!", "...", "--", "'s", "'S", "'t", "'re", "'LL", "'ve", "'d", "'M", "'x",
             "'\u017f", "’s", "(", ")", "{", "}", "<|", "|>", "#", "_", "€", "©", "→", "😀",
             "👨\u200d👩\u200d👧", "👍🏽", "🇫🇷", "☀\ufe0f", "\u0301", "\u0378", "\ue000",
             "\U0010ffff", "\x00", "\x04", "\x7f", "<|im_end|>", "<|eot_id|>", "</s>"]
    made = ["", " ", "  ", "\n", "a", " a", "a ", "1 ", " 1", "'", "''s", "\r", "\r\n\r\n x"]
    while len(made) < count:
        parts = []
        for _ in range(rng.randrange(1, 14)):
            kind = rng.randrange(10)
            if kind < 3:
                parts.append(rng.choice(spaces))
            elif kind < 5:
                parts.append(rng.choice(words))
            elif kind < 6:
                parts.append(rng.choice(digits))
            elif kind < 8:
                parts.append(rng.choice(marks))
            else:
                character = chr(rng.choice([rng.randrange(0x80), rng.randrange(0x3000),
                                            rng.randrange(0x20000)]))
                parts.append(character if is_assigned(character) else "?")
        made.append("".join(parts))
    return made


def make_vectors(shared, smollm2):
    tiny = Tokenizer.from_file(str(shared / "golden/tiny-llama/tokenizer.json"))
    # Without its added tokens: ordinary text, whatever it looks like.
    plain = Tokenizer(tiny.model)
    plain.pre_tokenizer = tiny.pre_tokenizer
    qwen = json.load(open(shared / "tokenizers/qwen2.5/tokenizer.json", encoding="utf-8"))
    qwen["added_tokens"] = []
    qwen["normalizer"] = None
    made = {"tiny-llama": plain, "smollm2": smollm2_tokenizer(smollm2),
            "qwen2": Tokenizer.from_str(json.dumps(qwen))}
    write_lines("vectors.jsonl", [
        {"text": text, **{name: tokenizer.encode(text, add_special_tokens=False).ids
                          for name, tokenizer in made.items()}}
        for text in nasty_strings(400)])


# -------------------------------------------------------------------------------------------------
# Templates


class Refused(Exception):
    pass


def raise_exception(message):
    raise Refused(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def environment():
    """As Hugging Face's transformers sets it up."""
    made = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols])
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = lambda format: datetime.datetime.fromtimestamp(
        NOW, datetime.timezone.utc).strftime(format)
    return made


def render(template, variables):
    try:
        return {"output": environment().from_string(template).render(**variables)}
    except Exception as error:  # whatever Jinja refuses, we must refuse
        return {"error": type(error).__name__}


def make_templates(shared):
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
    import template_cases as cases

    chats = cases.CHATS
    rows = []
    files = {
        "smollm2": shared / "golden/smollm2-135m-instruct-q4_1/chat_template.jinja",
    }
    config = json.load(open(shared / "golden/tiny-llama/tokenizer_config.json"))
    sources = {name: path.read_text() for name, path in files.items()}
    sources["tiny-llama"] = config["chat_template"]
    for name, source in sources.items():
        for chat in chats:
            variables = {"bos_token": "<|bos|>", "eos_token": "<|eos|>", **chat}
            rows.append({"name": name, "template": source, "variables": variables,
                         **render(source, variables)})
    for name in ("qwen2.5", "qwen3"):
        path = f"tokenizers/{name}/tokenizer_config.json"
        source = json.load(open(shared / path, encoding="utf-8"))["chat_template"]
        for chat in chats:
            rows.append({"name": name, "config": path, "variables": chat, **render(source, chat)})
    for source, variables in cases.SNIPPETS:
        rows.append({"name": "snippet", "template": source, "variables": variables,
                     **render(source, variables)})
    write_lines("templates.jsonl", rows)


def main():
    shared = pathlib.Path(sys.argv[1])
    smollm2 = sys.argv[2]
    print("jinja2", jinja2.__version__, "tokenizers", tokenizers.__version__, "Unicode",
          unicodedata.unidata_version)
    OUT.mkdir(parents=True, exist_ok=True)
    make_golden(shared)
    (OUT / "tiny_llama.source").write_bytes(make_source(shared / "golden/tiny-llama/model.gguf"))
    make_vectors(shared, smollm2)
    make_templates(shared)


main()
