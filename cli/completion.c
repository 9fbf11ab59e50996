/*
 * completion.c: `tandem completion`: scripts that let a shell ask the programs themselves what a half-typed
 * line may become (td_flags_complete), so that the answer is always that of the program which is run.
 */
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "lib/net/program.h"

#define PROGRAMS "tandem tandem-router tandem-scheduler tandem-prefill tandem-decode"

static const char bash[] =
    "# Completion of Tandem for bash. Now: source <(tandem completion bash)\n"
    "# For ever: tandem completion bash > ~/.local/share/bash-completion/completions/tandem\n"
    "_tandem() {\n"
    "    local cur=${COMP_WORDS[COMP_CWORD]} otherwise=: line\n"
    "    local program=${1/#\\~/$HOME}\n"
    "    COMPREPLY=()\n"
    "    while IFS= read -r line; do\n"
    "        case $line in\n"
    "        :*) otherwise=$line ;;\n"
    "        *) COMPREPLY+=(\"${line%%$'\\t'*}\") ;;\n"
    "        esac\n"
    "    done < <(\"$program\" --complete \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null)\n"
    "    # what a program does not know itself is left to readline, which knows how to quote it\n"
    "    case $otherwise in\n"
    "    :files) compopt -o default ;;\n"
    "    :folders) compopt -o dirnames ;;\n"
    "    esac\n"
    "}\n"
    "complete -F _tandem " PROGRAMS "\n";

static const char zsh[] =
    "#compdef " PROGRAMS "\n"
    "# Completion of Tandem for zsh. Now: source <(tandem completion zsh)\n"
    "# For ever: tandem completion zsh > a folder of your $fpath/_tandem\n"
    "_tandem() {\n"
    "    local line otherwise=:\n"
    "    local -a found\n"
    "    while IFS= read -r line; do\n"
    "        case $line in\n"
    "        :*) otherwise=$line ;;\n"
    "        *) found+=(\"${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}\") ;;\n"
    "        esac\n"
    "    done < <(${~words[1]} --complete \"${(@)words[2,CURRENT]}\" 2>/dev/null)\n"
    "    (( ${#found} )) && _describe -o tandem found\n"
    "    case $otherwise in\n"
    "    :files) _files ;;\n"
    "    :folders) _files -/ ;;\n"
    "    esac\n"
    "}\n"
    "if [[ ${funcstack[1]} == _tandem ]]; then\n"
    "    _tandem \"$@\"\n"
    "else\n"
    "    compdef _tandem " PROGRAMS "\n"
    "fi\n";

static const char fish[] =
    "# Completion of Tandem for fish. Now: tandem completion fish | source\n"
    "# For ever: tandem completion fish > ~/.config/fish/completions/tandem.fish\n"
    "function __tandem_complete\n"
    "    set -l words (commandline -opc)\n"
    "    set -l typed (commandline -ct)\n"
    "    set -l value (string replace -r '^--[^=]*=' '' -- \"$typed\")\n"
    "    for line in ($words[1] --complete $words[2..-1] \"$typed\" 2>/dev/null)\n"
    "        switch $line\n"
    "            case ':files'\n"
    "                __fish_complete_path \"$value\"\n"
    "            case ':folders'\n"
    "                __fish_complete_directories \"$value\"\n"
    "            case ':*'\n"
    "            case '*'\n"
    "                echo $line\n"
    "        end\n"
    "    end\n"
    "end\n"
    "for program in " PROGRAMS "\n"
    "    complete -c $program -f -a '(__tandem_complete)'\n"
    "end\n";

static const char examples[] =
    "  source <(tandem completion bash)\n"
    "  tandem completion bash > ~/.local/share/bash-completion/completions/tandem\n"
    "  tandem completion zsh > ~/.zfunc/_tandem\n"
    "  tandem completion fish > ~/.config/fish/completions/tandem.fish\n";

int cli_completion(int argc, char **argv)
{
    static const struct {
        const char *shell;
        const char *script;
    } scripts[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};
    const struct td_flags flags = {
        .program = "tandem completion",
        .summary = "Prints the script that makes a shell complete Tandem's commands: bash, zsh or "
                   "fish.",
        .usage = "bash|zsh|fish",
        .examples = examples,
        .about = "The script asks the program that is being typed what may come next, so it never "
                 "has to be made anew. `cmake --install` puts it where the shells look.",
        .see_also = "tandem(1)"};
    struct td_flags_result result = {0};
    struct td_arena arena;
    int exit_status = net_program_flags(&flags, argc, argv, &arena, &result);

    for (size_t i = 0; exit_status < 0 && i < sizeof scripts / sizeof scripts[0]; i++) {
        if (result.positionals.count == 1 &&
            strcmp(result.positionals.items[0], scripts[i].shell) == 0) {
            fputs(scripts[i].script, stdout);
            exit_status = fflush(stdout) == 0 ? NET_EXIT_OK : NET_EXIT_FAILURE;
        }
    }
    if (exit_status < 0) {
        fprintf(stderr, "tandem completion: which shell? tandem completion bash, zsh or fish\n");
        exit_status = NET_EXIT_USAGE;
    }
    td_arena_fini(&arena);
    return exit_status;
}
