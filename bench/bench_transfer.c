/* bench_transfer.c: `tandem bench transfer` as a program of its own. */
#include "bench/bench.h"

int main(int argc, char **argv)
{
    return bench_transfer(argc, argv);
}
