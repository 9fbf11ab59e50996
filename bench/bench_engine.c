/* bench_engine.c: `tandem bench engine` as a program of its own. */
#include "bench/bench.h"

int main(int argc, char **argv)
{
    return bench_engine(argc, argv);
}
