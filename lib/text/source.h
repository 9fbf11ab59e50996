/*
 * source.h: everything that determines how a model's text is handled, as plain arrays.
 *
 * Whoever reads a model file fills a struct text_source; text_model_open makes a working tokenizer
 * and template of it. The source has one canonical serialised form, which a worker hands to routers;
 * text_id, the XXH3-128 of those bytes and of the version of Unicode's tables, says whether two processes handle
 * text alike.
 *
 * This file owns the form and its checks (the bytes come from a peer and are hostile until checked). It
 * does not judge the content: whether merges and template make sense is found out by text_model_open.
 */
#ifndef TANDEM_LIB_TEXT_SOURCE_H
#define TANDEM_LIB_TEXT_SOURCE_H

#include "lib/base/buf.h"
#include "lib/base/status.h"
#include "lib/base/u128.h"
#include "lib/text/generation.h"
#include "lib/text/types.h"

#define TEXT_TOKENS_MAX         ((uint32_t)1 << 20)
#define TEXT_MERGES_MAX         ((uint32_t)1 << 21)
#define TEXT_TOKEN_BYTES_MAX    4096
#define TEXT_NAME_BYTES_MAX     64
#define TEXT_TEMPLATE_BYTES_MAX ((size_t)256 << 10)
#define TEXT_STOP_IDS_MAX       32
#define TEXT_SOURCE_BYTES_MAX   ((size_t)64 << 20) /* of the serialised form */

/* How text becomes tokens. */
enum text_algorithm {
    TEXT_BYTE_LEVEL = 0,    /* pieces cut by a pre-tokenizer, each merged up from its bytes */
    TEXT_SENTENCEPIECE = 1, /* merged up from characters, spaces written U+2581, byte fallback */
};

/* SentencePiece only: the space that is put in front of a stretch of text between special tokens. */
enum text_prefix {
    TEXT_PREFIX_NONE = 0,
    TEXT_PREFIX_ALWAYS = 1,       /* of every stretch that is not empty */
    TEXT_PREFIX_UNLESS_SPACE = 2, /* of every stretch that does not begin with one */
    TEXT_PREFIX_FIRST = 3, /* of a stretch at the start of the text that does not begin with one */
};

/* The values are those of tokenizer.ggml.token_type in GGUF files. */
enum text_token_type {
    TEXT_TOKEN_NORMAL =
        1, /* ordinary text: in GPT-2's alphabet of bytes, or with U+2581 for space */
    TEXT_TOKEN_UNKNOWN = 2,      /* handled as CONTROL */
    TEXT_TOKEN_CONTROL = 3,      /* plain text; never shown, never made from untrusted text */
    TEXT_TOKEN_USER_DEFINED = 4, /* plain text; cut out like CONTROL, but shown */
    TEXT_TOKEN_UNUSED = 5,       /* plain text; never made, shown as nothing */
    TEXT_TOKEN_BYTE = 6, /* SentencePiece: one byte, written "<0x0A>"; else handled as UNUSED */
};

/* How a special token is cut out of text; the names are those of tokenizer.json. */
enum text_token_flag {
    TEXT_TOKEN_LSTRIP = 1,      /* takes the whitespace before it along */
    TEXT_TOKEN_RSTRIP = 2,      /* and that behind it */
    TEXT_TOKEN_SINGLE_WORD = 4, /* only where no letter, mark, digit or connector touches it */
    TEXT_TOKEN_NORMALIZED = 8,  /* found in normalised text, when the others have been cut out */
    TEXT_TOKEN_FLAGS_ALL = 15,
};

struct text_token {
    const char *bytes;
    uint16_t length; /* 1 to TEXT_TOKEN_BYTES_MAX */
    uint8_t type;    /* enum text_token_type */
    uint8_t flags;   /* of enum text_token_flag */
    float score;     /* SentencePiece without merges: the pair with the highest one merges first */
};

/* A rule of byte pair encoding; its rank is its place in the list. */
struct text_merge {
    uint32_t left;
    uint32_t right;
};

/*
 * What a model file says about text. All pointers are borrowed, except after text_source_decode:
 * then `memory` is what text_source_fini frees, and token and template bytes lie in the decoded
 * input, which must live as long.
 */
struct text_source {
    enum text_algorithm algorithm;
    struct td_span pretokenizer; /* byte level: a name of pretokenize.h, as in tokenizer.ggml.pre */
    const struct text_token *tokens;
    uint32_t token_count;
    const struct text_merge *merges;
    uint32_t merge_count;
    struct td_span chat_template; /* empty: none */
    uint32_t bos;                 /* these five: an id, or TEXT_TOKEN_NONE */
    uint32_t eos;
    uint32_t eot; /* end of turn */
    uint32_t eom; /* end of message */
    uint32_t unknown;
    uint32_t stop_ids[TEXT_STOP_IDS_MAX]; /* further ids that end an answer, from configuration */
    uint32_t stop_id_count;
    struct text_generation generation; /* how to draw where a request does not say */
    enum text_prefix prefix;
    bool add_bos;       /* text_encode puts bos in front */
    bool add_eos;       /* text_encode puts eos behind */
    bool ignore_merges; /* byte level: a pre-token that is a token as a whole is not merged up */
    bool normalize_nfc; /* byte level: text is brought into Unicode's form NFC first */
    bool strip_space;   /* SentencePiece: a space at the very start of decoded text is left out */
    void *memory;
};

/* A source with no tokens and no special ids, to be filled. */
void text_source_init(struct text_source *source);

/* Frees what text_source_decode allocated; harmless on a borrowed source. */
void text_source_fini(struct text_source *source);

/* Checks counts, lengths and ids against the limits above. TD_INVALID or TD_LIMIT names the field. */
td_status_t text_source_check(const struct text_source *source, struct td_error *error) TD_MUST_USE;

/* Appends the canonical form. The source must pass text_source_check. */
td_status_t text_source_encode(const struct text_source *source, struct td_buf *out,
                               struct td_error *error) TD_MUST_USE;

/*
 * text_source_decode: the source that a canonical form says.
 * The bytes must outlive the source. Work and memory are linear in length (at most 6 times its
 * bytes). TD_INVALID or TD_LIMIT names field and offset; nothing is to be freed then. What is accepted
 * encodes to the same bytes again.
 */
td_status_t text_source_decode(const void *bytes, size_t length, struct text_source *source_out,
                               struct td_error *error) TD_MUST_USE;

/*
 * The identity of a serialised source in this process: classes of characters and NFC are those of the library that
 * is loaded, so with other tables of Unicode the same bytes are another identity.
 */
struct td_u128 text_source_id(const void *bytes, size_t length);

/*
 * text_source_resolve_merges: rules written as "left right" (GGUF, tokenizer.json) as pairs of ids.
 * The split is at the first space after the first byte; rules_out has room for count pairs. TD_INVALID
 * names the first rule whose parts are not tokens.
 */
td_status_t text_source_resolve_merges(const struct text_token *tokens, uint32_t token_count,
                                       const struct td_span *rules, uint32_t count,
                                       struct text_merge *rules_out,
                                       struct td_error *error) TD_MUST_USE;

#endif
