"""Makes small models of every architecture, element type and form of file.

The weights are random and the same for an architecture and type in every form, so that a GGUF file, its parts and
a Hugging Face folder must answer alike. The tokenizers are those of the tiny models in tests/data. Rows have
256 values or a multiple, as the K types need. Blocks of quantised types are made of random bytes with fixed scales:
nothing is quantised, every bit pattern of the quants occurs.
"""
import json
import pathlib
import random
import shutil
import struct

DATA = pathlib.Path(__file__).resolve().parent.parent / "data"

VOCAB, HIDDEN, FFN, LAYERS, HEADS, KV_HEADS, CONTEXT = 1024, 256, 512, 2, 4, 2, 1024
HEAD_DIM = {"llama": 64, "qwen2": 64, "qwen3": 128}  # qwen3: heads * head_dim is not hidden
THETA = {"llama": 10000.0, "qwen2": 1000000.0, "qwen3": 1000000.0}
ARCHITECTURES = tuple(HEAD_DIM)

U16, U32, I32, F32, STRING, ARRAY = 2, 4, 5, 6, 8, 9
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


# ---- values and blocks ----


def half(value):
    return struct.pack("<e", value)


def floats(pack):
    """Values that a byte picks from a table: about -0.1 to 0.1."""
    table = [pack((i - 127.5) / 1275) for i in range(256)]
    return lambda rng, count: b"".join([table[byte] for byte in rng.randbytes(count)])


def blocks(values, bytes_random, assemble):
    """Blocks of so many values, of random bytes with something fixed around."""

    def make(rng, count):
        raw = rng.randbytes(count // values * bytes_random)
        return b"".join([assemble(raw[at:at + bytes_random]) for at in range(0, len(raw), bytes_random)])

    return make


# name -> GGUF's id, values in a block, bytes of a block, the maker of a row
TYPES = {
    "F32": (0, 1, 4, floats(lambda x: struct.pack("<f", x))),
    "F16": (1, 1, 2, floats(half)),
    "BF16": (30, 1, 2, floats(lambda x: struct.pack("<f", x)[2:])),
    "Q4_0": (2, 32, 18, blocks(32, 16, lambda q: half(0.012) + q)),
    "Q4_1": (3, 32, 20, blocks(32, 16, lambda q: half(0.012) + half(-0.09) + q)),
    "Q5_0": (6, 32, 22, blocks(32, 20, lambda q: half(0.006) + q)),
    "Q5_1": (7, 32, 24, blocks(32, 20, lambda q: half(0.006) + half(-0.09) + q)),
    "Q8_0": (8, 32, 34, blocks(32, 32, lambda q: half(0.0008) + q)),
    "Q4_K": (12, 256, 144, blocks(256, 140, lambda q: half(0.0004) + half(0.003) + q)),
    "Q5_K": (13, 256, 176, blocks(256, 172, lambda q: half(0.0002) + half(0.003) + q)),
    "Q6_K": (14, 256, 210, blocks(256, 208, lambda q: q + half(0.00004))),
}
FOLDER_TYPES = ("F32", "F16", "BF16")  # what safetensors can hold of these


def vector(rng, count, mean):
    return [mean + (byte - 127.5) / 1275 for byte in rng.randbytes(count)]


# ---- tensors: GGUF's name, that of Hugging Face, rows (None: a vector), columns ----


def roles(architecture):
    q, kv = HEADS * HEAD_DIM[architecture], KV_HEADS * HEAD_DIM[architecture]
    yield "token_embd.weight", "model.embed_tokens.weight", VOCAB, HIDDEN
    yield "output_norm.weight", "model.norm.weight", None, HIDDEN
    if architecture == "llama":
        yield "output.weight", "lm_head.weight", VOCAB, HIDDEN
    for i in range(LAYERS):
        ours, theirs = f"blk.{i}.", f"model.layers.{i}."
        yield ours + "attn_norm.weight", theirs + "input_layernorm.weight", None, HIDDEN
        yield ours + "attn_q.weight", theirs + "self_attn.q_proj.weight", q, HIDDEN
        yield ours + "attn_k.weight", theirs + "self_attn.k_proj.weight", kv, HIDDEN
        yield ours + "attn_v.weight", theirs + "self_attn.v_proj.weight", kv, HIDDEN
        yield ours + "attn_output.weight", theirs + "self_attn.o_proj.weight", HIDDEN, q
        if architecture == "qwen2":
            yield ours + "attn_q.bias", theirs + "self_attn.q_proj.bias", None, q
            yield ours + "attn_k.bias", theirs + "self_attn.k_proj.bias", None, kv
            yield ours + "attn_v.bias", theirs + "self_attn.v_proj.bias", None, kv
        if architecture == "qwen3":
            yield ours + "attn_q_norm.weight", theirs + "self_attn.q_norm.weight", None, HEAD_DIM[architecture]
            yield ours + "attn_k_norm.weight", theirs + "self_attn.k_norm.weight", None, HEAD_DIM[architecture]
        yield ours + "ffn_norm.weight", theirs + "post_attention_layernorm.weight", None, HIDDEN
        yield ours + "ffn_gate.weight", theirs + "mlp.gate_proj.weight", FFN, HIDDEN
        yield ours + "ffn_up.weight", theirs + "mlp.up_proj.weight", FFN, HIDDEN
        yield ours + "ffn_down.weight", theirs + "mlp.down_proj.weight", HIDDEN, FFN


def weights(architecture, kind):
    """Each tensor as (GGUF's name, Hugging Face's name, rows, columns, bytes of a matrix or floats of a vector)."""
    rng = random.Random(f"{architecture} {kind}")
    make = TYPES[kind][3]
    for name, other_name, rows, columns in roles(architecture):
        if rows is None:
            yield name, other_name, None, columns, vector(rng, columns, 0.0 if name.endswith("bias") else 1.0)
        else:
            yield name, other_name, rows, columns, make(rng, rows * columns)


def interleaved(data, rows, head_dim):
    """Rows as llama's GGUF files have them: the two halves of each rotated pair beside each other."""
    size = len(data) // rows
    order = [head + half_ * (head_dim // 2) + pair for head in range(0, rows, head_dim)
             for pair in range(head_dim // 2) for half_ in (0, 1)]
    return b"".join([data[row * size:(row + 1) * size] for row in order])


# ---- GGUF ----


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


def key(name, kind, value):
    return text(name) + struct.pack("<I", kind) + value


def skip_value(data, at, kind):
    """Where the value ends."""
    if kind == STRING:
        return at + 8 + struct.unpack_from("<Q", data, at)[0]
    if kind != ARRAY:
        return at + SIZES[kind]
    element, count = struct.unpack_from("<IQ", data, at)
    at += 12
    if element != STRING:
        return at + count * SIZES[element]
    for _ in range(count):
        at = skip_value(data, at, STRING)
    return at


def tokenizer_keys(architecture):
    """The keys of the tiny model that tell of its tokenizer, as they stand in the file."""
    data = (DATA / f"tiny-{architecture}/model.gguf").read_bytes()
    count, at, keys = struct.unpack_from("<Q", data, 16)[0], 24, []
    for _ in range(count):
        start = at
        length = struct.unpack_from("<Q", data, at)[0]
        name = data[at + 8:at + 8 + length]
        kind = struct.unpack_from("<I", data, at + 8 + length)[0]
        at = skip_value(data, at + 12 + length, kind)
        if name.startswith(b"tokenizer."):
            keys.append(data[start:at])
    return keys


def number_keys(architecture):
    a, u32 = architecture + ".", lambda value: struct.pack("<I", value)
    head_dim = HEAD_DIM[architecture]
    return [
        key("general.architecture", STRING, text(architecture)),
        key("general.name", STRING, text(f"generated {architecture}")),
        key(a + "block_count", U32, u32(LAYERS)), key(a + "context_length", U32, u32(CONTEXT)),
        key(a + "embedding_length", U32, u32(HIDDEN)), key(a + "feed_forward_length", U32, u32(FFN)),
        key(a + "attention.head_count", U32, u32(HEADS)), key(a + "attention.head_count_kv", U32, u32(KV_HEADS)),
        key(a + "attention.key_length", U32, u32(head_dim)), key(a + "attention.value_length", U32, u32(head_dim)),
        key(a + "rope.dimension_count", U32, u32(head_dim)),
        key(a + "rope.freq_base", F32, struct.pack("<f", THETA[architecture])),
        key(a + "attention.layer_norm_rms_epsilon", F32, struct.pack("<f", 1e-5)),
    ]


def write_gguf(path, keys, tensors):
    """tensors: (name, GGUF's type id, dimensions with the columns first, bytes)."""
    out = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(keys))
    offset = 0
    for name, kind, dimensions, data in tensors:
        out += text(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, kind, offset)
        offset += -(-len(data) // 32) * 32
    for _, _, _, data in tensors:
        out += bytes(-len(out) % 32) + data
    path.write_bytes(out + bytes(-len(out) % 32))


def gguf_tensors(architecture, kind):
    for name, _, rows, columns, data in weights(architecture, kind):
        if rows is None:
            yield name, 0, [columns], struct.pack(f"<{columns}f", *data)
            continue
        if architecture == "llama" and name.endswith(("attn_q.weight", "attn_k.weight")):
            data = interleaved(data, rows, HEAD_DIM[architecture])
        yield name, TYPES[kind][0], [columns, rows], data


def make_gguf(folder, architecture, kind):
    path = folder / f"{architecture}-{kind}.gguf"
    write_gguf(path, number_keys(architecture) + tokenizer_keys(architecture),
               list(gguf_tensors(architecture, kind)))
    return path


def make_split_gguf(folder, architecture, kind, parts=3):
    """In parts, of which the second is named to the program."""
    tensors = list(gguf_tensors(architecture, kind))
    each = -(-len(tensors) // parts)
    paths = [folder / f"{architecture}-{kind}-{i + 1:05}-of-{parts:05}.gguf" for i in range(parts)]
    for i, path in enumerate(paths):
        keys = number_keys(architecture) + tokenizer_keys(architecture) if i == 0 else []
        keys += [key("split.no", U16, struct.pack("<H", i)), key("split.count", U16, struct.pack("<H", parts)),
                 key("split.tensors.count", I32, struct.pack("<i", len(tensors)))]
        write_gguf(path, keys, tensors[i * each:(i + 1) * each])
    return paths[1]


# ---- Hugging Face ----


def config(architecture, kind):
    class_name = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
    tiny = json.loads((DATA / f"tiny-{architecture}/config.json").read_text())
    return {
        "architectures": [class_name[architecture]], "model_type": architecture, "vocab_size": VOCAB,
        "hidden_size": HIDDEN, "intermediate_size": FFN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM[architecture], "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5, "rope_theta": THETA[architecture], "rope_scaling": None, "hidden_act": "silu",
        "tie_word_embeddings": architecture != "llama", "eos_token_id": tiny["eos_token_id"],
        "torch_dtype": {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[kind],
    }


def write_safetensors(path, tensors):
    """tensors: (name, type, shape, bytes)."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, kind, shape, data in tensors:
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + b"".join([data for _, _, _, data in tensors]))


def folder_tensors(architecture, kind):
    for _, name, rows, columns, data in weights(architecture, kind):
        if rows is None:  # as exact as in GGUF, where vectors are always F32
            yield name, "F32", [columns], struct.pack(f"<{columns}f", *data)
        else:
            yield name, kind, [rows, columns], data


def make_folder(folder, architecture, kind, files=1):
    path = folder / f"{architecture}-{kind}-{files}"
    path.mkdir()
    tensors = list(folder_tensors(architecture, kind))
    (path / "config.json").write_text(json.dumps(config(architecture, kind)))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (DATA / f"tiny-{architecture}" / name).exists():
            shutil.copy(DATA / f"tiny-{architecture}" / name, path)
    if files == 1:
        write_safetensors(path / "model.safetensors", tensors)
        return path
    places = {}
    for i in range(files):
        name = f"model-{i + 1:05}-of-{files:05}.safetensors"
        write_safetensors(path / name, tensors[i::files])
        places.update({tensor[0]: name for tensor in tensors[i::files]})
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return path


FORMS = {
    "gguf": make_gguf,
    "split": make_split_gguf,
    "folder": make_folder,
    "shards": lambda folder, architecture, kind: make_folder(folder, architecture, kind, files=3),
}


def combinations():
    """Every architecture, type and form that there can be."""
    return [(architecture, kind, form) for architecture in ARCHITECTURES for kind in TYPES for form in FORMS
            if form in ("gguf", "split") or kind in FOLDER_TYPES]


def make(folder, architecture, kind, form):
    """The path of a new model in folder."""
    return FORMS[form](pathlib.Path(folder), architecture, kind)
