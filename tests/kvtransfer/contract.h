/*
 * contract.h: what every transport must do, as tests over two runtimes.
 *
 * A test program names a transport and says where sender and receiver live; the same tests then run
 * with both in one process and with each of them in another.
 */
#ifndef TANDEM_TESTS_KVTRANSFER_CONTRACT_H
#define TANDEM_TESTS_KVTRANSFER_CONTRACT_H

#include "tests/kvtransfer/site.h"
#include "tests/support/support.h"

#define CONTRACT_SENDER   UINT64_C(0x1001)
#define CONTRACT_RECEIVER UINT64_C(0x2002)

/* Which transport, and who lives elsewhere. The initial state of a test. */
struct contract_case {
    enum site_transport transport;
    bool sender_elsewhere;
    bool receiver_elsewhere;
    uint32_t chunk_bytes; /* 0: the default of sites */
    bool is_impatient;    /* about peers that are silent: limits for stopping run out soon */
};

/* Two sites that know each other, or not yet. */
struct contract {
    struct site *sender;
    struct site *receiver;
    struct site_event sender_up;   /* what the sender was told of the receiver */
    struct site_event receiver_up; /* and the other way round */
    size_t descriptors;            /* open when nothing was */
};

int contract_setup(void **state);       /* two sites, connected */
int contract_setup_apart(void **state); /* two sites that do not know each other */
int contract_teardown(void **state);    /* descriptors are back to what they were */

void contract_connect(struct contract *contract);

/* Runs the transport tests of this file for a transport; a cmocka exit status. */
int contract_run(enum site_transport transport, const char *name);

/* EXPECT, OFFER and contents of a transfer from sender to receiver. */
void contract_begin(struct contract *contract, const struct site_transfer *transfer);

/* Fails unless the transfer landed, right and once, and the sender has drained it. */
void contract_assert_landed(struct contract *contract, const struct site_transfer *transfer);

#endif
