/*
 * http1.c: the request parser, see http1.h.
 *
 * The head is read line by line: a line is looked at when its LF is there, so that splits of the
 * input cannot matter. Everything after the head is a machine that takes one byte at a time, but
 * for the content itself, which is passed on in whole pieces.
 */
#include "lib/net/http1.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

#include "lib/base/hex.h"

#define HEAD_KEEP_BYTES       2048 /* a larger buffer is not kept between requests */
#define CONTENT_LENGTH_DIGITS 15   /* below 2^50: no sum can overflow */
#define CHUNK_SIZE_DIGITS     12   /* below 2^48 */

enum state {
    REQUEST_LINE,
    FIELDS,
    BODY_START,
    BODY_LENGTH,
    CHUNK_SIZE,
    CHUNK_EXTENSION,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    TRAILER_START,
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    LAST_LF,
    COMPLETE,
    BROKEN,
};

static const char *const method_names[] = {
#define X(name) #name,
    HTTP_METHOD_MAP(X)
#undef X
};

const char *http_method_name(enum http_method method)
{
    return method_names[method];
}

/* ---- characters ---- */

static bool is_token_char(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_value_char(unsigned char c)
{
    return c == '\t' || (c >= 0x20 && c != 0x7f);
}

/* What RFC 3986 allows in a path or a query; '%' is checked by the caller. */
static bool is_target_char(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("-._~!$&'()*+,;=:@/?", c) != NULL);
}

bool http1_is_token(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!is_token_char((unsigned char)text[i]))
            return false;
    return length > 0;
}

bool http1_is_value(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!is_value_char((unsigned char)text[i]))
            return false;
    return true;
}

/* ---- life ---- */

void http1_init(struct http1_parser *parser)
{
    *parser = (struct http1_parser){0};
    td_buf_init(&parser->head, HTTP1_HEAD_BYTES_MAX);
}

void http1_fini(struct http1_parser *parser)
{
    td_buf_fini(&parser->head);
}

void http1_reset(struct http1_parser *parser)
{
    struct td_buf head = parser->head;

    if (head.capacity > HEAD_KEEP_BYTES)
        td_buf_fini(&head);
    td_buf_clear(&head);
    *parser = (struct http1_parser){.head = head};
}

bool http1_started(const struct http1_parser *parser)
{
    return parser->state != REQUEST_LINE || parser->head.length > 0;
}

const char *http1_find(const struct http1_parser *parser, const char *name)
{
    for (size_t i = 0; i < parser->field_count; i++)
        if (strcmp(http1_text(parser, parser->fields[i].name), name) == 0)
            return http1_text(parser, parser->fields[i].value);
    return NULL;
}

static bool refuse(struct http1_parser *parser, int status, const char *text)
{
    parser->state = BROKEN;
    parser->error_status = status;
    parser->error_text = text;
    return false;
}

/* ---- the request line ---- */

static bool take_method(struct http1_parser *parser, const char *text, size_t length)
{
    if (!http1_is_token(text, length))
        return refuse(parser, 400, "the request line has no valid method");
    for (int i = 0; i < HTTP_METHOD_COUNT; i++) {
        if (strlen(method_names[i]) == length && memcmp(method_names[i], text, length) == 0) {
            parser->method = (enum http_method)i;
            return true;
        }
    }
    return refuse(parser, 501, "the method is not supported");
}

static bool take_target(struct http1_parser *parser, char *text, size_t length)
{
    char *question;

    if (length == 0 || text[0] != '/')
        return refuse(parser, 400, "the request target does not start with '/'");
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c == '%' && i + 2 < length && td_hex_value(text[i + 1]) >= 0 &&
            td_hex_value(text[i + 2]) >= 0)
            i += 2;
        else if (!is_target_char(c))
            return refuse(parser, 400, "the request target has a character that is not allowed");
    }
    text[length] = '\0'; /* was the space before the version */
    question = strchr(text, '?');
    parser->path = (uint16_t)(text - parser->head.data);
    parser->query = (uint16_t)(parser->path + length);
    if (question != NULL) {
        *question = '\0';
        parser->query = (uint16_t)(question + 1 - parser->head.data);
    }
    return true;
}

static bool take_version(struct http1_parser *parser, const char *text, size_t length)
{
    if (length != 8 || memcmp(text, "HTTP/", 5) != 0 || text[6] != '.' || text[5] < '0' ||
        text[5] > '9' || text[7] < '0' || text[7] > '9')
        return refuse(parser, 400, "the request line does not end with an HTTP version");
    if (text[5] != '1' || text[7] > '1')
        return refuse(parser, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
    parser->minor_version = (uint8_t)(text[7] - '0');
    return true;
}

static bool take_request_line(struct http1_parser *parser, char *line, size_t length)
{
    char *target = memchr(line, ' ', length);
    char *version;
    size_t rest;

    if (target == NULL)
        return refuse(parser, 400, "the request line has no target");
    if (!take_method(parser, line, (size_t)(target - line)))
        return false;
    target++;
    rest = length - (size_t)(target - line);
    version = memchr(target, ' ', rest);
    if (version == NULL)
        return refuse(parser, 400, "the request line has no HTTP version");
    if (!take_version(parser, version + 1, rest - (size_t)(version - target) - 1))
        return false;
    parser->state = FIELDS;
    return take_target(parser, target, (size_t)(version - target));
}

/* ---- fields that steer the connection ---- */

static bool take_host(struct http1_parser *parser, const char *value)
{
    if (parser->has_host)
        return refuse(parser, 400, "there is more than one Host field");
    if (value[0] == '\0')
        return refuse(parser, 400, "the Host field is empty");
    for (const char *c = value; *c != '\0'; c++)
        if (!is_token_char((unsigned char)*c) && strchr(":[]", *c) == NULL)
            return refuse(parser, 400, "the Host field has a character that is not allowed");
    parser->has_host = true;
    return true;
}

static bool take_content_length(struct http1_parser *parser, const char *value)
{
    uint64_t length = 0;

    if (parser->has_length)
        return refuse(parser, 400, "there is more than one Content-Length field");
    if (value[0] == '\0' || strlen(value) > CONTENT_LENGTH_DIGITS)
        return refuse(parser, 400, "Content-Length is not a number in range");
    for (const char *c = value; *c != '\0'; c++) {
        if (*c < '0' || *c > '9')
            return refuse(parser, 400, "Content-Length is not a number in range");
        length = length * 10 + (uint64_t)(*c - '0');
    }
    parser->has_length = true;
    parser->content_length = length;
    return true;
}

static bool take_transfer_encoding(struct http1_parser *parser, const char *value)
{
    if (parser->has_coding)
        return refuse(parser, 400, "there is more than one Transfer-Encoding field");
    if (strcasecmp(value, "chunked") != 0)
        return refuse(parser, 501, "the only transfer coding understood is chunked");
    parser->has_coding = true;
    parser->chunked = true;
    return true;
}

static bool take_connection(struct http1_parser *parser, const char *value)
{
    while (*value != '\0') {
        size_t length;

        value += strspn(value, " \t,");
        length = strcspn(value, " \t,");
        if (length == 5 && strncasecmp(value, "close", 5) == 0)
            parser->saw_close = true;
        if (length == 10 && strncasecmp(value, "keep-alive", 10) == 0)
            parser->saw_keep_alive = true;
        value += length;
    }
    return true;
}

static bool take_expect(struct http1_parser *parser, const char *value)
{
    if (parser->minor_version == 0)
        return true; /* RFC 9110 10.1.1: ignored from a 1.0 client */
    if (strcasecmp(value, "100-continue") != 0)
        return refuse(parser, 417, "the only expectation understood is 100-continue");
    parser->expects_continue = true;
    return true;
}

static bool take_known_field(struct http1_parser *parser, const char *name, const char *value)
{
    static const struct {
        const char *name;
        bool (*take)(struct http1_parser *parser, const char *value);
    } known[] = {
        {"host", take_host},
        {"content-length", take_content_length},
        {"transfer-encoding", take_transfer_encoding},
        {"connection", take_connection},
        {"expect", take_expect},
    };

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(name, known[i].name) == 0)
            return known[i].take(parser, value);
    return true;
}

static bool take_field(struct http1_parser *parser, char *line, size_t length)
{
    char *colon = memchr(line, ':', length);
    char *value;
    char *end = line + length;

    if (line[0] == ' ' || line[0] == '\t')
        return refuse(parser, 400, "a field is folded over several lines");
    if (colon == NULL || !http1_is_token(line, (size_t)(colon - line)))
        return refuse(parser, 400, "a field has no valid name");
    if (parser->field_count == HTTP1_FIELDS_MAX)
        return refuse(parser, 431, "there are too many fields");
    for (char *c = line; c < colon; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
    *colon = '\0';
    value = colon + 1;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *end = '\0'; /* at the latest the CR of the line */
    if (!http1_is_value(value, (size_t)(end - value)))
        return refuse(parser, 400, "a field has a control character in its value");
    parser->fields[parser->field_count++] = (struct http1_field){
        .name = (uint16_t)(line - parser->head.data),
        .value = (uint16_t)(value - parser->head.data),
    };
    return take_known_field(parser, line, value);
}

static bool take_blank_line(struct http1_parser *parser)
{
    if (parser->minor_version == 1 && !parser->has_host)
        return refuse(parser, 400, "there is no Host field");
    if (parser->has_length && parser->has_coding)
        return refuse(parser, 400, "there are both Content-Length and Transfer-Encoding");
    if (parser->minor_version == 0 && parser->has_coding)
        return refuse(parser, 400, "HTTP/1.0 has no Transfer-Encoding");
    parser->keep_alive =
        !parser->saw_close && (parser->minor_version == 1 || parser->saw_keep_alive);
    parser->left = parser->content_length;
    parser->state = BODY_START;
    return true;
}

/* ---- lines of the head ---- */

/* A whole line, its LF last, is at line_start in the head. */
static bool take_line(struct http1_parser *parser)
{
    char *line = parser->head.data + parser->line_start;
    size_t length = parser->head.length - parser->line_start;

    if (length < 2 || line[length - 2] != '\r')
        return refuse(parser, 400, "a line ends with a bare LF");
    length -= 2;
    if (memchr(line, '\r', length) != NULL)
        return refuse(parser, 400, "there is a CR inside a line");
    parser->line_start = parser->head.length;
    if (parser->state == FIELDS)
        return length == 0 ? take_blank_line(parser) : take_field(parser, line, length);
    if (length > 0)
        return take_request_line(parser, line, length);
    if (parser->skipped_blank)
        return refuse(parser, 400, "the request starts with blank lines");
    parser->skipped_blank = true; /* RFC 9112 2.2: some old clients end a body with one */
    return true;
}

static struct http1_step feed_head(struct http1_parser *parser, const uint8_t *bytes, size_t length)
{
    size_t used = 0;

    while (parser->state <= FIELDS && used < length) {
        const uint8_t *end = memchr(bytes + used, '\n', length - used);
        size_t piece = end != NULL ? (size_t)(end - bytes) + 1 - used : length - used;

        td_buf_append(&parser->head, bytes + used, piece);
        used += piece;
        if (parser->head.status == TD_NO_MEMORY)
            refuse(parser, 503, "out of memory");
        else if (parser->head.status != TD_OK)
            refuse(parser, parser->state == REQUEST_LINE ? 414 : 431, "the head is too large");
        else if (end != NULL)
            take_line(parser);
    }
    if (parser->state <= FIELDS)
        return (struct http1_step){.event = HTTP1_MORE, .used = used};
    return (struct http1_step){.event = parser->state == BROKEN ? HTTP1_BAD : HTTP1_HEAD,
                               .used = used};
}

/* ---- chunks and trailers, a byte at a time ---- */

static bool take_size_byte(struct http1_parser *parser, uint8_t c)
{
    int digit = td_hex_value((char)c);

    if (digit >= 0) {
        if (parser->size_digits++ == CHUNK_SIZE_DIGITS)
            return refuse(parser, 400, "a chunk size is too long");
        parser->left = parser->left * 16 + (uint64_t)digit;
        return true;
    }
    if (parser->size_digits == 0 || (c != ';' && c != '\r'))
        return refuse(parser, 400, "a chunk size is not hexadecimal");
    parser->state = c == ';' ? CHUNK_EXTENSION : CHUNK_SIZE_LF;
    return true;
}

static bool take_extension_byte(struct http1_parser *parser, uint8_t c)
{
    if (c == '\r') {
        parser->state = CHUNK_SIZE_LF;
        return true;
    }
    if (!is_value_char(c))
        return refuse(parser, 400, "a chunk extension has a control character");
    if (++parser->extension_bytes > HTTP1_EXTENSION_BYTES_MAX)
        return refuse(parser, 400, "the chunk extensions are too long");
    return true;
}

static bool take_trailer_byte(struct http1_parser *parser, uint8_t c)
{
    if (++parser->trailer_bytes > HTTP1_TRAILER_BYTES_MAX)
        return refuse(parser, 431, "the trailer is too large");
    if (parser->state == TRAILER_START && c == '\r')
        parser->state = LAST_LF;
    else if (parser->state == TRAILER_NAME && c == ':')
        parser->state = TRAILER_VALUE;
    else if (parser->state == TRAILER_VALUE && c == '\r')
        parser->state = TRAILER_LF;
    else if (parser->state == TRAILER_VALUE && is_value_char(c))
        return true;
    else if (parser->state != TRAILER_VALUE && is_token_char(c))
        parser->state = TRAILER_NAME;
    else
        return refuse(parser, 400, "the trailer is malformed");
    return true;
}

/* A fixed byte that ends something. */
static bool take_expected(struct http1_parser *parser, uint8_t c, char expected, enum state next)
{
    if (c != (uint8_t)expected)
        return refuse(parser, 400, "a chunk does not end with CR and LF");
    parser->state = (uint8_t)next;
    return true;
}

static bool take_framing_byte(struct http1_parser *parser, uint8_t c)
{
    switch ((enum state)parser->state) {
    case CHUNK_SIZE: return take_size_byte(parser, c);
    case CHUNK_EXTENSION: return take_extension_byte(parser, c);
    case CHUNK_SIZE_LF:
        return take_expected(parser, c, '\n', parser->left > 0 ? CHUNK_DATA : TRAILER_START);
    case CHUNK_DATA_CR: return take_expected(parser, c, '\r', CHUNK_DATA_LF);
    case CHUNK_DATA_LF: parser->size_digits = 0; return take_expected(parser, c, '\n', CHUNK_SIZE);
    case TRAILER_LF: return take_expected(parser, c, '\n', TRAILER_START);
    case LAST_LF: return take_expected(parser, c, '\n', COMPLETE);
    default: return take_trailer_byte(parser, c);
    }
}

/* ---- bodies ---- */

static struct http1_step feed_content(struct http1_parser *parser, const uint8_t *bytes,
                                      size_t used, size_t length)
{
    size_t piece = length - used < parser->left ? length - used : (size_t)parser->left;

    parser->left -= piece;
    if (parser->left == 0)
        parser->state = parser->state == BODY_LENGTH ? COMPLETE : CHUNK_DATA_CR;
    return (struct http1_step){
        .event = HTTP1_BODY, .used = used + piece, .body = bytes + used, .body_length = piece};
}

static struct http1_step feed_body(struct http1_parser *parser, const uint8_t *bytes, size_t length)
{
    size_t used = 0;

    if (parser->state == BODY_START && parser->chunked)
        parser->state = CHUNK_SIZE;
    else if (parser->state == BODY_START)
        parser->state = parser->left > 0 ? BODY_LENGTH : COMPLETE;
    while (used < length && parser->state < COMPLETE) {
        if (parser->state == BODY_LENGTH || parser->state == CHUNK_DATA)
            return feed_content(parser, bytes, used, length);
        take_framing_byte(parser, bytes[used++]);
    }
    if (parser->state == BROKEN)
        return (struct http1_step){.event = HTTP1_BAD, .used = used};
    return (struct http1_step){.event = parser->state == COMPLETE ? HTTP1_END : HTTP1_MORE,
                               .used = used};
}

struct http1_step http1_feed(struct http1_parser *parser, const void *bytes, size_t length)
{
    if (parser->state <= FIELDS)
        return feed_head(parser, bytes, length);
    if (parser->state == BROKEN)
        return (struct http1_step){.event = HTTP1_BAD};
    return feed_body(parser, bytes, length);
}
