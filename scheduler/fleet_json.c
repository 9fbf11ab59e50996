/* fleet_json.c: see fleet_json.h. */
#include "scheduler/fleet_json.h"

#include <inttypes.h>
#include <stdio.h>

#include "lib/base/json_write.h"

static void put_id(struct td_json_writer *writer, const char *key, uint64_t id)
{
    char text[17];

    snprintf(text, sizeof text, "%016" PRIx64, id);
    td_json_put_text(writer, key, text);
}

static void put_identity(struct td_json_writer *writer, const struct sched_identity *identity)
{
    put_id(writer, "epoch", identity->epoch);
    td_json_put_text(writer, "role",
                     identity->role == TD__ROLE__ROLE_PREFILL ? "prefill" : "decode");
    td_json_put_text(writer, "rpc_target", identity->rpc_target);
    td_json_put_text(writer, "http_address", identity->http_address);
    td_json_begin_array(writer, "models");
    for (size_t i = 0; i < identity->model_count; i++)
        td_json_put_text(writer, NULL, identity->models[i]);
    td_json_end(writer);
    td_json_put_uint(writer, "block_tokens", identity->block_tokens);
    td_json_put_uint(writer, "block_count", identity->block_count);
    td_json_put_uint(writer, "max_context", identity->max_context);
    td_json_put_uint(writer, "max_sequences", identity->max_sequences);
    td_json_put_uint(writer, "max_waiting", identity->max_waiting);
}

static void put_load(struct td_json_writer *writer, const struct sched_worker *worker)
{
    const struct sched_load *load = &worker->load;

    td_json_begin_object(writer, "load");
    td_json_put_uint(writer, "running", load->running);
    td_json_put_uint(writer, "prefilling", load->prefilling);
    td_json_put_uint(writer, "prefilling_tokens", load->prefilling_tokens);
    td_json_put_uint(writer, "waiting", load->waiting);
    td_json_put_uint(writer, "waiting_tokens", load->waiting_tokens);
    td_json_put_uint(writer, "blocks_free", load->blocks_free);
    td_json_put_uint(writer, "step_age_ms", load->step_age_ms);
    td_json_put_uint(writer, "prefill_tokens_per_s", load->prefill_tokens_per_s);
    td_json_put_uint(writer, "decode_step_us", load->decode_step_us);
    td_json_put_uint(writer, "admitted", load->admitted);
    td_json_put_uint(writer, "placed_not_admitted", worker->guesses.count);
    td_json_end(writer);
}

static void put_cache(struct td_json_writer *writer, const struct sched_feed *feed)
{
    td_json_begin_object(writer, "cache");
    td_json_put_text(writer, "state", sched_feed_state_name(feed->state));
    td_json_put_uint(writer, "sequence", feed->sequence);
    td_json_put_uint(writer, "keys", sched_feed_key_count(feed));
    td_json_end(writer);
}

void sched_fleet_write_json(const struct sched_core *core, struct td_buf *out)
{
    struct sched_index_stats index = sched_core_index_stats(core);
    struct td_json_writer writer = td_json_writer_to(out);

    td_json_begin_object(&writer, NULL);
    td_json_begin_array(&writer, "workers");
    sched_fleet_for_each(worker, sched_core_fleet(core))
    {
        td_json_begin_object(&writer, NULL);
        td_json_put_text(&writer, "state", sched_worker_state_name(worker->state));
        put_identity(&writer, &worker->identity);
        put_load(&writer, worker);
        put_cache(&writer, &worker->feed);
        td_json_end(&writer);
    }
    td_json_end(&writer);
    td_json_begin_object(&writer, "index");
    td_json_put_uint(&writer, "bytes", index.bytes);
    td_json_put_uint(&writer, "keys", index.count);
    td_json_put_uint(&writer, "keys_max", index.count_max);
    td_json_end(&writer);
    td_json_end(&writer);
}
