/* history.c: messages and the request that they make, see history.h. */
#include "cli/chat/history.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void chat_history_init(struct chat_history *history)
{
    *history = (struct chat_history){0};
}

void chat_history_reset(struct chat_history *history)
{
    for (size_t i = 0; i < history->count; i++)
        free(history->messages[i].text);
    history->count = 0;
    history->bytes = 0;
}

void chat_history_fini(struct chat_history *history)
{
    chat_history_reset(history);
    free(history->messages);
    free(history->system);
    chat_history_init(history);
}

static void drop_last(struct chat_history *history)
{
    struct chat_message *message = &history->messages[--history->count];

    history->bytes -= message->length;
    free(message->text);
}

static bool ends_with(const struct chat_history *history, enum chat_role role)
{
    return history->count > 0 && history->messages[history->count - 1].role == role;
}

static td_status_t make_room(struct chat_history *history, struct td_error *error)
{
    size_t capacity = history->capacity > 0 ? 2 * history->capacity : 16;
    struct chat_message *messages;

    if (history->count < history->capacity)
        return TD_OK;
    messages = realloc(history->messages, capacity * sizeof *messages);
    if (messages == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for another message");
    history->messages = messages;
    history->capacity = capacity;
    return TD_OK;
}

td_status_t chat_history_add(struct chat_history *history, enum chat_role role, const char *text,
                             size_t length, struct td_error *error)
{
    td_status_t status;
    char *copy;

    if (history->count >= CHAT_MESSAGES_MAX || length > CHAT_BYTES_MAX - history->bytes)
        return td_fail(error, TD_LIMIT,
                       "the chat is longer than %d messages or %zu MiB: /save it and /reset",
                       CHAT_MESSAGES_MAX, CHAT_BYTES_MAX >> 20);
    status = make_room(history, error);
    if (status != TD_OK)
        return status;
    copy = malloc(length + 1);
    if (copy == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for another message");
    memcpy(copy, text, length);
    copy[length] = '\0';
    if (role == CHAT_USER && ends_with(history, CHAT_USER))
        drop_last(history);
    history->messages[history->count++] = (struct chat_message){role, copy, length};
    history->bytes += length;
    return TD_OK;
}

td_status_t chat_history_set_system(struct chat_history *history, const char *text,
                                    struct td_error *error)
{
    char *copy = NULL;

    if (text != NULL && text[0] != '\0') {
        copy = strdup(text);
        if (copy == NULL)
            return td_fail(error, TD_NO_MEMORY, "no memory for the system prompt");
    }
    free(history->system);
    history->system = copy;
    return TD_OK;
}

bool chat_history_retry(struct chat_history *history)
{
    while (ends_with(history, CHAT_ASSISTANT))
        drop_last(history);
    return history->count > 0;
}

bool chat_history_undo(struct chat_history *history)
{
    if (!chat_history_retry(history))
        return false;
    drop_last(history);
    return true;
}

const struct chat_message *chat_history_last_question(const struct chat_history *history)
{
    for (size_t i = history->count; i > 0; i--)
        if (history->messages[i - 1].role == CHAT_USER)
            return &history->messages[i - 1];
    return NULL;
}

/* ---- settings ---- */

static const struct {
    const char *name;
    enum td_json_kind kind;
    const char *text;
} settings[] = {
#define X(name, kind, text) [CHAT_SETTING_##name] = {#name, TD_JSON_##kind, text},
    CHAT_SETTINGS_MAP(X)
#undef X
};

static td_status_t refuse_setting(const char *name, size_t length, struct td_error *error)
{
    struct td_buf names;

    td_buf_init(&names, 512);
    for (size_t i = 0; i < CHAT_SETTING_COUNT; i++)
        td_buf_printf(&names, "%s%s", i > 0 ? ", " : "", settings[i].name);
    td_fail(error, TD_INVALID, "no setting '%.*s'; there are %s", (int)(length < 40 ? length : 40),
            name, names.data != NULL ? names.data : "");
    td_buf_fini(&names);
    return TD_INVALID;
}

/* Reads a value as JSON would have it, so that what is sent is what was typed. */
static td_status_t read_value(size_t i, const char *text, struct chat_setting_value *value,
                              struct td_error *error)
{
    static const struct td_json_limits limits = {.bytes_max = 64, .nodes_max = 1, .depth_max = 1};
    const struct td_json *root = NULL;
    struct td_error reason;
    struct td_arena arena;
    bool good;

    if (settings[i].kind == TD_JSON_STRING) {
        if (strlen(text) >= sizeof value->text)
            return td_fail(error, TD_INVALID, "%s: at most %zu bytes", settings[i].name,
                           sizeof value->text - 1);
        strcpy(value->text, text);
        return TD_OK;
    }
    td_arena_init(&arena, td_json_arena_bytes(&limits));
    good = td_json_parse(&arena, td_span_of(text), &limits, &root, &reason) == TD_OK &&
           (root->kind == TD_JSON_INTEGER || root->kind == settings[i].kind);
    if (good && root->kind == TD_JSON_INTEGER) {
        value->integer = root->integer;
        value->number = (double)root->integer;
    } else if (good) {
        value->number = root->number;
    }
    td_arena_fini(&arena);
    if (!good)
        return td_fail(error, TD_INVALID, "%s: '%.40s' is not %s", settings[i].name, text,
                       td_json_kind_text(settings[i].kind));
    return TD_OK;
}

td_status_t chat_history_set(struct chat_history *history, const char *words,
                             struct td_error *error)
{
    size_t length = strcspn(words, " =");
    const char *text = words + length;
    struct chat_setting_value value = {.is_set = true};
    td_status_t status;

    text += strspn(text, " =");
    for (size_t i = 0; i < CHAT_SETTING_COUNT; i++) {
        if (strlen(settings[i].name) != length || memcmp(settings[i].name, words, length) != 0)
            continue;
        if (strcmp(text, "default") == 0) {
            history->settings[i] = (struct chat_setting_value){0};
            return TD_OK;
        }
        if (text[0] == '\0')
            return td_fail(error, TD_INVALID, "%s: a value is wanted, or the word default",
                           settings[i].name);
        status = read_value(i, text, &value, error);
        if (status == TD_OK)
            history->settings[i] = value;
        return status;
    }
    return refuse_setting(words, length, error);
}

static void write_settings(const struct chat_history *history, struct td_json_writer *writer)
{
    for (size_t i = 0; i < CHAT_SETTING_COUNT; i++) {
        const struct chat_setting_value *value = &history->settings[i];

        if (!value->is_set)
            continue;
        if (settings[i].kind == TD_JSON_STRING)
            td_json_put_text(writer, settings[i].name, value->text);
        else if (settings[i].kind == TD_JSON_INTEGER)
            td_json_put_int(writer, settings[i].name, value->integer);
        else
            td_json_put_double(writer, settings[i].name, value->number);
    }
}

void chat_history_print_settings(const struct chat_history *history, struct td_buf *out)
{
    for (size_t i = 0; i < CHAT_SETTING_COUNT; i++) {
        const struct chat_setting_value *value = &history->settings[i];
        char text[CHAT_SETTING_BYTES] = "default";

        if (value->is_set && settings[i].kind == TD_JSON_STRING)
            strcpy(text, value->text);
        else if (value->is_set && settings[i].kind == TD_JSON_INTEGER)
            snprintf(text, sizeof text, "%lld", (long long)value->integer);
        else if (value->is_set)
            snprintf(text, sizeof text, "%g", value->number);
        td_buf_printf(out, "  %-22s %-9s %s\n", settings[i].name, text, settings[i].text);
    }
}

/* ---- the request ---- */

static void write_message(struct td_json_writer *writer, const char *role, struct td_span text)
{
    td_json_begin_object(writer, NULL);
    td_json_put_text(writer, "role", role);
    td_json_put_span(writer, "content", text);
    td_json_end(writer);
}

static void write_messages(const struct chat_history *history, struct td_json_writer *writer)
{
    td_json_begin_array(writer, "messages");
    if (history->system != NULL)
        write_message(writer, "system", td_span_of(history->system));
    for (size_t i = 0; i < history->count; i++) {
        const struct chat_message *message = &history->messages[i];

        write_message(writer, message->role == CHAT_USER ? "user" : "assistant",
                      td_span_over(message->text, message->length));
    }
    td_json_end(writer);
}

void chat_history_write(const struct chat_history *history, const char *model, bool stream,
                        struct td_buf *out)
{
    struct td_json_writer writer = td_json_writer_to(out);

    td_json_begin_object(&writer, NULL);
    td_json_put_text(&writer, "model", model);
    write_messages(history, &writer);
    write_settings(history, &writer);
    if (stream) {
        td_json_put_bool(&writer, "stream", true);
        td_json_begin_object(&writer, "stream_options");
        td_json_put_bool(&writer, "include_usage", true);
        td_json_end(&writer);
    }
    td_json_end(&writer);
}

/* ---- reading it back ---- */

static td_status_t read_message(struct chat_history *history, const struct td_json *message,
                                size_t i, struct td_error *error)
{
    struct td_span role = {0};
    struct td_span content = {0};
    td_status_t status;

    if (message->kind != TD_JSON_OBJECT)
        return td_fail(error, TD_INVALID, "messages[%zu] is not an object", i);
    status = td_json_string(td_json_get(message, "role"), &role, error);
    if (status == TD_OK)
        status = td_json_string(td_json_get(message, "content"), &content, error);
    if (status != TD_OK) {
        td_fail_wrap(error, "messages[%zu]: ", i);
        return status;
    }
    if (content.bytes == NULL || memchr(content.bytes, '\0', content.length) != NULL)
        return td_fail(error, TD_INVALID, "messages[%zu].content is no text", i);
    if (td_span_is(role, "user"))
        return chat_history_add(history, CHAT_USER, content.bytes, content.length, error);
    if (td_span_is(role, "assistant"))
        return chat_history_add(history, CHAT_ASSISTANT, content.bytes, content.length, error);
    if (td_span_is(role, "system") && i == 0)
        return chat_history_set_system(history, content.bytes, error);
    return td_fail(error, TD_INVALID,
                   "messages[%zu].role: a chat has one system message, which comes first, and "
                   "messages of user and assistant",
                   i);
}

static td_status_t read_settings(struct chat_history *history, const struct td_json *root,
                                 struct td_error *error)
{
    td_status_t status = TD_OK;

    for (size_t i = 0; i < CHAT_SETTING_COUNT && status == TD_OK; i++) {
        struct td_json_field field = td_json_get(root, settings[i].name);
        struct chat_setting_value *value = &history->settings[i];
        struct td_span text = {0};

        if (field.value == NULL)
            continue;
        if (settings[i].kind == TD_JSON_STRING) {
            status = td_json_string(field, &text, error);
            if (status == TD_OK && text.length >= sizeof value->text)
                status = td_fail(error, TD_INVALID, "%s is too long", field.name);
            if (status == TD_OK && strlen(text.bytes) != text.length)
                status = td_fail(error, TD_INVALID, "%s is no text", field.name);
            if (status == TD_OK)
                memcpy(value->text, text.bytes, text.length + 1);
        } else if (settings[i].kind == TD_JSON_INTEGER) {
            status = td_json_int(field, INT64_MIN, INT64_MAX, &value->integer, error);
        } else {
            status = td_json_number(field, -1e300, 1e300, &value->number, error);
        }
        value->is_set = status == TD_OK;
    }
    return status;
}

static td_status_t read_root(struct chat_history *history, const struct td_json *root,
                             struct td_error *error)
{
    const struct td_json *messages = NULL;
    td_status_t status;
    size_t i = 0;

    if (root->kind != TD_JSON_OBJECT)
        return td_fail(error, TD_INVALID, "an object with messages is wanted, as /save writes it");
    status = td_json_array(td_json_get(root, "messages"), &messages, error);
    if (status == TD_OK && messages == NULL)
        status = td_fail(error, TD_INVALID, "there is no member messages");
    if (status == TD_OK)
        status = read_settings(history, root, error);
    if (status != TD_OK)
        return status;
    td_json_for_each(message, messages)
    {
        status = read_message(history, message, i++, error);
        if (status != TD_OK)
            return status;
    }
    return TD_OK;
}

td_status_t chat_history_read(struct chat_history *history, const char *json, size_t length,
                              struct td_error *error)
{
    static const struct td_json_limits limits = {.bytes_max = 8 * CHAT_BYTES_MAX,
                                                 .nodes_max = 8 * CHAT_MESSAGES_MAX,
                                                 .depth_max = TD_JSON_DEPTH_MAX};
    const struct td_json *root = NULL;
    struct chat_history read;
    struct td_arena arena;
    td_status_t status;

    chat_history_init(&read);
    td_arena_init(&arena, td_json_arena_bytes(&limits));
    status = td_json_parse(&arena, td_span_over(json, length), &limits, &root, error);
    if (status == TD_OK)
        status = read_root(&read, root, error);
    if (status == TD_OK) {
        struct chat_history old = *history;

        *history = read;
        read = old;
    }
    chat_history_fini(&read);
    td_arena_fini(&arena);
    return status;
}
