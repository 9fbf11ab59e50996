/*
 * source.c: the canonical form of a text source, and its checks; see source.h.
 *
 * The form, all little-endian, no padding:
 *     8 bytes   "TDTEXT", version (2 bytes)
 *     u8        bit 0 add_bos, 1 add_eos, 2 ignore_merges, 3 normalize_nfc, 4 strip_space
 *     u8        algorithm, prefix in the upper four bits
 *     5 x u32   bos, eos, eot, eom, unknown
 *     u32       count of stop ids, then each u32
 *     u16       length of the pre-tokenizer's name, then its bytes
 *     u32       length of the chat template, then its bytes
 *     u8        which generation defaults follow (enum text_generation_field), then each: f32 or u32
 *     u32       count of tokens, then for each: u8 type, flags in its upper four bits; u16 length, bytes
 *     u32       count of merges, then for each: u32 left, u32 right
 *     f32 each  scores of all tokens, for SentencePiece without merges only
 */
#include "lib/text/source.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "lib/base/hash.h"
#include "lib/text/unicode.h"

#define MAGIC "TDTEXT\x03\x00"

enum source_flag {
    FLAG_ADD_BOS = 1,
    FLAG_ADD_EOS = 2,
    FLAG_IGNORE_MERGES = 4,
    FLAG_NORMALIZE_NFC = 8,
    FLAG_STRIP_SPACE = 16,
    FLAGS_ALL = 31,
};

#define TOKEN_BYTES_MIN 4 /* of a serialised token: type, length, one byte */
#define MERGE_BYTES     8
#define SCORE_BYTES     4

void text_source_init(struct text_source *source)
{
    *source = (struct text_source){
        .bos = TEXT_TOKEN_NONE,
        .eos = TEXT_TOKEN_NONE,
        .eot = TEXT_TOKEN_NONE,
        .eom = TEXT_TOKEN_NONE,
        .unknown = TEXT_TOKEN_NONE,
    };
}

void text_source_fini(struct text_source *source)
{
    free(source->memory);
    text_source_init(source);
}

/* ------------------------------------------------------------------------------------------- */
/* Checks */

static td_status_t check_limits(const struct text_source *source, struct td_error *error)
{
    if (source->pretokenizer.length > TEXT_NAME_BYTES_MAX)
        return td_fail(error, TD_LIMIT, "pre-tokenizer name: %zu bytes, at most %d",
                       source->pretokenizer.length, TEXT_NAME_BYTES_MAX);
    if (source->chat_template.length > TEXT_TEMPLATE_BYTES_MAX)
        return td_fail(error, TD_LIMIT, "chat template: %zu bytes, at most %zu",
                       source->chat_template.length, TEXT_TEMPLATE_BYTES_MAX);
    if (source->token_count == 0 || source->token_count > TEXT_TOKENS_MAX)
        return td_fail(error, TD_LIMIT, "tokens: %u, must be 1 to %u", source->token_count,
                       TEXT_TOKENS_MAX);
    if (source->merge_count > TEXT_MERGES_MAX)
        return td_fail(error, TD_LIMIT, "merges: %u, at most %u", source->merge_count,
                       TEXT_MERGES_MAX);
    if (source->stop_id_count > TEXT_STOP_IDS_MAX)
        return td_fail(error, TD_LIMIT, "stop ids: %u, at most %d", source->stop_id_count,
                       TEXT_STOP_IDS_MAX);
    return TD_OK;
}

static td_status_t check_tokens(const struct text_source *source, struct td_error *error)
{
    for (uint32_t i = 0; i < source->token_count; i++) {
        const struct text_token *token = &source->tokens[i];

        if (token->length == 0 || token->length > TEXT_TOKEN_BYTES_MAX)
            return td_fail(error, TD_INVALID, "token %u: %u bytes, must be 1 to %d", i,
                           token->length, TEXT_TOKEN_BYTES_MAX);
        if (token->type < TEXT_TOKEN_NORMAL || token->type > TEXT_TOKEN_BYTE)
            return td_fail(error, TD_INVALID, "token %u: type %u is not known", i, token->type);
        if (token->flags > TEXT_TOKEN_FLAGS_ALL)
            return td_fail(error, TD_INVALID, "token %u: flags %#x are not known", i, token->flags);
        if (!isfinite(token->score))
            return td_fail(error, TD_INVALID, "token %u: its score is not finite", i);
    }
    return TD_OK;
}

/* Only combinations that some published tokenizer has, so that each is tested. */
static td_status_t check_manners(const struct text_source *source, struct td_error *error)
{
    bool byte_level = source->algorithm == TEXT_BYTE_LEVEL;

    if (source->algorithm > TEXT_SENTENCEPIECE)
        return td_fail(error, TD_INVALID, "algorithm: %u is not known", source->algorithm);
    if (source->prefix > TEXT_PREFIX_FIRST)
        return td_fail(error, TD_INVALID, "prefix: %u is not known", source->prefix);
    if (byte_level && (source->prefix != TEXT_PREFIX_NONE || source->strip_space))
        return td_fail(error, TD_INVALID, "a space in front of text: for SentencePiece only");
    if (!byte_level && (source->ignore_merges || source->normalize_nfc))
        return td_fail(error, TD_INVALID, "%s: for byte-level tokenizers only",
                       source->ignore_merges ? "ignore_merges" : "NFC");
    return TD_OK;
}

static td_status_t check_id(const struct text_source *source, const char *name, uint32_t id,
                            struct td_error *error)
{
    if (id >= source->token_count && id != TEXT_TOKEN_NONE)
        return td_fail(error, TD_INVALID, "%s: id %u, but there are %u tokens", name, id,
                       source->token_count);
    return TD_OK;
}

static td_status_t check_ids(const struct text_source *source, struct td_error *error)
{
    const struct {
        const char *name;
        uint32_t id;
    } specials[] = {
        {"bos", source->bos}, {"eos", source->eos},         {"eot", source->eot},
        {"eom", source->eom}, {"unknown", source->unknown},
    };
    td_status_t status = TD_OK;

    for (size_t i = 0; i < sizeof specials / sizeof specials[0] && status == TD_OK; i++)
        status = check_id(source, specials[i].name, specials[i].id, error);
    for (uint32_t i = 0; i < source->stop_id_count && status == TD_OK; i++) {
        if (source->stop_ids[i] == TEXT_TOKEN_NONE)
            return td_fail(error, TD_INVALID, "stop id %u: no token", i);
        status = check_id(source, "stop id", source->stop_ids[i], error);
    }
    return status;
}

static td_status_t check_merges(const struct text_source *source, struct td_error *error)
{
    for (uint32_t i = 0; i < source->merge_count; i++)
        if (source->merges[i].left >= source->token_count ||
            source->merges[i].right >= source->token_count)
            return td_fail(error, TD_INVALID, "merge %u: ids %u and %u, but there are %u tokens", i,
                           source->merges[i].left, source->merges[i].right, source->token_count);
    return TD_OK;
}

td_status_t text_source_check(const struct text_source *source, struct td_error *error)
{
    td_status_t status = check_limits(source, error);

    if (status == TD_OK)
        status = check_manners(source, error);
    if (status == TD_OK)
        status = check_tokens(source, error);
    if (status == TD_OK)
        status = check_ids(source, error);
    if (status == TD_OK)
        status = check_merges(source, error);
    if (status == TD_OK)
        status = text_generation_check(&source->generation, error);
    return status;
}

/* ------------------------------------------------------------------------------------------- */
/* Writing */

static bool has_scores(const struct text_source *source)
{
    return source->algorithm == TEXT_SENTENCEPIECE && source->merge_count == 0;
}

static td_status_t encoded_bytes(const struct text_source *source, size_t *bytes_out,
                                 struct td_error *error)
{
    size_t bytes = sizeof MAGIC - 1 + 2 + 5 * 4 + 4 + 2 + 4 + 4 + 4 +
                   text_generation_encoded_bytes(&source->generation);
    bool fits = td_size_add(&bytes, source->stop_id_count, 4) &&
                td_size_add(&bytes, source->pretokenizer.length, 1) &&
                td_size_add(&bytes, source->chat_template.length, 1) &&
                td_size_add(&bytes, source->token_count, TOKEN_BYTES_MIN - 1) &&
                td_size_add(&bytes, source->merge_count, MERGE_BYTES) &&
                td_size_add(&bytes, has_scores(source) ? source->token_count : 0, SCORE_BYTES);

    for (uint32_t i = 0; i < source->token_count; i++)
        fits = fits && td_size_add(&bytes, source->tokens[i].length, 1);
    if (!fits || bytes > TEXT_SOURCE_BYTES_MAX)
        return td_fail(error, TD_LIMIT, "tokenizer: over %zu bytes in all", TEXT_SOURCE_BYTES_MAX);
    *bytes_out = bytes;
    return TD_OK;
}

static void write_head(const struct text_source *source, struct td_writer *writer)
{
    td_write_bytes(writer, MAGIC, sizeof MAGIC - 1);
    td_write_u8(writer, (uint8_t)((source->add_bos ? FLAG_ADD_BOS : 0) |
                                  (source->add_eos ? FLAG_ADD_EOS : 0) |
                                  (source->ignore_merges ? FLAG_IGNORE_MERGES : 0) |
                                  (source->normalize_nfc ? FLAG_NORMALIZE_NFC : 0) |
                                  (source->strip_space ? FLAG_STRIP_SPACE : 0)));
    td_write_u8(writer, (uint8_t)(source->algorithm | source->prefix << 4));
    td_write_u32(writer, source->bos);
    td_write_u32(writer, source->eos);
    td_write_u32(writer, source->eot);
    td_write_u32(writer, source->eom);
    td_write_u32(writer, source->unknown);
    td_write_u32(writer, source->stop_id_count);
    for (uint32_t i = 0; i < source->stop_id_count; i++)
        td_write_u32(writer, source->stop_ids[i]);
    td_write_u16(writer, (uint16_t)source->pretokenizer.length);
    td_write_bytes(writer, source->pretokenizer.bytes, source->pretokenizer.length);
    td_write_u32(writer, (uint32_t)source->chat_template.length);
    td_write_bytes(writer, source->chat_template.bytes, source->chat_template.length);
    text_generation_write(&source->generation, writer);
}

static void write_tables(const struct text_source *source, struct td_writer *writer)
{
    td_write_u32(writer, source->token_count);
    for (uint32_t i = 0; i < source->token_count; i++) {
        td_write_u8(writer, (uint8_t)(source->tokens[i].type | source->tokens[i].flags << 4));
        td_write_u16(writer, source->tokens[i].length);
        td_write_bytes(writer, source->tokens[i].bytes, source->tokens[i].length);
    }
    td_write_u32(writer, source->merge_count);
    for (uint32_t i = 0; i < source->merge_count; i++) {
        td_write_u32(writer, source->merges[i].left);
        td_write_u32(writer, source->merges[i].right);
    }
    for (uint32_t i = 0; has_scores(source) && i < source->token_count; i++)
        td_write_bytes(writer, &source->tokens[i].score, SCORE_BYTES);
}

td_status_t text_source_encode(const struct text_source *source, struct td_buf *out,
                               struct td_error *error)
{
    td_status_t status = text_source_check(source, error);
    struct td_writer writer;
    size_t bytes = 0;
    char *room;

    if (status == TD_OK)
        status = encoded_bytes(source, &bytes, error);
    if (status != TD_OK)
        return status;
    room = td_buf_reserve(out, bytes);
    if (room == NULL)
        return td_fail(error, out->status, "tokenizer: no room for %zu bytes", bytes);
    writer = td_writer_over(room, bytes);
    write_head(source, &writer);
    write_tables(source, &writer);
    if (!writer.ok || writer.cursor != writer.end)
        return td_fail(error, TD_INTERNAL, "tokenizer: serialised form has another length");
    td_buf_commit(out, bytes);
    return TD_OK;
}

struct td_u128 text_source_id(const void *bytes, size_t length)
{
    const char *unicode = text_unicode_version();

    return td_hash128_chain(td_hash128(unicode, strlen(unicode)), bytes, length);
}

/* ------------------------------------------------------------------------------------------- */
/* Reading */

struct source_reader {
    struct td_reader in;
    const uint8_t *start;
    struct td_error *error;
};

static td_status_t cut_short(struct source_reader *reader, const char *field)
{
    return td_fail(reader->error, TD_INVALID, "%s: the data ends at offset %zu", field,
                   (size_t)(reader->in.end - reader->start));
}

/* A count of items that take at least item_bytes each: no more than the bytes left can hold. */
static td_status_t read_count(struct source_reader *reader, const char *field, size_t item_bytes,
                              uint32_t *count_out)
{
    size_t offset = (size_t)(reader->in.cursor - reader->start);
    uint32_t count = td_read_u32(&reader->in);

    if (!reader->in.ok)
        return cut_short(reader, field);
    if (count > td_reader_left(&reader->in) / item_bytes)
        return td_fail(reader->error, TD_INVALID, "%s: %u at offset %zu, but only %zu bytes follow",
                       field, count, offset, td_reader_left(&reader->in));
    *count_out = count;
    return TD_OK;
}

static td_status_t read_manners(struct source_reader *reader, struct text_source *source)
{
    const uint8_t *magic = td_read_bytes(&reader->in, sizeof MAGIC - 1);
    uint8_t flags;

    if (magic == NULL || memcmp(magic, MAGIC, sizeof MAGIC - 1) != 0)
        return td_fail(reader->error, TD_INVALID, "not a tokenizer of a version known here");
    flags = td_read_u8(&reader->in);
    if (flags > FLAGS_ALL)
        return td_fail(reader->error, TD_INVALID, "flags: %#x is not known", flags);
    source->add_bos = (flags & FLAG_ADD_BOS) != 0;
    source->add_eos = (flags & FLAG_ADD_EOS) != 0;
    source->ignore_merges = (flags & FLAG_IGNORE_MERGES) != 0;
    source->normalize_nfc = (flags & FLAG_NORMALIZE_NFC) != 0;
    source->strip_space = (flags & FLAG_STRIP_SPACE) != 0;
    flags = td_read_u8(&reader->in);
    source->algorithm = flags & 0x0F;
    source->prefix = flags >> 4;
    return TD_OK;
}

static td_status_t read_special_ids(struct source_reader *reader, struct text_source *source)
{
    td_status_t status;

    source->bos = td_read_u32(&reader->in);
    source->eos = td_read_u32(&reader->in);
    source->eot = td_read_u32(&reader->in);
    source->eom = td_read_u32(&reader->in);
    source->unknown = td_read_u32(&reader->in);
    status = read_count(reader, "stop ids", sizeof(uint32_t), &source->stop_id_count);
    if (status != TD_OK)
        return status;
    if (source->stop_id_count > TEXT_STOP_IDS_MAX)
        return td_fail(reader->error, TD_LIMIT, "stop ids: %u, at most %d", source->stop_id_count,
                       TEXT_STOP_IDS_MAX);
    for (uint32_t i = 0; i < source->stop_id_count; i++)
        source->stop_ids[i] = td_read_u32(&reader->in);
    return TD_OK;
}

static td_status_t read_texts(struct source_reader *reader, struct text_source *source)
{
    uint32_t template_length = 0;
    td_status_t status;

    source->pretokenizer.length = td_read_u16(&reader->in);
    source->pretokenizer.bytes =
        (const char *)td_read_bytes(&reader->in, source->pretokenizer.length);
    if (!reader->in.ok)
        return cut_short(reader, "pre-tokenizer name");
    status = read_count(reader, "chat template", 1, &template_length);
    if (status != TD_OK)
        return status;
    source->chat_template.length = template_length;
    source->chat_template.bytes = (const char *)td_read_bytes(&reader->in, template_length);
    status = text_generation_read(&reader->in, &source->generation, reader->error);
    if (status == TD_OK && !reader->in.ok)
        return cut_short(reader, "generation defaults");
    return status;
}

/* Steps over the tokens to where the merges are counted, so that one allocation holds both. */
static td_status_t read_table_counts(struct source_reader *reader, struct text_source *source)
{
    td_status_t status = read_count(reader, "tokens", TOKEN_BYTES_MIN, &source->token_count);
    struct td_reader tokens = reader->in;
    size_t rest;

    if (status != TD_OK)
        return status;
    for (uint32_t i = 0; i < source->token_count; i++) {
        td_read_u8(&reader->in);
        td_read_bytes(&reader->in, td_read_u16(&reader->in));
    }
    if (!reader->in.ok)
        return cut_short(reader, "tokens");
    status = read_count(reader, "merges", MERGE_BYTES, &source->merge_count);
    if (status != TD_OK)
        return status;
    rest = (size_t)source->merge_count * MERGE_BYTES +
           (has_scores(source) ? (size_t)source->token_count * SCORE_BYTES : 0);
    if (td_reader_left(&reader->in) != rest)
        return td_fail(reader->error, TD_INVALID,
                       "merges: %zu bytes follow their count, must be %zu",
                       td_reader_left(&reader->in), rest);
    reader->in.cursor = tokens.cursor;
    return TD_OK;
}

static td_status_t read_tables(struct source_reader *reader, struct text_source *source)
{
    size_t token_bytes = (size_t)source->token_count * sizeof(struct text_token);
    size_t merge_bytes = (size_t)source->merge_count * sizeof(struct text_merge);
    struct text_token *tokens = malloc(token_bytes + merge_bytes + 1);
    struct text_merge *merges = (struct text_merge *)((char *)tokens + token_bytes);

    if (tokens == NULL)
        return td_fail(reader->error, TD_NO_MEMORY, "tokenizer: no memory for its tables");
    for (uint32_t i = 0; i < source->token_count; i++) {
        uint8_t kind = td_read_u8(&reader->in);

        tokens[i] = (struct text_token){.type = kind & 0x0F, .flags = kind >> 4};
        tokens[i].length = td_read_u16(&reader->in);
        tokens[i].bytes = (const char *)td_read_bytes(&reader->in, tokens[i].length);
    }
    td_read_u32(&reader->in); /* the count of merges, read before */
    for (uint32_t i = 0; i < source->merge_count; i++) {
        merges[i].left = td_read_u32(&reader->in);
        merges[i].right = td_read_u32(&reader->in);
    }
    for (uint32_t i = 0; has_scores(source) && i < source->token_count; i++) {
        const uint8_t *score = td_read_bytes(&reader->in, SCORE_BYTES);

        if (score != NULL)
            memcpy(&tokens[i].score, score, SCORE_BYTES);
    }
    source->tokens = tokens;
    source->merges = merges;
    source->memory = tokens;
    return TD_OK;
}

td_status_t text_source_decode(const void *bytes, size_t length, struct text_source *source_out,
                               struct td_error *error)
{
    struct source_reader reader = {
        .in = td_reader_over(bytes, length), .start = bytes, .error = error};
    struct text_source source;
    td_status_t status;

    text_source_init(&source);
    if (length > TEXT_SOURCE_BYTES_MAX)
        return td_fail(error, TD_LIMIT, "tokenizer: %zu bytes, at most %zu", length,
                       TEXT_SOURCE_BYTES_MAX);
    status = read_manners(&reader, &source);
    if (status == TD_OK)
        status = read_special_ids(&reader, &source);
    if (status == TD_OK)
        status = read_texts(&reader, &source);
    if (status == TD_OK)
        status = read_table_counts(&reader, &source);
    if (status == TD_OK)
        status = check_limits(&source, error);
    if (status == TD_OK)
        status = read_tables(&reader, &source);
    if (status == TD_OK)
        status = text_source_check(&source, error);
    if (status != TD_OK) {
        text_source_fini(&source);
        return status;
    }
    *source_out = source;
    return TD_OK;
}
