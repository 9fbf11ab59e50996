/*
 * group.c: what kernels/group.h means, in plain C: products of warpgroups, gates, and copies that they count.
 *
 * A product is made when it is waited for and not before: only then are tokens read and results written, so a kernel that
 * lets others write over the tokens too early, or reads results before, gets the wrong thing; one that changes registers
 * of its own that are still to be read ends the process. Where tokens lie is taken out of the word that tells the tensor
 * core, bit by bit, and addresses are exchanged as the hardware does. Every other copy lands at once, the rest when
 * somebody waits at their gate; it is only then that any of them counts.
 */
#include <assert.h>
#include <string.h>

#include "engine/cuda/interpreted/interpreter.h"
#include "model/quant.h"

#define LANES        32
#define PRODUCTS_MAX 16   /* of a thread, under way */
#define COPIES_MAX   64   /* of a block, under way */
#define WINDOW       1024 /* address of the first byte of shared memory, as on Hopper */

/* ------------------------------------------------------------------ products */

struct product {
    float (*sums)[4];
    const uint32_t *registers;
    uint32_t a[4]; /* what they held */
    uint64_t tokens;
    uint32_t tiles;
    uint32_t group;
    bool is_added;
};

/* Of each thread; products lie at their number. */
static struct {
    struct product products[PRODUCTS_MAX];
    uint32_t begun;
    uint32_t made;
    uint32_t groups;
} multiplying[INTERPRETER_THREADS_MAX];

/* What all lanes must agree on. */
struct agreement {
    uint64_t tokens;
    uint32_t tiles;
    uint32_t is_added;
};

uint32_t interpreter_shared_address(const void *shared)
{
    ptrdiff_t at = (const uint8_t *)shared - interpreter_shared;

    assert(at >= 0 && at < INTERPRETER_SHARED_BYTES);
    return WINDOW + (uint32_t)at;
}

/* Element k of 16 of a token, as bf16. */
static float token_element(uint64_t tokens, uint32_t token, uint32_t k)
{
    uint32_t address = (uint32_t)(tokens & 0x3fff) << 4;
    uint32_t eight = (uint32_t)(tokens >> 32 & 0x3fff) << 4;
    uint16_t element;

    assert(tokens >> 62 == 1 && (tokens >> 49 & 7) == 0); /* 128 bytes, from a multiple of 1024 */
    address += token / 8 * eight + token % 8 * 128 + k * 2;
    address ^= (address >> 7 & 7) << 4;
    assert(address >= WINDOW && address + 2 <= WINDOW + INTERPRETER_SHARED_BYTES);
    memcpy(&element, interpreter_shared + (address - WINDOW), sizeof element);
    return model_bfloat_to_float(element);
}

static float a_element(uint32_t thread, uint32_t number, uint32_t row, uint32_t k)
{
    uint32_t lane = row % 8 * 4 + k % 8 / 2;
    const struct product *product =
        &multiplying[thread / LANES * LANES + lane].products[number % PRODUCTS_MAX];

    return model_bfloat_to_float((uint16_t)(product->a[row / 8 + k / 8 * 2] >> 16 * (k % 2)));
}

/* A lane's results: rows l / 4 and 8 more, tokens 2 * (l % 4) and the next one of each tile. */
static void make(uint32_t thread, uint32_t number)
{
    const struct product *product = &multiplying[thread].products[number % PRODUCTS_MAX];
    uint32_t lane = thread % LANES;
    float a[2][16];

    assert(memcmp(product->registers, product->a, sizeof product->a) ==
           0); /* not yet to be changed */
    for (uint32_t k = 0; k < 16; k++)
        for (uint32_t i = 0; i < 2; i++)
            a[i][k] = a_element(thread, number, lane / 4 + 8 * i, k);
    for (uint32_t tile = 0; tile < product->tiles; tile++)
        for (uint32_t column = 0; column < 2; column++) {
            float *sums = product->sums[tile];
            uint32_t token = tile * 8 + lane % 4 * 2 + column;
            float low = product->is_added ? sums[column] : 0;
            float high = product->is_added ? sums[2 + column] : 0;

            for (uint32_t k = 0; k < 16; k++) {
                float x = token_element(product->tokens, token, k);

                low += a[0][k] * x;
                high += a[1][k] * x;
            }
            sums[column] = low;
            sums[2 + column] = high;
        }
}

void interpreter_group_mma(float sums[][4], uint32_t tiles, const uint32_t *a, uint64_t tokens,
                           bool is_added)
{
    uint32_t thread = interpreter_now.thread;
    uint32_t number = multiplying[thread].begun++;
    struct product *product = &multiplying[thread].products[number % PRODUCTS_MAX];
    const struct agreement mine = {.tokens = tokens, .tiles = tiles, .is_added = is_added};
    const struct agreement *all;

    assert(number - multiplying[thread].made < PRODUCTS_MAX);
    *product = (struct product){.sums = sums,
                                .registers = a,
                                .tokens = tokens,
                                .tiles = tiles,
                                .group = multiplying[thread].groups,
                                .is_added = is_added};
    memcpy(product->a, a, sizeof product->a);
    all = interpreter_gather(&mine, sizeof mine);
    assert(memcmp(&all[0], &mine, sizeof mine) == 0);
}

void interpreter_group_commit(void)
{
    multiplying[interpreter_now.thread].groups++;
}

void interpreter_group_wait(uint32_t groups)
{
    uint32_t thread = interpreter_now.thread;

    (void)interpreter_gather(&thread, sizeof thread); /* what other lanes brought is there */
    while (multiplying[thread].made < multiplying[thread].begun) {
        uint32_t number = multiplying[thread].made;

        if (multiplying[thread].products[number % PRODUCTS_MAX].group + groups >=
            multiplying[thread].groups)
            break;
        make(thread, number);
        multiplying[thread].made++;
    }
}

/* ------------------------------------------------------------------ gates */

#define MADE 0x5a

/* What a gate's 64 bits are. */
struct gate {
    uint32_t bytes;   /* that must still come */
    uint8_t phases;   /* that have ended */
    uint8_t arrivals; /* of each phase */
    uint8_t missing;  /* in this one */
    uint8_t made;
};

_Static_assert(sizeof(struct gate) == sizeof(uint64_t), "as large as an mbarrier");

static struct {
    struct {
        uint64_t *gate;
        void *to;
        const void *from;
        uint32_t bytes;
    } copies[COPIES_MAX];
    uint32_t count;
    uint32_t begun;
} bringing;

static struct gate load_gate(const uint64_t *place)
{
    struct gate gate;

    memcpy(&gate, interpreter_aligned(place, sizeof gate), sizeof gate);
    assert(gate.made == MADE);
    return gate;
}

/* Ends the phase where nothing is missing any more. */
static void store_gate(uint64_t *place, struct gate gate)
{
    if (gate.missing == 0 && gate.bytes == 0) {
        gate.missing = gate.arrivals;
        gate.phases++;
    }
    memcpy(place, &gate, sizeof gate);
    interpreter_moved();
}

void interpreter_gate_make(uint64_t *place, uint32_t arrivals)
{
    const struct gate gate = {
        .arrivals = (uint8_t)arrivals, .missing = (uint8_t)arrivals, .made = MADE};

    memcpy(place, &gate, sizeof gate);
}

void interpreter_gate_expect(uint64_t *place, uint32_t bytes)
{
    struct gate gate = load_gate(place);

    assert(gate.missing > 0);
    gate.bytes += bytes;
    gate.missing--;
    store_gate(place, gate);
}

void interpreter_gate_copy(uint64_t *place, void *shared, const void *from, uint32_t bytes)
{
    assert((uintptr_t)shared % 16 == 0 && (uintptr_t)from % 16 == 0 && bytes % 16 == 0);
    assert(bringing.count < COPIES_MAX);
    if (bringing.begun++ % 2 == 0)
        memcpy(shared, from, bytes);
    bringing.copies[bringing.count].gate = place;
    bringing.copies[bringing.count].to = shared;
    bringing.copies[bringing.count].from = from;
    bringing.copies[bringing.count++].bytes = bytes;
}

void interpreter_gate_arrive(uint64_t *place)
{
    uint32_t thread = interpreter_now.thread;
    struct gate gate;

    (void)interpreter_gather(&thread, sizeof thread);
    if (thread % LANES != 0)
        return;
    gate = load_gate(place);
    assert(gate.missing > 0);
    gate.missing--;
    store_gate(place, gate);
}

static void land(uint64_t *place)
{
    uint32_t left = 0;

    for (uint32_t i = 0; i < bringing.count; i++) {
        struct gate gate;

        if (bringing.copies[i].gate != place) {
            bringing.copies[left++] = bringing.copies[i];
            continue;
        }
        memcpy(bringing.copies[i].to, bringing.copies[i].from, bringing.copies[i].bytes);
        gate = load_gate(place);
        assert(gate.bytes >= bringing.copies[i].bytes);
        gate.bytes -= bringing.copies[i].bytes;
        store_gate(place, gate);
    }
    bringing.count = left;
}

/* As the hardware: the phase at hand has the parity of the phases that have ended. */
void interpreter_gate_wait(uint64_t *place, uint32_t parity)
{
    for (;;) {
        land(place);
        if (load_gate(place).phases % 2 != parity)
            break;
        interpreter_yield();
    }
    interpreter_moved();
}

void interpreter_group_reset(uint32_t threads)
{
    memset(multiplying, 0, threads * sizeof multiplying[0]);
    bringing.count = bringing.begun = 0;
}
