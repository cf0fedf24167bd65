// One to four filters over one to four channels, as in colour images: pixels without gaps on both sides, in chain
// order. A block of pixels at a time is taken apart into channels, multiplied, and put together again. Each step is a
// plain loop over the pixels that the compiler makes vectors and shuffles of; one loop for all three it does not.
#pragma once

#include "../kernel.h"

namespace conv1x1 {
namespace {

template <class T>
struct __attribute__((packed, may_alias)) Element {
  T value;
};

// fma(a, b, c) is the caller's, with one rounding or two.
template <class T, class Fma, int C, int K>
inline void few_channels_of(const FilterRows& a, Fma fma) {
  T w[K][C], bias[K] = {};
  for (int k = 0; k < K; ++k) {
    __builtin_memcpy(w[k], a.weights + k * a.filter_stride, sizeof(w[k]));
    if (a.bias) __builtin_memcpy(bias, a.bias, sizeof(bias));
  }
  if constexpr (K == 1) {  // nothing to put together: one loop will do
    const bool biased = a.bias;
    const size_t pixels = a.pixels;
    const Element<T>* __restrict x = reinterpret_cast<const Element<T>*>(a.x);
    Element<T>* __restrict out = reinterpret_cast<Element<T>*>(a.out);
    for (size_t p = 0; p < pixels; ++p) {
      T s = 0;
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) s = fma(w[0][c], x[C * p + c].value, s);
      out[p].value = biased ? s + bias[0] : s;
    }
    return;
  }
  constexpr size_t block = 128;
  T channel[C][block], sum[K][block];
  for (size_t first = 0; first < a.pixels; first += block) {
    const size_t n = a.pixels - first < block ? a.pixels - first : block;
    const Element<T>* x = reinterpret_cast<const Element<T>*>(a.x) + first * C;
    Element<T>* out = reinterpret_cast<Element<T>*>(a.out) + first * K;
    for (size_t p = 0; p < n; ++p) {
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) channel[c][p] = x[C * p + c].value;
    }
#pragma GCC unroll 4
    for (int k = 0; k < K; ++k) {
      for (size_t p = 0; p < n; ++p) {
        T s = 0;
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) s = fma(w[k][c], channel[c][p], s);
        sum[k][p] = s;
      }
    }
    if (a.bias) {
#pragma GCC unroll 4
      for (int k = 0; k < K; ++k) {
        for (size_t p = 0; p < n; ++p) sum[k][p] += bias[k];
      }
    }
    for (size_t p = 0; p < n; ++p) {
#pragma GCC unroll 4
      for (int k = 0; k < K; ++k) out[K * p + k].value = sum[k][p];
    }
  }
}

template <class T, class Fma, int C>
inline void few_channels_from(const FilterRows& a, Fma fma) {
  switch (a.filters) {
    case 1: return few_channels_of<T, Fma, C, 1>(a, fma);
    case 2: return few_channels_of<T, Fma, C, 2>(a, fma);
    case 3: return few_channels_of<T, Fma, C, 3>(a, fma);
    default: return few_channels_of<T, Fma, C, 4>(a, fma);
  }
}

template <class T, class Fma>
inline void few_channels_with(const FilterRows& a, Fma fma) {
  switch (a.channels) {
    case 1: return few_channels_from<T, Fma, 1>(a, fma);
    case 2: return few_channels_from<T, Fma, 2>(a, fma);
    case 3: return few_channels_from<T, Fma, 3>(a, fma);
    default: return few_channels_from<T, Fma, 4>(a, fma);
  }
}

template <class T, bool Fused>
void few_channels(const FilterRows& a) noexcept {
  few_channels_with<T>(a, [](T w, T x, T sum) {
    if constexpr (!Fused)
      return w * x + sum;
    else if constexpr (sizeof(T) == sizeof(float))
      return __builtin_fmaf(w, x, sum);
    else
      return __builtin_fma(w, x, sum);
  });
}

}  // namespace
}  // namespace conv1x1
