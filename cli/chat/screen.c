/* screen.c: see screen.h. */
#include "cli/chat/screen.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_BYTES 2048

static const char dim[] = "\033[2m";
static const char plain[] = "\033[0m";

void chat_screen_init(struct chat_screen *screen)
{
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");

    *screen = (struct chat_screen){.is_typed = isatty(STDIN_FILENO),
                                   .is_terminal = isatty(STDOUT_FILENO)};
    screen->notes = screen->is_terminal ? stdout : stderr;
    screen->has_color = isatty(fileno(screen->notes)) &&
                        (no_color == NULL || no_color[0] == '\0') && term != NULL &&
                        strcmp(term, "dumb") != 0;
    td_buf_init(&screen->buf, 4 * CLI_ANSWER_TEXT_MAX);
}

void chat_screen_fini(struct chat_screen *screen)
{
    td_buf_fini(&screen->buf);
}

static void write_out(struct chat_screen *screen, const char *bytes, size_t length)
{
    if (length == 0)
        return;
    screen->has_failed |= fwrite(bytes, 1, length, stdout) != length || fflush(stdout) != 0;
    screen->in_line = bytes[length - 1] != '\n';
}

static void set_dim(struct chat_screen *screen, bool on)
{
    if (screen->is_dim == on)
        return;
    screen->is_dim = on;
    if (screen->is_terminal && screen->has_color)
        fputs(on ? dim : plain, stdout);
}

static void write_safely(struct chat_screen *screen, const char *text, size_t length)
{
    if (!screen->is_terminal) {
        write_out(screen, text, length);
        return;
    }
    td_buf_clear(&screen->buf);
    cli_printable_feed(&screen->printable, text, length, &screen->buf);
    write_out(screen, screen->buf.data, screen->buf.length);
}

void chat_screen_piece(struct chat_screen *screen, enum cli_piece piece, const char *text,
                       size_t length)
{
    if (piece == CLI_PIECE_REASONING && !screen->is_typed)
        return;
    if (piece == CLI_PIECE_TEXT && screen->piece == CLI_PIECE_REASONING)
        write_safely(screen, screen->in_line ? "\n\n" : "\n", screen->in_line ? 2 : 1);
    set_dim(screen, piece == CLI_PIECE_REASONING);
    screen->piece = piece;
    write_safely(screen, text, length);
}

void chat_screen_end_answer(struct chat_screen *screen)
{
    if (screen->is_terminal) {
        td_buf_clear(&screen->buf);
        cli_printable_end(&screen->printable, &screen->buf);
        write_out(screen, screen->buf.data, screen->buf.length);
    }
    set_dim(screen, false);
    if (screen->in_line)
        write_out(screen, "\n", 1);
    screen->piece = CLI_PIECE_TEXT;
    fflush(stdout);
}

void chat_screen_note(struct chat_screen *screen, const char *format, ...)
{
    char line[LINE_BYTES];
    char safe[LINE_BYTES];
    va_list arguments;

    if (!screen->is_typed)
        return;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    fprintf(screen->notes, "%s%s%s\n", screen->has_color ? dim : "",
            cli_printable_line(line, safe, sizeof safe), screen->has_color ? plain : "");
    fflush(screen->notes);
}

void chat_screen_text(struct chat_screen *screen, const char *text)
{
    struct cli_printable printable = {0};

    if (!screen->is_typed)
        return;
    td_buf_clear(&screen->buf);
    cli_printable_feed(&printable, text, strlen(text), &screen->buf);
    cli_printable_end(&printable, &screen->buf);
    if (screen->buf.status == TD_OK && screen->buf.length > 0)
        fputs(screen->buf.data, screen->notes);
    fflush(screen->notes);
}

void chat_screen_problem(const struct chat_screen *screen, const char *format, ...)
{
    char line[LINE_BYTES];
    char safe[LINE_BYTES];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    fflush(stdout);
    fprintf(stderr, "%s%s\n",
            screen->is_typed ? "" : "tandem chat: ", cli_printable_line(line, safe, sizeof safe));
}
