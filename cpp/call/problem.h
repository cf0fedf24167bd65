// One call as plain data: how the pixels lie in every array, and how their channels are spaced.
//
// A Problem knows no addresses, so that calls of one shape share it. It is made from validated arrays and trusted
// afterwards. Axes of one pixel drop out and axes that lie evenly in memory become one, so that almost every call ends
// as "pixels with one stride". The order of the pixels is free, since a result depends on its own pixel only.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "call/array.h"
#include "call/runs.h"
#include "call/types.h"

namespace conv1x1 {

// What complex numbers are to the core, which computes with real ones alone.
enum class Form : unsigned char {
  plain,      // real filters; of complex pixels the real and the imaginary parts are convolved, each on its own
  pairs,      // complex filters over complex pixels: real ones, 2K over 2C channels, where the parts alternate
  doubled,    // complex filters over real pixels: real ones, 2K over C channels
  imaginary,  // real filters over real pixels, the imaginary part of a complex result: no channels, and the bias
};

// One array's part in a call.
struct Side {
  DType dtype = DType::float32;
  bool swapped = false;
  ptrdiff_t channel = 0;  // bytes from one channel (or filter) to the next; from pair to pair where `pair` is not 0
  ptrdiff_t pair = 0;     // bytes from the first to the second channel of each pair; 0: channels evenly spaced
  ptrdiff_t half = 0;     // bytes from the first half to the second, where there are two
};

// What x's integers may be in magnitude, where their type says too little: looked at tile by tile as they are read, and
// the result means nothing once one has passed it.
struct Limit {
  uint64_t most = UINT64_MAX;
  std::atomic<bool> passed{false};
};

// Where a call's arrays begin.
struct Data {
  const char* x = nullptr;
  char* y = nullptr;
  const char* residual = nullptr;
  Limit* limit = nullptr;  // null where x's type says enough, or x was looked through before
};

// Where x's pixels are nearest along another axis than y's, neither side can be walked in its own order without long
// steps through the other. They are then walked in boxes of the last two axes, which are those two (`all`, `source` and
// `target` are the same), and what is moved turns in a box. x's comes last where x holds whole pixels, which are better
// read than written in a row; else that of the heavier side, so that the lighter one is what turns.
struct Problem {
  DType arithmetic = DType::float32;  // of the sums
  bool quantized = false;             // int32 sums become numbers of one byte in the kernel
  bool narrow_weights = false;        // each fits int8
  bool centered = false;              // a number is taken off each channel before it is multiplied
  size_t halves = 1;  // 2: of complex pixels the real parts, then the imaginary ones, with the same filters
  size_t pixels = 0;  // in each half
  size_t groups = 1;
  size_t in_channels = 0;   // in each group
  size_t out_channels = 0;  // in each group
  Side x, y, residual;
  bool adds_residual = false;
  bool pairs_filters = false;  // filters 2k and 2k + 1 are the parts of a complex one; vectors never part them
  bool real_residual = false;  // of a complex result: for its real parts alone
  PixelAxes all;               // merged where x, y and residual all allow it
  PixelAxes source;            // merged for x alone
  PixelAxes target;            // merged for y and residual
  bool boxed = false;          // x and y turn the pixels: see below
};

// A call's geometry. `steps` has one entry an axis of x (1 on the channel axis); y and the residual have x's
// axes, those steps applied, or all but the channel axis (`keep_axis` false). `out_channels` is of y's own elements.
Problem make_problem(DType arithmetic, const Array& x, const Array& y, const Array* residual, int channel_axis,
                     bool keep_axis, const size_t* steps, size_t groups, size_t out_channels, Form = Form::plain,
                     bool has_bias = false);

// Whether the pixels of each channel and of each filter's result follow one another, in the type of the sums.
bool planes(const Problem&);

}  // namespace conv1x1
