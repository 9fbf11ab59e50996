/* stats.c: names and texts of the statistics, see stats.h. */
#include "kvtransfer/stats.h"

#include <assert.h>

static const struct kvt_stat_info stat_infos[KVT_STAT_COUNT] = {
#define X(stat, name_, is_gauge_, help_) \
    [KVT_STAT_##stat] = {.name = name_, .help = help_, .is_gauge = is_gauge_},
    KVT_STATS(X)
#undef X
};

const struct kvt_stat_info *kvt_stat_info(enum kvt_stat stat)
{
    assert(stat < KVT_STAT_COUNT);
    return &stat_infos[stat];
}
