/*
 * stub_blas.h: what a test knows of its stand-in for cuBLASLt (stub_blas.c), which is built under that library's name.
 */
#ifndef TANDEM_TESTS_CUDA_STUB_BLAS_H
#define TANDEM_TESTS_CUDA_STUB_BLAS_H

#include <stddef.h>
#include <stdint.h>

#define STUB_BLAS_FAILED 14 /* CUBLAS_STATUS_INTERNAL_ERROR */

/* The symbol stub_blas of the library. */
struct stub_blas {
    int objects;           /* that live: handles, descriptions, layouts and preferences */
    uint32_t asked;        /* for ways to compute */
    uint32_t multiplied;   /* products */
    uint64_t tokens_wrong; /* a product of so many columns has no way to be computed; 0: all have */
    const char *failing;   /* a function that fails, by its name without "cublasLt"; NULL: none */
    char complaint[256];   /* what the first call was that the library would refuse, or "" */
    void *stream;          /* of the last product */
};

#endif
