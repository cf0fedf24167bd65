// Moves of elements as they are: strided ones, and rows taken apart and put together. How pixels are staged into a
// tile, and results leave it; what changes the type is in convert.inl.
#pragma once

#include "anywhere.inl"

namespace conv1x1 {
namespace {

// A square block whose source is contiguous along i and whose destination is contiguous along j, by way of memory.
// An instruction set may offer a better one, with the same two members.
template <class T>
struct TurnInMemory {
  static constexpr size_t size = 8;
  static void turn(const char* src, ptrdiff_t src_row, char* dst, ptrdiff_t dst_row) {
    T block[size][size];
    for (size_t j = 0; j < size; ++j)
      __builtin_memcpy(block[j], src + static_cast<ptrdiff_t>(j) * src_row, sizeof(block[j]));
    for (size_t i = 0; i < size; ++i, dst += dst_row) {
#pragma GCC unroll 8
      for (size_t j = 0; j < size; ++j) at<T>(dst)[j].value = block[j][i];
    }
  }
};

template <class T, class Turn = TurnInMemory<T>>
void move(const Move& asked) noexcept {
  constexpr ptrdiff_t size = sizeof(T);
  Move m = asked;
  const auto swap_axes = [&m] { m = {m.src, m.src_j, m.src_i, m.dst, m.dst_j, m.dst_i, m.n_j, m.n_i}; };
  if (m.src_i == size && m.dst_i == size && !(m.src_j == size && m.dst_j == size && m.n_j >= m.n_i)) swap_axes();
  if (m.src_j == size && m.dst_j == size) {
    for (size_t i = 0; i < m.n_i; ++i, m.src += m.src_i, m.dst += m.dst_i)
      __builtin_memcpy(m.dst, m.src, m.n_j * sizeof(T));
    return;
  }
  if (m.src_i == 2 * size && m.dst_i == size) swap_axes();
  if (m.src_j == 2 * size &&
      m.dst_j == size) {  // a stride of 2: with the step known, the compiler makes shuffles of it
    for (size_t i = 0; i < m.n_i; ++i, m.src += m.src_i, m.dst += m.dst_i)
      for (size_t j = 0; j < m.n_j; ++j) at<T>(m.dst)[j].value = at<T>(m.src)[2 * j].value;
    return;
  }
  if (m.src_j == size && m.dst_i == size) swap_axes();
  size_t whole_i = 0, whole_j = 0;
  if (m.src_i == size && m.dst_j == size) {
    whole_i = m.n_i / Turn::size * Turn::size;
    whole_j = m.n_j / Turn::size * Turn::size;
    for (size_t i = 0; i < whole_i; i += Turn::size)
      for (size_t j = 0; j < whole_j; j += Turn::size)
        Turn::turn(m.src + ptrdiff_t(i) * m.src_i + ptrdiff_t(j) * m.src_j, m.src_j,
                   m.dst + ptrdiff_t(i) * m.dst_i + ptrdiff_t(j) * m.dst_j, m.dst_i);
  }
  for (size_t i = 0; i < m.n_i; ++i) {
    const size_t first = i < whole_i ? whole_j : 0;
    const char* src = m.src + ptrdiff_t(i) * m.src_i + ptrdiff_t(first) * m.src_j;
    char* dst = m.dst + ptrdiff_t(i) * m.dst_i + ptrdiff_t(first) * m.dst_j;
    for (size_t j = first; j < m.n_j; ++j, src += m.src_j, dst += m.dst_j) at<T>(dst)->value = at<T>(src)->value;
  }
}

// With the number of rows known, the compiler makes shuffles of these loops.
template <class T, int R>
void split(const Rows& a) noexcept {
  const size_t n = a.n;
  const Anywhere<T>* __restrict one = at<T>(a.one);
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    Anywhere<T>* __restrict row = at<T>(a.many[r]);
    for (size_t i = 0; i < n; ++i) row[i].value = one[R * i + r].value;
  }
}

template <class T, int R>
void join(const Rows& a) noexcept {
  const size_t n = a.n;
  Anywhere<T>* __restrict one = at<T>(a.one);
  const Anywhere<T>* __restrict row[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) row[r] = at<T>(a.many[r]);
  for (size_t i = 0; i < n; ++i) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) one[R * i + r].value = row[r][i].value;
  }
}

}  // namespace
}  // namespace conv1x1
