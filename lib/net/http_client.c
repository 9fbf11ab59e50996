/*
 * http_client.c: libcurl's multi interface on the loop, see http_client.h.
 *
 * libcurl says which sockets it waits for and when it wants to be called (socket_wanted,
 * timer_wanted); the loop's events go to curl_multi_socket_action, the only place from which the
 * caller's on_head and on_body are reached. There nothing of libcurl may be torn down, so a cancel or close
 * from inside them is noted and done when libcurl has returned (settle).
 */
#include "lib/net/http_client.h"

#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>

#include "lib/base/time.h"
#include "lib/net/loop.h"

#define CONNECT_MS_DEFAULT 5000
#define URL_BYTES_MAX      16384
#define HEADERS_BYTES_MAX  65536 /* of one field of a request */

struct http_client {
    struct net_loop *loop;
    CURLM *multi;
    char *origin; /* with scheme, without a slash at the end */
    struct net_timer timer;
    bool in_curl; /* curl_multi_socket_action is running */
    bool canceled;
    bool closed;

    /* the request; easy is NULL between requests */
    CURL *easy;
    struct curl_slist *headers;
    const struct http_client_callbacks *callbacks;
    void *ctx;
    struct net_timer silence;
    uint32_t silence_ms;
    uint64_t body_left;
    size_t head_bytes;
    bool has_head;
    td_status_t failure; /* ours, which made libcurl stop */
    char error[CURL_ERROR_SIZE];
};

/* A socket that libcurl waits for. */
struct watched {
    struct http_client *client;
    struct net_poll *poll;
    curl_socket_t fd;
};

/* ---- the end of a request ---- */

static void drop_request(struct http_client *client)
{
    net_timer_cancel(&client->silence);
    if (client->easy == NULL)
        return;
    curl_multi_remove_handle(client->multi, client->easy);
    curl_easy_cleanup(client->easy);
    curl_slist_free_all(client->headers);
    client->easy = NULL;
    client->headers = NULL;
}

static void destroy(struct http_client *client)
{
    drop_request(client);
    curl_multi_cleanup(client->multi); /* asks for no sockets and no timer from here on */
    net_timer_cancel(&client->timer);
    curl_global_cleanup();
    free(client->origin);
    free(client);
}

/* on_end may do anything to the client: the caller does not touch it afterwards. */
static void finish(struct http_client *client, td_status_t status, const char *reason)
{
    const struct http_client_callbacks *callbacks = client->callbacks;
    void *ctx = client->ctx;
    char text[CURL_ERROR_SIZE];

    strncpy(text, reason, sizeof text - 1);
    text[sizeof text - 1] = '\0';
    drop_request(client);
    callbacks->on_end(ctx, status, text);
}

static td_status_t status_of(CURLcode code)
{
    switch (code) {
    case CURLE_OK: return TD_OK;
    case CURLE_OPERATION_TIMEDOUT: return TD_TIMEOUT;
    case CURLE_OUT_OF_MEMORY: return TD_NO_MEMORY;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_PARTIAL_FILE:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_GOT_NOTHING: return TD_PEER_LOST;
    case CURLE_PEER_FAILED_VERIFICATION: return TD_REFUSED;
    case CURLE_URL_MALFORMAT:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL: return TD_INVALID; /* the latter: an answer without a head */
    default: return TD_IO;
    }
}

static void finish_curl(struct http_client *client, CURLcode code)
{
    if (code == CURLE_OK)
        finish(client, TD_OK, "");
    else if (client->failure != TD_OK)
        finish(client, client->failure, "the answer is larger than allowed");
    else
        finish(client, status_of(code),
               client->error[0] != '\0' ? client->error : curl_easy_strerror(code));
}

/* libcurl has returned: does what could not be done inside it. */
static void settle(struct http_client *client, CURLMcode result)
{
    CURLMsg *message;
    int left;

    if (client->closed) {
        destroy(client);
        return;
    }
    if (client->canceled) {
        client->canceled = false;
        drop_request(client);
        return;
    }
    if (client->easy == NULL)
        return;
    if (result != CURLM_OK) {
        finish(client, result == CURLM_OUT_OF_MEMORY ? TD_NO_MEMORY : TD_IO,
               curl_multi_strerror(result));
        return;
    }
    message = curl_multi_info_read(client->multi, &left);
    if (message != NULL && message->msg == CURLMSG_DONE)
        finish_curl(client, message->data.result);
}

static void drive(struct http_client *client, curl_socket_t fd, int events)
{
    CURLMcode result;
    int running;

    client->in_curl = true;
    result = curl_multi_socket_action(client->multi, fd, events, &running);
    client->in_curl = false;
    settle(client, result);
}

/* ---- the loop's events ---- */

static void timer_due(struct net_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    drive(td_container_of(timer, struct http_client, timer), CURL_SOCKET_TIMEOUT, 0);
}

static void silence_due(struct net_timer *timer, uint64_t now_ns)
{
    struct http_client *client = td_container_of(timer, struct http_client, silence);

    (void)now_ns;
    finish(client, TD_TIMEOUT, "the server has said nothing for too long");
}

static void socket_ready(void *ctx, unsigned events)
{
    struct watched *watched = ctx;
    int action = 0;

    if (events & NET_READABLE)
        action |= CURL_CSELECT_IN;
    if (events & NET_WRITABLE)
        action |= CURL_CSELECT_OUT;
    if (events & NET_BROKEN)
        action |= CURL_CSELECT_ERR;
    drive(watched->client, watched->fd, action);
}

/* ---- what libcurl wants ---- */

static int timer_wanted(CURLM *multi, long delay_ms, void *ctx)
{
    struct http_client *client = ctx;

    (void)multi;
    if (delay_ms < 0)
        net_timer_cancel(&client->timer);
    else
        net_timer_set_in(&client->timer, (uint64_t)delay_ms);
    return 0;
}

static struct watched *watch(struct http_client *client, curl_socket_t fd)
{
    struct watched *watched = calloc(1, sizeof *watched);

    if (watched == NULL)
        return NULL;
    watched->client = client;
    watched->fd = fd;
    if (net_poll_open(client->loop, fd, socket_ready, watched, &watched->poll) != TD_OK) {
        free(watched);
        return NULL;
    }
    curl_multi_assign(client->multi, fd, watched); /* fails for unknown sockets only */
    return watched;
}

static int socket_wanted(CURL *easy, curl_socket_t fd, int what, void *ctx, void *socket_ctx)
{
    struct http_client *client = ctx;
    struct watched *watched = socket_ctx;

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (watched != NULL)
            net_poll_close(watched->poll);
        free(watched);
        return 0;
    }
    if (watched == NULL)
        watched = watch(client, fd);
    if (watched == NULL)
        return -1;
    net_poll_set(watched->poll, ((what & CURL_POLL_IN) ? (unsigned)NET_READABLE : 0) |
                                    ((what & CURL_POLL_OUT) ? (unsigned)NET_WRITABLE : 0));
    return 0;
}

/* ---- what comes ---- */

static void heard(struct http_client *client)
{
    if (client->silence_ms > 0)
        net_timer_set_in(&client->silence, client->silence_ms);
}

/* Whether libcurl shall go on after a callback of the caller. */
static bool wants_more(const struct http_client *client)
{
    return !client->canceled && !client->closed;
}

/* A line of a head: of an interim answer, of the answer, or of its trailers. */
static size_t head_line(char *line, size_t size, size_t count, void *ctx)
{
    struct http_client *client = ctx;
    size_t length = size * count;
    bool is_blank = length <= 2 && (line[0] == '\r' || line[0] == '\n');
    long status = 0;

    heard(client);
    client->head_bytes += length;
    if (client->head_bytes > HTTP_CLIENT_HEAD_BYTES_MAX) {
        client->failure = TD_LIMIT;
        return CURL_WRITEFUNC_ERROR;
    }
    curl_easy_getinfo(client->easy, CURLINFO_RESPONSE_CODE, &status);
    if (!is_blank || client->has_head || status < 200)
        return length;
    client->has_head = true;
    if (client->callbacks->on_head != NULL)
        client->callbacks->on_head(client->ctx, (int)status);
    return wants_more(client) ? length : CURL_WRITEFUNC_ERROR;
}

static size_t body_bytes(char *bytes, size_t size, size_t count, void *ctx)
{
    struct http_client *client = ctx;
    size_t length = size * count;

    heard(client);
    if (length > client->body_left) {
        client->failure = TD_LIMIT;
        return CURL_WRITEFUNC_ERROR;
    }
    client->body_left -= length;
    if (client->callbacks->on_body != NULL && length > 0)
        client->callbacks->on_body(client->ctx, bytes, length);
    return wants_more(client) ? length : CURL_WRITEFUNC_ERROR;
}

const char *http_client_header(const struct http_client *client, const char *name)
{
    struct curl_header *header;

    if (client->easy == NULL ||
        curl_easy_header(client->easy, name, 0, CURLH_HEADER, -1, &header) != CURLHE_OK)
        return NULL;
    return header->value;
}

/* ---- asking ---- */

static td_status_t add_header(struct curl_slist **list, const char *name, const char *value)
{
    struct curl_slist *longer;
    struct td_buf line;

    td_buf_init(&line, HEADERS_BYTES_MAX);
    td_buf_append_text(&line, name);
    if (value == NULL || value[0] == '\0')
        td_buf_append_char(&line, value == NULL ? ':' : ';'); /* left out; sent without a value */
    else
        td_buf_printf(&line, ": %s", value);
    longer = line.status == TD_OK ? curl_slist_append(*list, line.data) : NULL;
    td_buf_fini(&line);
    if (longer == NULL)
        return line.status != TD_OK ? line.status : TD_NO_MEMORY;
    *list = longer;
    return TD_OK;
}

static td_status_t make_headers(const struct http_client_request *request, struct curl_slist **out)
{
    td_status_t status = TD_OK;

    if (request->body !=
        NULL) /* libcurl would call it a form; a caller's own comes later and wins */
        status = add_header(out, "Content-Type", NULL);
    for (size_t i = 0; i < request->header_count && status == TD_OK; i++) {
        const struct http_header *header = &request->headers[i];

        if (!http1_is_token(header->name, strlen(header->name)) ||
            !http1_is_value(header->value, strlen(header->value)))
            return TD_INVALID;
        status = add_header(out, header->name, header->value);
    }
    return status;
}

/* Nothing that a caller passes for a path may end the request line. */
static bool is_path(const char *path)
{
    if (path[0] != '/')
        return false;
    for (const char *c = path; *c != '\0'; c++)
        if ((unsigned char)*c <= ' ' || (unsigned char)*c >= 0x7f || *c == '#')
            return false;
    return true;
}

static td_status_t set_url(struct http_client *client, const char *path)
{
    td_status_t status;
    struct td_buf url;

    td_buf_init(&url, URL_BYTES_MAX);
    td_buf_append_text(&url, client->origin);
    td_buf_append_text(&url, path);
    status = url.status;
    if (status == TD_OK && curl_easy_setopt(client->easy, CURLOPT_URL, url.data) != CURLE_OK)
        status = TD_NO_MEMORY;
    td_buf_fini(&url);
    return status;
}

static td_status_t set_method(struct http_client *client, const struct http_client_request *request)
{
    CURL *easy = client->easy;
    CURLcode code = CURLE_OK;

    curl_easy_setopt(easy, CURLOPT_NOBODY, request->method == HTTP_HEAD ? 1L : 0L);
    if (request->body != NULL) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_length);
        code = curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, request->body);
    }
    if (code == CURLE_OK)
        code = curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, http_method_name(request->method));
    return code == CURLE_OK ? TD_OK : TD_NO_MEMORY;
}

static void set_manners(struct http_client *client, const struct http_client_request *request)
{
    uint32_t connect_ms = request->connect_ms != 0 ? request->connect_ms : CONNECT_MS_DEFAULT;
    CURL *easy = client->easy;

    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "tandem");
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, client->headers);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)connect_ms);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)request->deadline_ms);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, client->error);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, head_line);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, client);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, body_bytes);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, client);
}

static td_status_t set_request(struct http_client *client,
                               const struct http_client_request *request)
{
    td_status_t status = make_headers(request, &client->headers);

    if (status == TD_OK)
        status = set_url(client, request->path);
    if (status == TD_OK)
        status = set_method(client, request);
    if (status != TD_OK)
        return status;
    set_manners(client, request);
    return curl_multi_add_handle(client->multi, client->easy) == CURLM_OK ? TD_OK : TD_IO;
}

td_status_t http_client_ask(struct http_client *client, const struct http_client_request *request,
                            const struct http_client_callbacks *callbacks, void *ctx)
{
    td_status_t status;

    if (client->easy != NULL)
        return TD_STATE;
    if (!is_path(request->path))
        return TD_INVALID;
    client->easy = curl_easy_init();
    if (client->easy == NULL)
        return TD_NO_MEMORY;
    client->callbacks = callbacks;
    client->ctx = ctx;
    client->silence_ms = request->silence_ms;
    client->body_left = request->body_bytes_max != 0 ? request->body_bytes_max : UINT64_MAX;
    client->head_bytes = 0;
    client->has_head = false;
    client->failure = TD_OK;
    client->error[0] = '\0';
    status = set_request(client, request);
    if (status != TD_OK)
        drop_request(client);
    else
        heard(client);
    return status;
}

void http_client_cancel(struct http_client *client)
{
    if (client->in_curl)
        client->canceled = true;
    else
        drop_request(client);
}

/* ---- life ---- */

/* The origin with a scheme and without a slash at the end. */
static char *normalize(const char *origin)
{
    struct td_buf text;
    size_t length;
    char *taken;

    td_buf_init(&text, URL_BYTES_MAX);
    if (strstr(origin, "://") == NULL)
        td_buf_append_text(&text, "http://");
    td_buf_append_text(&text, origin);
    if (text.status == TD_OK && text.data[text.length - 1] == '/')
        text.data[--text.length] = '\0';
    taken = td_buf_take(&text, &length);
    td_buf_fini(&text);
    return taken;
}

static bool has_part(CURLU *url, CURLUPart part)
{
    char *value = NULL;
    bool has = curl_url_get(url, part, &value, 0) == CURLUE_OK;

    curl_free(value);
    return has;
}

static td_status_t check_origin(const char *origin, struct td_error *error)
{
    CURLU *url = curl_url();
    char *scheme = NULL;
    bool good;

    if (url == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for an HTTP client");
    good = curl_url_set(url, CURLUPART_URL, origin, 0) == CURLUE_OK &&
           curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
           (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0) &&
           !has_part(url, CURLUPART_USER) && !has_part(url, CURLUPART_QUERY) &&
           !has_part(url, CURLUPART_FRAGMENT);
    curl_free(scheme);
    curl_url_cleanup(url);
    return good ? TD_OK
                : td_fail(error, TD_INVALID,
                          "\"%s\" is not an address like 127.0.0.1:8000 or http://host:8000",
                          origin);
}

static td_status_t open_multi(struct http_client *client, struct td_error *error)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return td_fail(error, TD_INTERNAL, "libcurl does not start");
    client->multi = curl_multi_init();
    if (client->multi == NULL) {
        curl_global_cleanup();
        return td_fail(error, TD_NO_MEMORY, "no memory for an HTTP client");
    }
    curl_multi_setopt(client->multi, CURLMOPT_SOCKETFUNCTION, socket_wanted);
    curl_multi_setopt(client->multi, CURLMOPT_SOCKETDATA, client);
    curl_multi_setopt(client->multi, CURLMOPT_TIMERFUNCTION, timer_wanted);
    curl_multi_setopt(client->multi, CURLMOPT_TIMERDATA, client);
    return TD_OK;
}

td_status_t http_client_open(struct net_loop *loop, const char *origin,
                             struct http_client **client_out, struct td_error *error)
{
    struct http_client *client = calloc(1, sizeof *client);
    td_status_t status = TD_NO_MEMORY;

    if (client == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for an HTTP client");
    client->loop = loop;
    net_timer_init(&client->timer, loop, timer_due);
    net_timer_init(&client->silence, loop, silence_due);
    client->origin = normalize(origin);
    if (client->origin == NULL)
        td_fail(error, TD_NO_MEMORY, "no memory for an HTTP client");
    else
        status = check_origin(client->origin, error);
    if (status == TD_OK)
        status = open_multi(client, error);
    if (status != TD_OK) {
        free(client->origin);
        free(client);
        return status;
    }
    *client_out = client;
    return TD_OK;
}

void http_client_close(struct http_client *client)
{
    if (client == NULL)
        return;
    if (client->in_curl)
        client->closed = true;
    else
        destroy(client);
}
