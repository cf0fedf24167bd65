// What the machine can do at most, for the roofline that `conv1x1 bench` measures itself against.
#pragma once

#include "../kernel.h"

namespace conv1x1 {
namespace {

// `rounds` times one fma on each of so many independent vectors that none waits for another; a number that depends on
// them all comes back, so that nothing is left out.
template <class V>
double multiply_adds(size_t rounds) noexcept {
  constexpr int independent = V::registers * 3 / 4;
  // Every vector starts with a number of its own: equal ones would be computed once.
  typename V::Scalar start[independent + 2];
  for (int i = 0; i < independent; ++i) start[i] = static_cast<typename V::Scalar>(i) / independent;
  start[independent] = static_cast<typename V::Scalar>(0.999);
  start[independent + 1] = static_cast<typename V::Scalar>(1e-6);
  const auto broadcast = [&](int i) { return V::broadcast(reinterpret_cast<const char*>(start + i)); };
  const typename V::Reg a = broadcast(independent), b = broadcast(independent + 1);
  typename V::Reg sum[independent];
#pragma GCC unroll 32
  for (int i = 0; i < independent; ++i) sum[i] = broadcast(i);
  for (size_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 32
    for (int i = 0; i < independent; ++i) sum[i] = V::fma(sum[i], a, b);
  }
#pragma GCC unroll 32
  for (int i = 1; i < independent; ++i) sum[0] = V::add(sum[0], sum[i]);
  typename V::Scalar lanes[V::width];
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
