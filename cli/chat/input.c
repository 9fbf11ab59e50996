/* input.c: the thread that reads lines, see input.h. */
#include "cli/chat/input.h"

#include <errno.h>
#include <locale.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <wchar.h>

#include <histedit.h>

#include "cli/chat/words.h"
#include "lib/base/buf.h"
#include "lib/base/utf8.h"

#define HISTORY_LINES  500
#define LINE_BYTES_MAX CHAT_MESSAGE_BYTES_MAX
#define READ_BYTES     4096

enum input_state { INPUT_IDLE, INPUT_ASKED, INPUT_READ, INPUT_CLOSING };

struct chat_input {
    struct chat_input_config config;
    struct net_wake *wake;
    pthread_t thread;
    int stop_fd; /* readable: give up reading */
    pthread_mutex_t mutex;
    pthread_cond_t changed;

    /* under the mutex */
    enum input_state state;
    const char *prompt;
    enum chat_input_kind kind;
    bool had_text;
    struct td_buf line; /* the thread's while INPUT_ASKED, else the loop's */

    /* the thread's */
    EditLine *editor;
    History *history;
    bool interrupted;
    char bytes[READ_BYTES]; /* read ahead, without a terminal */
    size_t next_byte;
    size_t byte_count;
};

/* ---- bytes ---- */

/* Waits for stdin. False: the input is being closed, or stdin is broken. */
static bool wait_for_bytes(struct chat_input *input)
{
    struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                           {.fd = input->stop_fd, .events = POLLIN}};

    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return false;
        if (fds[1].revents != 0)
            return false;
        if (fds[0].revents != 0)
            return true;
    }
}

static ssize_t read_bytes(struct chat_input *input, char *bytes, size_t size)
{
    ssize_t count;

    do {
        if (!wait_for_bytes(input))
            return 0;
        count = read(STDIN_FILENO, bytes, size);
    } while (count < 0 && (errno == EINTR || errno == EAGAIN));
    return count;
}

/* ---- with a terminal ---- */

/* libedit wants characters; ours are UTF-8 whatever the locale says. */
static int next_character(EditLine *editor, wchar_t *out)
{
    struct chat_input *input = NULL;
    char bytes[TD_UTF8_BYTES_MAX];
    size_t count = 0;

    el_get(editor, EL_CLIENTDATA, &input);
    while (count < sizeof bytes) {
        if (read_bytes(input, bytes + count, 1) != 1)
            return 0;
        count++;
        if (td_utf8_character(bytes, count) == count) {
            mbstate_t state = {0};

            if (mbrtowc(out, bytes, count, &state) <= count)
                return 1;
            break;
        }
    }
    *out = L'?';
    return 1;
}

static char *prompt_of(EditLine *editor)
{
    static char empty[] = "";
    struct chat_input *input = NULL;

    el_get(editor, EL_CLIENTDATA, &input);
    return input->prompt != NULL ? (char *)(uintptr_t)input->prompt : empty;
}

static unsigned char on_interrupt(EditLine *editor, int key)
{
    struct chat_input *input = NULL;
    const LineInfo *line = el_line(editor);

    (void)key;
    el_get(editor, EL_CLIENTDATA, &input);
    input->interrupted = true;
    input->had_text = line->lastchar > line->buffer;
    return CC_EOF;
}

/* Tab: the rest of a command's name, as far as it is certain. */
static unsigned char on_tab(EditLine *editor, int key)
{
    const LineInfo *line = el_line(editor);
    size_t length = (size_t)(line->cursor - line->buffer);
    const char *first;
    const char *other;
    size_t common;
    size_t next = 0;
    char rest[32];

    (void)key;
    if (length == 0 || line->buffer[0] != '/' || memchr(line->buffer, ' ', length) != NULL)
        return CC_ERROR;
    first = chat_command_matching(line->buffer + 1, length - 1, &next);
    if (first == NULL)
        return CC_ERROR;
    common = strlen(first);
    snprintf(rest, sizeof rest, "%s ", first + length - 1);
    while ((other = chat_command_matching(line->buffer + 1, length - 1, &next)) != NULL) {
        size_t same = 0;

        while (same < common && first[same] == other[same])
            same++;
        common = same;
        rest[common - (length - 1)] = '\0';
    }
    if (rest[0] == '\0' || el_insertstr(editor, rest) != 0)
        return CC_ERROR;
    return CC_REFRESH;
}

static bool open_editor(struct chat_input *input)
{
    HistEvent event;

    input->editor = el_init("tandem", stdin, input->config.echo, stderr);
    input->history = history_init();
    if (input->editor == NULL || input->history == NULL)
        return false;
    history(input->history, &event, H_SETSIZE, HISTORY_LINES);
    history(input->history, &event, H_SETUNIQUE, 1);
    el_set(input->editor, EL_CLIENTDATA, input);
    el_set(input->editor, EL_PROMPT, prompt_of);
    el_set(input->editor, EL_EDITOR, "emacs");
    el_set(input->editor, EL_HIST, history, input->history);
    el_set(input->editor, EL_GETCFN, next_character);
    el_set(input->editor, EL_BIND, "^R", "em-inc-search-prev", NULL);
    /* el_set would leak the two texts; el_wset takes them as they are */
    el_wset(input->editor, EL_ADDFN, L"tandem-tab", L"completes the name of a command", on_tab);
    el_set(input->editor, EL_BIND, "^I", "tandem-tab", NULL);
    el_source(input->editor, NULL); /* the user's ~/.editrc */
    /* Ctrl-C as a key while a line is edited, and only then */
    el_wset(input->editor, EL_ADDFN, L"tandem-interrupt", L"gives the line up", on_interrupt);
    el_set(input->editor, EL_SETTY, "-d", "-isig", NULL);
    el_set(input->editor, EL_BIND, "^C", "tandem-interrupt", NULL);
    return true;
}

static void close_editor(struct chat_input *input)
{
    if (input->editor != NULL)
        el_end(input->editor); /* before the history, which it looks into */
    if (input->history != NULL)
        history_end(input->history);
}

static enum chat_input_kind edit_line(struct chat_input *input)
{
    const char *line;
    int count = 0;
    HistEvent event;

    input->interrupted = false;
    el_resize(input->editor);
    line = el_gets(input->editor, &count);
    if (input->interrupted || line == NULL || count <= 0) {
        fputs(input->interrupted ? "^C\n" : "\n", input->config.echo);
        fflush(input->config.echo);
        return input->interrupted ? CHAT_INPUT_INTERRUPT : CHAT_INPUT_END;
    }
    td_buf_append(&input->line, line, (size_t)count);
    if (count > 1)
        history(input->history, &event, H_ENTER, line);
    return CHAT_INPUT_LINE;
}

/* ---- without one ---- */

static enum chat_input_kind read_line(struct chat_input *input)
{
    for (;;) {
        char *start = input->bytes + input->next_byte;
        size_t count = input->byte_count - input->next_byte;
        char *end = count > 0 ? memchr(start, '\n', count) : NULL;
        ssize_t more;

        td_buf_append(&input->line, start, end != NULL ? (size_t)(end - start) : count);
        if (end != NULL) {
            input->next_byte += (size_t)(end - start) + 1;
            return CHAT_INPUT_LINE;
        }
        more = read_bytes(input, input->bytes, sizeof input->bytes);
        input->next_byte = 0;
        input->byte_count = more > 0 ? (size_t)more : 0;
        if (more <= 0)
            return input->line.length > 0 ? CHAT_INPUT_LINE : CHAT_INPUT_END;
    }
}

/* ---- the thread ---- */

static enum chat_input_kind read_one(struct chat_input *input)
{
    enum chat_input_kind kind;

    td_buf_clear(&input->line);
    kind = input->editor != NULL ? edit_line(input) : read_line(input);
    td_buf_append(&input->line, "", 0); /* so that there is a text, if only an empty one */
    for (size_t i = 0; i < input->line.length; i++)
        if (input->line.data[i] == '\0') /* a text would end there without a word */
            input->line.data[i] = ' ';
    return input->line.status == TD_OK ? kind : CHAT_INPUT_END;
}

static void *run(void *ctx)
{
    struct chat_input *input = ctx;

    pthread_mutex_lock(&input->mutex);
    while (input->state != INPUT_CLOSING) {
        enum chat_input_kind kind;

        if (input->state != INPUT_ASKED) {
            pthread_cond_wait(&input->changed, &input->mutex);
            continue;
        }
        pthread_mutex_unlock(&input->mutex);
        kind = read_one(input);
        pthread_mutex_lock(&input->mutex);
        if (input->state == INPUT_CLOSING)
            break;
        input->kind = kind;
        input->state = INPUT_READ;
        net_wake_send(input->wake); /* under the mutex, so that a close cannot come between */
    }
    pthread_mutex_unlock(&input->mutex);
    return NULL;
}

static void on_wake(void *ctx)
{
    struct chat_input *input = ctx;
    bool is_read;

    pthread_mutex_lock(&input->mutex);
    is_read = input->state == INPUT_READ;
    if (is_read)
        input->state = INPUT_IDLE;
    pthread_mutex_unlock(&input->mutex);
    if (is_read)
        input->config.on_input(input->config.ctx, input->kind, input->line.data, input->had_text);
}

/* Signals are the loop's. */
static bool start_thread(struct chat_input *input)
{
    sigset_t all;
    sigset_t old;
    bool good;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    good = pthread_create(&input->thread, NULL, run, input) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return good;
}

static void destroy(struct chat_input *input)
{
    close_editor(input);
    net_wake_close(input->wake);
    if (input->stop_fd >= 0)
        close(input->stop_fd);
    pthread_cond_destroy(&input->changed);
    pthread_mutex_destroy(&input->mutex);
    td_buf_fini(&input->line);
    free(input);
}

td_status_t chat_input_open(const struct chat_input_config *config, struct chat_input **input_out,
                            struct td_error *error)
{
    struct chat_input *input = calloc(1, sizeof *input);

    if (input == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for the input");
    input->config = *config;
    td_buf_init(&input->line, LINE_BYTES_MAX);
    pthread_mutex_init(&input->mutex, NULL);
    pthread_cond_init(&input->changed, NULL);
    input->stop_fd = eventfd(0, EFD_CLOEXEC);
    /* what is typed and shown is UTF-8 also where the locale is not set */
    if (setlocale(LC_CTYPE, "C.UTF-8") == NULL)
        setlocale(LC_CTYPE, "");
    if (input->stop_fd < 0 || (config->echo != NULL && !open_editor(input)) ||
        net_wake_open(config->loop, on_wake, input, &input->wake) != TD_OK ||
        !start_thread(input)) {
        destroy(input);
        return td_fail(error, TD_IO, "cannot read from the terminal");
    }
    *input_out = input;
    return TD_OK;
}

void chat_input_ask(struct chat_input *input, const char *prompt)
{
    pthread_mutex_lock(&input->mutex);
    input->prompt = prompt;
    input->state = INPUT_ASKED;
    pthread_cond_signal(&input->changed);
    pthread_mutex_unlock(&input->mutex);
}

void chat_input_close(struct chat_input *input)
{
    uint64_t one = 1;

    if (input == NULL)
        return;
    pthread_mutex_lock(&input->mutex);
    input->state = INPUT_CLOSING;
    pthread_cond_signal(&input->changed);
    pthread_mutex_unlock(&input->mutex);
    if (write(input->stop_fd, &one, sizeof one) != (ssize_t)sizeof one)
        abort(); /* an eventfd takes its first number */
    pthread_join(input->thread, NULL);
    destroy(input);
}
