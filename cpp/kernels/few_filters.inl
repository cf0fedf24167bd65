// One to four filters over contiguous channels, in lane order: here the vectors run over the channels.
// Channel c goes into partial sum c mod 16; the sixteen are added as a tree: 8, 4, 2, 1 apart.
//
// Beyond what multiply.inl asks, V offers: registers (how many the machine has), fma(a, b, c, mask) (c where
// the mask is off), tree(r) (adds width / 2, … 2, 1 apart, to a scalar), and trees(r, sums), which does that for
// trees_at_once vectors together.
#pragma once

#include "../kernel.h"

namespace conv1x1 {
namespace {

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
#pragma GCC unroll 32
  for (int half = vectors / 2; half > 0; half /= 2) {
#pragma GCC unroll 32
    for (int v = 0; v < half; ++v) {
#pragma GCC unroll 32
      for (int i = 0; i < P * K; ++i) acc[i / K][i % K][v] = V::add(acc[i / K][i % K][v], acc[i / K][i % K][v + half]);
    }
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
  switch (a.filters) {
    case 1: return few_filters_of<V, 1>(a);
    case 2: return few_filters_of<V, 2>(a);
    case 3: return few_filters_of<V, 3>(a);
    default: return few_filters_of<V, 4>(a);
  }
}

// The tree for pixels as lanes, where each partial sum is a row of its own.
template <class T>
void combine_partials(const CombinePartials& a) noexcept {
  const size_t step = a.filters * a.pitch;
  for (size_t k = 0; k < a.filters; ++k) {
    T* partial = reinterpret_cast<T*>(a.partial) + k * a.pitch;
    for (size_t half = partials / 2; half > 0; half /= 2) {
      for (size_t i = 0; i < half; ++i) {
        T* to = partial + i * step;
        const T* from = partial + (i + half) * step;
        for (size_t n = 0; n < a.lanes; ++n) to[n] += from[n];
      }
    }
    T* out = reinterpret_cast<T*>(a.out + static_cast<ptrdiff_t>(k) * a.out_row);
    if (a.bias) {
      const T b = reinterpret_cast<const T*>(a.bias)[k];
      for (size_t n = 0; n < a.lanes; ++n) out[n] = partial[n] + b;
    } else {
      __builtin_memcpy(out, partial, a.lanes * sizeof(T));
    }
  }
}

}  // namespace
}  // namespace conv1x1
