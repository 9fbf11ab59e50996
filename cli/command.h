/*
 * command.h: the commands of `tandem`, each in a file of its own.
 *
 * A command takes the words from its own name on, as main would (argv[0] is "serve"), and returns an
 * exit status of lib/net/program.h. Commands with commands of their own ("bench") use the same table.
 */
#ifndef TANDEM_CLI_COMMAND_H
#define TANDEM_CLI_COMMAND_H

#include <stddef.h>

typedef int (*cli_command_fn)(int argc, char **argv);

struct cli_command {
    const char *name;
    const char *usage;   /* what follows the name: "MODEL [flags]" */
    const char *summary; /* one line for the list of commands */
    cli_command_fn run;
};

/* A page that explains something that is no command: "help NAME" shows it. */
struct cli_topic {
    const char *name;
    const char *summary; /* one line for the list of topics */
    const char *text;    /* lines that are ended */
};

/* A list of commands under one name, with what its help says around the list. */
struct cli_menu {
    const char *program; /* "tandem", "tandem bench" */
    const char *purpose; /* what it is for, as a man page's first line says it */
    const char *summary;
    const char *examples; /* lines that can be pasted; NULL: none */
    const struct cli_command *commands;
    size_t count;
    const struct cli_topic *topics; /* NULL: none */
    size_t topic_count;
};

/*
 * Runs the command that argv[1] names. Without a word, or with "help", the menu is shown; "help NAME"
 * shows that command's or topic's help, "help --man NAME" the man page. An unknown name is answered with the
 * nearest known one. The words of td_flags_answer are understood as well.
 */
int cli_menu_run(const struct cli_menu *menu, int argc, char **argv);

/* topics.c: what `tandem help` explains. */
extern const struct cli_topic cli_topics[];
extern const size_t cli_topic_count;

int cli_serve(int argc, char **argv);
int cli_demo(int argc, char **argv);
int cli_chat(int argc, char **argv);
int cli_check(int argc, char **argv);
int cli_inspect(int argc, char **argv);
int cli_certs(int argc, char **argv);
int cli_cache(int argc, char **argv);
int cli_completion(int argc, char **argv);
int cli_bench(int argc, char **argv);
int cli_sim(int argc, char **argv);
int cli_version(int argc, char **argv);

#endif
