// What is computed of a call, and in which order: a list of steps over one tile of pixels at a time.
//
//     x ─→ step ─→ block ─→ step ─→ block ─→ … ─→ step ─→ y
//
// A step maps the pixels of a tile, all their channels and groups, to as many of its results. The first one's pixels
// are the call's x, the last one's results its y, and what lies between is handed on in blocks in scratch and never
// becomes an array. One convolution is a program of one step. All steps share one tile, so that all of it fits the
// caches; where the blocks lie, and which way round, is decided here too, once for all.
//
// A step is a layer, or something else over the channels of each pixel: a softmax, a norm, the index of the largest.
// What reduces over the pixels of a tile will be another kind of `Step`; run_part in run/convolve.cpp is where its kind
// is told.
//
// Pure, as plans are: no global, no addresses.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "call/problem.h"
#include "plan/machine.h"
#include "plan/plan.h"

namespace conv1x1 {

enum class StepKind : unsigned char { layer, softmax, layer_norm, arg_max };

// A layer of a chain, or what else is a step of it, as far as its program depends on it. Channels and filters are real
// ones, of one group. What is no layer has as many of both, but for arg_max, whose result is one index or label.
struct Link {
  StepKind kind = StepKind::layer;
  DType arithmetic = DType::float32;  // of its sums
  DType result = DType::float32;      // what it hands on; of the last one, y's type
  bool quantized = false;
  bool narrow_weights = false;
  bool pairs_filters = false;
  bool centered = false;
  size_t groups = 1, in_channels = 0, out_channels = 0;
  Restriction only = {};                      // what tests ask for
  std::optional<Orientation> handed_as = {};  // likewise
};

// What a step hands on: pixels of a tile in scratch.
struct Handed {
  size_t offset = 0;                 // in a thread's scratch
  size_t bytes = 0;                  // 0: it goes to y
  ptrdiff_t pixel = 0, channel = 0;  // bytes to the next
};

// A layer: staged, multiplied and finished as its plan says; else staged, computed and finished. Of an end that is a
// block the problem tells type and strides as it does of an array's, and the plan follows by the same rules.
struct Step {
  StepKind kind;
  Problem problem;
  Plan plan;
  Handed to;
};

struct Program {
  std::vector<Step> steps;
  size_t pixels = 0;
  PixelAxes boxed;           // what is cut into boxes; empty: tiles are of so many pixels in a row
  size_t tile_pixels = 1;    // at most
  size_t box[2] = {1, 1};    // rows, and the pixels in each
  size_t tiles = 0;          // none: there is nothing to do
  size_t units = 1;          // in a tile: groups and chunks of filters of an only step; several take a tile as a whole
  size_t own_scratch = 0;    // where each step's own begins, after the blocks
  size_t scratch_bytes = 0;  // for each thread
  double microseconds = 0;   // a rough forecast for one thread
  int threads = 1;
};

// Of one layer: as it is planned, or as make_plan plans it.
Program make_program(const Problem&, const Plan&);
Program make_program(const Problem&, const Machine&, int max_threads);

// Of a chain, at least one of whose steps is a layer. `call` is the geometry from x to y, as if there were one layer
// with x's channels and y's filters in one group. The residual is the last step's, which is a layer then. Complex
// numbers go through as pairs (of the first layer also doubled) alone: a problem of two halves stands alone, since its
// halves are put together in y. The machine's restriction counts for the tile, each layer's own for the rest.
Program make_program(const Problem& call, const std::vector<Link>& layers, const Machine&, int max_threads);

}  // namespace conv1x1
