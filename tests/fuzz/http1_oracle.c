/* http1_oracle.c: see http1_oracle.h. */
#include "tests/fuzz/http1_oracle.h"

#ifndef TANDEM_HTTP_PARSER

bool http1_oracle_parse(const uint8_t *data, size_t size, struct http1_texts *texts)
{
    (void)data;
    (void)size;
    (void)texts;
    return false;
}

#else

#include <assert.h>
#include <http_parser.h>

enum place {
    IN_TARGET,
    IN_NAME,
    IN_VALUE,
    AFTER_HEAD,
};

struct oracle {
    struct http1_texts *texts;
    struct td_buf field; /* "name: value" being collected */
    size_t value_start;  /* in field */
    enum place place;
};

static int on_target(http_parser *parser, const char *text, size_t length)
{
    struct oracle *oracle = parser->data;

    if (oracle->place != IN_TARGET || oracle->field.length == 0)
        td_buf_printf(&oracle->field, "%s ", http_method_str((enum http_method)parser->method));
    oracle->place = IN_TARGET;
    td_buf_append(&oracle->field, text, length);
    return 0;
}

/* The request line or a field is complete. */
static void end_line(struct oracle *oracle)
{
    struct td_buf *field = &oracle->field;
    size_t length = field->length;

    /* spaces behind a value */
    while (oracle->place == IN_VALUE && length > oracle->value_start &&
           (field->data[length - 1] == ' ' || field->data[length - 1] == '\t'))
        length--;
    if (oracle->place != AFTER_HEAD && length > 0) {
        td_buf_append(&oracle->texts->heads, field->data, length);
        td_buf_append_char(&oracle->texts->heads, '\n');
    }
    td_buf_clear(field);
}

static int on_name(http_parser *parser, const char *text, size_t length)
{
    struct oracle *oracle = parser->data;

    if (oracle->place == AFTER_HEAD)
        return 0; /* a trailer */
    if (oracle->place != IN_NAME)
        end_line(oracle);
    oracle->place = IN_NAME;
    for (size_t i = 0; i < length; i++) {
        bool upper = text[i] >= 'A' && text[i] <= 'Z';

        td_buf_append_char(&oracle->field, (char)(upper ? text[i] - 'A' + 'a' : text[i]));
    }
    return 0;
}

static int on_value(http_parser *parser, const char *text, size_t length)
{
    struct oracle *oracle = parser->data;

    if (oracle->place == AFTER_HEAD)
        return 0;
    if (oracle->place == IN_NAME) {
        td_buf_append_text(&oracle->field, ": ");
        oracle->value_start = oracle->field.length;
    }
    oracle->place = IN_VALUE;
    td_buf_append(&oracle->field, text, length);
    return 0;
}

static int on_head(http_parser *parser)
{
    struct oracle *oracle = parser->data;

    end_line(oracle);
    td_buf_append_char(&oracle->texts->heads, '\n');
    oracle->place = AFTER_HEAD;
    parser->upgrade = 0; /* we never change the protocol, so a body is a body */
    return 0;
}

static int on_body(http_parser *parser, const char *text, size_t length)
{
    struct oracle *oracle = parser->data;

    td_buf_append(&oracle->texts->bodies, text, length);
    return 0;
}

static int on_complete(http_parser *parser)
{
    struct oracle *oracle = parser->data;

    td_buf_append_text(&oracle->texts->bodies, HTTP1_END_MARK);
    oracle->texts->requests++;
    return 0;
}

/*
 * http-parser 2.9 takes a field whose name only begins with "Transfer-Encoding" for a transfer coding
 * that it cannot read. Then it has no opinion.
 */
static bool is_its_own_mistake(const http_parser *parser, const struct http1_texts *texts)
{
    static const char name[] = "\ntransfer-encoding";
    const char *found = texts->heads.data;

    if (HTTP_PARSER_ERRNO(parser) != HPE_INVALID_TRANSFER_ENCODING &&
        HTTP_PARSER_ERRNO(parser) != HPE_UNEXPECTED_CONTENT_LENGTH)
        return false;
    while (found != NULL && (found = strstr(found, name)) != NULL) {
        found += strlen(name);
        if (*found != ':')
            return true;
    }
    return false;
}

bool http1_oracle_parse(const uint8_t *data, size_t size, struct http1_texts *texts)
{
    static const http_parser_settings settings = {
        .on_url = on_target,
        .on_header_field = on_name,
        .on_header_value = on_value,
        .on_headers_complete = on_head,
        .on_body = on_body,
        .on_message_complete = on_complete,
    };
    struct oracle oracle = {.texts = texts, .place = AFTER_HEAD};
    http_parser parser;
    size_t used;

    td_buf_init(&oracle.field, HTTP1_TEXTS_BYTES_MAX);
    http_parser_init(&parser, HTTP_REQUEST);
    parser.data = &oracle;
    used = http_parser_execute(&parser, &settings, (const char *)data, size);
    end_line(&oracle); /* the one at which it stopped */
    td_buf_fini(&oracle.field);
    if (is_its_own_mistake(&parser, texts))
        return false;
    assert(HTTP_PARSER_ERRNO(&parser) == HPE_OK && "what we accept, the other parser refuses");
    assert(used == size);
    return true;
}

#endif
