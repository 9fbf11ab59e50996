/* template_lexer.c: Jinja's lexical rules by hand, see template_lexer.h. */
#include "lib/text/template_lexer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/utf8.h"
#include "lib/text/unicode.h"

#define NESTING_MAX 64 /* of ( [ { in one tag */

struct lexer {
    const char *text; /* newlines normalised */
    size_t length;
    size_t at;
    size_t line_start; /* where the present line begins */
    uint32_t line;
    bool line_starting; /* the last tag took a newline with it, or nothing came before */
    struct td_arena *keep;
    struct td_arena *scratch;
    struct lexeme *items;
    uint32_t count;
    uint32_t capacity;
    char closers[NESTING_MAX];
    uint32_t nesting;
    td_status_t status;
    struct td_error *error;
};

static void lex_fail(struct lexer *lexer, td_status_t status, const char *format, ...)
    TD_PRINTF(3, 4);

static uint32_t column_of(const struct lexer *lexer)
{
    return (uint32_t)(lexer->at - lexer->line_start) + 1;
}

/* Notes the first failure, with the present place in front. */
static void lex_fail(struct lexer *lexer, td_status_t status, const char *format, ...)
{
    char text[200];
    va_list arguments;

    if (lexer->status != TD_OK)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    lexer->status = td_fail(lexer->error, status, "line %u, column %u: %s", lexer->line,
                            column_of(lexer), text);
}

static void add(struct lexer *lexer, struct lexeme lexeme)
{
    if (lexer->status != TD_OK)
        return;
    if (lexer->count == lexer->capacity) {
        uint32_t capacity = lexer->capacity == 0 ? 256 : lexer->capacity * 2;
        struct lexeme *items = td_arena_array(lexer->scratch, capacity, sizeof *items);

        if (items == NULL) {
            lex_fail(lexer, TD_LIMIT, "the template is too large");
            return;
        }
        if (lexer->count > 0)
            memcpy(items, lexer->items, lexer->count * sizeof *items);
        lexer->items = items;
        lexer->capacity = capacity;
    }
    lexer->items[lexer->count++] = lexeme;
}

static void add_text(struct lexer *lexer, enum lexeme_kind kind, const char *text, size_t length)
{
    add(lexer, (struct lexeme){.kind = kind,
                               .line = lexer->line,
                               .column = column_of(lexer),
                               .text = td_span_over(text, length)});
}

/* Goes on to `to`, counting lines. */
static void move_to(struct lexer *lexer, size_t to)
{
    for (; lexer->at < to; lexer->at++)
        if (lexer->text[lexer->at] == '\n') {
            lexer->line++;
            lexer->line_start = lexer->at + 1;
        }
}

static bool looking_at(const struct lexer *lexer, const char *text)
{
    size_t length = strlen(text);

    return lexer->length - lexer->at >= length &&
           memcmp(lexer->text + lexer->at, text, length) == 0;
}

/* The bytes of the whitespace character at `at`, or 0. */
static size_t space_at(const struct lexer *lexer, size_t at)
{
    size_t taken;

    if (at >= lexer->length)
        return 0;
    return text_is_python_space(
               text_utf8_decode((const uint8_t *)lexer->text + at, lexer->length - at, &taken))
               ? taken
               : 0;
}

static size_t skip_space(const struct lexer *lexer, size_t at)
{
    for (size_t taken = space_at(lexer, at); taken > 0; taken = space_at(lexer, at))
        at += taken;
    return at;
}

/* ------------------------------------------------------------------------------------------- */
/* Text between tags */

/* Where the next {{, {% or {# stands, or the end. */
static size_t next_tag(const struct lexer *lexer, size_t at)
{
    for (; at + 1 < lexer->length; at++)
        if (lexer->text[at] == '{' && strchr("{%#", lexer->text[at + 1]) != NULL &&
            lexer->text[at + 1] != '\0')
            return at;
    return lexer->length;
}

/* The end of [start, end) without the whitespace it ends with. */
static size_t strip_right(const struct lexer *lexer, size_t start, size_t end)
{
    size_t kept = start;

    for (size_t at = start; at < end;) {
        size_t taken = space_at(lexer, at);

        at += taken > 0 ? taken : 1;
        if (taken == 0)
            kept = at;
    }
    return kept;
}

/* lstrip_blocks: the end of [start, end) without blanks since the last newline, if only blanks are there. */
static size_t strip_indent(const struct lexer *lexer, size_t start, size_t end)
{
    size_t line = end;

    while (line > start && lexer->text[line - 1] != '\n')
        line--;
    if (line == start && !lexer->line_starting)
        return end;
    return skip_space(lexer, line) >= end ? line : end;
}

/* Adds the text up to the tag at `tag`, stripped as the tag's sign says. */
static void lex_data(struct lexer *lexer, size_t tag)
{
    size_t start = lexer->at;
    size_t end = tag;
    char sign = tag + 2 < lexer->length ? lexer->text[tag + 2] : '\0';

    if (tag < lexer->length && sign == '-')
        end = strip_right(lexer, start, end);
    else if (tag < lexer->length && sign != '+' && lexer->text[tag + 1] != '{')
        end = strip_indent(lexer, start, end);
    if (end > start)
        add_text(lexer, LEXEME_DATA, lexer->text + start, end - start);
    move_to(lexer, tag);
}

/* Behind a closing tag of `sign`: - takes all whitespace, otherwise trim_blocks takes one newline. */
static void end_tag(struct lexer *lexer, char sign, bool trims_newline)
{
    size_t to = lexer->at;

    if (sign == '-')
        to = skip_space(lexer, to);
    else if (sign != '+' && trims_newline && to < lexer->length && lexer->text[to] == '\n')
        to++;
    lexer->line_starting = to > lexer->at && lexer->text[to - 1] == '\n';
    move_to(lexer, to);
}

static void lex_comment(struct lexer *lexer)
{
    size_t content = lexer->at + 2;
    const char *end;
    char sign;

    if (content < lexer->length && strchr("-+", lexer->text[content]) != NULL &&
        lexer->text[content] != '\0')
        content++;
    end = content < lexer->length ? memmem(lexer->text + content, lexer->length - content, "#}", 2)
                                  : NULL;
    if (end == NULL) {
        lex_fail(lexer, TD_INVALID, "the comment is not closed");
        return;
    }
    sign = end > lexer->text + content ? end[-1] : '\0';
    move_to(lexer, (size_t)(end - lexer->text) + 2);
    end_tag(lexer, sign, true);
}

/* ------------------------------------------------------------------------------------------- */
/* Inside tags */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_name_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static size_t skip_digits(const struct lexer *lexer, size_t at)
{
    while (at < lexer->length && is_digit(lexer->text[at]))
        at++;
    return at;
}

static void lex_number(struct lexer *lexer)
{
    const char *text = lexer->text;
    size_t end = skip_digits(lexer, lexer->at);
    struct lexeme lexeme = {
        .kind = LEXEME_INTEGER, .line = lexer->line, .column = column_of(lexer)};
    size_t exponent;
    char *copy;

    if (end + 1 < lexer->length && text[end] == '.' && is_digit(text[end + 1])) {
        lexeme.kind = LEXEME_FLOAT;
        end = skip_digits(lexer, end + 1);
    }
    exponent = end;
    if (end < lexer->length && (text[end] == 'e' || text[end] == 'E')) {
        exponent++;
        if (exponent < lexer->length && (text[exponent] == '+' || text[exponent] == '-'))
            exponent++;
    }
    if (exponent > end && exponent < lexer->length && is_digit(text[exponent])) {
        lexeme.kind = LEXEME_FLOAT;
        end = skip_digits(lexer, exponent);
    }
    copy = td_arena_text(lexer->scratch, text + lexer->at, end - lexer->at);
    if (copy == NULL) {
        lex_fail(lexer, TD_LIMIT, "the template is too large");
        return;
    }
    if ((end < lexer->length && is_name_start(text[end])) ||
        (lexeme.kind == LEXEME_INTEGER && copy[0] == '0' && strspn(copy, "0") != strlen(copy))) {
        lex_fail(lexer, TD_UNSUPPORTED, "numbers are decimal here, not '%.20s...'", copy);
        return;
    }
    errno = 0;
    if (lexeme.kind == LEXEME_FLOAT)
        lexeme.number = strtod(copy, NULL);
    else
        lexeme.integer = strtoll(copy, NULL, 10);
    if (errno != 0) {
        lex_fail(lexer, TD_UNSUPPORTED, "the number %.30s is out of range", copy);
        return;
    }
    add(lexer, lexeme);
    move_to(lexer, end);
}

static int hex_digit(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* \xHH, \uHHHH and \UHHHHHHHH: `digits` of them from `at`; a character, or -1. */
static int64_t escaped_character(const char *text, size_t length, size_t at, size_t digits)
{
    int64_t character = 0;

    if (length - at < digits)
        return -1;
    for (size_t i = 0; i < digits; i++) {
        int digit = hex_digit(text[at + i]);

        if (digit < 0)
            return -1;
        character = character << 4 | digit;
    }
    return character > 0x10FFFF || (character >= 0xD800 && character <= 0xDFFF) ? -1 : character;
}

/*
 * Resolves the escape at text[at] (behind the backslash) into out and returns how many bytes of text it
 * took; 0: it is wrong, or not known here.
 */
static size_t unescape(const char *text, size_t length, size_t at, char *out, size_t *out_length)
{
    static const char names[] = "abfnrtv\\'\"";
    static const char values[] = "\a\b\f\n\r\t\v\\'\"";
    const char *name = text[at] == '\0' ? NULL : strchr(names, text[at]);
    size_t digits = text[at] == 'x' ? 2 : text[at] == 'u' ? 4 : text[at] == 'U' ? 8 : 0;

    if (text[at] == '\n') /* a continued line */
        return 1;
    if (name != NULL) {
        out[(*out_length)++] = values[name - names];
        return 1;
    }
    if (digits > 0) {
        int64_t character = escaped_character(text, length, at + 1, digits);

        if (character < 0)
            return 0;
        *out_length += td_utf8_encode((uint32_t)character, out + *out_length);
        return 1 + digits;
    }
    if (is_digit(text[at]) || text[at] == 'N') /* octal and named characters: nobody writes them */
        return 0;
    out[(*out_length)++] = '\\'; /* not an escape: as in Python, the backslash stays */
    out[(*out_length)++] = text[at];
    return 1;
}

static void lex_string(struct lexer *lexer)
{
    const char *text = lexer->text;
    char quote = text[lexer->at];
    size_t end = lexer->at + 1;
    size_t out_length = 0;
    char *out;

    while (end < lexer->length && text[end] != quote)
        end += text[end] == '\\' ? 2 : 1;
    if (end >= lexer->length) {
        lex_fail(lexer, TD_INVALID, "the string is not closed");
        return;
    }
    out = td_arena_alloc(lexer->keep, end - lexer->at + 4);
    if (out == NULL) {
        lex_fail(lexer, TD_LIMIT, "the template is too large");
        return;
    }
    for (size_t at = lexer->at + 1; at < end;) {
        size_t taken;

        if (text[at] != '\\') {
            out[out_length++] = text[at++];
            continue;
        }
        taken = unescape(text, end, at + 1, out, &out_length);
        if (taken == 0) {
            lex_fail(lexer, TD_UNSUPPORTED, "the escape '\\%c' is wrong or not known",
                     text[at + 1]);
            return;
        }
        at += 1 + taken;
    }
    add_text(lexer, LEXEME_STRING, out, out_length);
    move_to(lexer, end + 1);
}

static void lex_name(struct lexer *lexer)
{
    size_t end = lexer->at + 1;

    while (end < lexer->length && (is_name_start(lexer->text[end]) || is_digit(lexer->text[end])))
        end++;
    add_text(lexer, LEXEME_NAME, lexer->text + lexer->at, end - lexer->at);
    move_to(lexer, end);
}

/* Keeps count of brackets: inside them }} and %} are not the end of the tag. */
static void note_bracket(struct lexer *lexer, char c)
{
    static const char openers[] = "([{";
    static const char closers[] = ")]}";
    const char *opener = strchr(openers, c);

    if (opener != NULL) {
        if (lexer->nesting == NESTING_MAX)
            lex_fail(lexer, TD_LIMIT, "more than %d brackets inside each other", NESTING_MAX);
        else
            lexer->closers[lexer->nesting++] = closers[opener - openers];
        return;
    }
    if (strchr(closers, c) == NULL)
        return;
    if (lexer->nesting == 0 || lexer->closers[lexer->nesting - 1] != c)
        lex_fail(lexer, TD_INVALID, "unexpected '%c'", c);
    else
        lexer->nesting--;
}

static void lex_operator(struct lexer *lexer)
{
    static const char *const operators[] = {"//", "**", "==", "!=", ">=", "<="};
    char c = lexer->text[lexer->at];

    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++)
        if (looking_at(lexer, operators[i])) {
            add_text(lexer, LEXEME_OPERATOR, lexer->text + lexer->at, 2);
            move_to(lexer, lexer->at + 2);
            return;
        }
    if (c == '\0' || strchr("+-*/%~[](){}<>=.:|,", c) == NULL) {
        lex_fail(lexer, TD_INVALID, "unexpected character 0x%02x", (unsigned)(uint8_t)c);
        return;
    }
    note_bracket(lexer, c);
    add_text(lexer, LEXEME_OPERATOR, lexer->text + lexer->at, 1);
    move_to(lexer, lexer->at + 1);
}

/* Ends the tag if its end stands here; closer is "}}" or "%}". */
static bool lex_tag_end(struct lexer *lexer, const char *closer, bool is_block)
{
    char sign = lexer->text[lexer->at];
    size_t skip = sign == '-' || (sign == '+' && is_block) ? 1 : 0;

    lexer->at += skip;
    if (lexer->nesting > 0 || !looking_at(lexer, closer)) {
        lexer->at -= skip;
        return false;
    }
    add_text(lexer, is_block ? LEXEME_BLOCK_END : LEXEME_PRINT_END, closer, 2);
    move_to(lexer, lexer->at + 2);
    end_tag(lexer, skip > 0 ? sign : '\0', is_block);
    return true;
}

static void lex_tag(struct lexer *lexer)
{
    bool is_block = lexer->text[lexer->at + 1] == '%';
    const char *closer = is_block ? "%}" : "}}";
    size_t begin = lexer->at;
    size_t line_start = lexer->line_start;
    uint32_t line = lexer->line;

    add_text(lexer, is_block ? LEXEME_BLOCK_BEGIN : LEXEME_PRINT_BEGIN, lexer->text + lexer->at, 2);
    move_to(lexer, lexer->at + 2);
    if (looking_at(lexer, "-") || looking_at(lexer, "+"))
        move_to(lexer, lexer->at + 1);
    lexer->nesting = 0;
    while (lexer->status == TD_OK) {
        char c;

        move_to(lexer, skip_space(lexer, lexer->at));
        if (lexer->at >= lexer->length) {
            lexer->at = begin;
            lexer->line = line;
            lexer->line_start = line_start;
            lex_fail(lexer, TD_INVALID, "the tag is not closed");
            return;
        }
        if (lex_tag_end(lexer, closer, is_block))
            return;
        c = lexer->text[lexer->at];
        if (is_digit(c))
            lex_number(lexer);
        else if (is_name_start(c))
            lex_name(lexer);
        else if (c == '\'' || c == '"')
            lex_string(lexer);
        else
            lex_operator(lexer);
    }
}

/* ------------------------------------------------------------------------------------------- */

/*
 * Whether {% word %} stands at `at`, with the signs that Jinja allows in it. sign_out: the one before the closing %}
 * or 0; end_out: behind it.
 */
static bool is_word_tag(const struct lexer *lexer, size_t at, const char *word, char *sign_out,
                        size_t *end_out)
{
    size_t length = strlen(word);

    if (lexer->length - at < 2 || memcmp(lexer->text + at, "{%", 2) != 0)
        return false;
    at += 2;
    at += at < lexer->length && (lexer->text[at] == '-' || lexer->text[at] == '+');
    at = skip_space(lexer, at);
    if (lexer->length - at < length || memcmp(lexer->text + at, word, length) != 0)
        return false;
    at = skip_space(lexer, at + length);
    *sign_out = '\0';
    if (at < lexer->length && (lexer->text[at] == '-' || lexer->text[at] == '+'))
        *sign_out = lexer->text[at++];
    *end_out = at + 2;
    return lexer->length - at >= 2 && memcmp(lexer->text + at, "%}", 2) == 0;
}

/* {% raw %}: what stands up to {% endraw %} is text. False: something else stands here. */
static bool lex_raw(struct lexer *lexer)
{
    char sign;
    size_t end;
    size_t tag;

    if (!is_word_tag(lexer, lexer->at, "raw", &sign, &end) || sign == '+')
        return false;
    for (tag = end; tag < lexer->length; tag++) {
        char end_sign;
        size_t behind;

        if (!is_word_tag(lexer, tag, "endraw", &end_sign, &behind))
            continue;
        move_to(lexer, end);
        end_tag(lexer, sign, false);
        lex_data(lexer, tag);
        move_to(lexer, behind);
        end_tag(lexer, end_sign, true);
        return true;
    }
    lex_fail(lexer, TD_INVALID, "'endraw' is missing");
    return true;
}

/* A copy with LF for each CR LF and CR, and without one newline at the end. */
static bool normalize(struct lexer *lexer, struct td_span source)
{
    char *out = td_arena_alloc(lexer->keep, source.length + 1);

    if (out == NULL) {
        lex_fail(lexer, TD_LIMIT, "the template is too large");
        return false;
    }
    for (size_t i = 0; i < source.length; i++) {
        char c = source.bytes[i];

        if (c == '\r' && i + 1 < source.length && source.bytes[i + 1] == '\n')
            continue;
        out[lexer->length++] = c == '\r' ? '\n' : c;
    }
    if (lexer->length > 0 && out[lexer->length - 1] == '\n')
        lexer->length--;
    lexer->text = out;
    return true;
}

td_status_t text_lex(struct td_span source, struct td_arena *keep, struct td_arena *scratch,
                     struct lexemes *lexemes_out, struct td_error *error)
{
    struct lexer lexer = {
        .line = 1, .line_starting = true, .keep = keep, .scratch = scratch, .error = error};

    if (!normalize(&lexer, source))
        return lexer.status;
    while (lexer.status == TD_OK && lexer.at < lexer.length) {
        lex_data(&lexer, next_tag(&lexer, lexer.at));
        if (lexer.at == lexer.length)
            break;
        if (lexer.text[lexer.at + 1] == '#')
            lex_comment(&lexer);
        else if (!lex_raw(&lexer))
            lex_tag(&lexer);
    }
    add(&lexer,
        (struct lexeme){.kind = LEXEME_END, .line = lexer.line, .column = column_of(&lexer)});
    if (lexer.status == TD_OK)
        *lexemes_out = (struct lexemes){lexer.items, lexer.count};
    return lexer.status;
}
