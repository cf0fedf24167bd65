// How large the integers of an array are: the one pass over pixels before a call, for those whose type says too little.
#pragma once

#include <cstdint>

#include "call/problem.h"
#include "kernels/kernel.h"

namespace conv1x1 {

// The largest magnitude of an array's integers, of a type that the table has `largest` for; in tiles, on at most
// `threads` threads. False when `stop`, asked now and then on this thread, said to leave.
bool largest(const KernelTable&, const Array&, int threads, bool (*stop)(void*), void* stop_context, uint64_t& found);

}  // namespace conv1x1
