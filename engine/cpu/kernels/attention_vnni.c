/*
 * attention_vnni.c: the attention of attention_avx512.c for processors that also have AVX-512 VNNI: the same text,
 * compiled with that flag, so that pairs of whole numbers are multiplied and added in one operation instead of two.
 * The bits are the same.
 */
#include "engine/cpu/kernels/attention_avx512.c"
