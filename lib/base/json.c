/*
 * json.c: recursive-descent parser into an arena, see json.h.
 *
 * A string is looked at twice: once to validate it and to learn how long its text is, once to copy
 * it, so that an arena never holds more than the text. Plain stretches go eight bytes at a time.
 */
#include "lib/base/json.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "lib/base/hex.h"
#include "lib/base/json_keys.h"
#include "lib/base/json_scan.h"
#include "lib/base/utf8.h"

#define NUMBER_BYTES_MAX 256 /* bounds the work of one strtod; the longest exact double has 770 */
#define SMALL_OBJECT     8   /* up to here comparing with all keys before is the fastest */

struct parser {
    struct td_arena *arena;
    const char *text;
    size_t length;
    size_t at;
    const struct td_json_limits *limits;
    uint32_t nodes;
    uint32_t depth;
    struct td_json_keys keys;
    struct td_error *error;
};

static td_status_t parse_value(struct parser *p, struct td_json *node);

size_t td_json_arena_bytes(const struct td_json_limits *limits)
{
    /* per node: itself, and the padding and NULs of its key and its string */
    size_t per_node = sizeof(struct td_json) + (size_t)4 * _Alignof(max_align_t);
    size_t total = limits->bytes_max;

    return td_size_add(&total, limits->nodes_max, per_node) ? total : SIZE_MAX;
}

static td_status_t fail_at(struct parser *p, size_t at, const char *reason)
{
    return td_fail(p->error, TD_INVALID, "byte %zu: %s", at, reason);
}

static td_status_t fail_arena(struct parser *p)
{
    return td_fail(p->error, p->arena->status, "the document takes too much memory: %s",
                   td_status_text(p->arena->status));
}

static void skip_space(struct parser *p)
{
    while (p->at < p->length && (p->text[p->at] == ' ' || p->text[p->at] == '\n' ||
                                 p->text[p->at] == '\r' || p->text[p->at] == '\t'))
        p->at++;
}

/* The byte after white space, or -1 at the end. */
static int peek(struct parser *p)
{
    skip_space(p);
    return p->at < p->length ? (unsigned char)p->text[p->at] : -1;
}

/* ------------------------------------------------------------------------------------------- */
/* Strings                                                                                     */

/* The value of four hex digits at text, or -1. */
static int32_t hex4(const char *text, size_t length)
{
    int32_t value = 0;

    if (length < 4)
        return -1;
    for (size_t i = 0; i < 4; i++) {
        int digit = td_hex_value(text[i]);

        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* A \u escape whose digits start at text[2]. Bytes taken, or 0. */
static size_t read_unicode_escape(const char *text, size_t length, uint32_t *code_point_out)
{
    int32_t high = hex4(text + 2, length - 2);
    int32_t low;

    if (high < 0 || (high >= 0xdc00 && high <= 0xdfff))
        return 0;
    *code_point_out = (uint32_t)high;
    if (high < 0xd800 || high > 0xdbff)
        return 6;
    if (length < 12 || text[6] != '\\' || text[7] != 'u')
        return 0;
    low = hex4(text + 8, length - 8);
    if (low < 0xdc00 || low > 0xdfff)
        return 0;
    *code_point_out = 0x10000 + ((uint32_t)(high - 0xd800) << 10) + (uint32_t)(low - 0xdc00);
    return 12;
}

/* The escape at text (its backslash). Returns the bytes it takes, 0 if it is not one. */
static size_t read_escape(const char *text, size_t length, uint32_t *code_point_out)
{
    static const char names[] = "\"\\/bfnrt";
    static const char values[] = "\"\\/\b\f\n\r\t";
    const char *name;

    if (length < 2 || text[1] == '\0')
        return 0;
    if (text[1] == 'u')
        return read_unicode_escape(text, length, code_point_out);
    name = strchr(names, text[1]);
    if (name == NULL)
        return 0;
    *code_point_out = (unsigned char)values[name - names];
    return 2;
}

/* Steps over the escape at p->at and adds the bytes of its text to *decoded. */
static td_status_t scan_escape(struct parser *p, size_t *decoded)
{
    char character[TD_UTF8_BYTES_MAX];
    uint32_t code_point;
    size_t bytes = read_escape(p->text + p->at, p->length - p->at, &code_point);

    if (bytes == 0)
        return fail_at(p, p->at, "this is no escape, or half a surrogate pair");
    *decoded += td_utf8_encode(code_point, character);
    p->at += bytes;
    return TD_OK;
}

/* Steps over characters beyond ASCII and adds their bytes to *decoded. */
static td_status_t scan_beyond_ascii(struct parser *p, size_t *decoded)
{
    size_t start = p->at;

    while (p->at < p->length && (unsigned char)p->text[p->at] >= 0x80) {
        size_t bytes = td_utf8_character(p->text + p->at, p->length - p->at);

        if (bytes == 0)
            return fail_at(p, p->at, "this is not UTF-8");
        p->at += bytes;
    }
    *decoded += p->at - start;
    return TD_OK;
}

/* Steps from behind the opening quote to the closing one; adds the bytes of the text to *decoded. */
static td_status_t scan_string(struct parser *p, size_t *decoded)
{
    for (;;) {
        size_t run = td_json_plain_run(p->text + p->at, p->length - p->at);
        td_status_t status;

        p->at += run;
        *decoded += run;
        if (p->at == p->length)
            return fail_at(p, p->at, "the text ends inside a string");
        if (p->text[p->at] == '"')
            return TD_OK;
        if (p->text[p->at] == '\\')
            status = scan_escape(p, decoded);
        else if ((unsigned char)p->text[p->at] < 0x20)
            status = fail_at(p, p->at, "a control character inside a string must be escaped");
        else
            status = scan_beyond_ascii(p, decoded);
        if (status != TD_OK)
            return status;
    }
}

/* Copies a validated string and resolves its escapes. */
static void decode_string(const char *text, size_t length, char *out)
{
    const char *end = text + length;

    while (text < end) {
        const char *escape = memchr(text, '\\', (size_t)(end - text));
        size_t run = (size_t)((escape != NULL ? escape : end) - text);
        uint32_t code_point;

        memcpy(out, text, run);
        out += run;
        text += run;
        if (escape != NULL) {
            text += read_escape(text, (size_t)(end - text), &code_point);
            out += td_utf8_encode(code_point, out);
        }
    }
}

/* The string whose opening quote is at p->at. */
static td_status_t parse_string(struct parser *p, struct td_span *string_out)
{
    size_t start = ++p->at;
    size_t decoded = 0;
    char *copy;
    td_status_t status = scan_string(p, &decoded);

    if (status != TD_OK)
        return status;
    copy = td_arena_alloc_unset(p->arena, decoded + 1);
    if (copy == NULL)
        return fail_arena(p);
    if (decoded == p->at - start) /* an escape is always longer than its text */
        memcpy(copy, p->text + start, decoded);
    else
        decode_string(p->text + start, p->at - start, copy);
    copy[decoded] = '\0';
    p->at++;
    *string_out = td_span_over(copy, decoded);
    return TD_OK;
}

/* ------------------------------------------------------------------------------------------- */
/* Numbers and names                                                                           */

static size_t digits_at(const struct parser *p, size_t at)
{
    size_t count = 0;

    while (at + count < p->length && p->text[at + count] >= '0' && p->text[at + count] <= '9')
        count++;
    return count;
}

static char char_at(const struct parser *p, size_t at)
{
    return at < p->length ? p->text[at] : '\0';
}

/* The end of the number at p->at, or 0 if there is none. */
static size_t number_end(const struct parser *p, bool *integer_out)
{
    size_t at = p->at + (char_at(p, p->at) == '-');
    size_t digits = char_at(p, at) == '0' ? 1 : digits_at(p, at);

    if (digits == 0)
        return 0;
    at += digits;
    *integer_out = true;
    if (char_at(p, at) == '.') {
        digits = digits_at(p, at + 1);
        if (digits == 0)
            return 0;
        at += 1 + digits;
        *integer_out = false;
    }
    if (char_at(p, at) == 'e' || char_at(p, at) == 'E') {
        at++;
        if (char_at(p, at) == '+' || char_at(p, at) == '-')
            at++;
        digits = digits_at(p, at);
        if (digits == 0)
            return 0;
        at += digits;
        *integer_out = false;
    }
    return at;
}

/* False if the integer does not fit. */
static bool read_integer(const char *text, size_t length, int64_t *value_out)
{
    bool negative = text[0] == '-';
    int64_t value = 0;

    for (size_t i = negative; i < length; i++) {
        int64_t digit = text[i] - '0';

        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, negative ? -digit : digit, &value))
            return false;
    }
    *value_out = value;
    return true;
}

static td_status_t parse_number(struct parser *p, struct td_json *node)
{
    char copy[NUMBER_BYTES_MAX + 1];
    bool integer = false;
    size_t end = number_end(p, &integer);
    size_t length = end - p->at;

    if (end == 0)
        return fail_at(p, p->at, "a number needs digits here");
    if (length > NUMBER_BYTES_MAX)
        return td_fail(p->error, TD_LIMIT, "byte %zu: the number has more than %d characters",
                       p->at, NUMBER_BYTES_MAX);
    node->kind = TD_JSON_INTEGER;
    if (!integer || !read_integer(p->text + p->at, length, &node->integer)) {
        memcpy(copy, p->text + p->at, length);
        copy[length] = '\0';
        node->kind = TD_JSON_NUMBER;
        node->number = strtod(copy, NULL); /* no part of Tandem changes the C locale */
        if (!isfinite(node->number))
            return fail_at(p, p->at, "the number is too large");
    }
    p->at = end;
    return TD_OK;
}

static td_status_t parse_name(struct parser *p, struct td_json *node)
{
    static const struct {
        const char *text;
        enum td_json_kind kind;
        bool boolean;
    } names[] = {{"null", TD_JSON_NULL, false},
                 {"true", TD_JSON_BOOL, true},
                 {"false", TD_JSON_BOOL, false}};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        size_t length = strlen(names[i].text);

        if (p->length - p->at >= length && memcmp(p->text + p->at, names[i].text, length) == 0) {
            node->kind = names[i].kind;
            node->boolean = names[i].boolean;
            p->at += length;
            return TD_OK;
        }
    }
    return fail_at(p, p->at, "a value is expected here");
}

/* ------------------------------------------------------------------------------------------- */
/* Containers                                                                                  */

static td_status_t node_new(struct parser *p, struct td_json **node_out)
{
    struct td_json *node;

    if (p->nodes >= p->limits->nodes_max)
        return td_fail(p->error, TD_LIMIT, "byte %zu: the document has more than %u values", p->at,
                       p->limits->nodes_max);
    node = td_arena_alloc(p->arena, sizeof *node);
    if (node == NULL)
        return fail_arena(p);
    p->nodes++;
    *node_out = node;
    return TD_OK;
}

/*
 * Refuses the newest member of object if its key was there before. Up to SMALL_OBJECT members are
 * compared one by one; beyond, the hash set takes over with all that came so far.
 */
static td_status_t check_key(struct parser *p, const struct td_json *object,
                             const struct td_json *newest, size_t key_at)
{
    bool small = object->items.count < SMALL_OBJECT;
    td_status_t status = TD_OK;

    if (small || object->items.count == SMALL_OBJECT) {
        td_json_for_each(member, object)
        {
            if (td_span_equal(member->key, newest->key))
                return fail_at(p, key_at, "this key was there before in the same object");
            if (!small && status == TD_OK)
                status = td_json_keys_add(&p->keys, object, member->key);
        }
    }
    if (!small && status == TD_OK)
        status = td_json_keys_add(&p->keys, object, newest->key);
    if (status == TD_STATE)
        return fail_at(p, key_at, "this key was there before in the same object");
    if (status != TD_OK)
        return td_fail(p->error, status, "the document takes too much memory: %s",
                       td_status_text(status));
    return TD_OK;
}

static td_status_t parse_key(struct parser *p, const struct td_json *object, struct td_json *member)
{
    size_t key_at;
    td_status_t status;

    if (peek(p) != '"')
        return fail_at(p, p->at, "a key in quotes is expected here");
    key_at = p->at;
    status = parse_string(p, &member->key);
    if (status != TD_OK)
        return status;
    if (peek(p) != ':')
        return fail_at(p, p->at, "':' is expected here");
    p->at++;
    return check_key(p, object, member, key_at);
}

/* The elements or members of the container whose opening bracket was just passed. */
static td_status_t parse_items(struct parser *p, struct td_json *container, char close)
{
    const struct td_json **tail = &container->items.first;

    if (peek(p) == close) {
        p->at++;
        return TD_OK;
    }
    for (;;) {
        struct td_json *item = NULL;
        td_status_t status = node_new(p, &item);
        int next;

        if (status == TD_OK && container->kind == TD_JSON_OBJECT)
            status = parse_key(p, container, item);
        if (status == TD_OK)
            status = parse_value(p, item);
        if (status != TD_OK)
            return status;
        *tail = item;
        tail = &item->next;
        container->items.count++;
        next = peek(p);
        if (next != ',' && next != close)
            return fail_at(p, p->at,
                           close == ']' ? "',' or ']' is expected here"
                                        : "',' or '}' is expected here");
        p->at++;
        if (next == close)
            return TD_OK;
    }
}

static td_status_t parse_container(struct parser *p, struct td_json *node)
{
    char open = p->text[p->at];
    td_status_t status;

    if (p->depth >= p->limits->depth_max)
        return td_fail(p->error, TD_LIMIT, "byte %zu: nested deeper than %u", p->at,
                       p->limits->depth_max);
    p->at++;
    p->depth++;
    node->kind = open == '[' ? TD_JSON_ARRAY : TD_JSON_OBJECT;
    status = parse_items(p, node, open == '[' ? ']' : '}');
    p->depth--;
    return status;
}

static td_status_t parse_value(struct parser *p, struct td_json *node)
{
    int next = peek(p);

    if (next == '{' || next == '[')
        return parse_container(p, node);
    if (next == '"') {
        node->kind = TD_JSON_STRING;
        return parse_string(p, &node->string);
    }
    if (next == '-' || (next >= '0' && next <= '9'))
        return parse_number(p, node);
    return parse_name(p, node);
}

td_status_t td_json_parse(struct td_arena *arena, struct td_span text,
                          const struct td_json_limits *limits, const struct td_json **root_out,
                          struct td_error *error)
{
    struct parser p = {.arena = arena,
                       .text = text.bytes,
                       .length = text.length,
                       .limits = limits,
                       .error = error};
    struct td_json *root = NULL;
    td_status_t status;

    assert(limits->depth_max <= TD_JSON_DEPTH_MAX);
    if (text.length > limits->bytes_max)
        return td_fail(error, TD_LIMIT, "the document has %zu bytes, more than %zu", text.length,
                       limits->bytes_max);
    status = node_new(&p, &root);
    if (status == TD_OK)
        status = parse_value(&p, root);
    if (status == TD_OK && peek(&p) != -1)
        status = fail_at(&p, p.at, "the document has ended, but the text goes on");
    td_json_keys_fini(&p.keys);
    if (status == TD_OK)
        *root_out = root;
    return status;
}
