// One to four filters over one to four channels, as in colour images, for float32 and uint8 pixels without gaps: eight
// pixels at a time are loaded as one register a channel, multiplied in chain order, and stored as whole pixels again.
#pragma once

#include <immintrin.h>

#include "anywhere.inl"

namespace conv1x1 {
namespace {

inline __m256 two_halves(const float* low, const float* high) {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(low)), _mm_loadu_ps(high), 1);
}

inline void store_halves(float* low, float* high, __m256 r) {
  _mm_storeu_ps(low, _mm256_castps256_ps128(r));
  _mm_storeu_ps(high, _mm256_extractf128_ps(r, 1));
}

// Four pixels stand in each half of a register, here and below.
struct FloatPixels {
  static constexpr size_t size = sizeof(float);

  template <int C>
  static void load(const char* from, __m256 (&x)[C]) {
    const float* p = reinterpret_cast<const float*>(from);
    __m256 a[C];
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) a[c] = two_halves(p + 4 * c, p + 4 * (C + c));
    if constexpr (C == 1) {
      x[0] = a[0];
    } else if constexpr (C == 2) {
      x[0] = _mm256_shuffle_ps(a[0], a[1], 0x88);
      x[1] = _mm256_shuffle_ps(a[0], a[1], 0xdd);
    } else if constexpr (C == 3) {  // r g b r, g b r g, b r g b
      const __m256 red_green = _mm256_shuffle_ps(a[1], a[2], 0x9e), green_blue = _mm256_shuffle_ps(a[0], a[1], 0x49);
      x[0] = _mm256_shuffle_ps(a[0], red_green, 0x8c);
      x[1] = _mm256_shuffle_ps(green_blue, red_green, 0xd8);
      x[2] = _mm256_shuffle_ps(green_blue, a[2], 0xcd);
    } else {
      turn(a, x);
    }
  }

  template <int K>
  static void store(char* to, const __m256 (&y)[K]) {
    float* p = reinterpret_cast<float*>(to);
    __m256 a[K];
    if constexpr (K == 1) {
      a[0] = y[0];
    } else if constexpr (K == 2) {
      a[0] = _mm256_unpacklo_ps(y[0], y[1]);
      a[1] = _mm256_unpackhi_ps(y[0], y[1]);
    } else if constexpr (K == 3) {
      const __m256 even = _mm256_shuffle_ps(y[0], y[1], 0x88), odd = _mm256_shuffle_ps(y[1], y[2], 0xdd);
      const __m256 mixed = _mm256_shuffle_ps(y[2], y[0], 0xd8);
      a[0] = _mm256_shuffle_ps(even, mixed, 0x88);
      a[1] = _mm256_shuffle_ps(odd, even, 0xd8);
      a[2] = _mm256_shuffle_ps(mixed, odd, 0xdd);
    } else {
      turn(y, a);
    }
#pragma GCC unroll 4
    for (int k = 0; k < K; ++k) store_halves(p + 4 * k, p + 4 * (K + k), a[k]);
  }

  static void turn(const __m256 (&a)[4], __m256 (&b)[4]) {
    const __m256 low = _mm256_unpacklo_ps(a[0], a[1]), low2 = _mm256_unpacklo_ps(a[2], a[3]);
    const __m256 high = _mm256_unpackhi_ps(a[0], a[1]), high2 = _mm256_unpackhi_ps(a[2], a[3]);
    b[0] = _mm256_shuffle_ps(low, low2, 0x44);
    b[1] = _mm256_shuffle_ps(low, low2, 0xee);
    b[2] = _mm256_shuffle_ps(high, high2, 0x44);
    b[3] = _mm256_shuffle_ps(high, high2, 0xee);
  }
};

struct BytePixels {
  static constexpr size_t size = 1;

  template <int C>
  static void load(const char* p, __m256 (&x)[C]) {
    // Each half gets four pixels, from byte `later` on in the upper one, and of those one channel at a time as int32.
    constexpr int later = C == 4 ? 0 : C == 3 ? 4 : 4 * C;
    __m128i low, high;
    if constexpr (C == 1) {
      low = high = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    } else {
      low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
      high = C == 2 ? low : _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8 * C - 16));
    }
    const __m256i pixels = _mm256_setr_m128i(low, high);
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) {
      const int d = c + later;
      const __m256i from = _mm256_setr_epi32(c, C + c, 2 * C + c, 3 * C + c, d, C + d, 2 * C + d, 3 * C + d);
      const __m256i alone = _mm256_or_si256(from, _mm256_set1_epi32(static_cast<int>(0x80808000)));
      x[c] = _mm256_cvtepi32_ps(_mm256_shuffle_epi8(pixels, alone));
    }
  }

  template <int K>
  static void store(char* p, const __m256 (&y)[K]) {
    // Packing saturates: what the conversion cannot hold, NaN too, is the least int32, and becomes 0.
    __m256i whole[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) whole[k] = _mm256_cvtps_epi32(_mm256_min_ps(_mm256_set1_ps(255), y[k < K ? k : 0]));
    const __m256i planes =
        _mm256_packus_epi16(_mm256_packs_epi32(whole[0], whole[1]), _mm256_packs_epi32(whole[2], whole[3]));
    const auto from = [](int i) { return static_cast<char>(i < 4 * K ? i % K * 4 + i / K : -1); };
    const __m128i order = _mm_setr_epi8(from(0), from(1), from(2), from(3), from(4), from(5), from(6), from(7), from(8),
                                        from(9), from(10), from(11), from(12), from(13), from(14), from(15));
    const __m256i pixels = _mm256_shuffle_epi8(planes, _mm256_broadcastsi128_si256(order));
    const __m128i low = _mm256_castsi256_si128(pixels), high = _mm256_extracti128_si256(pixels, 1);
    __m128i* to = reinterpret_cast<__m128i*>(p);
    if constexpr (K == 1) {
      _mm_storel_epi64(to, _mm_unpacklo_epi32(low, high));
    } else if constexpr (K == 2) {
      _mm_storeu_si128(to, _mm_unpacklo_epi64(low, high));
    } else if constexpr (K == 3) {  // the last four bytes of the first store are the second's
      _mm_storeu_si128(to, low);
      _mm_storel_epi64(reinterpret_cast<__m128i*>(p + 12), high);
      at<int32_t>(p + 20)->value = _mm_extract_epi32(high, 2);
    } else {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), pixels);
    }
  }
};

constexpr size_t pixels_together = 8;

// As many pixels as that, or a multiple.
template <class X, class Y, int C, int K>
void colour_of(const Colour& a) noexcept {
  __m256 w[K][C], bias[K], lo = _mm256_set1_ps(static_cast<float>(a.lo)), hi = _mm256_set1_ps(static_cast<float>(a.hi));
#pragma GCC unroll 4
  for (int k = 0; k < K; ++k) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) w[k][c] = _mm256_set1_ps(at<float>(a.weights + k * a.filter_stride)[c].value);
    bias[k] = _mm256_set1_ps(a.bias ? at<float>(a.bias)[k].value : 0.0f);
  }
  const bool biased = a.bias, clamp = a.clamp;
  const char* from = a.x;
  char* to = a.out;
  for (size_t left = a.pixels; left != 0; left -= pixels_together) {
    __m256 x[C], y[K];
    X::load(from, x);
#pragma GCC unroll 4
    for (int k = 0; k < K; ++k) {
      y[k] = _mm256_setzero_ps();
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) y[k] = _mm256_fmadd_ps(w[k][c], x[c], y[k]);
      if (biased) y[k] = _mm256_add_ps(y[k], bias[k]);
      if (clamp) y[k] = _mm256_min_ps(hi, _mm256_max_ps(lo, y[k]));
    }
    Y::store(to, y);
    from += pixels_together * C * X::size;
    to += pixels_together * K * Y::size;
  }
}

template <class X, class Y, int C>
constexpr ColourFn colour_from[] = {colour_of<X, Y, C, 1>, colour_of<X, Y, C, 2>, colour_of<X, Y, C, 3>,
                                    colour_of<X, Y, C, 4>};
template <class X, class Y>
constexpr const ColourFn* colour_kernels[] = {colour_from<X, Y, 1>, colour_from<X, Y, 2>, colour_from<X, Y, 3>,
                                              colour_from<X, Y, 4>};

template <class X, class Y>
void colour(const Colour& a) noexcept {
  const ColourFn kernel = colour_kernels<X, Y>[a.channels - 1][a.filters - 1];
  const size_t rest = a.pixels % pixels_together;
  Colour b = a;
  b.pixels -= rest;
  if (b.pixels != 0) kernel(b);
  if (rest == 0) return;
  char x[pixels_together * 4 * X::size] = {}, out[pixels_together * 4 * Y::size];
  const size_t x_pixel = a.channels * X::size, out_pixel = a.filters * Y::size;
  __builtin_memcpy(x, a.x + b.pixels * x_pixel, rest * x_pixel);
  char* to = a.out + b.pixels * out_pixel;
  b.x = x;
  b.out = out;
  b.pixels = pixels_together;
  kernel(b);
  __builtin_memcpy(to, out, rest * out_pixel);
}

}  // namespace
}  // namespace conv1x1
