// One step's work on a tile of pixels: what is computed, and where its pixels lie. What is done in it (stage, multiply
// or another method, finish) are functions of a task, each of which maps an `End` to another.
#pragma once

#include <cstddef>

#include "call/problem.h"
#include "kernels/kernel.h"
#include "plan/program.h"
#include "run/epilogue.h"
#include "run/transfer.h"
#include "weights/weights.h"

namespace conv1x1 {

// The pixels of a tile: [first, last) of the problems' walks, or a box, which begins at `start` and is a walk of its
// own.
struct Pixels {
  size_t first, last;
  bool boxed = false;
  PixelAxis box[2] = {};
  PixelAxis start = {};

  size_t count() const { return last - first; }
  Walk walk(const PixelAxes& axes) const { return boxed ? Walk(box, 2) : Walk(axes); }
};

Pixels pixels_of(const Program&, size_t tile);

// Evenly spaced pixels.
struct Block {
  char* data = nullptr;
  ptrdiff_t pixel = 0, channel = 0;  // bytes to the next

  Block at(ptrdiff_t offset) const { return {data + offset, pixel, channel}; }
};

// Where pixels come from, or go to: a block in scratch, or, `walked`, a caller's array, whose pixels are
// reached in the runs of the problem's axes. What is read is not written to, though the address would let one.
struct End : Block {
  bool walked = false;
};

// Filters [filter, filter + filters) of one group, over the pixels of a tile.
struct Task {
  const Problem& problem;
  const Plan& plan;
  const PackedWeights& weights;
  const Epilogue& epilogue;
  const Pixels& pixels;
  size_t group, filter, filters;
  End x, y;              // the group's first channel, and the first of the filters
  const char* residual;  // of the first of the filters; null for none
  bool second_half;      // the imaginary parts of complex pixels are at hand
  Limit* limit;          // that x's numbers are to be held against once they are converted; null for none

  bool rows() const { return plan.orientation == Orientation::pixels_as_rows; }
  ptrdiff_t size() const { return static_cast<ptrdiff_t>(size_of(problem.arithmetic)); }  // of a sum
  ptrdiff_t out_size() const { return problem.quantized ? 1 : size(); }                   // of what kernels write
  size_t depth() const { return traits(plan.family->operand).together; }
};

// Bytes from an array's first channel to another. Where pairs are apart, only their first channels are asked for.
inline ptrdiff_t offset(const Side& side, size_t channel) {
  return static_cast<ptrdiff_t>(side.pair ? channel / 2 : channel) * side.channel;
}

inline Elements elements(const Side& side) { return {size_of(side.dtype), side.swapped}; }

constexpr size_t index(DType dtype) { return static_cast<size_t>(dtype); }

// From one type to another; null where they are the same.
inline ConvertFn conversion(const KernelTable& table, DType from, DType to) {
  return from == to ? nullptr : table.convert[index(from)][index(to)];
}

// Holds pixels that have become float64 against the task's limit.
void look(const Task&, const char* numbers, size_t n);

// Whether the kernel takes bytes of the other sign than x's.
bool raises(const Task&);

// Calls fn(x, y, run) for each run of pixels that is even at both ends, with what both are there.
template <class Fn>
void for_each_run(const Task& t, const End& x, const End& y, Fn fn) {
  if (!x.walked && !y.walked) return fn(x, y, Run{0, 0, 0, t.pixels.count(), 0, 0, 0});
  const PixelAxes& axes = !x.walked ? t.problem.target : !y.walked ? t.problem.source : t.problem.all;
  Runs runs(t.pixels.walk(axes), t.pixels.first, t.pixels.last);
  ptrdiff_t done = 0;
  for (Run run; runs.next(run); done += static_cast<ptrdiff_t>(run.n))
    fn(x.walked ? Block{x.data + run.x, run.x_step, x.channel} : x.at(done * x.pixel),
       y.walked ? Block{y.data + run.y, run.y_step, y.channel} : y.at(done * y.pixel), run);
}

// What the kernels that take the filters as plain rows are told of them.
template <class Arguments>
Arguments plain_filters(const Task& t) {
  Arguments a{};
  a.weights = t.weights.row(t.group, t.filter);
  a.filter_stride = t.weights.row_bytes;
  a.channels = t.problem.in_channels;
  a.filters = t.filters;
  a.bias = t.weights.bias_at(t.group, t.filter, t.second_half);
  return a;
}

}  // namespace conv1x1
