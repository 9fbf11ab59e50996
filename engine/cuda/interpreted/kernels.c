/*
 * kernels.c: the kernels of engine/cuda/kernels as functions for the interpreter.
 */
#include "engine/cuda/kernels/attention.h"
#include "engine/cuda/kernels/attention_floats.h"
#include "engine/cuda/kernels/fill.h"
#include "engine/cuda/kernels/hash.h"
#include "engine/cuda/kernels/pack.h"
#include "engine/cuda/kernels/products.h"
#include "engine/cuda/kernels/products_tiled.h"
#include "engine/cuda/kernels/products_wide.h"
#include "engine/cuda/kernels/rows.h"
#include "engine/cuda/kernels/sample.h"
