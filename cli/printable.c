/* printable.c: see printable.h. */
#include "cli/printable.h"

#include <string.h>

#define CONTROL_PICTURES 0x2400 /* U+2400 stands for U+0000, and so on to U+001F */
#define DELETE_PICTURE   0x2421

static uint32_t decode(const char *text, size_t length)
{
    static const unsigned char masks[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t code_point = (unsigned char)text[0] & masks[length];

    for (size_t i = 1; i < length; i++)
        code_point = code_point << 6 | ((unsigned char)text[i] & 0x3f);
    return code_point;
}

static bool is_unsafe(uint32_t code_point)
{
    bool is_c1 = code_point >= 0x80 && code_point < 0xa0;
    bool is_separator_or_embedding = code_point >= 0x2028 && code_point <= 0x202e;
    bool is_isolate = code_point >= 0x2066 && code_point <= 0x2069;

    return is_c1 || is_separator_or_embedding || is_isolate;
}

static void append_picture(uint32_t code_point, struct td_buf *out)
{
    char picture[TD_UTF8_BYTES_MAX];

    td_buf_append(out, picture, td_utf8_encode(code_point, picture));
}

static void append_character(const char *text, size_t length, struct td_buf *out)
{
    uint32_t code_point = decode(text, length);

    if (code_point == '\n' || code_point == '\t')
        td_buf_append_char(out, (char)code_point);
    else if (code_point < 0x20)
        append_picture(CONTROL_PICTURES + code_point, out);
    else if (code_point == 0x7f)
        append_picture(DELETE_PICTURE, out);
    else if (is_unsafe(code_point))
        td_buf_append_text(out, TD_UTF8_REPLACEMENT);
    else
        td_buf_append(out, text, length);
}

/* Whether more bytes may make a character of these. */
static bool is_beginning(const char *text, size_t length)
{
    /* the smallest and the largest tails: what neither completes is malformed already */
    static const char low[] = "\x80\x80\x80";
    static const char high[] = "\xbf\xbf\xbf";
    char whole[2 * TD_UTF8_BYTES_MAX];

    if (length >= TD_UTF8_BYTES_MAX)
        return false;
    memcpy(whole, text, length);
    memcpy(whole + length, low, 3);
    if (td_utf8_character(whole, length + 3) > length)
        return true;
    memcpy(whole + length, high, 3);
    return td_utf8_character(whole, length + 3) > length;
}

/* Takes characters off the start of text; returns how many bytes must wait for more. */
static size_t take(const char *text, size_t length, bool at_end, struct td_buf *out)
{
    while (length > 0) {
        size_t character = td_utf8_character(text, length);

        if (text[0] == '\r' && length == 1 && !at_end)
            break;
        if (text[0] == '\r' && length > 1 && text[1] == '\n') {
            character = 1; /* the newline follows */
        } else if (character > 0) {
            append_character(text, character, out);
        } else if (!at_end && is_beginning(text, length)) {
            break;
        } else {
            td_buf_append_text(out, TD_UTF8_REPLACEMENT);
            character = 1;
        }
        text += character;
        length -= character;
    }
    return length;
}

void cli_printable_feed(struct cli_printable *printable, const char *bytes, size_t length,
                        struct td_buf *out)
{
    size_t left;

    while (printable->held_count > 0 && length > 0) { /* byte by byte until it is decided */
        char joined[TD_UTF8_BYTES_MAX];
        size_t count = printable->held_count;

        memcpy(joined, printable->held, count);
        joined[count++] = *bytes++;
        length--;
        left = take(joined, count, false, out);
        memmove(printable->held, joined + count - left, left);
        printable->held_count = left;
    }
    left = take(bytes, length, false, out);
    if (left > 0) {
        memcpy(printable->held, bytes + length - left, left);
        printable->held_count = left;
    }
}

void cli_printable_end(struct cli_printable *printable, struct td_buf *out)
{
    take(printable->held, printable->held_count, true, out);
    printable->held_count = 0;
}

const char *cli_printable_line(const char *text, char *out, size_t size)
{
    struct cli_printable printable = {0};
    struct td_buf line;
    size_t length;

    td_buf_init(&line, 4 * strlen(text) + 16);
    cli_printable_feed(&printable, text, strlen(text), &line);
    cli_printable_end(&printable, &line);
    length = line.status == TD_OK ? line.length : 0;
    if (length > size - 1)
        length = td_utf8_valid_prefix(line.data, size - 1);
    if (length > 0)
        memcpy(out, line.data, length);
    out[length] = '\0';
    for (char *c = out; *c != '\0'; c++)
        if (*c == '\n' || *c == '\t')
            *c = ' ';
    td_buf_fini(&line);
    return out;
}
