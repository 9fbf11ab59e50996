/*
 * command.c: `tandem chat`: which server is talked to, or which model file is served for the time of the
 * chat.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/chat/session.h"
#include "cli/command.h"
#include "cli/local.h"
#include "cli/tables.h"
#include "lib/net/program.h"

#define OPTIONS     struct cli_chat_options
#define DEFAULT_URL "http://127.0.0.1:8000"

static const struct td_flag chat_flags[] = {
    {TD_FLAG_AS_TEXT(OPTIONS, model_name), .name = "model-name", .value = "NAME",
     .help = "Which of the server's models answers. Not given: the first that it lists."},
    {TD_FLAG_AS_TEXT(OPTIONS, system), .name = "system", .value = "TEXT",
     .help = "The system prompt. Not given: the model's own default."},
    {TD_FLAG_AS_LIST(OPTIONS, settings), .name = "set", .value = "NAME=VALUE",
     .help = "A field of sampling, such as temperature=0.7 or seed=1; may be repeated. In the chat "
             "/set lists them."},
    {TD_FLAG_AS_TEXT(OPTIONS, api_key_file), .name = "api-key-file", .value = "FILE",
     .help =
         "A file with the server's API key. Not given: the variable OPENAI_API_KEY, which is not "
         "sent unencrypted to another host."},
    {TD_FLAG_AS_BOOL(OPTIONS, quiet), .name = "quiet",
     .help = "No line of times and tokens behind each answer."},
};

static const struct td_flag chat_cluster_flags[] = {
    {TD_FLAG_AS_UINT32(OPTIONS, cluster.port), .name = "port", .value = "PORT", .fallback = "0",
     .max = 65535,
     .help = "Port at which others may talk to the same model meanwhile; 0: any that is free."},
    {TD_FLAG_AS_CHOICE(OPTIONS, cluster.kv_transport), .name = "kv-transport", .fallback = "auto",
     .choices = cli_kv_transports,
     .help = "How KV travels between workers: ucx, map (one copy out of mapped memory), or auto, "
             "which is map on one host."},
    {TD_FLAG_AS_CHOICE(OPTIONS, cluster.log_level), .name = "log-level", .fallback = "error",
     .choices = cli_log_levels, .help = "Log lines of all processes above this are not written."},
};

static const char examples[] =
    "  tandem chat                                    the server at OPENAI_BASE_URL, else "
    "127.0.0.1:8000\n"
    "  tandem chat model.gguf                         serves a file for the time of the chat\n"
    "  tandem chat https://api.example.com/v1 --api-key-file key --model-name small\n"
    "  tandem chat --system \"Answer in one sentence.\" --set temperature=0.7 --set seed=1\n"
    "  echo \"Why is the sky blue?\" | tandem chat     from a script: one message a line\n";

struct td_flag_table cli_chat_table(struct cli_chat_options *options)
{
    return (struct td_flag_table){.group = "Chat",
                                  .flags = chat_flags,
                                  .count = sizeof chat_flags / sizeof chat_flags[0],
                                  .options = options};
}

struct td_flag_table cli_chat_cluster_table(struct cli_chat_options *options)
{
    return (struct td_flag_table){.group = "With a model file",
                                  .flags = chat_cluster_flags,
                                  .count = sizeof chat_cluster_flags / sizeof chat_cluster_flags[0],
                                  .options = options};
}

struct chat {
    const OPTIONS *options;
    struct chat_session_config config;
    struct chat_session session;
    bool is_open;
    int exit_status;
    struct net_loop *loop;   /* with a server */
    struct cli_local *local; /* with a file */
};

static int fail(const struct td_error *error)
{
    fprintf(stderr, "tandem chat: %s\n", error->text);
    return error->status == TD_INVALID ? NET_EXIT_USAGE : NET_EXIT_FAILURE;
}

static void on_end(void *ctx, int exit_status)
{
    struct chat *chat = ctx;

    chat->exit_status = exit_status;
    if (chat->local != NULL)
        cli_local_stop(chat->local);
    else
        net_loop_stop(chat->loop);
}

static td_status_t begin(struct chat *chat, struct net_loop *loop, struct td_error *error)
{
    td_status_t status;

    chat->config.loop = loop;
    chat->config.model = chat->options->model_name;
    chat->config.system = chat->options->system;
    chat->config.settings = chat->options->settings;
    chat->config.quiet = chat->options->quiet;
    chat->config.ctx = chat;
    chat->config.on_end = on_end;
    status = chat_session_open(&chat->session, &chat->config, error);
    chat->is_open = status == TD_OK;
    return status;
}

/* ---- with a model file ---- */

static void on_ready(void *ctx, struct cli_local *local, const char *origin)
{
    struct chat *chat = ctx;
    struct td_error error = {0};

    chat->local = local;
    chat->exit_status = NET_EXIT_OK;
    if (chat_endpoint_set(&chat->config.endpoint, origin, &error) == TD_OK &&
        begin(chat, cli_local_loop(local), &error) == TD_OK)
        return;
    chat->exit_status = fail(&error);
    cli_local_stop(local);
}

static bool on_local_interrupt(void *ctx)
{
    struct chat *chat = ctx;

    if (!chat->is_open || chat->session.state == CHAT_ENDED)
        return false;
    chat_session_interrupt(&chat->session);
    return true;
}

static void on_closing(void *ctx)
{
    struct chat *chat = ctx;

    chat_session_close(&chat->session);
}

static int run_file(struct chat *chat, const char *model)
{
    const struct cli_local_config local = {
        .program = "tandem chat",
        .model = model,
        .options = &chat->options->cluster,
        .quiet_ready = true,
        .ctx = chat,
        .on_ready = on_ready,
        .on_closing = on_closing,
        .on_interrupt = on_local_interrupt,
    };
    int exit_status = cli_local_run(&local);

    return exit_status != NET_EXIT_OK ? exit_status : chat->exit_status;
}

/* ---- with a server ---- */

static void on_interrupt(void *ctx)
{
    struct chat *chat = ctx;

    chat_session_interrupt(&chat->session);
}

static void on_terminate(void *ctx)
{
    struct chat *chat = ctx;

    chat_session_end(&chat->session, NET_EXIT_OK);
}

static int run_server(struct chat *chat)
{
    static const struct {
        int number;
        net_fn fn;
    } watched[] = {{SIGINT, on_interrupt}, {SIGTERM, on_terminate}, {SIGHUP, on_terminate}};
    struct net_signal *signals[sizeof watched / sizeof watched[0]] = {0};
    struct td_error error = {0};
    td_status_t status = net_loop_open(&chat->loop);

    if (status != TD_OK)
        td_fail(&error, status, "cannot open an event loop");
    for (size_t i = 0; i < sizeof watched / sizeof watched[0] && status == TD_OK; i++) {
        status = net_signal_open(chat->loop, watched[i].number, watched[i].fn, chat, &signals[i]);
        if (status != TD_OK)
            td_fail(&error, status, "cannot watch signals");
    }
    signal(SIGPIPE, SIG_IGN);
    if (status == TD_OK)
        status = begin(chat, chat->loop, &error);
    if (status == TD_OK)
        net_loop_run(chat->loop);
    else
        chat->exit_status = fail(&error);
    chat_session_close(&chat->session);
    for (size_t i = 0; i < sizeof watched / sizeof watched[0]; i++)
        net_signal_close(signals[i]);
    if (chat->loop != NULL)
        net_loop_close(chat->loop);
    return chat->exit_status;
}

/* ---- which ---- */

static int talk_to(struct chat *chat, const char *url, const char *named_by)
{
    struct td_error error = {0};
    td_status_t status = chat_endpoint_set(&chat->config.endpoint, url, &error);

    if (status == TD_OK)
        status = chat_endpoint_set_key(&chat->config.endpoint, chat->options->api_key_file, &error);
    else
        td_fail_wrap(&error, "%s: ", named_by);
    if (status != TD_OK)
        return fail(&error);
    if (chat->config.endpoint.key[0] != '\0' && !chat->config.endpoint.is_encrypted &&
        !chat->config.endpoint.is_local)
        fprintf(stderr, "tandem chat: the API key travels unencrypted; https keeps it secret\n");
    return run_server(chat);
}

/* A file may have any name, also that of a host and a port. */
static bool names_server(const char *word)
{
    return chat_endpoint_is_url(word) && access(word, F_OK) != 0;
}

static int run(const OPTIONS *options, const char *word)
{
    struct chat *chat = calloc(1, sizeof *chat);
    const char *variable = getenv("OPENAI_BASE_URL");
    int exit_status;

    if (chat == NULL)
        return fail(&(struct td_error){TD_NO_MEMORY, "no memory"});
    chat->options = options;
    if (word != NULL && names_server(word))
        exit_status = talk_to(chat, word, "URL");
    else if (word != NULL)
        exit_status = run_file(chat, word);
    else if (variable != NULL && variable[0] != '\0')
        exit_status = talk_to(chat, variable, "OPENAI_BASE_URL");
    else
        exit_status = talk_to(chat, DEFAULT_URL, "URL");
    explicit_bzero(chat, sizeof *chat); /* the key is in it */
    free(chat);
    return exit_status;
}

int cli_chat(int argc, char **argv)
{
    OPTIONS options = {0};
    const struct td_flag_table tables[] = {
        cli_chat_table(&options),
        cli_chat_cluster_table(&options),
        cli_cluster_table(&options.cluster),
    };
    const struct td_flags flags = {
        .program = "tandem chat",
        .summary =
            "Talks with a model in the terminal: with any server of the OpenAI API, or with a "
            "model file, which is served for the time of the chat. Lines that begin with a "
            "slash are commands; /help lists them.",
        .usage = "[URL|MODEL] [flags]",
        .purpose = "talks with a model in the terminal",
        .about =
            "A URL without a path gets /v1; HOST:PORT is http. The chat's memory is what was said: "
            "all of it is sent with each question, and nothing is dropped when the model's context "
            "is "
            "full: the server says so, and /undo, /reset and /save are there.\n\n"
            "Ctrl-C stops an answer, on the server too, and keeps the chat; once more, or Ctrl-D, "
            "ends. "
            "Three double quotes begin and end a message of several lines. A message that begins "
            "with a slash is typed with two.\n\n"
            "If stdin is no terminal, each line is a message or a command, and stdout has the "
            "answers "
            "and nothing else; the first failure ends it with status 1.",
        .environment =
            "  OPENAI_BASE_URL   the server, if none is named; else http://127.0.0.1:8000\n"
            "  OPENAI_API_KEY    its key, unless --api-key-file names one\n"
            "  NO_COLOR, TERM    no dimmed text if NO_COLOR is set, or TERM is dumb\n",
        .statuses = "  0   the chat was ended, or all messages of a script were answered\n"
                    "  1   there is no such server or model, or in a script: an answer failed\n"
                    "  2   the command line or the environment is wrong; stderr names the flag\n",
        .see_also = "tandem(1), tandem-serve(1), editrc(5) for the keys that edit a line",
        .examples = examples,
        .tables = tables,
        .table_count = sizeof tables / sizeof tables[0],
    };
    struct td_flags_result result = {0};
    struct td_arena arena;
    int exit_status = net_program_flags(&flags, argc, argv, &arena, &result);

    if (exit_status < 0 && result.positionals.count > 1) {
        fprintf(stderr, "tandem chat: one URL or one model file is wanted; messages are typed, or "
                        "come through stdin\n");
        exit_status = NET_EXIT_USAGE;
    }
    if (exit_status < 0 && options.api_key_file != NULL && result.positionals.count > 0 &&
        !names_server(result.positionals.items[0])) {
        fprintf(stderr,
                "tandem chat: --api-key-file is for a server; %s is taken for a model file\n",
                result.positionals.items[0]);
        exit_status = NET_EXIT_USAGE;
    }
    if (exit_status < 0)
        exit_status =
            run(&options, result.positionals.count > 0 ? result.positionals.items[0] : NULL);
    td_arena_fini(&arena);
    return exit_status;
}
