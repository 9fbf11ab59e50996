/*
 * client.h: those who ask. Each knows the right answer beforehand and checks every token.
 */
#ifndef TANDEM_SIM_CLIENT_H
#define TANDEM_SIM_CLIENT_H

#include "sim/world.h"

struct front_result;
struct router_journey;
struct worker_request;

enum sim_client_state {
    SIM_CLIENT_PLANNED = 0,
    SIM_CLIENT_WAITING, /* asked; neither an end nor a reason to leave has come */
    SIM_CLIENT_STOPPED, /* has had enough; the end is still to come */
    SIM_CLIENT_OVER,
};

struct sim_client {
    struct sim *sim;
    uint32_t index;
    enum sim_client_state state;
    bool is_local; /* asks a worker's own port */
    bool is_calm;  /* asks after the storm: must be answered */
    struct sim_node *node;
    uint32_t life;
    struct router_journey *journey;
    struct worker_request *request;
    struct engine_submit submit; /* tokens are the client's */
    struct td_u128 salt;
    uint32_t remaining_ms; /* 0: none of its own */
    uint32_t *expected;
    uint32_t expected_count;
    enum engine_finish expected_finish;
    uint32_t got;
    uint32_t tries;          /* that were turned away */
    uint32_t stop_after;     /* tokens; 0: never */
    uint64_t leave_after_ns; /* 0: never */
};

/* Draws the clients of the storm and of the last wave, and posts the coming of the first ones. */
void sim_clients_open(struct sim *sim);
void sim_clients_come(struct sim *sim, bool calm);
void sim_clients_close(struct sim *sim);

/* From the process that serves it. */
void sim_client_tokens(struct sim_client *client, const uint32_t *tokens, uint32_t count);
void sim_client_end(struct sim_client *client, const struct front_result *result);
/* The process has died: its clients' connections are closed. */
void sim_clients_lose(struct sim_node *node);

#endif
