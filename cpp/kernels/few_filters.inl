// One to four filters over contiguous channels, in lane order: here the vectors run over the channels.
// Channel c goes into partial sum c mod 16; the sixteen are added as a tree: 8, 4, 2, 1 apart.
//
// Beyond what multiply.inl asks, V offers: registers (how many the machine has), fma(a, b, c, mask) (c where
// the mask is off), tree(r) (adds width / 2, … 2, 1 apart, to a scalar), and trees(r, sums), which does that for
// trees_at_once vectors together.
#pragma once

#include "kernel.h"

namespace conv1x1 {
namespace {

// Whether filters go one at a time for want of room, not all of a call's together.
template <class V>
constexpr bool filter_by_filter = false;

// Calls kernel(one) with the arguments of each filter in turn.
template <class Arguments, class Kernel>
inline void for_each_filter(const Arguments& a, ptrdiff_t size, ptrdiff_t out, Kernel kernel) {
  Arguments one = a;
  for (size_t k = 0; k < a.filters; ++k, one.weights += a.filter_stride, one.out += out) {
    kernel(one);
    if (a.bias) one.bias += size;
  }
}

template <class V, int P, int K>
inline void few_filters_block(const FilterRows& a, const char* x, const typename V::Scalar* bias, char* out) {
  using Reg = typename V::Reg;
  using T = typename V::Scalar;
  constexpr int vectors = static_cast<int>(partials / V::width);
  constexpr ptrdiff_t vector_bytes = V::width * sizeof(T);
  Reg acc[P][K][vectors];
#pragma GCC unroll 32
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 32
    for (int k = 0; k < K; ++k) {
#pragma GCC unroll 32
      for (int v = 0; v < vectors; ++v) acc[p][k][v] = V::zero();
    }
  }
  const char* w = a.weights;
  for (size_t c = a.channels / partials; c != 0; --c) {
#pragma GCC unroll 32
    for (int v = 0; v < vectors; ++v) {
      Reg filter[K];
#pragma GCC unroll 32
      for (int k = 0; k < K; ++k) filter[k] = V::load(w + k * a.filter_stride + v * vector_bytes);
#pragma GCC unroll 32
      for (int p = 0; p < P; ++p) {
        const Reg pixel = V::load(x + p * a.pixel_stride + v * vector_bytes);
#pragma GCC unroll 32
        for (int k = 0; k < K; ++k) acc[p][k][v] = V::fma(filter[k], pixel, acc[p][k][v]);
      }
    }
    w += vectors * vector_bytes;
    x += vectors * vector_bytes;
  }
  const size_t rest = a.channels % partials;
  if (rest) {
#pragma GCC unroll 32
    for (int v = 0; v < vectors; ++v) {
      const size_t before = v * V::width;
      if (rest <= before) break;
      const auto mask = V::mask(rest - before < V::width ? rest - before : V::width);
#pragma GCC unroll 32
      for (int p = 0; p < P; ++p) {
        const Reg pixel = V::load(x + p * a.pixel_stride + v * vector_bytes, mask);
#pragma GCC unroll 32
        for (int k = 0; k < K; ++k) {
          const Reg filter = V::load(w + k * a.filter_stride + v * vector_bytes, mask);
          acc[p][k][v] = V::fma(filter, pixel, acc[p][k][v], mask);
        }
      }
    }
  }
  // One loop: the vectors of a tree written as two stay in memory.
#pragma GCC unroll 32
  for (int v = vectors - 1; v > 0; --v) {
    const int to = v - (v >= 4 ? 4 : v >= 2 ? 2 : 1);
#pragma GCC unroll 32
    for (int i = 0; i < P * K; ++i) acc[i / K][i % K][to] = V::add(acc[i / K][i % K][to], acc[i / K][i % K][v]);
  }
  T sums[P * K];
  if constexpr (P * K % V::trees_at_once == 0) {
#pragma GCC unroll 32
    for (int i = 0; i < P * K; i += V::trees_at_once) {
      Reg batch[V::trees_at_once];
#pragma GCC unroll 32
      for (int j = 0; j < V::trees_at_once; ++j) batch[j] = acc[(i + j) / K][(i + j) % K][0];
      V::trees(batch, sums + i);
    }
  } else {
#pragma GCC unroll 32
    for (int i = 0; i < P * K; ++i) sums[i] = V::tree(acc[i / K][i % K][0]);
  }
  if (a.bias) {
    for (int i = 0; i < P * K; ++i) sums[i] += bias[i];
  }
  if (a.out_pixel == K * ptrdiff_t(sizeof(T))) {
    __builtin_memcpy(out, sums, sizeof(sums));
  } else {
    for (int p = 0; p < P; ++p) __builtin_memcpy(out + p * a.out_pixel, sums + p * K, K * sizeof(T));
  }
}

template <class V, int K>
inline void few_filters_of(const FilterRows& a) {
  constexpr int vectors = static_cast<int>(partials / V::width);
  // Pixels at a time: as many as leave room for the filters, in a number that fills the last trees.
  constexpr int fit = (V::registers - K - 2) / (K * vectors);
  constexpr int P = fit >= 8 ? 8 : fit >= 4 ? 4 : fit >= 2 ? 2 : 1;
  typename V::Scalar bias[P * K] = {};  // as many times over as there are pixels
  if (a.bias) {
    for (int p = 0; p < P; ++p) __builtin_memcpy(bias + p * K, a.bias, K * sizeof(bias[0]));
  }
  const char* x = a.x;
  char* out = a.out;
  size_t p = 0;
  for (; p + P <= a.pixels; p += P, x += P * a.pixel_stride, out += P * a.out_pixel)
    few_filters_block<V, P, K>(a, x, bias, out);
  if constexpr (P > 1) {
    for (; p < a.pixels; ++p, x += a.pixel_stride, out += a.out_pixel) few_filters_block<V, 1, K>(a, x, bias, out);
  }
}

template <class V>
void few_filters(const FilterRows& a) noexcept {
  if constexpr (filter_by_filter<V>) {
    constexpr ptrdiff_t size = sizeof(typename V::Scalar);
    return for_each_filter(a, size, size, few_filters_of<V, 1>);
  }
  switch (a.filters) {
    case 1: return few_filters_of<V, 1>(a);
    case 2: return few_filters_of<V, 2>(a);
    case 3: return few_filters_of<V, 3>(a);
    default: return few_filters_of<V, 4>(a);
  }
}

// With pixels as lanes, the partial sums of a strip of pixels stay in the first-level cache. D channels of one partial
// sum, 16 apart, are added to it at a time; the next partial sum's lie beside them, and are asked for on the way.
template <class V, int K, int D>
inline void add_channels(const FilterLanes& a, const char* x, size_t channel, bool begins, char* sums,
                         ptrdiff_t filter_rows, ptrdiff_t last, typename V::Mask mask) {
  using Reg = typename V::Reg;
  using T = typename V::Scalar;
  constexpr ptrdiff_t vector_bytes = V::width * sizeof(T), apart = partials;
  const char* w = a.weights + static_cast<ptrdiff_t>(channel * sizeof(T));
  Reg filter[K][D];
#pragma GCC unroll 4
  for (int k = 0; k < K; ++k) {
#pragma GCC unroll 4
    for (int d = 0; d < D; ++d) filter[k][d] = V::broadcast(w + k * a.filter_stride + d * apart * ptrdiff_t(sizeof(T)));
  }
  for (ptrdiff_t v = 0; v <= last; v += vector_bytes) {
    Reg pixel[D];
#pragma GCC unroll 4
    for (int d = 0; d < D; ++d) {
      const char* p = x + d * apart * a.x_channel + v;
      __builtin_prefetch(p + a.x_channel);
      pixel[d] = v == last ? V::load(p, mask) : V::load(p);
    }
#pragma GCC unroll 4
    for (int k = 0; k < K; ++k) {
      Reg sum = begins ? V::zero() : V::load(sums + k * filter_rows + v);
#pragma GCC unroll 4
      for (int d = 0; d < D; ++d) sum = V::fma(filter[k][d], pixel[d], sum);
      V::store(sums + k * filter_rows + v, sum);
    }
  }
}

template <class V, int K>
inline void few_filters_lanes_of(const FilterLanes& a) {
  using T = typename V::Scalar;
  using Reg = typename V::Reg;
  constexpr ptrdiff_t size = sizeof(T), vector_bytes = V::width * sizeof(T);
  constexpr size_t longest = 24576 / (partials * K * sizeof(T)) / V::width * V::width;
  constexpr ptrdiff_t row = longest * sizeof(T), filter_rows = partials * row;
  alignas(64) char partial[K * filter_rows];
  const size_t strips = (a.pixels + longest - 1) / longest, even = (a.pixels + strips - 1) / strips;
  const size_t strip = (even + V::width - 1) / V::width * V::width;
  for (size_t first = 0; first < a.pixels; first += strip) {
    const size_t pixels = a.pixels - first < strip ? a.pixels - first : strip;
    const ptrdiff_t last = static_cast<ptrdiff_t>((pixels - 1) / V::width) * vector_bytes;
    const auto mask = V::mask((pixels - 1) % V::width + 1);
    const char* x = a.x + static_cast<ptrdiff_t>(first) * size;
    for (size_t base = 0; base < a.channels; base += 4 * partials) {
      for (size_t i = 0; i < partials && base + i < a.channels; ++i) {
        const size_t c = base + i, left = (a.channels - c + partials - 1) / partials;
        const char* pixel = x + static_cast<ptrdiff_t>(c) * a.x_channel;
        char* sums = partial + static_cast<ptrdiff_t>(i) * row;
        switch (left) {
          case 1: add_channels<V, K, 1>(a, pixel, c, base == 0, sums, filter_rows, last, mask); break;
          case 2: add_channels<V, K, 2>(a, pixel, c, base == 0, sums, filter_rows, last, mask); break;
          case 3: add_channels<V, K, 3>(a, pixel, c, base == 0, sums, filter_rows, last, mask); break;
          default: add_channels<V, K, 4>(a, pixel, c, base == 0, sums, filter_rows, last, mask); break;
        }
      }
    }
    for (int k = 0; k < K; ++k) {
      char* sums = partial + k * filter_rows;
      char* out = a.out + k * a.out_row + static_cast<ptrdiff_t>(first) * size;
      for (ptrdiff_t v = 0; v <= last; v += vector_bytes) {
        Reg tree[partials];
#pragma GCC unroll 16
        for (size_t i = 0; i < partials; ++i) tree[i] = V::load(sums + static_cast<ptrdiff_t>(i) * row + v);
#pragma GCC unroll 4
        for (size_t half = partials / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
          for (size_t i = 0; i < half; ++i) tree[i] = V::add(tree[i], tree[i + half]);
        }
        if (a.bias) tree[0] = V::add(tree[0], V::broadcast(a.bias + k * size));
        v == last ? V::store(out + v, tree[0], mask) : V::store(out + v, tree[0]);
      }
    }
  }
}

template <class V>
void few_filters_lanes(const FilterLanes& a) noexcept {
  if constexpr (filter_by_filter<V>)
    return for_each_filter(a, ptrdiff_t(sizeof(typename V::Scalar)), a.out_row, few_filters_lanes_of<V, 1>);
  switch (a.filters) {
    case 1: return few_filters_lanes_of<V, 1>(a);
    case 2: return few_filters_lanes_of<V, 2>(a);
    case 3: return few_filters_lanes_of<V, 3>(a);
    default: return few_filters_lanes_of<V, 4>(a);
  }
}

}  // namespace
}  // namespace conv1x1
