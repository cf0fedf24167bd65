// What the instruction-set files offer and the rest of the core calls: plain argument blocks, function
// pointers, and one table of them per instruction set. All strides are in bytes and may have any sign.
//
// Kernels are noexcept, trust their arguments, allocate nothing and read or write no byte outside the
// elements they are given. This header is compiled with every instruction set, so it holds no functions.
#pragma once

#include <cstddef>
#include <cstdint>

namespace conv1x1 {

// Types of an array's elements. The first `arithmetic_count` are those that sums are computed in.
enum class DType : unsigned char {
  float32,
  float64,
  int32,
  float16,
  bfloat16,
  uint8,
  int8,
  uint16,
  int16,
  boolean,
  int64,
  uint32,
  uint64
};
constexpr size_t dtype_count = 13, arithmetic_count = 3, float_count = 2;

// What the rows and lanes of a multiply kernel hold: one channel in an element of the sums' type, or several in 32 bits
// that are multiplied and added to one sum at once. Of quads, the weights are int8 and the pixels uint8, or int8 where
// both are signed.
enum class Operand : unsigned char { float32, float64, int16_pairs, int8_quads, signed_quads };
constexpr size_t operand_count = 5;

enum class Isa : unsigned char { portable, neon, neondot, avx2, avx512, avx512vnni };
constexpr size_t isa_count = 6;

// The order in which the channels of one output are summed; see call/order.h.
enum class Order : unsigned char { chain, lanes };

// `clamp` stands for relu, relu6 and clip.
enum class Activation : unsigned char { none, clamp, leaky_relu, hardswish, hardsigmoid, sigmoid, silu, tanh, gelu };

// Number of partial sums in lane order (part of the definition of a result).
constexpr size_t partials = 16;

// Tiles of rows × lanes outputs: out(i, j) = sum over c of rows(i, c) * lanes(c, j), by fma with c
// ascending, one accumulator an output; then + bias, + residual, clamp where they are given.
// Rows are broadcast, lanes are vectors. Either side may be the pixels, the other the filters.
struct Multiply {
  const char* rows;  // rows(i, c) = rows + i * row_stride + c * row_channel
  ptrdiff_t row_stride;
  ptrdiff_t row_channel;
  const char* lanes;  // lanes(c, vector v) = lanes + v * lane_vector + c * lane_channel, contiguous within
  ptrdiff_t lane_vector;
  ptrdiff_t lane_channel;
  size_t channels;  // or pairs or quads of them
  char* out;        // out(i, j) = out + i * out_row + j * sizeof(T)
  ptrdiff_t out_row;
  const char* bias;  // null for none; one number a row, or one a lane (readable to whole vectors)
  bool bias_per_row;
  const char* residual;  // null for none; laid out as out is, with its own row stride
  ptrdiff_t residual_row;
  bool resume;  // start from what `out` holds instead of from zero
  bool clamp;
  double lo, hi;
  // Integer sums only; null for none. Then out(i, j), one byte each, is the sum as a float, times scale, clamped to
  // [lo, hi], rounded half to even, plus the zero point. One number a row or a lane, as the bias is.
  const char* scale;
  int zero_point;
  const char* ahead;  // what to ask the memory for meanwhile, a line with each channel
  ptrdiff_t ahead_channel;
  bool lanes_ahead;  // instead: the lanes are met for the first time here, one beside the other, in the next tiles too
  // One tile after another, columns of lanes or blocks of rows: the arrays of each begin so many bytes further.
  size_t tiles;
  struct Step {
    ptrdiff_t rows, lanes, out, bias, residual, scale, ahead;
  } step;
  bool same_lanes;    // they are blocks of rows
  size_t last_lanes;  // in use in the last vector of the last tile; of blocks of rows, of each
};

using MultiplyFn = void (*)(const Multiply&) noexcept;

// The family of multiply kernels with one vector type: fn(vectors, rows) for each height that fits the registers.
struct MultiplyFamily {
  Operand operand;
  bool turned;   // quads as lanes are pixels, not filters: the kernels differ
  size_t width;  // sums in a vector
  size_t max_vectors;
  const unsigned char* max_rows;  // [vectors - 1]
  const MultiplyFn* const* fn;    // [vectors - 1][rows - 1]
};

// One to four filters as plain rows over contiguous channels, in lane order: out[p, k] = the sum over the channels +
// bias[k].
struct FilterRows {
  const char* x;  // pixel p at x + p * pixel_stride, channels contiguous
  ptrdiff_t pixel_stride;
  size_t pixels;
  const char* weights;  // filter k at weights + k * filter_stride, channels contiguous
  ptrdiff_t filter_stride;
  size_t channels;
  size_t filters;
  const char* bias;  // null for none
  char* out;         // out + p * out_pixel + k * sizeof(T)
  ptrdiff_t out_pixel;
};

using FilterRowsFn = void (*)(const FilterRows&) noexcept;

// The same in lane order, for pixels that are contiguous where the channels are not: out[k, p] as rows of pixels.
struct FilterLanes {
  const char* x;  // channel c of pixel p at x + c * x_channel + p * sizeof(T)
  ptrdiff_t x_channel;
  size_t pixels;
  const char* weights;  // as in FilterRows
  ptrdiff_t filter_stride;
  size_t channels;
  size_t filters;    // 1 … 4
  const char* bias;  // null for none
  char* out;         // out + k * out_row + p * sizeof(T)
  ptrdiff_t out_row;
};

using FilterLanesFn = void (*)(const FilterLanes&) noexcept;

// One to four filters over one to four channels, in chain order; pixels as rows on both sides.
struct FewChannels {
  const char* x;  // channel c of pixel p at x + c * x_row + p * sizeof(T)
  ptrdiff_t x_row;
  size_t pixels;
  const char* weights;  // as in FilterRows
  ptrdiff_t filter_stride;
  size_t channels;
  size_t filters;
  const char* bias;  // null for none
  char* out;         // out + k * out_row + p * sizeof(T)
  ptrdiff_t out_row;
};

using FewChannelsFn = void (*)(const FewChannels&) noexcept;

// The same in float32 for whole pixels without gaps on both sides, float32 or uint8.
struct Colour {
  const char* x;
  size_t pixels;
  const char* weights;  // as in FilterRows
  ptrdiff_t filter_stride;
  size_t channels;
  size_t filters;
  const char* bias;  // null for none
  bool clamp;
  double lo, hi;
  char* out;
};

using ColourFn = void (*)(const Colour&) noexcept;

// Rows of elements of 1, 2, 4 or 8 bytes put together in turn, or taken apart: one[i * count + r] is many[r][i].
struct Rows {
  char* one;
  char* const* many;
  size_t n;
};

using RowsFn = void (*)(const Rows&) noexcept;
constexpr size_t most_rows = 4;

// A strided 2-D move of elements of 1, 2, 4 or 8 bytes: dst(i, j) = src(i, j).
struct Move {
  const char* src;
  ptrdiff_t src_i, src_j;
  char* dst;
  ptrdiff_t dst_i, dst_j;
  size_t n_i, n_j;
};

using MoveFn = void (*)(const Move&) noexcept;
constexpr size_t size_count = 4;  // tables by size are indexed by its logarithm

// dst[i] = src[i] in another type, and dst[i] += src[i]. To integers values are rounded half to even and saturated, NaN
// becomes 0; to smaller floats they are rounded half to even.
using ConvertFn = void (*)(const char* src, char* dst, size_t n) noexcept;

// Rows of contiguous elements converted, each less its centre: dst(i, j) = src(i, j) - center(of_rows ? i : j). Numbers
// that are not converted may stay where they are.
struct Center {
  const char* src;
  ptrdiff_t src_row;
  char* dst;
  ptrdiff_t dst_row;
  size_t rows, length;
  const char* center;  // contiguous, in the type of the sums
  bool of_rows;
};

using CenterFn = void (*)(const Center&) noexcept;

using ActivateFn = void (*)(char* y, size_t n, Activation, double a, double b) noexcept;  // in place, contiguous

// A step of a chain over the channels of each pixel: y(p, c) of x(p, c) at x + p * x_pixel + c * x_channel, where on
// both sides the channels are contiguous, or on both the pixels. y may be x itself, and is in the type of the sums; of
// argmax it is one int32 for each pixel, contiguous, and y_channel that of x.
struct OverChannels {
  const char* x;
  ptrdiff_t x_pixel, x_channel;
  char* y;
  ptrdiff_t y_pixel, y_channel;
  size_t pixels, channels;
  const char *weight, *bias;  // of layer norm; null for none
  double eps;
};

using OverChannelsFn = void (*)(const OverChannels&) noexcept;

// sums(c) += x(p, c), or the larger of both, for p ascending; channels contiguous.
struct Pool {
  const char* x;
  ptrdiff_t x_pixel;
  size_t pixels, channels;
  char* sums;
  bool largest;
};

using PoolFn = void (*)(const Pool&) noexcept;

// The largest magnitude of contiguous integers, at any address, or what was met before if that is larger; what is
// beyond int64 counts as its largest. Of float64, its bits.
using LargestFn = uint64_t (*)(const char* numbers, size_t n, uint64_t before) noexcept;

// For the measured roofline: floating-point operations as fast as they go, and reading as fast as it goes. What they
// return means nothing but that the work was done.
using MultiplyAddsFn = double (*)(size_t rounds) noexcept;
using ReadThroughFn = double (*)(const char* p, size_t bytes) noexcept;

struct KernelTable {
  Isa isa;
  bool fused;  // multiplies and adds with one rounding
  const MultiplyFamily* families;
  size_t family_count;
  FilterRowsFn few_filters[float_count];
  FilterLanesFn few_filters_lanes[float_count];
  FewChannelsFn few_channels[float_count];
  ColourFn colour[2][2];  // [x is uint8][y is uint8]; null where few_channels serves
  ActivateFn activate[float_count];
  OverChannelsFn softmax[float_count];
  OverChannelsFn layer_norm[float_count];
  OverChannelsFn arg_max[float_count];
  PoolFn pool[float_count];
  MoveFn move[size_count];
  RowsFn split[most_rows - 1][size_count];  // [rows - 2]
  RowsFn join[most_rows - 1][size_count];
  ConvertFn convert[dtype_count][dtype_count];  // [from][to]; null where neither is a type of sums or of operands
  ConvertFn raise_int8;                         // int8 + 128 as uint8; and back
  LargestFn largest[dtype_count];               // null but for those that float64 does not hold, uint32, and float64
  ConvertFn add[float_count];
  CenterFn center[dtype_count][float_count];    // [from][sums]; null where it takes two steps
  MultiplyAddsFn multiply_adds[operand_count];  // null where there is no such kernel
  size_t multiply_adds_flop[operand_count];     // in a round
  ReadThroughFn read_through;                   // bytes: a multiple of 1024
};

// What an instruction set with a dot product of quads has beyond the one it builds on.
struct QuadKernels {
  MultiplyFamily families[2];
  MultiplyAddsFn multiply_adds;
  size_t multiply_adds_flop;
};

}  // namespace conv1x1
