/*
 * fuzz_sched.c: arbitrary streams, messages and times into the scheduler core.
 *
 * The input is a list of steps: what (1 byte), which stream (1 byte), length (2 bytes), then that many
 * bytes, which are a protobuf message or parameters. After every step the core's own accounts are
 * checked.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "lib/base/log.h"
#include "lib/base/time.h"
#include "proto/version.h"
#include "scheduler/core.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STREAMS   8
#define STEPS_MAX 400

enum step { OPEN, MESSAGE, CLOSE, TAKE, PLACE, WATCH, PASS, REGISTER, STEP_COUNT };

struct stream {
    struct sched_link *link;
    struct sched_watcher *watcher;
};

struct rig {
    struct sched_core *core;
    struct stream streams[STREAMS];
    uint64_t now_ns;
};

static void on_ready(void *impl, void *handle)
{
    (void)impl;
    (void)handle;
}

static void on_close(void *impl, void *handle, td_status_t status, const char *reason)
{
    struct stream *stream = handle;

    (void)impl;
    assert(stream->link != NULL);
    assert(status < 0 && reason[0] != '\0');
    stream->link = NULL;
}

static void rig_open(struct rig *rig)
{
    const struct sched_env env = {
        .impl = rig, .link_ready = on_ready, .watcher_ready = on_ready, .link_close = on_close};
    struct sched_config config = sched_config_default();
    td_status_t status;

    memset(rig, 0, sizeof *rig);
    config.epoch = 1;
    config.index_bytes_max = (size_t)64 << 10;
    config.snapshots_max = 2;
    rig->now_ns = TD_NS_PER_SEC;
    status = sched_core_open(&config, &env, rig->now_ns, &rig->core, NULL);
    if (status != TD_OK)
        abort();
}

static void give_message(struct rig *rig, struct stream *stream, const uint8_t *bytes,
                         size_t length)
{
    Td__AnnounceIn *message = td__announce_in__unpack(NULL, length, bytes);

    if (message == NULL)
        return;
    if (stream->link != NULL)
        sched_link_message(stream->link, message, rig->now_ns);
    td__announce_in__free_unpacked(message, NULL);
}

/* A sound registration, so that the rest is reached without luck. */
static void give_registration(struct rig *rig, struct stream *stream, struct td_reader reader)
{
    uint8_t who = td_read_u8(&reader);
    char target[2] = {(char)('a' + who % 16), '\0'};
    char model[2] = "m";
    char *models[1] = {model};
    Td__AnnounceIn message = TD__ANNOUNCE_IN__INIT;
    Td__Registration registration;
    Td__Versions versions = TD__VERSIONS__INIT;
    Td__ContentIdentity content;
    Td__Geometry geometry = TD__GEOMETRY__INIT;

    td__registration__init(&registration);
    td__content_identity__init(&content);
    versions.min = versions.max = TD_PROTOCOL_MAX;
    content.content_id_lo = 1 + td_read_u8(&reader) % 2;
    geometry.block_tokens = 16;
    registration.versions = &versions;
    registration.role = who % 3 == 0 ? TD__ROLE__ROLE_PREFILL : TD__ROLE__ROLE_DECODE;
    registration.epoch = 1 + who % 32;
    registration.rpc_target = target;
    registration.models = models;
    registration.n_models = 1;
    registration.content = &content;
    registration.geometry = &geometry;
    registration.block_count = 1 + td_read_u8(&reader);
    registration.max_context = 4096;
    registration.max_sequences = 4;
    registration.max_waiting = td_read_u8(&reader) % 4;
    message.kind_case = TD__ANNOUNCE_IN__KIND_REGISTRATION;
    message.registration = &registration;
    if (stream->link != NULL)
        sched_link_message(stream->link, &message, rig->now_ns);
}

static void take(struct stream *stream)
{
    const Td__AnnounceOut *message;
    const Td__FleetUpdate *picture;

    while (stream->link != NULL && (message = sched_link_next(stream->link)) != NULL)
        assert(td__announce_out__get_packed_size(message) > 0);
    if (stream->watcher != NULL && (picture = sched_watcher_next(stream->watcher)) != NULL)
        assert(picture->n_workers <= SCHED_WORKERS_MAX);
}

static void ask_place(struct rig *rig, const uint8_t *bytes, size_t length)
{
    Td__PlaceRequest *request = td__place_request__unpack(NULL, length, bytes);
    struct sched_answer answer;

    if (request == NULL)
        return;
    sched_core_place(rig->core, request, rig->now_ns, &answer);
    if (answer.reply.worker_epoch == 0)
        assert(answer.reply.code != 0 && answer.reply.message[0] != '\0');
    else
        assert(sched_fleet_find(sched_core_fleet(rig->core), answer.reply.worker_epoch)->state ==
               SCHED_WORKER_READY);
    assert(answer.reply.n_prefill <= SCHED_CANDIDATES_MAX);
    td__place_request__free_unpacked(request, NULL);
}

static void watch(struct rig *rig, struct stream *stream, const uint8_t *bytes, size_t length)
{
    Td__FleetRequest *request = td__fleet_request__unpack(NULL, length, bytes);

    if (stream->watcher != NULL) {
        sched_watcher_closed(stream->watcher);
        stream->watcher = NULL;
    } else if (request != NULL &&
               sched_watcher_open(rig->core, stream, request, &stream->watcher, NULL) != TD_OK) {
        stream->watcher = NULL;
    }
    if (request != NULL)
        td__fleet_request__free_unpacked(request, NULL);
}

static void pass(struct rig *rig, uint64_t ns)
{
    uint64_t end_ns = rig->now_ns + ns;
    uint64_t next_ns;

    while ((next_ns = sched_core_next(rig->core)) <= end_ns) {
        rig->now_ns = next_ns > rig->now_ns ? next_ns : rig->now_ns;
        sched_core_run(rig->core, rig->now_ns);
    }
    rig->now_ns = end_ns;
}

static void take_step(struct rig *rig, uint8_t what, struct stream *stream, const uint8_t *bytes,
                      size_t length)
{
    struct td_reader reader = td_reader_over(bytes, length);

    switch (what % STEP_COUNT) {
    case OPEN:
        if (stream->link == NULL && sched_link_open(rig->core, stream, TD__ROLE__ROLE_UNKNOWN,
                                                    rig->now_ns, &stream->link) != TD_OK)
            abort();
        break;
    case MESSAGE: give_message(rig, stream, bytes, length); break;
    case CLOSE:
        if (stream->link != NULL)
            sched_link_closed(stream->link, rig->now_ns);
        stream->link = NULL;
        break;
    case TAKE: take(stream); break;
    case PLACE: ask_place(rig, bytes, length); break;
    case WATCH: watch(rig, stream, bytes, length); break;
    case PASS: pass(rig, td_read_u16(&reader) * TD_NS_PER_MS); break;
    default: give_registration(rig, stream, reader);
    }
}

/* Every key of the table has an owner, and nobody owns more than the table has. */
static void check(const struct rig *rig)
{
    struct sched_index_stats stats = sched_core_index_stats(rig->core);

    assert(stats.count <= stats.count_max);
    sched_fleet_for_each(worker, sched_core_fleet(rig->core))
    {
        assert(worker->state != SCHED_WORKER_GONE);
        assert((worker->state == SCHED_WORKER_LOST) == (worker->link == NULL));
        assert(worker->deadline.armed);
        assert((worker->feed.owner == SCHED_OWNER_NONE) ==
               (worker->feed.state == SCHED_FEED_UNKNOWN));
        assert(worker->guesses.count <= SCHED_GUESSES_MAX);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct td_reader reader = td_reader_over(data, size);
    struct rig rig;

    td_log_set_level(TD_LOG_ERROR);
    rig_open(&rig);
    for (int step = 0; step < STEPS_MAX && td_reader_left(&reader) > 0; step++) {
        uint8_t what = td_read_u8(&reader);
        uint8_t which = td_read_u8(&reader);
        size_t length = td_read_u16(&reader);
        const uint8_t *bytes;

        if (length > td_reader_left(&reader))
            length = td_reader_left(&reader);
        bytes = td_read_bytes(&reader, length);
        take_step(&rig, what, &rig.streams[which % STREAMS], bytes, bytes != NULL ? length : 0);
        check(&rig);
    }
    sched_core_close(rig.core);
    return 0;
}
