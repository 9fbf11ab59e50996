/*
 * front_support.h: a front on a loop of its own, over a backend that says what the test tells it to.
 *
 * The model has a token for each byte and a few control tokens, so that a test can say text in any
 * pieces and count tokens by counting bytes. A test drives the backend from its own thread; each call
 * returns when the loop has done it. test_front_stop fails if the front lets anything live on: an
 * exchange, a request at the backend, a descriptor.
 */
#ifndef TANDEM_TESTS_FRONT_FRONT_SUPPORT_H
#define TANDEM_TESTS_FRONT_FRONT_SUPPORT_H

#include "front/front.h"
#include "lib/base/json.h"
#include "lib/net/address.h"
#include "tests/net/net_support.h"

#define TEST_MODEL        "tiny/byte model"
#define TEST_ALIAS        "alias"
#define TEST_CONTEXT      1024
#define TEST_CALLS_MAX    64
#define TEST_POOL_THREADS 4   /* libuv's */
#define TEST_TOKEN_START  256 /* <|im_start|> */
#define TEST_TOKEN_END    257 /* <|im_end|>: ends an answer */
#define TEST_TOKEN_COUNT  258

/* The byte model: ChatML; a message of role developer is refused by its template. */
struct text_model *test_byte_model_open(void);

/* The same with another template. */
struct text_model *test_template_model_open(const char *chat_template);

/* One request at the backend. */
struct test_call {
    struct front_exchange *exchange;
    struct front_job job; /* its tokens are here until the test ends */
    char model[64];
    bool stopped;
    bool abandoned;
    bool ended;
};

struct test_front {
    struct test_loop loop;
    struct front *front;
    struct front_config config; /* the rest is filled in by test_front_start */
    char address[NET_ADDRESS_BYTES_MAX];
    struct text_model *text;
    int descriptors;
    bool closing;

    /* the backend: a test may change these before it starts the front, or by test_front_set */
    td_status_t start_status;
    uint32_t retry_after_ms;
    td_status_t model_status;
    bool without_text;
    bool unready;
    bool unhealthy;

    struct test_call calls[TEST_CALLS_MAX];
    uint32_t call_count;
    struct test_event started;
    struct test_event stopped;
    struct test_event abandoned;
    struct test_event drained;
    struct test_event closed;

    sem_t pool; /* keeps the threads of the pool while they wait for it */
    struct test_event pool_taken;
    struct test_event pool_left;
};

/* Defaults: pings after an hour, the limits' defaults. */
void test_front_init(struct test_front *front);
void test_front_start(struct test_front *front);
void test_front_stop(struct test_front *front);

/* cmocka fixtures: *state is a struct test_front that is initialised, or started too. */
int test_front_setup_init(void **state);
int test_front_setup(void **state);
int test_front_teardown(void **state);

/* The i-th request, which has started or is about to. Wait for `started` before. */
struct test_call *test_front_call(struct test_front *front, uint32_t index);

/* The backend says these bytes, each as a token, in one call. */
void test_front_say(struct test_front *front, struct test_call *call, const char *text);
void test_front_tokens(struct test_front *front, struct test_call *call, const uint32_t *tokens,
                       uint32_t count);

/* The backend ends in order, with as many completion tokens. */
void test_front_finish(struct test_front *front, struct test_call *call, enum front_finish finish,
                       uint32_t completion_tokens);
void test_front_end(struct test_front *front, struct test_call *call,
                    const struct front_result *result);

/* Runs fn(front) on the loop. */
void test_front_run(struct test_front *front, void (*fn)(struct test_front *front));

/* Waits until no exchange lives, or until so many do. */
void test_front_wait_idle(struct test_front *front);
void test_front_wait_exchanges(struct test_front *front, uint32_t count);

/* Waits until all connections that clients have closed are gone, also those not accepted before. */
void test_front_wait_gone(struct test_front *front);

/* Forgets all requests of the past, which must have ended, for tests with very many. */
void test_front_forget_calls(struct test_front *front);

/* Begins to close; test_front_stop waits for the end. */
void test_front_close(struct test_front *front);

/* Keeps all threads of the pool busy, so that requests stay in preparation, until it is released. */
void test_front_take_pool(struct test_front *front);
void test_front_release_pool(struct test_front *front);

/* ---- the client ---- */

/* Connects, sends a POST with this JSON body, and returns the socket. headers end with CR LF each. */
int test_front_post(struct test_front *front, const char *path, const char *headers,
                    const char *body);
void test_front_send_post(int fd, const char *path, const char *headers, const char *body);
void test_front_send_get(int fd, const char *path);

/* A whole answer. */
struct test_answer {
    struct td_buf raw;
    int status;
    const char *body;
    struct td_arena arena;
    const struct td_json *json; /* of the body; NULL if it is not JSON */
};

/* Reads an answer with Content-Length; fails if a body of type application/json is not JSON. */
void test_answer_read(int fd, struct test_answer *answer);
void test_answer_free(struct test_answer *answer);

/* Whether the head has this line. */
bool test_answer_has(const struct test_answer *answer, const char *line);

/* Fails unless the answer is an error of this status, type and code ("": null). */
void test_answer_is_error(const struct test_answer *answer, int status, const char *type,
                          const char *code);

/* GETs on a new connection. */
void test_front_get(struct test_front *front, const char *path, struct test_answer *answer);

/* What a stream came to. */
struct test_stream {
    struct td_buf raw;    /* as it came */
    struct td_buf events; /* without chunks */
    struct td_buf text;   /* of all deltas */
    struct td_arena arena;
    int status;
    bool clean;      /* the last chunk came; otherwise the connection broke off */
    bool done;       /* [DONE] */
    unsigned deltas; /* events with text */
    unsigned pings;
    unsigned roles;
    char finish[16];
    const struct td_json *usage;
    const struct td_json *tandem;
    const struct td_json *error;
};

void test_stream_open(struct test_stream *stream);

/* Reads to the end and takes the events apart. Fails if one is not what the specification says. */
void test_stream_read(int fd, struct test_stream *stream);
void test_stream_free(struct test_stream *stream);

/* Fails unless the stream is a whole answer with this text and finish reason. */
void test_stream_is(const struct test_stream *stream, const char *text, const char *finish);

/* The integer at a path of keys that begins in json: test_int(usage, "prompt_tokens", NULL). */
int64_t test_int(const struct td_json *json, ...) __attribute__((sentinel));

/* The value at a path of keys, or NULL. "0" is the first element of an array. */
const struct td_json *test_at(const struct td_json *json, ...) __attribute__((sentinel));

#endif
