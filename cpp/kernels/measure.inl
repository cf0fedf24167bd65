// What the machine can do at most, for the roofline that `conv1x1 bench` measures itself against.
#pragma once

#include "kernel.h"

namespace conv1x1 {
namespace {

// The compiler does not know what is in these vectors afterwards, nor that it is what was there before.
template <class Reg>
inline void forget(Reg& a, Reg& b) {
#if defined(__AVX512F__)
  __asm__("" : "+v"(a), "+v"(b));
#elif defined(__SSE__)
  __asm__("" : "+x"(a), "+x"(b));
#elif defined(__aarch64__)
  __asm__("" : "+w"(a), "+w"(b));
#else
  __asm__("" : "+m"(a), "+m"(b));
#endif
}

// `rounds` times one fma on each of so many sums that none waits for another. A number that depends on them all comes
// back, and to the compiler each product is of other factors: so that nothing is left out, computed once for several,
// computed ahead of the loop, or kept in memory for its turn.
template <class V>
double multiply_adds(size_t rounds) noexcept {
  constexpr int independent = V::registers * 3 / 4;
  using T = typename V::Scalar;
  constexpr bool whole = T(1) / 2 == 0;
  T start[independent + 2];
  for (int i = 0; i < independent; ++i) start[i] = T(i);
  start[independent] = T(whole ? 3 : 0.999);
  start[independent + 1] = T(whole ? 1 : 1e-6);
  const auto broadcast = [&](int i) { return V::broadcast(reinterpret_cast<const char*>(start + i)); };
  typename V::Reg a = broadcast(independent);
  const typename V::Reg b = broadcast(independent + 1);
  typename V::Reg sum[independent];
#pragma GCC unroll 32
  for (int i = 0; i < independent; ++i) forget(a, sum[i] = broadcast(i));
  for (size_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 32
    for (int i = 0; i < independent; ++i) {
      sum[i] = V::fma(a, b, sum[i]);
      forget(a, sum[i]);
    }
  }
#pragma GCC unroll 32
  for (int i = 1; i < independent; ++i) sum[0] = V::add(sum[0], sum[i]);
  T lanes[V::width];
  V::store(reinterpret_cast<char*>(lanes), sum[0]);
  return static_cast<double>(lanes[0]);
}

template <class V, size_t Depth = 1>
constexpr size_t multiply_adds_flop = 2 * Depth* V::width*(V::registers * 3 / 4);  // in a round

// Reads `bytes` (a multiple of 1024) once, from its beginning to its end.
template <class V>
double read_through(const char* p, size_t bytes) noexcept {
  constexpr int independent = 8;
  constexpr size_t vector_bytes = V::width * sizeof(typename V::Scalar);
  typename V::Reg sum[independent];
#pragma GCC unroll 8
  for (int i = 0; i < independent; ++i) sum[i] = V::zero();
  for (const char* end = p + bytes; p != end; p += independent * vector_bytes) {
#pragma GCC unroll 8
    for (int i = 0; i < independent; ++i) sum[i] = V::add(sum[i], V::load(p + i * vector_bytes));
  }
#pragma GCC unroll 8
  for (int i = 1; i < independent; ++i) sum[0] = V::add(sum[0], sum[i]);
  return static_cast<double>(V::tree(sum[0]));
}

}  // namespace
}  // namespace conv1x1
