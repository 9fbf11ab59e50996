/*
 * fuzz_http1.c: the HTTP/1.1 request parser against itself and against another one.
 *
 * The input is a connection's bytes (its last byte chooses how they are split). They are parsed at
 * once and in pieces: both must give the same transcript. If http-parser is installed (Debian's
 * libhttp-parser-dev, an oracle for tests only), every request that we accept it must accept too,
 * with the same method, target, fields and body: a difference is how requests are smuggled.
 */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/net/http1.h"
#include "tests/fuzz/http1_oracle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUESTS_MAX 64

/* What came out, in comparable form. */
struct transcript {
    struct http1_texts texts;
    int error_status;
    size_t accepted_bytes; /* up to the end of the last complete request */
    size_t accepted_heads; /* length of texts.heads there */
    size_t accepted_bodies;
};

static void write_head(struct td_buf *out, const struct http1_parser *parser)
{
    const char *path = http1_text(parser, parser->path);
    const char *query = http1_text(parser, parser->query);
    bool has_query = query > path + strlen(path); /* then there is the '?' between them */

    td_buf_printf(out, "%s %s%s%s\n", http_method_name(parser->method), path, has_query ? "?" : "",
                  query);
    for (size_t i = 0; i < parser->field_count; i++)
        td_buf_printf(out, "%s: %s\n", http1_text(parser, parser->fields[i].name),
                      http1_text(parser, parser->fields[i].value));
    td_buf_append_text(out, "\n");
}

/* One piece of input; false after an error. */
static bool feed_piece(struct http1_parser *parser, struct transcript *out, const uint8_t *data,
                       size_t size, size_t offset)
{
    size_t used = 0;

    for (;;) {
        struct http1_step step = http1_feed(parser, data + used, size - used);

        assert(step.used <= size - used);
        used += step.used;
        switch (step.event) {
        case HTTP1_MORE: assert(used == size); return true;
        case HTTP1_HEAD:
            assert(parser->field_count <= HTTP1_FIELDS_MAX);
            write_head(&out->texts.heads, parser);
            break;
        case HTTP1_BODY:
            assert(step.body_length > 0);
            td_buf_append(&out->texts.bodies, step.body, step.body_length);
            break;
        case HTTP1_END:
            td_buf_append_text(&out->texts.bodies, HTTP1_END_MARK);
            out->texts.requests++;
            out->accepted_bytes = offset + used;
            out->accepted_heads = out->texts.heads.length;
            out->accepted_bodies = out->texts.bodies.length;
            if (!parser->keep_alive || out->texts.requests == REQUESTS_MAX)
                return false; /* a server stops here */
            http1_reset(parser);
            break;
        case HTTP1_BAD:
            assert(parser->error_status >= 400 && parser->error_status < 600);
            assert(parser->error_text != NULL);
            out->error_status = parser->error_status;
            return false;
        }
    }
}

/* The length of the next piece: seed 0: everything, 1: one byte, else pseudo-random. */
static size_t next_piece(uint32_t *seed, size_t left)
{
    size_t piece;

    if (*seed == 0)
        return left;
    if (*seed == 1)
        return 1;
    *seed = *seed * 1664525u + 1013904223u; /* Numerical Recipes' generator */
    *seed |= 2;                             /* never becomes 0 or 1 */
    piece = 1 + (*seed >> 20) % 64;
    return piece < left ? piece : left;
}

static void run(struct transcript *out, const uint8_t *data, size_t size, uint32_t seed)
{
    struct http1_parser parser;
    size_t offset = 0;
    bool going = true;

    *out = (struct transcript){0};
    http1_texts_init(&out->texts);
    http1_init(&parser);
    while (going && offset < size) {
        size_t piece = next_piece(&seed, size - offset);
        uint8_t *copy = malloc(piece); /* of exact size, so that ASan sees one byte too far */

        assert(copy != NULL);
        memcpy(copy, data + offset, piece);
        going = feed_piece(&parser, out, copy, piece, offset);
        free(copy);
        offset += piece;
    }
    http1_fini(&parser);
}

static void compare(const struct transcript *a, const struct transcript *b)
{
    assert(a->texts.requests == b->texts.requests);
    assert(a->error_status == b->error_status);
    assert(a->accepted_bytes == b->accepted_bytes);
    assert(http1_text_equal(&a->texts.heads, &b->texts.heads));
    assert(http1_text_equal(&a->texts.bodies, &b->texts.bodies));
}

/* What we took for whole requests must be the same requests to the other parser. */
static void compare_with_oracle(struct transcript *ours, const uint8_t *data)
{
    struct http1_texts theirs;

    http1_texts_init(&theirs);
    if (http1_oracle_parse(data, ours->accepted_bytes, &theirs)) {
        ours->texts.heads.length = ours->accepted_heads;
        ours->texts.bodies.length = ours->accepted_bodies;
        assert(theirs.requests == ours->texts.requests);
        assert(http1_text_equal(&ours->texts.heads, &theirs.heads));
        assert(http1_text_equal(&ours->texts.bodies, &theirs.bodies));
    }
    http1_texts_fini(&theirs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct transcript whole;
    struct transcript pieces;
    uint32_t seed = size > 0 ? data[size - 1] : 0;

    if (size > 1u << 20)
        return 0;
    run(&whole, data, size, 0);
    run(&pieces, data, size, 1);
    compare(&whole, &pieces);
    http1_texts_fini(&pieces.texts);
    run(&pieces, data, size, seed + 2);
    compare(&whole, &pieces);
    http1_texts_fini(&pieces.texts);
    compare_with_oracle(&whole, data);
    http1_texts_fini(&whole.texts);
    return 0;
}
