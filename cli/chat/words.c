/* words.c: see words.h. */
#include "cli/chat/words.h"

#include <string.h>

#include "lib/base/nearest.h"

#define QUOTES       "\"\"\""
#define QUOTES_BYTES 3

static const struct {
    const char *name;
    const char *argument;
    const char *text;
} commands[] = {
#define X(id, name, argument, text) [CHAT_##id] = {name, argument, text},
    CHAT_COMMANDS_MAP(X)
#undef X
};

#define FIRST_COMMAND (CHAT_UNKNOWN + 1)

static enum chat_word find(const char *name, size_t length)
{
    for (size_t i = FIRST_COMMAND; i < CHAT_WORD_COUNT; i++)
        if (strlen(commands[i].name) == length && memcmp(commands[i].name, name, length) == 0)
            return (enum chat_word)i;
    return CHAT_UNKNOWN;
}

struct chat_line chat_line_read(char *line)
{
    struct chat_line result = {CHAT_MESSAGE, line};
    size_t length = strlen(line);
    size_t name_length;

    while (length > 0 && strchr(" \t\r\n", line[length - 1]) != NULL)
        line[--length] = '\0';
    if (length == 0)
        result.word = CHAT_NOTHING;
    if (line[0] != '/')
        return result;
    result.text++;
    if (line[1] == '/') /* typed with two to mean one */
        return result;
    name_length = strcspn(result.text, " \t");
    result.word = find(result.text, name_length);
    if (result.word != CHAT_UNKNOWN) {
        result.text += name_length;
        result.text += strspn(result.text, " \t");
    }
    return result;
}

const char *chat_command_matching(const char *beginning, size_t length, size_t *next)
{
    for (size_t i = FIRST_COMMAND + *next; i < CHAT_WORD_COUNT; i++) {
        ++*next;
        if (strncmp(commands[i].name, beginning, length) == 0)
            return commands[i].name;
    }
    return NULL;
}

const char *chat_command_nearest(const char *name)
{
    struct td_nearest nearest = {0};

    for (size_t i = FIRST_COMMAND; i < CHAT_WORD_COUNT; i++)
        td_nearest_offer(&nearest, name, commands[i].name);
    return nearest.name;
}

void chat_commands_print(struct td_buf *out)
{
    for (size_t i = FIRST_COMMAND; i < CHAT_WORD_COUNT; i++) {
        size_t start = out->length;
        size_t used;

        td_buf_printf(out, "  /%s %s", commands[i].name, commands[i].argument);
        used = out->length - start;
        td_buf_printf(out, "%*s%s\n", used < 22 ? (int)(22 - used) : 1, "", commands[i].text);
    }
}

/* ---- messages of several lines ---- */

void chat_multi_open(struct chat_multi *multi)
{
    td_buf_clear(&multi->text);
    multi->is_open = true;
}

static td_status_t finish(struct chat_multi *multi)
{
    td_status_t status = multi->text.status;

    multi->is_open = false;
    if (status != TD_OK)
        td_buf_clear(&multi->text);
    return status;
}

td_status_t chat_multi_add(struct chat_multi *multi, const char *line, size_t length)
{
    bool was_open = multi->is_open;
    bool ends;

    if (!was_open) {
        td_buf_clear(&multi->text);
        if (length < QUOTES_BYTES || memcmp(line, QUOTES, QUOTES_BYTES) != 0) {
            td_buf_append(&multi->text, line, length);
            return finish(multi);
        }
        multi->is_open = true;
        line += QUOTES_BYTES;
        length -= QUOTES_BYTES;
    }
    ends =
        length >= QUOTES_BYTES && memcmp(line + length - QUOTES_BYTES, QUOTES, QUOTES_BYTES) == 0;
    td_buf_append(&multi->text, line, length - (ends ? QUOTES_BYTES : 0));
    if (ends || multi->text.status != TD_OK)
        return finish(multi);
    if (was_open || length > 0) /* nothing behind the opening quotes is no line */
        td_buf_append_char(&multi->text, '\n');
    return TD_AGAIN;
}
