// What is done to the channels of each pixel between the layers of a chain: softmax, layer norm, argmax; and to the
// pixels of each channel: pooling.
//
// Vectors run over channels, where those are contiguous, or over pixels. Either way a sum over channels is 16 partial
// sums from 0, channel c in number c mod 16, added as a tree, 8, 4, 2, 1 apart: the same bits. Beyond what multiply.inl
// and few_filters.inl ask, a vector has the compiler's own operators.
#pragma once

#include "activate.inl"
#include "compiler.h"

namespace conv1x1 {
namespace {

constexpr size_t few = 32;  // channels

inline float root(float v) { return __builtin_sqrtf(v); }
inline double root(double v) { return __builtin_sqrt(v); }

// e^x for x ≤ 0, gradually to 0; NaN goes through.
template <class T>
inline T decaying_exp(T x) {
  const auto e = exponential(greater(-Real<T>::exp_end, x), T(-0.0), Real<T>::lift);
  return (1 + e.fraction) * e.power * Real<T>::lowered;
}

// The channels of one pixel, or of as many pixels as a vector has numbers, walked in steps of one vector: of `width`
// channels or of one. In the last step of channels, or in all, some numbers may be off.
template <class V, bool Channels>
struct Walked {
  using T = typename V::Scalar;
  using Reg = typename V::Reg;
  static constexpr size_t slots = Channels ? partials / V::width : partials;  // vectors of partial sums
  static constexpr ptrdiff_t size = sizeof(T);

  Walked(const OverChannels& a, ptrdiff_t result_pixel)
      : x(a.x),
        y(a.y),
        x_pixel(a.x_pixel),
        y_pixel(result_pixel),
        x_step(Channels ? ptrdiff_t(V::width) * size : a.x_channel),
        y_step(Channels ? ptrdiff_t(V::width) * size : a.y_channel),
        steps(Channels ? (a.channels + V::width - 1) / V::width : a.channels) {
    set_on(Channels ? (a.channels - 1) % V::width + 1 : V::width);
    T most[V::width];
    for (size_t i = 0; i < V::width; ++i) most[i] = static_cast<T>(i < on ? __builtin_inf() : -__builtin_inf());
    cap = V::load(reinterpret_cast<const char*>(most));
  }

  void set_on(size_t n) {
    on = n;
    mask = V::mask(n);
  }
  void pass(size_t pixels) {
    x += static_cast<ptrdiff_t>(pixels) * x_pixel;
    y += static_cast<ptrdiff_t>(pixels) * y_pixel;
  }

  bool whole(size_t i) const { return on == V::width || (Channels && i + 1 < steps); }
  static Reg load(const char* p, bool all, const typename V::Mask& m) { return all ? V::load(p) : V::load(p, m); }
  Reg load(size_t i) const { return load(x + static_cast<ptrdiff_t>(i) * x_step, whole(i), mask); }
  Reg result(size_t i) const { return load(y + static_cast<ptrdiff_t>(i) * y_step, whole(i), mask); }
  void store(size_t i, Reg r) const {
    char* p = y + static_cast<ptrdiff_t>(i) * y_step;
    whole(i) ? V::store(p, r) : V::store(p, r, mask);
  }

  // The same with −∞, or another NaN beside one, for channels that are not there.
  Reg filled(size_t i) const { return !Channels || whole(i) ? load(i) : V::min(cap, load(i)); }

  // Calls f(i, slot) for every step and the partial sums that it goes to.
  template <class F>
  void each(F f) const {
    if constexpr (Channels) {
      for (size_t i = 0; i < steps; i += slots) {
#pragma GCC unroll 8
        for (size_t j = 0; j < slots; ++j) {
          if (i + j >= steps) break;
          f(i + j, j);
        }
      }
    } else {
      for (size_t i = 0; i < steps; ++i) f(i, i % slots);
    }
  }

  // + r, and + r · r, where numbers are on.
  Reg added(size_t i, Reg r, Reg sum) const {
    return !Channels || whole(i) ? V::add(r, sum) : V::fma(r, of_all(1), sum, mask);
  }
  Reg squared(size_t i, Reg r, Reg sum) const {
    return !Channels || whole(i) ? V::fma(r, r, sum) : V::fma(r, r, sum, mask);
  }

  // The sum of 16 partial ones, in every number.
  static Reg joined(Reg (&sums)[slots]) {
#pragma GCC unroll 4
    for (size_t half = slots / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
      for (size_t i = 0; i < half; ++i) sums[i] = V::add(sums[i], sums[i + half]);
    }
    return Channels ? of_all(V::tree(sums[0])) : sums[0];
  }

  static Reg of_all(T value) { return V::broadcast(reinterpret_cast<const char*>(&value)); }

  const char* x;
  char* y;
  ptrdiff_t x_pixel, y_pixel, x_step, y_step;
  size_t steps, on;
  typename V::Mask mask;
  Reg cap;  // of what is in the last step of channels
};

// Few channels are taken apart first, as many pixels at a time as a vector has numbers: they would fill none.
template <class V, template <class, bool> class Step>
inline void over_few_channels(const OverChannels& a) {
  using T = typename V::Scalar;
  constexpr ptrdiff_t size = sizeof(T);
  alignas(64) T block[few * V::width];
  OverChannels part = a;
  part.x = reinterpret_cast<const char*>(block);
  part.x_channel = part.y_channel = ptrdiff_t(V::width) * size;
  if (Step<V, false>::in_place) part.y = reinterpret_cast<char*>(block);
  Walked<V, false> w(part, Step<V, false>::result_pixel(part));
  for (size_t p = 0; p < a.pixels; p += V::width) {
    const size_t n = a.pixels - p < V::width ? a.pixels - p : V::width;
    const auto each = [&](const char* data, ptrdiff_t pixel, auto fn) {
      for (size_t j = 0; j < n; ++j) {
        const char* from = data + static_cast<ptrdiff_t>(p + j) * pixel;
        for (size_t c = 0; c < a.channels; ++c) fn(from + static_cast<ptrdiff_t>(c) * size, block[c * V::width + j]);
      }
    };
    w.set_on(n);
    each(a.x, a.x_pixel, [](const char* from, T& to) { to = at<T>(from)->value; });
    Step<V, false>::run(part, w);
    if (Step<V, false>::in_place)
      each(a.y, a.y_pixel, [](const char* to, T& from) { at<T>(const_cast<char*>(to))->value = from; });
    else
      w.y += static_cast<ptrdiff_t>(n) * w.y_pixel;
  }
}

template <class V, template <class, bool> class Step>
inline void over_channels(const OverChannels& a) {
  if (a.channels == 0) return;
  if (a.x_channel != ptrdiff_t(sizeof(typename V::Scalar)) || a.y_channel != a.x_channel) {
    Walked<V, false> w(a, Step<V, false>::result_pixel(a));
    for (size_t left = a.pixels; left > 0;) {
      const size_t n = left < V::width ? left : V::width;
      if (n < V::width) w.set_on(n);
      Step<V, false>::run(a, w);
      w.pass(n);
      left -= n;
    }
    return;
  }
  if constexpr (Step<V, true>::turns_few) {
    if (a.channels <= few) return over_few_channels<V, Step>(a);
  }
  Walked<V, true> w(a, Step<V, true>::result_pixel(a));
  for (size_t p = 0; p < a.pixels; ++p, w.pass(1)) Step<V, true>::run(a, w);
}

template <class V, bool Channels>
struct Softmax {
  using W = Walked<V, Channels>;
  using T = typename V::Scalar;
  using Reg = typename V::Reg;

  static constexpr bool turns_few = true, in_place = true;
  static ptrdiff_t result_pixel(const OverChannels& a) { return a.y_pixel; }

  static void run(const OverChannels&, const W& w) {
    Reg most = w.filled(0);
    for (size_t i = 1; i < w.steps; ++i) most = V::max(most, w.filled(i));  // NaN or not: it comes back below
    if (Channels) most = W::of_all(largest_of(most));
    Reg sums[W::slots];
    for (Reg& sum : sums) sum = V::zero();
    for (size_t i = 0; i < w.steps; ++i) {
      alignas(64) T numbers[V::width];
      char* const bytes = reinterpret_cast<char*>(numbers);
      V::store(bytes, w.filled(i) - most);
      for (size_t j = 0; j < V::width; ++j) numbers[j] = decaying_exp(numbers[j]);
      const Reg powers = V::load(bytes);
      w.store(i, powers);
      sums[i % W::slots] = V::add(sums[i % W::slots], powers);
    }
    const Reg sum = W::joined(sums);
    for (size_t i = 0; i < w.steps; ++i) w.store(i, w.result(i) / sum);
  }

  static T largest_of(Reg r) {
    T numbers[V::width];
    V::store(reinterpret_cast<char*>(numbers), r);
    for (size_t half = V::width / 2; half > 0; half /= 2)
      for (size_t i = 0; i < half; ++i) numbers[i] = greater(numbers[i], numbers[i + half]);
    return numbers[0];
  }
};

template <class V>
void softmax(const OverChannels& a) noexcept {
  over_channels<V, Softmax>(a);
}

// (x − mean) · r, where r = 1 / √(variance + eps), then · weight and + bias by fma.
template <class V, bool Channels>
struct LayerNorm {
  using W = Walked<V, Channels>;
  using T = typename V::Scalar;
  using Reg = typename V::Reg;

  static constexpr bool turns_few = false;
  static ptrdiff_t result_pixel(const OverChannels& a) { return a.y_pixel; }

  static void run(const OverChannels& a, const W& w) {
    const Reg count = W::of_all(static_cast<T>(a.channels));
    Reg sums[W::slots];
    for (Reg& sum : sums) sum = V::zero();
    w.each([&](size_t i, size_t slot) { sums[slot] = w.added(i, w.load(i), sums[slot]); });
    const Reg mean = W::joined(sums) / count;
    for (Reg& sum : sums) sum = V::zero();
    w.each([&](size_t i, size_t slot) { sums[slot] = w.squared(i, w.load(i) - mean, sums[slot]); });
    const Reg scale = reciprocal_root(W::joined(sums) / count + W::of_all(static_cast<T>(a.eps)));
    for (size_t i = 0; i < w.steps; ++i) {
      Reg y = (w.load(i) - mean) * scale;
      if (a.weight && a.bias)
        y = V::fma(y, of(w, a.weight, i), of(w, a.bias, i));
      else if (a.weight)
        y = y * of(w, a.weight, i);
      else if (a.bias)
        y = y + of(w, a.bias, i);
      w.store(i, y);
    }
  }

  // One number a channel.
  static Reg of(const W& w, const char* numbers, size_t i) {
    const char* p = numbers + static_cast<ptrdiff_t>(i * (Channels ? V::width : 1)) * W::size;
    return Channels ? W::load(p, w.whole(i), w.mask) : V::broadcast(p);
  }

  static Reg reciprocal_root(Reg r) {
    T numbers[V::width];
    V::store(reinterpret_cast<char*>(numbers), r);
    for (T& number : numbers) number = 1 / root(number);
    return V::load(reinterpret_cast<const char*>(numbers));
  }
};

template <class V>
void layer_norm(const OverChannels& a) noexcept {
  over_channels<V, LayerNorm>(a);
}

template <class V, bool Channels>
struct ArgMax {
  using W = Walked<V, Channels>;
  using T = typename V::Scalar;
  using Reg = typename V::Reg;
  using Integers = decltype(Reg{} > Reg{});
  using Integer = decltype(+Integers{}[0]);

  static constexpr bool turns_few = true, in_place = false;
  static ptrdiff_t result_pixel(const OverChannels&) { return sizeof(int32_t); }

  static void run(const OverChannels&, const W& w) {
    Reg most = w.filled(0);
    Integers at{};
    for (size_t i = 1; i < w.steps; ++i) {
      const Reg r = w.filled(i);
      const Integers larger = (r > most) | ((r != r) & (most == most));
      most = larger ? r : most;
      at = larger ? Integers{} + static_cast<Integer>(i) : at;
    }
    int32_t* const index = reinterpret_cast<int32_t*>(w.y);
    if (!Channels) {
      for (size_t j = 0; j < w.on; ++j) index[j] = static_cast<int32_t>(at[j]);
      return;
    }
    // The first of the largest, as each of the vector's numbers has found it among its own.
    size_t found = static_cast<size_t>(at[0]) * V::width;
    T largest = most[0];
    for (size_t j = 1; j < V::width; ++j) {
      const size_t channel = static_cast<size_t>(at[j]) * V::width + j;
      const T v = most[j];
      const bool nan = v != v, known_nan = largest != largest;
      const bool larger = v > largest || (nan && !known_nan);
      if (larger || ((v == largest || (nan && known_nan)) && channel < found)) {
        found = channel;
        largest = v;
      }
    }
    *index = static_cast<int32_t>(found);
  }
};

template <class V>
void arg_max(const OverChannels& a) noexcept {
  over_channels<V, ArgMax>(a);
}

template <class T>
void pool(const Pool& a) noexcept {
  const size_t channels = a.channels;
  Anywhere<T>* sums = at<T>(a.sums);
  for (size_t p = 0; p < a.pixels; ++p) {
    const Anywhere<T>* x = at<T>(a.x + static_cast<ptrdiff_t>(p) * a.x_pixel);
    if (a.largest) {
      CONV1X1_INDEPENDENT_TURNS
      for (size_t c = 0; c < channels; ++c) {
        const T sum = sums[c].value, v = x[c].value;
        sums[c].value = sum > v || sum != sum ? sum : v;
      }
    } else {
      CONV1X1_INDEPENDENT_TURNS
      for (size_t c = 0; c < channels; ++c) sums[c].value += x[c].value;
    }
  }
}

}  // namespace
}  // namespace conv1x1
