// One to four filters over one to four channels, as in colour images, in chain order, where each channel and each
// filter's result is a row of pixels: a plain loop that the compiler makes vectors of.
#pragma once

#include "anywhere.inl"

namespace conv1x1 {
namespace {

// fma(a, b, c) is the caller's, with one rounding or two.
template <class T, class Fma, int C>
inline void few_channels_of(const FewChannels& a, Fma fma) {
  const size_t pixels = a.pixels;
  const Anywhere<T>* __restrict x[C];
#pragma GCC unroll 4
  for (int c = 0; c < C; ++c) x[c] = at<T>(a.x + c * a.x_row);
  for (size_t k = 0; k < a.filters; ++k) {
    const ptrdiff_t filter = static_cast<ptrdiff_t>(k);
    T w[C];
    __builtin_memcpy(w, a.weights + filter * a.filter_stride, sizeof(w));
    const bool biased = a.bias;
    const T bias = biased ? at<T>(a.bias)[k].value : T(0);
    Anywhere<T>* __restrict out = at<T>(a.out + filter * a.out_row);
    for (size_t p = 0; p < pixels; ++p) {
      T s = 0;
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) s = fma(w[c], x[c][p].value, s);
      out[p].value = biased ? s + bias : s;
    }
  }
}

template <class T, bool Fused>
void few_channels(const FewChannels& a) noexcept {
  const auto fma = [](T w, T x, T sum) {
    if constexpr (!Fused)
      return w * x + sum;
    else if constexpr (sizeof(T) == sizeof(float))
      return __builtin_fmaf(w, x, sum);
    else
      return __builtin_fma(w, x, sum);
  };
  switch (a.channels) {
    case 1: return few_channels_of<T, decltype(fma), 1>(a, fma);
    case 2: return few_channels_of<T, decltype(fma), 2>(a, fma);
    case 3: return few_channels_of<T, decltype(fma), 3>(a, fma);
    default: return few_channels_of<T, decltype(fma), 4>(a, fma);
  }
}

}  // namespace
}  // namespace conv1x1
