/* options.c: the names of faults and breaks. */
#include <string.h>

#include "sim/sim.h"

static const char *const fault_names[] = {
#define X(name, text, help) text,
    SIM_FAULTS_MAP(X)
#undef X
};

static const char *const break_names[] = {
#define X(name, text, help) text,
    SIM_BREAKS_MAP(X)
#undef X
};

static bool word_is(const char *word, size_t length, const char *name)
{
    return strlen(name) == length && memcmp(word, name, length) == 0;
}

/* 0: no such fault. */
static uint32_t fault_bits(const char *word, size_t length)
{
    for (unsigned i = 0; i < SIM_FAULT_COUNT; i++)
        if (word_is(word, length, fault_names[i]))
            return 1u << i;
    return word_is(word, length, "all") ? SIM_FAULTS_ALL : 0;
}

td_status_t sim_faults_parse(const char *text, uint32_t *faults_out, struct td_error *error)
{
    uint32_t faults = 0;

    while (*text != '\0') {
        size_t length = strcspn(text, ",");
        uint32_t bits = fault_bits(text, length);

        if (bits == 0 && !word_is(text, length, "none"))
            return td_fail(
                error, TD_INVALID,
                "faults: \"%.*s\" is none of all, none, delay, reorder, duplicate, drop, "
                "corrupt, crash, restart, freeze, step, leave, pressure, hang",
                (int)(length < 40 ? length : 40), text);
        faults |= bits;
        text += length;
        text += *text == ',';
    }
    *faults_out = faults;
    return TD_OK;
}

td_status_t sim_break_parse(const char *text, enum sim_break *break_out, struct td_error *error)
{
    for (unsigned i = 0; i < SIM_BREAK_COUNT; i++) {
        if (strcmp(text, break_names[i]) != 0)
            continue;
        *break_out = (enum sim_break)i;
        return TD_OK;
    }
    return td_fail(error, TD_INVALID, "break: \"%.40s\" is not one of those in sim/sim.h", text);
}
