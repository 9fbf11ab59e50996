/*
 * core_rig.h: a router core whose world is a notebook: what it asks for is written down, what comes to it
 * is said by the test. Time stands still unless the test moves it.
 */
#ifndef TANDEM_TESTS_ROUTER_CORE_RIG_H
#define TANDEM_TESTS_ROUTER_CORE_RIG_H

#include "router/internal.h"

#define RIG_WORKERS       3 /* epochs 101, 102, 103 at w1, w2, w3 */
#define RIG_TEXT          5
#define RIG_EPOCH(worker) ((uint64_t)(100 + (worker)))

/* One client. */
struct rig_client {
    struct router_journey *journey; /* NULL once it has ended */
    uint32_t tokens;                /* passed on */
    uint32_t ends;
    struct front_result result;
    bool abandons; /* inside the next tokens */
    bool stops;
    struct rig *rig;
};

struct rig {
    struct router_core *core;
    uint64_t now_ns;
    uint64_t random;
    uint32_t places;
    uint64_t place_number; /* of the last one; 0: canceled */
    uint32_t exclude_count;
    uint64_t exclude[ROUTER_TRIES_MAX];
    uint32_t links_opened;
    uint32_t links_closed;
    uint64_t link; /* the last one opened */
    uint32_t ready;
    uint32_t stranger; /* the worker of the fleet that has another tokenizer; 0: none */
};

/* A core that knows `workers` ready workers with room for `capacity` requests each. */
void rig_open(struct rig *rig, uint32_t workers, uint32_t capacity);
void rig_close(struct rig *rig);
void rig_fleet(struct rig *rig, uint32_t first, uint32_t last, uint32_t capacity);
void rig_wait_ms(struct rig *rig, uint32_t ms);

/* A prompt of that many tokens. */
td_status_t rig_ask(struct rig *rig, struct rig_client *client, uint32_t tokens,
                    uint32_t remaining_ms);

/* The answer to the last Place: that worker; 0: nobody at present. */
void rig_placed(struct rig *rig, uint32_t worker);
void rig_not_placed(struct rig *rig, td_status_t status, uint32_t retry_after_ms);

void rig_link_up(struct rig *rig, uint32_t worker); /* opened and greeted */
void rig_link_says(struct rig *rig, const Td__GenerateOut *message);
void rig_greets(struct rig *rig, uint64_t epoch);
void rig_link_lost(struct rig *rig, td_status_t status);
/* The kind of the next message of the last link; NOT_SET: none. */
const Td__GenerateIn *rig_next(struct rig *rig);
/* Takes all that waits. */
void rig_take_all(struct rig *rig);

/* One update about a journey. */
void rig_tokens(struct rig *rig, struct td_u128 id, uint32_t index, uint32_t count);
void rig_end(struct rig *rig, struct td_u128 id, Td__Finish finish, td_status_t status,
             uint32_t completion);

#endif
