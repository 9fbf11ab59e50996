/*
 * flags.h: one table per program gives flag, environment name, default, range, help and documentation.
 *
 *     struct options { uint32_t port; uint64_t idle_ms; struct td_flag_list schedulers; bool insecure; };
 *     static const struct td_flag serving[] = {
 *         {TD_FLAG_AS_UINT32(struct options, port), .name = "port", .value = "PORT", .fallback = "8000",
 *          .min = 1, .max = 65535, .help = "Port of the OpenAI API."},
 *         {TD_FLAG_AS_DURATION(struct options, idle_ms), .name = "idle-timeout", .fallback = "75s",
 *          .min = 1000, .max = 3600000, .help = "Idle connections are closed after this."},
 *         {TD_FLAG_AS_BOOL(struct options, insecure), .name = "insecure", .help = "..."},
 *     };
 *
 * A command line says --port 8000 or --port=8000, --insecure or --no-insecure; "--" ends the flags;
 * what is no flag is a positional word and stays the caller's. A list is given by commas, by
 * repeating the flag, or both. Every flag has an environment name: --idle-timeout is
 * TANDEM_IDLE_TIMEOUT; an empty variable counts as absent. A flag wins over the environment, which
 * wins over the default. (A file of settings will come between the last two: every source goes
 * through the same function with the name by which errors call it.)
 *
 * Several tables with several option structs make one program, so that what many programs share
 * (limits, logging, certificates) is written once. Subcommands are the caller's: look at the first
 * word and parse the rest with that command's tables. Call at start, from one thread.
 */
#ifndef TANDEM_LIB_BASE_FLAGS_H
#define TANDEM_LIB_BASE_FLAGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/status.h"

enum td_flag_kind {
    TD_FLAG_BOOL = 1,   /* bool */
    TD_FLAG_UINT32,     /* uint32_t */
    TD_FLAG_INT64,      /* int64_t */
    TD_FLAG_BYTES,      /* uint64_t: "4096", "64KiB", "512MiB", "1GB" (decimal), "512Mi" */
    TD_FLAG_DURATION,   /* uint64_t in milliseconds: "0", "250ms", "30s", "5m", "2h" */
    TD_FLAG_DURATION32, /* the same in a uint32_t, where max fits */
    TD_FLAG_TEXT,       /* const char *: NULL if there is no default */
    TD_FLAG_LIST,       /* struct td_flag_list */
    TD_FLAG_CHOICE,     /* unsigned, or an enum whose values count the choices from 0 */
};

/* Words; the items live in the arena given to td_flags_parse, or are argv's. */
struct td_flag_list {
    char *const *items;
    size_t count;
};

struct td_flag {
    const char *name; /* without dashes: "kv-transport" */
    enum td_flag_kind kind;
    size_t offset;              /* of the value in the table's option struct */
    const char *value;          /* what stands for the value in help: "PORT"; NULL: by kind */
    const char *fallback;       /* the default as a person would type it; NULL: false, 0, none */
    int64_t min;                /* numbers, bytes and milliseconds: inclusive bounds; */
    int64_t max;                /* both 0: what the type holds */
    const char *const *choices; /* TD_FLAG_CHOICE: NULL-terminated */
    const char *help;           /* one or two sentences */
};

/* kind and offset of a flag; does not compile if the member has another type. */
#define TD_FLAG_AT(type, member, kind_, member_type) \
    .kind = (kind_), .offset = _Generic(((type *)0)->member, member_type : offsetof(type, member))
#define TD_FLAG_AS_BOOL(type, member)   TD_FLAG_AT(type, member, TD_FLAG_BOOL, bool)
#define TD_FLAG_AS_UINT32(type, member) TD_FLAG_AT(type, member, TD_FLAG_UINT32, uint32_t)
#define TD_FLAG_AS_INT64(type, member)  TD_FLAG_AT(type, member, TD_FLAG_INT64, int64_t)
#define TD_FLAG_AS_BYTES(type, member)  TD_FLAG_AT(type, member, TD_FLAG_BYTES, uint64_t)
#define TD_FLAG_AS_DURATION(type, member)          \
    .kind = _Generic(((type *)0)->member, uint64_t \
                     : TD_FLAG_DURATION, uint32_t  \
                     : TD_FLAG_DURATION32),        \
    .offset = offsetof(type, member)
#define TD_FLAG_AS_TEXT(type, member)   TD_FLAG_AT(type, member, TD_FLAG_TEXT, const char *)
#define TD_FLAG_AS_LIST(type, member)   TD_FLAG_AT(type, member, TD_FLAG_LIST, struct td_flag_list)
#define TD_FLAG_AS_CHOICE(type, member) TD_FLAG_AT(type, member, TD_FLAG_CHOICE, unsigned)

struct td_flag_table {
    const char *group; /* heading in help and documentation: "Serving" */
    const struct td_flag *flags;
    size_t count;
    void *options; /* the struct that the offsets refer to */
};

struct td_flags {
    const char *program;  /* "tandem-router", "tandem serve" */
    const char *summary;  /* one sentence: what it does */
    const char *usage;    /* what follows the program's name: "MODEL [flags]" */
    const char *examples; /* lines that can be pasted, each ended by '\n'; NULL: none */
    const struct td_flag_table *tables;
    size_t table_count;

    /* For help that teaches; each may be NULL. */
    const char *purpose;     /* "serves a model on this host"; NULL: the summary's first sentence */
    const char *about;       /* paragraphs, a blank line between them */
    const char *environment; /* variables beside those of flags: lines "  NAME   text\n" */
    const char *statuses;    /* exit statuses, likewise; NULL: those that all programs have */
    const char *see_also;    /* "tandem-serve(1), tandem-chat(1)" */
};

struct td_flags_result {
    bool help;    /* --help or -h was among the words; nothing behind it was looked at */
    bool version; /* --version, likewise */
    struct td_flag_list positionals;
};

/*
 * td_flags_parse: set all options from defaults, environment and words (argv without argv[0]).
 *
 * TD_INVALID: error names the flag or variable, says what is allowed, and for an unknown flag the
 * nearest known one. TD_NO_MEMORY or TD_LIMIT: the arena. Options may be partly set after an error.
 * Texts point into argv, the arena or the table.
 */
td_status_t td_flags_parse(const struct td_flags *flags, struct td_arena *arena,
                           struct td_flag_list words, struct td_flags_result *result_out,
                           struct td_error *error) TD_MUST_USE;

/* Sets the defaults of one table whose flags are not lists. */
void td_flags_defaults(const struct td_flag_table *table);

/* Appends the text of --help. */
void td_flags_print_help(const struct td_flags *flags, struct td_buf *out);

/* Appends a page of section 1 for man, in the macros of man(7). version: "0.1.0". */
void td_flags_print_man(const struct td_flags *flags, const char *version, struct td_buf *out);

/*
 * Appends what the last of the words may become, for the completion of shells: lines "CANDIDATE TAB text",
 * and a last line that says what else would do: ":files", ":folders", or ":" for nothing. What is a file is
 * known by what stands for the value in help: MODEL, FILE, PATH, DIR. "=" alone is the way in which bash
 * hands over "--flag=value".
 */
void td_flags_complete(const struct td_flags *flags, struct td_flag_list words, struct td_buf *out);

/* What nobody types: the first word asks for one of the two above. */
#define TD_FLAGS_WORD_COMPLETE "--complete"
#define TD_FLAGS_WORD_MAN      "--man"

/* If the first word is one of these, appends what it asks for. False: it is an ordinary command line. */
bool td_flags_answer(const struct td_flags *flags, struct td_flag_list words, const char *version,
                     struct td_buf *out);

/* Appends a Markdown table of one group, for docs/operations.md. */
void td_flags_print_markdown(const struct td_flag_table *table, struct td_buf *out);

#endif
