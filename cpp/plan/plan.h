// How a problem will be computed: a pure choice from the problem, the machine and the threads allowed.
//
// Nothing here reads a global or touches an array, so that the plan for any machine can be tested on any other.
// No choice made here changes a bit of the result: the order of summation is call/order.h's.
#pragma once

#include <cstddef>
#include <vector>

#include "call/problem.h"
#include "kernels/kernel.h"
#include "plan/candidates.h"
#include "plan/machine.h"

namespace conv1x1 {

struct Plan : Candidate {
  const KernelTable* table = nullptr;
  Order order = Order::chain;
  bool fuse_residual = false;  // the kernel adds the residual
  size_t tile_pixels = 1;
  size_t box[2] = {1, 1};  // of a problem that is walked in boxes: its rows, and the pixels in each
  size_t tiles = 1;
  size_t chunk_filters = 1;          // filters (of one group) that a tile is multiplied with before its results leave;
                                     // all of them, except where the method is to multiply
  size_t chunks = 1;                 // in each group
  size_t channel_block = 1;          // channels multiplied before the sums are left in y or scratch and resumed
  size_t x_pitch = 0, y_pitch = 0;   // elements (or pairs, quads) between rows of a staged tile and of the scratch
  size_t scratch_bytes = 0;          // for each thread: the staged tile, then that of the results …
  size_t y_scratch = 0, y_half = 0;  // … which begins here; and bytes from its first half to the second
  double microseconds = 0;           // a rough forecast for one thread
  int threads = 1;
};

// The candidate that costs least, or is asked for, with tiles, threads and what they take.
Plan make_plan(const Problem&, const Machine&, int max_threads);

// The same for a candidate of the problem's.
Plan make_plan(const Problem&, const Machine&, int max_threads, const Candidate&);

// Those worth trying on real calls (trials.h), `most` at most: make_plan's own first; the same with half and twice the
// threads, where that is close; then others that are forecast to take little longer, the shortest first. Where the
// machine is restricted, its own alone. None wants weights packed in a second way, unless that takes little memory.
std::vector<Plan> plans_to_try(const Problem&, const Machine&, int max_threads, size_t most);

}  // namespace conv1x1
