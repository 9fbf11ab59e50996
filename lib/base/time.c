/* time.c: reads the clocks. */
#include "lib/base/time.h"

#include <assert.h>
#include <time.h>

uint64_t td_now_ns(void)
{
    struct timespec now;
    int rc = clock_gettime(CLOCK_MONOTONIC, &now);

    assert(rc == 0);
    return (uint64_t)now.tv_sec * TD_NS_PER_SEC + (uint64_t)now.tv_nsec;
}

int64_t td_unix_seconds(void)
{
    return (int64_t)time(NULL);
}
