/* flags_complete.c: what a half-typed command line may become, see flags.h. */
#include <ctype.h>
#include <string.h>

#include "lib/base/flags.h"
#include "lib/base/flags_value.h"

#define TEXT_BYTES_MAX 72 /* of a flag's explanation, for shells that show it */

struct completion {
    const struct td_flags *flags;
    struct td_flag_list words; /* without the last, which is being typed */
    const char *typed;
    struct td_buf *out;
    const char *otherwise; /* the last line */
};

static const struct td_flag *find(const struct td_flags *flags, const char *name, size_t length)
{
    for (size_t t = 0; t < flags->table_count; t++)
        for (size_t i = 0; i < flags->tables[t].count; i++) {
            const struct td_flag *flag = &flags->tables[t].flags[i];

            if (strlen(flag->name) == length && memcmp(flag->name, name, length) == 0)
                return flag;
        }
    return NULL;
}

/* The flag that a word names, with or without a value behind it. */
static const struct td_flag *flag_of(const struct td_flags *flags, const char *word)
{
    if (strncmp(word, "--", 2) != 0)
        return NULL;
    return find(flags, word + 2, strcspn(word + 2, "="));
}

static bool begins_with(const char *text, const char *beginning)
{
    return strncmp(text, beginning, strlen(beginning)) == 0;
}

/* The kind of thing that a name in capitals stands for. */
static const char *things(const char *name)
{
    if (strstr(name, "MODEL") != NULL || strstr(name, "FILE") != NULL ||
        strstr(name, "PATH") != NULL)
        return ":files";
    return strstr(name, "DIR") != NULL ? ":folders" : ":";
}

/* front is what of the word is not the value: "--log-level=", or nothing. */
static void offer_values(struct completion *completion, const struct td_flag *flag,
                         const char *front, size_t front_length, const char *value)
{
    static const char *const switches[] = {"true", "false", NULL};
    const char *const *choices = NULL;

    if (flag->kind == TD_FLAG_CHOICE)
        choices = flag->choices;
    else if (flag->kind == TD_FLAG_BOOL)
        choices = switches;
    else
        completion->otherwise = things(td_flag_placeholder(flag));
    for (size_t i = 0; choices != NULL && choices[i] != NULL; i++)
        if (begins_with(choices[i], value))
            td_buf_printf(completion->out, "%.*s%s\t\n", (int)front_length, front, choices[i]);
}

/* The first word beside flags: one of "bash|zsh|fish", or a kind of thing. */
static void offer_words(struct completion *completion)
{
    const char *word = completion->flags->usage;
    size_t typed_length = strlen(completion->typed);

    if (!islower((unsigned char)word[0])) {
        completion->otherwise = things(word);
        return;
    }
    for (size_t length = strcspn(word, "| "); length > 0; length = strcspn(word, "| ")) {
        if (length >= typed_length && strncmp(word, completion->typed, typed_length) == 0)
            td_buf_printf(completion->out, "%.*s\t\n", (int)length, word);
        word += length + (word[length] == '|');
    }
}

/* As much of the explanation as fits a line, at whole words. */
static void print_text(const char *help, struct td_buf *out)
{
    size_t length = strcspn(help, ".\n");

    if (length > TEXT_BYTES_MAX)
        for (length = TEXT_BYTES_MAX; length > 0 && help[length] != ' '; length--)
            continue;
    td_buf_append(out, help, length);
}

static bool was_given(const struct completion *completion, const struct td_flag *flag)
{
    for (size_t i = 0; i < completion->words.count; i++)
        if (flag_of(completion->flags, completion->words.items[i]) == flag)
            return true;
    return false;
}

static void offer_flag(struct completion *completion, const struct td_flag *flag)
{
    bool is_on =
        flag->kind == TD_FLAG_BOOL && flag->fallback != NULL && strcmp(flag->fallback, "true") == 0;
    struct td_buf word;

    if (flag->kind != TD_FLAG_LIST && was_given(completion, flag))
        return;
    td_buf_init(&word, 256);
    td_buf_printf(&word, is_on ? "--no-%s" : "--%s", flag->name);
    if (word.status == TD_OK && begins_with(word.data, completion->typed)) {
        td_buf_printf(completion->out, "%s\t", word.data);
        print_text(flag->help, completion->out);
        td_buf_append_char(completion->out, '\n');
    }
    td_buf_fini(&word);
}

static void offer_flags(struct completion *completion)
{
    for (size_t t = 0; t < completion->flags->table_count; t++)
        for (size_t i = 0; i < completion->flags->tables[t].count; i++)
            offer_flag(completion, &completion->flags->tables[t].flags[i]);
    if (begins_with("--help", completion->typed))
        td_buf_append_text(completion->out, "--help\tExplains all of this\n");
}

/* The flag whose value is being typed; NULL: none is. Counts the words that are no flags on the way. */
static const struct td_flag *open_flag(const struct completion *completion, size_t *others_out,
                                       bool *flags_ended_out)
{
    const struct td_flag_list *words = &completion->words;
    const struct td_flag *open = NULL;

    *others_out = 0;
    *flags_ended_out = false;
    for (size_t i = 0; i < words->count; i++) {
        const char *word = words->items[i];

        if (open != NULL && strcmp(word, "=") == 0)
            continue; /* bash: the value is the next word */
        if (open != NULL) {
            open = NULL;
        } else if (*flags_ended_out || word[0] != '-') {
            ++*others_out;
        } else if (strcmp(word, "--") == 0) {
            *flags_ended_out = true;
        } else if (strchr(word, '=') == NULL) {
            const struct td_flag *flag = flag_of(completion->flags, word);
            bool has_value = i + 1 < words->count ? strcmp(words->items[i + 1], "=") == 0
                                                  : strcmp(completion->typed, "=") == 0;

            open = flag != NULL && (flag->kind != TD_FLAG_BOOL || has_value) ? flag : NULL;
        }
    }
    return open;
}

void td_flags_complete(const struct td_flags *flags, struct td_flag_list words, struct td_buf *out)
{
    struct completion completion = {.flags = flags, .typed = "", .out = out, .otherwise = ":"};
    const struct td_flag *flag;
    const char *equals;
    bool flags_ended;
    size_t others;

    if (words.count > 0) {
        completion.typed = words.items[words.count - 1];
        completion.words = (struct td_flag_list){words.items, words.count - 1};
    }
    flag = open_flag(&completion, &others, &flags_ended);
    equals = strchr(completion.typed, '=');
    if (flag != NULL) {
        const char *value = strcmp(completion.typed, "=") == 0 ? "" : completion.typed;

        offer_values(&completion, flag, "", 0, value);
    } else if (!flags_ended && completion.typed[0] == '-') {
        flag = equals != NULL ? flag_of(flags, completion.typed) : NULL;
        if (flag != NULL)
            offer_values(&completion, flag, completion.typed,
                         (size_t)(equals + 1 - completion.typed), equals + 1);
        else if (equals == NULL)
            offer_flags(&completion);
    } else if (others == 0) {
        offer_words(&completion);
    }
    td_buf_printf(out, "%s\n", completion.otherwise);
}

bool td_flags_answer(const struct td_flags *flags, struct td_flag_list words, const char *version,
                     struct td_buf *out)
{
    if (words.count > 0 && strcmp(words.items[0], TD_FLAGS_WORD_COMPLETE) == 0) {
        td_flags_complete(flags, (struct td_flag_list){words.items + 1, words.count - 1}, out);
        return true;
    }
    if (words.count == 1 && strcmp(words.items[0], TD_FLAGS_WORD_MAN) == 0) {
        td_flags_print_man(flags, version, out);
        return true;
    }
    return false;
}
