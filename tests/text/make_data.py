#!/usr/bin/env python3
"""Makes tests/data/text: what other programs say about text handling, for tests to compare with.

    python3 -m venv DIR && DIR/bin/pip install tokenizers==0.23.3 gguf==0.19.0
    DIR/bin/python tests/text/make_data.py SHARED SMOLLM2.gguf

SHARED is the folder with the reference data (golden/, tokenizers/). Written are:

    golden_smollm2.jsonl   prompts, their rendering and token ids (from golden/)
    golden_tiny_llama.jsonl
    tiny_llama.source      the tokenizer of tiny-llama in the canonical form of lib/text/source.h
    golden_qwen2.jsonl     (of Qwen2.5-Coder)
    vectors.jsonl          nasty strings and their ids by Hugging Face's tokenizers
    tiny_*/                tokenizers in the forms of tokenizer.json, trained on golden/texts
    folders.jsonl          what Hugging Face's tokenizers make of strings with these
    nfc.jsonl              texts and their form NFC by Python's unicodedata
"""
import json
import pathlib
import random
import struct
import sys
import unicodedata

import gguf
import tokenizers
from tokenizers import (AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors,
                        trainers)

OUT = pathlib.Path(__file__).resolve().parent.parent / "data/text"
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
    for name, folder in (("smollm2", "smollm2-135m-instruct-q4_1"),
                         ("qwen2", "qwen2.5-coder-0.5b-instruct-q4_k_m")):
        rows = []
        for row in read_lines(shared / "golden" / folder / "golden.jsonl"):
            prompt = prompts[row["id"]]
            kept = {"id": row["id"], "tokens": row.get("tokens_hf", row["tokens"])}
            if row["kind"] == "chat":
                kept.update(messages=prompt["messages"], rendered=row["rendered"])
            else:
                kept["text"] = prompt["text"]
            rows.append(kept)
        write_lines(f"golden_{name}.jsonl", rows)
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


def llama2_tokenizer(path):
    """SentencePiece's scores as merges, as transformers converts them."""
    get = gguf_fields(path)
    tokens = get("tokenizer.ggml.tokens")
    scores = get("tokenizer.ggml.scores")
    ids = {token: i for i, token in enumerate(tokens)}
    merges = []
    for i, token in enumerate(tokens):
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in ids and right in ids:
                merges.append((-scores[i], ids[left], ids[right], left, right))
    merges.sort()
    made = Tokenizer(models.BPE(ids, [m[3:] for m in merges], unk_token="<unk>", fuse_unk=True,
                                byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"),
                                            normalizers.Replace(" ", "▁")])
    return made


def make_vectors(shared, smollm2):
    tiny = Tokenizer.from_file(str(shared / "golden/tiny-llama/tokenizer.json"))
    # Without its added tokens: ordinary text, whatever it looks like.
    plain = Tokenizer(tiny.model)
    plain.pre_tokenizer = tiny.pre_tokenizer
    qwen = json.load(open(shared / "tokenizers/qwen2.5/tokenizer.json", encoding="utf-8"))
    qwen["added_tokens"] = []
    llama2 = llama2_tokenizer(shared / "tokenizer-vectors/ggml-vocab-llama-spm.gguf")
    made = {"tiny-llama": plain, "smollm2": smollm2_tokenizer(smollm2),
            "qwen2": Tokenizer.from_str(json.dumps(qwen)), "llama-spm": llama2}
    write_lines("vectors.jsonl", [
        {"text": text, **{name: tokenizer.encode(text, add_special_tokens=False).ids
                          for name, tokenizer in made.items()}}
        for text in nasty_strings(400)])


# -------------------------------------------------------------------------------------------------
# Folders: small tokenizers of our own in the forms that tokenizer.json has, and what they make of text


def added(content, special=False, **flags):
    return AddedToken(content, special=special, normalized=flags.pop("normalized", False), **flags)


def train_sentencepiece(shared):
    """Llama 2's pipeline over the ledger: bytes, characters and what they merge to."""
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"),
                                            normalizers.Replace(" ", "▁")])
    made.pre_tokenizer = pre_tokenizers.Metaspace(split=True, prepend_scheme="never")
    lines = (shared / "golden/texts/ledger.txt").read_text(encoding="utf-8").split("\n")
    trainer = trainers.BpeTrainer(
        vocab_size=700, show_progress=False, limit_alphabet=120,
        special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)])
    made.train_from_iterator(lines + ["    code  {\t}", "é è ü ß 世界"], trainer)
    form = json.loads(made.to_str())
    form["pre_tokenizer"] = None
    form["added_tokens"] = [t for t in form["added_tokens"] if not t["content"].startswith("<0x")]
    form["decoder"] = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
        {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    form["post_processor"] = json.loads(processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]).__getstate__())
    return form


def folder_forms(shared):
    sentencepiece = train_sentencepiece(shared)
    yield "tiny_llama2", sentencepiece, {"bos_token": {"content": "<s>"}, "eos_token": "</s>",
                                         "unk_token": "<unk>", "add_bos_token": True}
    # As transformers converts newer models: a Metaspace, the prefix at the start only; merges as texts.
    first = json.loads(json.dumps(sentencepiece))
    first["normalizer"] = None
    space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    first["pre_tokenizer"] = space
    first["model"]["merges"] = [" ".join(merge) for merge in first["model"]["merges"]]
    yield "tiny_metaspace", first, {"bos_token": "<s>", "eos_token": "</s>"}
    # NFC, and added tokens of all kinds.
    made = Tokenizer.from_file(str(shared / "golden/tiny-qwen2/tokenizer.json"))
    made.add_special_tokens([added("<mask>", True, lstrip=True), added("<sep>", True, rstrip=True),
                             added("<both>", True, lstrip=True, rstrip=True)])
    made.add_tokens([added("lamp", single_word=True), added("<tool>"), added("<tool>s"),
                     added("caf\u00e9", normalized=True), added("<n>", normalized=True)])
    yield "tiny_added", json.loads(made.to_str()), {"eos_token": "<|im_end|>", "bos_token": None}


def added_strings(count):
    rng = random.Random(7)
    parts = ["<mask>", "<sep>", "<both>", "lamp", "<tool>", "<tool>s", "caf\u00e9", "cafe\u0301",
             "<n>", "<n>\u0338", "<s>", "</s>", "<unk>", "<|im_end|>", "<|im_start|>", " ", "  ",
             "\n", "\u3000", "▁", "▁▁", "a", "the", "was", ".", "_", "1", "\u0301", "é", "世", "<",
             "🎉", "\x00", "lamps", "<0x0A>"]
    return ["".join(rng.choice(parts) for _ in range(rng.randrange(1, 9))) for _ in range(count)]


def make_folders(shared):
    rows = []
    texts = nasty_strings(150) + added_strings(350)
    for name, form, config in folder_forms(shared):
        folder = OUT / name
        folder.mkdir(exist_ok=True)
        form["model"]["vocab"] = dict(sorted(form["model"]["vocab"].items(), key=lambda v: v[1]))
        dump = {"ensure_ascii": False, "separators": (",", ":")}
        (folder / "tokenizer.json").write_text(json.dumps(form, **dump), encoding="utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps(config) + "\n", encoding="utf-8")
        made = Tokenizer.from_file(str(folder / "tokenizer.json"))
        for text in texts:
            ids = made.encode(text).ids
            rows.append({"folder": name, "text": text, "ids": ids,
                         "decoded": made.decode(ids, skip_special_tokens=True)})
    write_lines("folders.jsonl", rows)


# -------------------------------------------------------------------------------------------------
# NFC


def make_nfc():
    """What Unicode says of every character alone and after others, and of random texts."""
    rng = random.Random(11)
    marks = [c for c in map(chr, range(0x20000)) if unicodedata.combining(c) and is_assigned(c)]
    starters = [c for c in map(chr, range(0x20000))
                if is_assigned(c) and unicodedata.normalize("NFC", c) != c or
                unicodedata.decomposition(c) and not unicodedata.decomposition(c).startswith("<")]
    starters += list("aeiouAEIOUcnsKΑΩоиこか가각ᄀᆨ한") + ["\u1161", "\u11a8", "\u09c7", "\u09be"]
    rows = []
    for _ in range(1500):
        text = "".join(rng.choice(rng.choice([starters, marks, starters, ["x", " ", "世", "é"]]))
                       for _ in range(rng.randrange(1, 9)))
        rows.append({"text": text, "nfc": unicodedata.normalize("NFC", text)})
    write_lines("nfc.jsonl", rows)


def main():
    shared = pathlib.Path(sys.argv[1])
    smollm2 = sys.argv[2]
    print("tokenizers", tokenizers.__version__, "Unicode",
          unicodedata.unidata_version)
    OUT.mkdir(parents=True, exist_ok=True)
    make_golden(shared)
    (OUT / "tiny_llama.source").write_bytes(make_source(shared / "golden/tiny-llama/model.gguf"))
    make_vectors(shared, smollm2)
    make_folders(shared)
    make_nfc()


main()
