// How a problem will be computed: a pure choice from the problem, the machine and the threads allowed.
//
// Nothing here reads a global or touches an array, so that the plan for any machine can be tested on any other.
// No choice made here changes a bit of the result, except the order of summation, which depends on the
// channel counts alone.
#pragma once

#include <cstddef>
#include <optional>

#include "call/problem.h"
#include "kernels/kernel.h"
#include "system/cpu.h"

namespace conv1x1 {

// The order in which the channels of one output are summed (part of the definition of a result):
// lane order for at most 4 filters over at least 32 channels (both in one group), else chain order.
Order summation_order(size_t in_channels, size_t out_channels);

// Whether a kernel exists that wants the filters as plain rows: for few filters, and for few channels and filters.
bool plain_rows(size_t in_channels, size_t out_channels);

// Whether the pixels of each channel and of each filter's result follow one another, in the type of the sums.
bool planes(const Problem&);

// What multiplies: the kernel of rows × lanes, or one of the special ones.
enum class Method : unsigned char { multiply, few_filters, few_filters_lanes, few_channels };

enum class Orientation : unsigned char { pixels_as_rows, pixels_as_lanes };

// What tests and measurements ask for instead of the planner's choice, wherever type and order of summation fit.
struct Restriction {
  const MultiplyFamily* family = nullptr;
  size_t vectors = 0;
  std::optional<Orientation> orientation;
};

struct Machine {
  const KernelTable* table;
  Restriction only;
  bool halves_pair_up = false;
  size_t l2_bytes = 1 << 20;
  double worth_threads = 60;  // microseconds of work, below which waking another thread costs more than it brings
};

struct Plan {
  const KernelTable* table = nullptr;
  Order order = Order::chain;
  Method method = Method::multiply;
  Orientation orientation = Orientation::pixels_as_rows;
  const MultiplyFamily* family = nullptr;
  size_t vectors = 1;          // lanes are walked in columns of at most this many vectors
  bool stage_x = false;        // x is copied into a tile first
  bool scratch_y = false;      // results go to a tile first, and from there to y
  bool fuse_residual = false;  // the kernel adds the residual
  size_t tile_pixels = 1;
  size_t box[2] = {1, 1};  // of a problem that is walked in boxes: its rows, and the pixels in each
  size_t tiles = 1;
  size_t chunk_filters = 1;         // filters (of one group) that a tile is multiplied with before its results leave;
                                    // all of them, except where the method is to multiply
  size_t chunks = 1;                // in each group
  size_t channel_block = 1;         // channels multiplied before the sums are left in y or scratch and resumed
  size_t x_pitch = 0, y_pitch = 0;  // elements (or pairs, quads) between rows of a staged tile and of the scratch
  size_t scratch_bytes = 0;         // for each thread
  double microseconds = 0;          // a rough forecast for one thread
  int threads = 1;
};

Plan make_plan(const Problem&, const Machine&, int max_threads);

}  // namespace conv1x1
