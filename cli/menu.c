/* menu.c: finding a command by its name, and the help that lists them, see command.h. */
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "lib/base/distance.h"
#include "lib/net/program.h"

static const struct cli_command *find(const struct cli_menu *menu, const char *name)
{
    for (size_t i = 0; i < menu->count; i++)
        if (strcmp(menu->commands[i].name, name) == 0)
            return &menu->commands[i];
    return NULL;
}

static void print_menu(const struct cli_menu *menu, FILE *out)
{
    fprintf(out, "Usage: %s COMMAND [flags]\n\n%s\n\nCommands:\n", menu->program, menu->summary);
    for (size_t i = 0; i < menu->count; i++)
        fprintf(out, "  %-10s %s\n", menu->commands[i].name, menu->commands[i].summary);
    if (menu->examples != NULL)
        fprintf(out, "\nExamples:\n%s", menu->examples);
    fprintf(out, "\n%s COMMAND --help explains the flags of one command.\n", menu->program);
}

static int refuse(const struct cli_menu *menu, const char *name)
{
    const struct cli_command *nearest = NULL;
    size_t distance = TD_DISTANCE_HELPFUL + 1;

    for (size_t i = 0; i < menu->count; i++) {
        size_t candidate = td_distance(name, menu->commands[i].name);

        if (candidate < distance) {
            distance = candidate;
            nearest = &menu->commands[i];
        }
    }
    if (nearest != NULL)
        fprintf(stderr, "%s: no command '%.40s'; did you mean '%s'?\n", menu->program, name,
                nearest->name);
    else
        fprintf(stderr, "%s: no command '%.40s'; %s --help lists them\n", menu->program, name,
                menu->program);
    return NET_EXIT_USAGE;
}

static int help(const struct cli_menu *menu, int argc, char **argv)
{
    static char flag[] = "--help";
    const struct cli_command *command;

    if (argc < 3) {
        print_menu(menu, stdout);
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
    if (strcmp(argv[1], "--version") == 0 && find(menu, "version") != NULL)
        return cli_version(argc - 1, argv + 1);
    command = find(menu, argv[1]);
    return command != NULL ? command->run(argc - 1, argv + 1) : refuse(menu, argv[1]);
}
