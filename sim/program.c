/* program.c: tandem-sim, the simulator as a program of its own for those who work on the cores. */
#include "sim/sim.h"

int main(int argc, char **argv)
{
    return sim_main(argc, argv);
}
