/* menu.c: finding a command by its name, and the help that lists them, see command.h. */
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "lib/base/buf.h"
#include "lib/base/flags.h"
#include "lib/base/nearest.h"
#include "lib/base/roff.h"
#include "lib/net/program.h"

#define PAGE_BYTES_MAX ((size_t)1 << 20)
#define WORDS_MAX      1024 /* of a command line that is being completed */
#define SEE_ALSO_BYTES 1024

static const struct cli_command *find(const struct cli_menu *menu, const char *name)
{
    for (size_t i = 0; i < menu->count; i++)
        if (strcmp(menu->commands[i].name, name) == 0)
            return &menu->commands[i];
    return NULL;
}

static const struct cli_topic *find_topic(const struct cli_menu *menu, const char *name)
{
    for (size_t i = 0; i < menu->topic_count; i++)
        if (strcmp(menu->topics[i].name, name) == 0)
            return &menu->topics[i];
    return NULL;
}

static void print_menu(const struct cli_menu *menu, FILE *out)
{
    fprintf(out, "Usage: %s COMMAND [flags]\n\n%s\n\nCommands:\n", menu->program, menu->summary);
    for (size_t i = 0; i < menu->count; i++)
        fprintf(out, "  %-12s %s\n", menu->commands[i].name, menu->commands[i].summary);
    if (menu->topic_count > 0)
        fprintf(out, "\nTopics:\n");
    for (size_t i = 0; i < menu->topic_count; i++)
        fprintf(out, "  %-12s %s\n", menu->topics[i].name, menu->topics[i].summary);
    if (menu->examples != NULL)
        fprintf(out, "\nExamples:\n%s", menu->examples);
    fprintf(out, "\n%s COMMAND --help explains the flags of one command.\n", menu->program);
    if (menu->topic_count > 0)
        fprintf(out, "%s help TOPIC explains a topic.\n", menu->program);
}

static int refuse(const struct cli_menu *menu, const char *name)
{
    struct td_nearest nearest = {0};

    for (size_t i = 0; i < menu->count; i++)
        td_nearest_offer(&nearest, name, menu->commands[i].name);
    if (nearest.name != NULL)
        fprintf(stderr, "%s: no command '%.40s'; did you mean '%s'?\n", menu->program, name,
                nearest.name);
    else
        fprintf(stderr, "%s: no command '%.40s'; %s --help lists them\n", menu->program, name,
                menu->program);
    return NET_EXIT_USAGE;
}

/* ---- man pages ---- */

/* "tandem bench" and "engine": the page tandem-bench-engine; without a command that of the menu. */
static void print_page_name(const struct cli_menu *menu, const struct cli_command *command,
                            struct td_buf *out)
{
    for (const char *c = menu->program; *c != '\0'; c++)
        td_buf_append_char(out, (char)(*c == ' ' ? '-' : *c));
    if (command != NULL)
        td_buf_printf(out, "-%s", command->name);
}

static void print_see_also(const struct cli_menu *menu, struct td_buf *out)
{
    struct td_buf text;

    td_buf_init(&text, SEE_ALSO_BYTES);
    for (size_t i = 0; i < menu->count; i++) {
        td_buf_append_text(&text, i > 0 ? ", " : "");
        print_page_name(menu, &menu->commands[i], &text);
        td_buf_append_text(&text, "(1)");
    }
    td_roff_section(1, "SEE ALSO", out);
    td_roff_text(text.data != NULL ? text.data : "", out);
    td_buf_fini(&text);
}

static void print_man(const struct cli_menu *menu, struct td_buf *out)
{
    struct td_buf name;

    td_buf_init(&name, SEE_ALSO_BYTES);
    print_page_name(menu, NULL, &name);
    td_roff_begin(name.data, TANDEM_VERSION, menu->purpose, menu->program, "COMMAND [flags]", out);
    td_buf_fini(&name);
    td_roff_section(1, "DESCRIPTION", out);
    td_roff_text(menu->summary, out);
    td_roff_section(1, "COMMANDS", out);
    for (size_t i = 0; i < menu->count; i++)
        td_roff_entry(menu->commands[i].name, menu->commands[i].usage, menu->commands[i].summary,
                      out);
    if (menu->examples != NULL) {
        td_roff_section(1, "EXAMPLES", out);
        td_roff_lines(menu->examples, out);
    }
    for (size_t i = 0; i < menu->topic_count; i++) {
        td_roff_section(1, menu->topics[i].summary, out);
        td_roff_lines(menu->topics[i].text, out);
    }
    print_see_also(menu, out);
}

static int write_out(struct td_buf *page)
{
    bool good = page->status == TD_OK &&
                fwrite(page->data, 1, page->length, stdout) == page->length && fflush(stdout) == 0;

    td_buf_fini(page);
    return good ? NET_EXIT_OK : NET_EXIT_FAILURE;
}

/* name NULL: the menu's own page. */
static int man(const struct cli_menu *menu, char *name)
{
    static char flag[] = TD_FLAGS_WORD_MAN;
    const struct cli_command *command = name != NULL ? find(menu, name) : NULL;
    struct td_buf page;

    if (command != NULL)
        return command->run(2, (char *[]){name, flag, NULL});
    if (name != NULL)
        return refuse(menu, name);
    td_buf_init(&page, PAGE_BYTES_MAX);
    print_man(menu, &page);
    return write_out(&page);
}

/* ---- completion ---- */

static void offer(const char *name, const char *summary, const char *typed, struct td_buf *out)
{
    if (strncmp(name, typed, strlen(typed)) == 0)
        td_buf_printf(out, "%s\t%s\n", name, summary);
}

static void offer_commands(const struct cli_menu *menu, const char *typed, struct td_buf *out)
{
    for (size_t i = 0; i < menu->count; i++)
        offer(menu->commands[i].name, menu->commands[i].summary, typed, out);
}

/* What the last of the words may become: a command here, or whatever its command says. */
static int complete(const struct cli_menu *menu, int count, char **words)
{
    static char flag[] = TD_FLAGS_WORD_COMPLETE;
    const struct cli_command *command = count > 1 ? find(menu, words[0]) : NULL;
    char *typed = count > 0 ? words[count - 1] : NULL;
    char *line[WORDS_MAX + 3];
    struct td_buf out;

    if (command != NULL && count <= WORDS_MAX) {
        line[0] = words[0];
        line[1] = flag;
        memcpy(&line[2], &words[1], (size_t)(count - 1) * sizeof *words);
        line[count + 1] = NULL;
        return command->run(count + 1, line);
    }
    td_buf_init(&out, PAGE_BYTES_MAX);
    if (count <= 1 || (count == 2 && strcmp(words[0], "help") == 0))
        offer_commands(menu, typed != NULL ? typed : "", &out);
    if (count <= 1)
        offer("help", "explains a command or a topic", typed != NULL ? typed : "", &out);
    for (size_t i = 0; count == 2 && strcmp(words[0], "help") == 0 && i < menu->topic_count; i++)
        offer(menu->topics[i].name, menu->topics[i].summary, typed, &out);
    td_buf_append_text(&out, ":\n");
    return write_out(&out);
}

/* ---- all of it ---- */

static int help(const struct cli_menu *menu, int argc, char **argv)
{
    static char flag[] = "--help";
    const struct cli_command *command;
    const struct cli_topic *topic;

    if (argc < 3) {
        print_menu(menu, stdout);
        return NET_EXIT_OK;
    }
    if (strcmp(argv[2], TD_FLAGS_WORD_MAN) == 0)
        return man(menu, argc > 3 ? argv[3] : NULL);
    topic = find_topic(menu, argv[2]);
    if (topic != NULL) {
        printf("%s: %s\n\n%s", topic->name, topic->summary, topic->text);
        return NET_EXIT_OK;
    }
    command = find(menu, argv[2]);
    if (command == NULL)
        return refuse(menu, argv[2]);
    return command->run(2, (char *[]){argv[2], flag, NULL});
}

int cli_menu_run(const struct cli_menu *menu, int argc, char **argv)
{
    const struct cli_command *command;

    if (argc < 2) {
        print_menu(menu, stderr);
        return NET_EXIT_USAGE;
    }
    if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 ||
        strcmp(argv[1], "-h") == 0)
        return help(menu, argc, argv);
    if (strcmp(argv[1], TD_FLAGS_WORD_COMPLETE) == 0)
        return complete(menu, argc - 2, argv + 2);
    if (strcmp(argv[1], TD_FLAGS_WORD_MAN) == 0)
        return man(menu, NULL);
    if (strcmp(argv[1], "--version") == 0 && find(menu, "version") != NULL)
        return find(menu, "version")->run(1, (char *[]){argv[1], NULL});
    command = find(menu, argv[1]);
    return command != NULL ? command->run(argc - 1, argv + 1) : refuse(menu, argv[1]);
}
