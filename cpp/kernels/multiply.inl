// The multiply kernel: rows × vectors accumulators in registers, written once for every vector type.
//
// V offers: Scalar, Reg, Mask, width, all_lanes (bool: masked loads and stores cost what plain ones do), zero(),
// broadcast(p), load(p), load(p, mask), store(p, r), store(p, r, mask), mask(n), fma(a, b, c), add(a, b),
// max(lo, r), min(hi, r) where the second argument wins against NaN. Where Scalar is int32_t, fma multiplies pairs or
// quads of smaller numbers and adds them all; Float, floats(p) and float_broadcast(p) load scales, scaled(r, scale) and
// quantized(scaled, lo, hi, zero) make numbers of one byte of the sums, and store_bytes(p, r[, mask]) stores those.
//
// Every loop over the accumulators is unrolled, set-up and store included: one that is not keeps the
// whole array in memory.
#pragma once

#include "kernel.h"

namespace conv1x1 {
namespace {

template <class T>
constexpr bool is_integer = false;
template <>
constexpr bool is_integer<int32_t> = true;

template <bool Value>
struct Constant {
  static constexpr bool value = Value;
};

template <class V, int N, bool Masked>
inline __attribute__((always_inline)) void load_lanes(typename V::Reg (&lane)[N], const char* p, ptrdiff_t vector,
                                                      typename V::Mask mask) {
#pragma GCC unroll 32
  for (int j = 0; j < N; ++j) lane[j] = Masked && j == N - 1 ? V::load(p + j * vector, mask) : V::load(p + j * vector);
}

template <class V, int R, int N, bool Masked, bool LanesAhead>
inline __attribute__((always_inline)) void sum_channels(typename V::Reg (&acc)[R][N], const Multiply& a,
                                                        const char* rows, const char* lanes, const char* ahead,
                                                        typename V::Mask mask) {
  // One pointer for four rows: base + {0, 1, 2} * stride are addressing modes, 3 * stride is a register.
  constexpr int groups = (R + 3) / 4;
  const ptrdiff_t offset[4] = {0, a.row_stride, 2 * a.row_stride, 3 * a.row_stride};
  const char* row[groups];
#pragma GCC unroll 32
  for (int g = 0; g < groups; ++g) row[g] = rows + 4 * g * a.row_stride;
  // Pixels come from far away, and are asked for before their turn: as lanes that are met for the first time, those of
  // the column after the next, into the second-level cache; else a line with each channel of what the caller says.
  constexpr ptrdiff_t vector_bytes = V::width * sizeof(typename V::Scalar);
  const ptrdiff_t row_channel = a.row_channel, lane_channel = a.lane_channel, ahead_channel = a.ahead_channel,
                  lane_vector = LanesAhead ? vector_bytes : a.lane_vector;
  for (size_t c = a.channels; c != 0; --c) {
    if constexpr (LanesAhead) {
#pragma GCC unroll 32
      for (ptrdiff_t line = 0; line < N * vector_bytes; line += 64)
        __builtin_prefetch(lanes + 2 * N * vector_bytes + line, 0, 2);
    } else {
      __builtin_prefetch(ahead);
      ahead += ahead_channel;
    }
    typename V::Reg lane[N];
    load_lanes<V, N, Masked>(lane, lanes, lane_vector, mask);
#pragma GCC unroll 32
    for (int i = 0; i < R; ++i) {
      const typename V::Reg r = V::broadcast(row[i / 4] + offset[i % 4]);
#pragma GCC unroll 32
      for (int j = 0; j < N; ++j) acc[i][j] = V::fma(r, lane[j], acc[i][j]);
    }
    lanes += lane_channel;
#pragma GCC unroll 32
    for (int g = 0; g < groups; ++g) row[g] += row_channel;
  }
}

// Which side the filters are on. Where the kernel cannot have them on either, the file of V says so.
enum class Filters { anywhere, rows, lanes };
template <class V>
constexpr Filters filters_of = Filters::anywhere;

// Filters that are rows come in panels of as many as there are lanes.
template <class V, int R>
constexpr bool may_have_filters_as_rows = R <= int(V::width) && filters_of<V> != Filters::lanes;

template <class V, int R>
inline bool filters_are_rows(const Multiply& a) {
  return filters_of<V> == Filters::rows || (may_have_filters_as_rows<V, R> && a.bias_per_row);
}

template <class V, int R, int N>
inline __attribute__((always_inline)) void add_bias(typename V::Reg (&acc)[R][N], const Multiply& a, const char* bias) {
  using Reg = typename V::Reg;
  using T = typename V::Scalar;
  if (bias && filters_are_rows<V, R>(a)) {
#pragma GCC unroll 32
    for (int i = 0; i < R; ++i) {
      const Reg b = V::broadcast(bias + i * sizeof(T));
#pragma GCC unroll 32
      for (int j = 0; j < N; ++j) acc[i][j] = V::add(acc[i][j], b);
    }
  } else if (bias) {
#pragma GCC unroll 32
    for (int j = 0; j < N; ++j) {
      const Reg b = V::load(bias + j * ptrdiff_t(V::width * sizeof(T)));
#pragma GCC unroll 32
      for (int i = 0; i < R; ++i) acc[i][j] = V::add(acc[i][j], b);
    }
  }
}

// The sums scaled, clamped and rounded.
template <class V, int R, int N>
inline __attribute__((always_inline)) void quantize(typename V::Reg (&acc)[R][N], const Multiply& a,
                                                    const char* scale) {
  if (filters_are_rows<V, R>(a)) {
#pragma GCC unroll 32
    for (int i = 0; i < R; ++i) {
      const typename V::Float by = V::float_broadcast(scale + i * ptrdiff_t(sizeof(float)));
#pragma GCC unroll 32
      for (int j = 0; j < N; ++j) acc[i][j] = V::scaled(acc[i][j], by);
    }
  } else {
#pragma GCC unroll 32
    for (int j = 0; j < N; ++j) {
      const typename V::Float by = V::floats(scale + j * ptrdiff_t(V::width * sizeof(float)));
#pragma GCC unroll 32
      for (int i = 0; i < R; ++i) acc[i][j] = V::scaled(acc[i][j], by);
    }
  }
  const float limits[2] = {static_cast<float>(a.lo), static_cast<float>(a.hi)};
  const typename V::Float lo = V::float_broadcast(reinterpret_cast<const char*>(limits));
  const typename V::Float hi = V::float_broadcast(reinterpret_cast<const char*>(limits + 1));
  const typename V::Reg zero = V::broadcast(reinterpret_cast<const char*>(&a.zero_point));
#pragma GCC unroll 32
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 32
    for (int j = 0; j < N; ++j) acc[i][j] = V::quantized(acc[i][j], lo, hi, zero);
  }
}

// R rows of N vectors, `bytes` apart, of which the last is stored in part where it is the tail. One row after another:
// where rows are pages apart, to come back to each costs.
template <class V, int R, int N, bool AllMasked, class Store>
inline __attribute__((always_inline)) void store_tile(const typename V::Reg (&acc)[R][N], char* out, ptrdiff_t out_row,
                                                      ptrdiff_t bytes, bool tail, typename V::Mask mask, Store store) {
  const auto rows = [&](auto masked) __attribute__((always_inline)) {
#pragma GCC unroll 32
    for (int i = 0; i < R; ++i) {
      char* row = out + i * out_row;
#pragma GCC unroll 32
      for (int j = 0; j < N - 1; ++j) store(row + j * bytes, acc[i][j]);
      if constexpr (masked.value)
        store(row + (N - 1) * bytes, acc[i][N - 1], mask);
      else
        store(row + (N - 1) * bytes, acc[i][N - 1]);
    }
  };
  if (AllMasked || tail)
    rows(Constant<true>{});
  else
    rows(Constant<false>{});
}

// One tile: R rows, N vectors of lanes. `mask` holds the lanes of the last vector.
template <class V, int R, int N>
inline __attribute__((always_inline)) void multiply_tile(const Multiply& a, const char* rows, const char* lanes,
                                                         const char* bias, const char* residual, const char* scale,
                                                         char* out, const char* ahead, bool tail,
                                                         typename V::Mask mask) {
  using Reg = typename V::Reg;
  using T = typename V::Scalar;
  constexpr ptrdiff_t vector_bytes = V::width * sizeof(T);
  // Ask for the lines of the result now, so that they are here when the sums are.
  char* row = out;
#pragma GCC unroll 32
  for (int i = 0; i < R; ++i, row += a.out_row) {
#pragma GCC unroll 32
    for (ptrdiff_t line = 0; line < N * vector_bytes; line += 64) __builtin_prefetch(row + line, 1);
  }
  Reg acc[R][N];
  if (!is_integer<T> && a.resume) {
#pragma GCC unroll 32
    for (int i = 0; i < R; ++i) load_lanes<V, N, true>(acc[i], out + i * a.out_row, vector_bytes, mask);
  } else {
#pragma GCC unroll 32
    for (int i = 0; i < R; ++i) {
#pragma GCC unroll 32
      for (int j = 0; j < N; ++j) acc[i][j] = V::zero();
    }
  }
  if (is_integer<T>) add_bias<V, R, N>(acc, a, bias);  // sums of integers, modulo 2^32, may begin with it
  // Integers as lanes are always staged, so that none are met for the first time here; nor are their sums resumed, or
  // residuals added to them. Beyond a tail there is nothing to ask for.
  constexpr bool may_meet_lanes = !is_integer<T> && may_have_filters_as_rows<V, R>;
  const auto sum = [&](auto masked, auto lanes_ahead) {
    sum_channels<V, R, N, masked.value, lanes_ahead.value>(acc, a, rows, lanes, ahead, mask);
  };
  if (!V::all_lanes && tail)
    sum(Constant<true>{}, Constant<false>{});
  else if (may_meet_lanes && a.lanes_ahead)
    sum(Constant<V::all_lanes>{}, Constant<may_meet_lanes>{});
  else
    sum(Constant<V::all_lanes>{}, Constant<false>{});
  if (!is_integer<T>) add_bias<V, R, N>(acc, a, bias);
  if (!is_integer<T> && residual) {
#pragma GCC unroll 32
    for (int i = 0; i < R; ++i) {
      Reg r[N];
      load_lanes<V, N, true>(r, residual + i * a.residual_row, vector_bytes, mask);
#pragma GCC unroll 32
      for (int j = 0; j < N; ++j) acc[i][j] = V::add(acc[i][j], r[j]);
    }
  }
  const ptrdiff_t out_row = a.out_row;
  if constexpr (is_integer<T>) {
    if (scale) {
      quantize<V, R, N>(acc, a, scale);
      store_tile<V, R, N, false>(acc, out, out_row, ptrdiff_t(V::width), tail, mask,
                                 [](auto... arguments) { V::store_bytes(arguments...); });
      return;
    }
  }
  if (a.clamp) {
    const T limits[2] = {static_cast<T>(a.lo), static_cast<T>(a.hi)};
    const Reg lo = V::broadcast(reinterpret_cast<const char*>(limits));
    const Reg hi = V::broadcast(reinterpret_cast<const char*>(limits + 1));
#pragma GCC unroll 32
    for (int i = 0; i < R; ++i) {
#pragma GCC unroll 32
      for (int j = 0; j < N; ++j) acc[i][j] = V::min(hi, V::max(lo, acc[i][j]));
    }
  }
  store_tile<V, R, N, V::all_lanes && !is_integer<T>>(acc, out, out_row, vector_bytes, tail, mask,
                                                      [](auto... arguments) { V::store(arguments...); });
}

template <class V, int R, int N>
void multiply(const Multiply& a) noexcept {
  const typename V::Mask all = V::mask(V::width), last = V::mask(a.last_lanes);
  const char *rows = a.rows, *lanes = a.lanes, *bias = a.bias, *residual = a.residual, *scale = a.scale,
             *ahead = a.ahead;
  char* out = a.out;
  for (size_t left = a.tiles; left != 0; --left) {
    const bool tail = (left == 1 || a.same_lanes) && a.last_lanes != V::width;
    multiply_tile<V, R, N>(a, rows, lanes, bias, residual, scale, out, ahead, tail, tail ? last : all);
    rows += a.step.rows;
    lanes += a.step.lanes;
    bias += a.step.bias;
    residual += a.step.residual;
    scale += a.step.scale;
    out += a.step.out;
    ahead += a.step.ahead;
  }
}

// 1, 2, … n as template arguments, without a std header.
template <int... I>
struct Indices {};
template <int N, int... I>
struct MakeIndices : MakeIndices<N - 1, N, I...> {};
template <int... I>
struct MakeIndices<0, I...> {
  using type = Indices<I...>;
};

template <class V, int N, class = void>
struct RowKernels;
template <class V, int N, int... R>
struct RowKernels<V, N, Indices<R...>> {
  static constexpr MultiplyFn fn[] = {multiply<V, R, N>...};
};

template <class V, class Vectors, int... MaxRows>
struct FamilyKernels;
template <class V, int... N, int... MaxRows>
struct FamilyKernels<V, Indices<N...>, MaxRows...> {
  static constexpr unsigned char max_rows[] = {MaxRows...};
  static constexpr const MultiplyFn* fn[] = {RowKernels<V, N, typename MakeIndices<MaxRows>::type>::fn...};
};

// The family of vector type V whose kernels with 1, 2, … vectors have up to MaxRows rows each.
template <class V, int... MaxRows>
constexpr MultiplyFamily family(Operand operand, bool turned = false) {
  using Kernels = FamilyKernels<V, typename MakeIndices<sizeof...(MaxRows)>::type, MaxRows...>;
  return {operand, turned, V::width, sizeof...(MaxRows), Kernels::max_rows, Kernels::fn};
}

}  // namespace
}  // namespace conv1x1
