/* registration.c: the checks, see registration.h. */
#include "scheduler/registration.h"

#include <string.h>

#include "proto/version.h"

#define IDENTITY_BYTES_MAX \
    ((size_t)32 << 10) /* the models, two addresses and a class, all at their maximum */

/* 1 to SCHED_TEXT_BYTES_MAX bytes, all of them printable ASCII. */
static bool is_plain(const char *text)
{
    size_t length = strnlen(text, SCHED_TEXT_BYTES_MAX + 1);

    for (size_t i = 0; i < length; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    return length > 0 && length <= SCHED_TEXT_BYTES_MAX;
}

static td_status_t check_numbers(const Td__Registration *registration, struct td_error *error)
{
    const struct {
        const char *name;
        uint32_t value;
        uint32_t min;
        uint32_t max;
    } fields[] = {
        {"geometry.block_tokens", registration->geometry->block_tokens, 1, 1024},
        {"block_count", registration->block_count, 1, UINT32_C(1) << 28},
        {"max_context", registration->max_context, 1, UINT32_C(1) << 28},
        {"max_sequences", registration->max_sequences, 1, UINT32_C(1) << 20},
        {"max_waiting", registration->max_waiting, 0, UINT32_C(1) << 20},
    };

    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        if (fields[i].value < fields[i].min || fields[i].value > fields[i].max)
            return td_fail(error, TD_INVALID, "registration: %s %u is not within %u to %u",
                           fields[i].name, fields[i].value, fields[i].min, fields[i].max);
    return TD_OK;
}

static td_status_t check_texts(const Td__Registration *registration, struct td_error *error)
{
    if (!is_plain(registration->rpc_target))
        return td_fail(error, TD_INVALID,
                       "registration: rpc_target is empty, too long or not plain");
    if (registration->http_address[0] != '\0' && !is_plain(registration->http_address))
        return td_fail(error, TD_INVALID, "registration: http_address is too long or not plain");
    if (registration->content->numerics[0] != '\0' && !is_plain(registration->content->numerics))
        return td_fail(error, TD_INVALID,
                       "registration: content.numerics is too long or not plain");
    if (registration->n_models == 0 || registration->n_models > SCHED_MODELS_MAX)
        return td_fail(error, TD_INVALID, "registration: %zu models, 1 to %d are possible",
                       registration->n_models, SCHED_MODELS_MAX);
    for (size_t i = 0; i < registration->n_models; i++)
        if (!is_plain(registration->models[i]))
            return td_fail(error, TD_INVALID,
                           "registration: models[%zu] is empty, too long or not plain", i);
    return TD_OK;
}

static td_status_t check_role(const Td__Registration *registration, Td__Role certified,
                              struct td_error *error)
{
    if (registration->role != TD__ROLE__ROLE_PREFILL && registration->role != TD__ROLE__ROLE_DECODE)
        return td_fail(error, TD_INVALID, "registration: role %d is not a worker's",
                       (int)registration->role);
    if (certified != TD__ROLE__ROLE_UNKNOWN && certified != registration->role)
        return td_fail(error, TD_REFUSED, "registration: role %d is not the certificate's role %d",
                       (int)registration->role, (int)certified);
    return TD_OK;
}

static td_status_t check(const Td__Registration *registration, Td__Role certified,
                         struct td_error *error)
{
    const Td__ContentIdentity *content = registration->content;
    td_status_t status = check_role(registration, certified, error);

    if (status != TD_OK)
        return status;
    if (registration->versions == NULL ||
        td_protocol_choose(registration->versions->min, registration->versions->max) == 0)
        return td_fail(error, TD_REFUSED, "registration: versions: we speak protocol %u to %u",
                       TD_PROTOCOL_MIN, TD_PROTOCOL_MAX);
    if (registration->epoch == 0)
        return td_fail(error, TD_INVALID, "registration: epoch is 0");
    if (content == NULL || (content->content_id_hi | content->content_id_lo) == 0)
        return td_fail(error, TD_INVALID, "registration: content.content_id is missing");
    if (registration->geometry == NULL)
        return td_fail(error, TD_INVALID, "registration: geometry is missing");
    status = check_texts(registration, error);
    return status == TD_OK ? check_numbers(registration, error) : status;
}

static td_status_t copy_texts(const Td__Registration *registration, struct sched_identity *identity,
                              struct td_error *error)
{
    struct td_arena *arena = &identity->arena;
    bool complete;

    identity->rpc_target =
        td_arena_text(arena, registration->rpc_target, strlen(registration->rpc_target));
    identity->http_address =
        td_arena_text(arena, registration->http_address, strlen(registration->http_address));
    identity->numerics = td_arena_text(arena, registration->content->numerics,
                                       strlen(registration->content->numerics));
    complete = identity->rpc_target != NULL && identity->http_address != NULL &&
               identity->numerics != NULL;
    for (size_t i = 0; i < registration->n_models; i++) {
        const char *model = registration->models[i];

        identity->models[i] = td_arena_text(arena, model, strlen(model));
        complete = complete && identity->models[i] != NULL;
    }
    identity->model_count = registration->n_models;
    return complete ? TD_OK : td_fail(error, TD_NO_MEMORY, "registration: no memory");
}

td_status_t sched_identity_read(const Td__Registration *registration, Td__Role certified,
                                struct sched_identity *identity_out, struct td_error *error)
{
    struct sched_identity identity = {.epoch = registration->epoch, .role = registration->role};
    td_status_t status = check(registration, certified, error);

    if (status != TD_OK)
        return status;
    identity.content_id.hi = registration->content->content_id_hi;
    identity.content_id.lo = registration->content->content_id_lo;
    identity.text_id.hi = registration->text_id_hi;
    identity.text_id.lo = registration->text_id_lo;
    identity.version = td_protocol_choose(registration->versions->min, registration->versions->max);
    identity.block_tokens = registration->geometry->block_tokens;
    identity.block_count = registration->block_count;
    identity.max_context = registration->max_context;
    identity.max_sequences = registration->max_sequences;
    identity.max_waiting = registration->max_waiting;
    td_arena_init(&identity.arena, IDENTITY_BYTES_MAX);
    status = copy_texts(registration, &identity, error);
    if (status != TD_OK) {
        td_arena_fini(&identity.arena);
        return status;
    }
    *identity_out = identity;
    return TD_OK;
}

void sched_identity_fini(struct sched_identity *identity)
{
    td_arena_fini(&identity->arena);
}

bool sched_identity_serves(const struct sched_identity *identity, const char *model)
{
    for (size_t i = 0; i < identity->model_count; i++)
        if (strcmp(identity->models[i], model) == 0)
            return true;
    return false;
}

bool sched_identity_is_unlike(const struct sched_identity *a, const struct sched_identity *b)
{
    if (a->role == b->role || td_u128_equal(a->content_id, b->content_id))
        return false;
    for (size_t i = 0; i < a->model_count; i++)
        if (sched_identity_serves(b, a->models[i]))
            return true;
    return false;
}
