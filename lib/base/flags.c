/* flags.c: defaults, environment and command line, in this order, see flags.h. */
#include "lib/base/flags.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/flags_value.h"
#include "lib/base/nearest.h"

#define NAME_BYTES_MAX 64

/* A flag of some table, with the place of its value. */
struct target {
    const struct td_flag *flag;
    void *options;
    bool *seen; /* was on the command line before; lists go on from there */
};

struct parser {
    const struct td_flags *flags;
    struct td_arena *arena;
    bool *seen; /* one for each flag of all tables, in order */
    struct td_flag_list words;
    size_t next; /* index of the next word */
    char **positionals;
    size_t positional_count;
    struct td_error *error;
};

/* A mistake in a table is found by the first test that parses anything. */
static void check_tables(const struct td_flags *flags)
{
    for (size_t t = 0; t < flags->table_count; t++) {
        const struct td_flag_table *table = &flags->tables[t];

        for (size_t i = 0; i < table->count; i++) {
            assert(strlen(table->flags[i].name) < NAME_BYTES_MAX - sizeof "TANDEM_");
            assert(table->flags[i].help != NULL);
            for (size_t u = 0; u <= t; u++)
                for (size_t j = 0; j < (u == t ? i : flags->tables[u].count); j++)
                    assert(strcmp(table->flags[i].name, flags->tables[u].flags[j].name) != 0);
        }
    }
}

static td_status_t set_default(const struct td_flag *flag, void *options, struct td_arena *arena,
                               struct td_error *error)
{
    bool number = flag->kind >= TD_FLAG_UINT32 && flag->kind <= TD_FLAG_DURATION32;

    if (flag->kind == TD_FLAG_LIST) {
        td_flag_clear(flag, options);
        return flag->fallback == NULL ? TD_OK
                                      : td_flag_append(flag, options, flag->fallback, arena, error);
    }
    if (flag->fallback != NULL || flag->kind == TD_FLAG_TEXT)
        return td_flag_set(flag, options, flag->fallback, flag->name, error);
    if (flag->kind == TD_FLAG_CHOICE)
        return td_flag_set(flag, options, flag->choices[0], flag->name, error);
    return td_flag_set(flag, options, number ? "0" : "false", flag->name, error);
}

void td_flags_defaults(const struct td_flag_table *table)
{
    for (size_t i = 0; i < table->count; i++) {
        td_status_t status;

        assert(table->flags[i].kind != TD_FLAG_LIST);
        status = set_default(&table->flags[i], table->options, NULL, NULL);
        assert(status == TD_OK); /* a default out of its own range */
    }
}

static td_status_t apply_environment(struct parser *p, const struct td_flag *flag, void *options)
{
    char name[NAME_BYTES_MAX];
    const char *text;
    char *copy;

    td_flag_environment_name(flag, name, sizeof name);
    text = getenv(name);
    if (text == NULL || text[0] == '\0')
        return TD_OK;
    if (flag->kind == TD_FLAG_LIST) {
        td_flag_clear(flag, options);
        return td_flag_append(flag, options, text, p->arena, p->error);
    }
    copy = td_arena_text(p->arena, text, strlen(text)); /* setenv may free what getenv gave */
    if (copy == NULL)
        return td_fail(p->error, p->arena->status, "%s: %s", name,
                       td_status_text(p->arena->status));
    return td_flag_set(flag, options, copy, name, p->error);
}

/* Defaults, then the environment. */
static td_status_t apply_surroundings(struct parser *p)
{
    for (size_t t = 0; t < p->flags->table_count; t++) {
        const struct td_flag_table *table = &p->flags->tables[t];

        for (size_t i = 0; i < table->count; i++) {
            td_status_t status = set_default(&table->flags[i], table->options, p->arena, p->error);

            assert(status != TD_INVALID); /* a default out of its own range */
            if (status == TD_OK)
                status = apply_environment(p, &table->flags[i], table->options);
            if (status != TD_OK)
                return status;
        }
    }
    return TD_OK;
}

/* ------------------------------------------------------------------------------------------- */

static bool find(const struct parser *p, const char *name, size_t length, struct target *target_out)
{
    bool *seen = p->seen;

    for (size_t t = 0; t < p->flags->table_count; t++) {
        const struct td_flag_table *table = &p->flags->tables[t];

        for (size_t i = 0; i < table->count; i++, seen++) {
            const struct td_flag *flag = &table->flags[i];

            if (strlen(flag->name) == length && memcmp(flag->name, name, length) == 0) {
                *target_out =
                    (struct target){.flag = flag, .options = table->options, .seen = seen};
                return true;
            }
        }
    }
    return false;
}

static td_status_t refuse_unknown(struct parser *p, const char *word, size_t length)
{
    char name[NAME_BYTES_MAX] = "";
    struct td_nearest nearest = {0};

    if (length < sizeof name)
        memcpy(name, word, length);
    for (size_t t = 0; t < p->flags->table_count; t++)
        for (size_t i = 0; i < p->flags->tables[t].count; i++)
            td_nearest_offer(&nearest, name, p->flags->tables[t].flags[i].name);
    if (nearest.name != NULL)
        return td_fail(p->error, TD_INVALID, "unknown flag --%.*s; did you mean --%s?",
                       (int)(length < 60 ? length : 60), word, nearest.name);
    return td_fail(p->error, TD_INVALID, "unknown flag --%.*s; '%s --help' lists all",
                   (int)(length < 60 ? length : 60), word, p->flags->program);
}

static td_status_t set_from_words(struct parser *p, const struct target *target, const char *text)
{
    char name[NAME_BYTES_MAX + 2] = "--";

    if (target->flag->kind == TD_FLAG_LIST) {
        if (!*target->seen)
            td_flag_clear(target->flag, target->options);
        *target->seen = true;
        return td_flag_append(target->flag, target->options, text, p->arena, p->error);
    }
    strncat(name, target->flag->name, NAME_BYTES_MAX - 1);
    return td_flag_set(target->flag, target->options, text, name, p->error);
}

/* A word that starts with "--", without these. */
static td_status_t parse_flag(struct parser *p, const char *word)
{
    size_t length = strcspn(word, "=");
    const char *text = word[length] == '=' ? word + length + 1 : NULL;
    struct target target;

    if (!find(p, word, length, &target)) {
        if (length <= 3 || strncmp(word, "no-", 3) != 0 ||
            !find(p, word + 3, length - 3, &target) || target.flag->kind != TD_FLAG_BOOL)
            return refuse_unknown(p, word, length);
        if (text != NULL)
            return td_fail(p->error, TD_INVALID, "--no-%s takes no value", target.flag->name);
        return set_from_words(p, &target, "false");
    }
    if (target.flag->kind == TD_FLAG_BOOL)
        return set_from_words(p, &target, text != NULL ? text : "true");
    if (text == NULL && p->next < p->words.count && strncmp(p->words.items[p->next], "--", 2) != 0)
        text = p->words.items[p->next++];
    if (text == NULL)
        return td_fail(p->error, TD_INVALID, "--%s needs a value: --%s %s", target.flag->name,
                       target.flag->name, td_flag_placeholder(target.flag));
    return set_from_words(p, &target, text);
}

static td_status_t parse_words(struct parser *p, struct td_flags_result *result)
{
    bool flags_ended = false;

    while (p->next < p->words.count && !result->help && !result->version) {
        char *word = p->words.items[p->next++];
        td_status_t status = TD_OK;

        if (flags_ended || word[0] != '-' || word[1] == '\0')
            p->positionals[p->positional_count++] = word;
        else if (strcmp(word, "--") == 0)
            flags_ended = true;
        else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
            result->help = true;
        else if (strcmp(word, "--version") == 0)
            result->version = true;
        else if (word[1] == '-')
            status = parse_flag(p, word + 2);
        else
            status = td_fail(p->error, TD_INVALID, "unknown flag %.60s; '%s --help' lists all",
                             word, p->flags->program);
        if (status != TD_OK)
            return status;
    }
    return TD_OK;
}

td_status_t td_flags_parse(const struct td_flags *flags, struct td_arena *arena,
                           struct td_flag_list words, struct td_flags_result *result_out,
                           struct td_error *error)
{
    struct parser p = {.flags = flags, .arena = arena, .words = words, .error = error};
    struct td_flags_result result = {0};
    size_t flag_count = 0;
    td_status_t status;

    check_tables(flags);
    for (size_t t = 0; t < flags->table_count; t++)
        flag_count += flags->tables[t].count;
    p.seen = td_arena_array(arena, flag_count + 1, sizeof *p.seen);
    p.positionals = td_arena_array(arena, words.count + 1, sizeof *p.positionals);
    if (p.seen == NULL || p.positionals == NULL)
        return td_fail(error, arena->status, "%s", td_status_text(arena->status));
    status = apply_surroundings(&p);
    if (status == TD_OK)
        status = parse_words(&p, &result);
    if (status != TD_OK)
        return status;
    result.positionals = (struct td_flag_list){.items = p.positionals, .count = p.positional_count};
    *result_out = result;
    return TD_OK;
}
