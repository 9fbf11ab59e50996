/*
 * nccl_double.h: the double of NCCL (stub_nccl.h), for sites and tests.
 */
#ifndef TANDEM_TESTS_KVTRANSFER_NCCL_DOUBLE_H
#define TANDEM_TESTS_KVTRANSFER_NCCL_DOUBLE_H

#include "tests/kvtransfer/stub_nccl.h"

/* What only the double has. */
struct nccl_double {
#define X(name, result, parameters) result(*name) parameters;
    STUB_NCCL_FUNCTIONS(X)
#undef X
};

/* Loads it if that was not done. */
const struct nccl_double *nccl_double(void);

/* Its path, for kvt_nccl_config. */
const char *nccl_double_path(void);

#endif
