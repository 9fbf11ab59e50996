/*
 * products_vnni.c: the products of products_avx512.c for processors that also have AVX-512 VNNI: the same text,
 * compiled with that flag, so that products of bytes take one operation instead of three. The bits
 * are the same.
 */
#include "engine/cpu/kernels/products_avx512.c"
