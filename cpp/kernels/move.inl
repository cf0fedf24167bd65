// Strided 2-D moves with conversion: how pixels are staged into a tile, and results leave it.
#pragma once

#include "../kernel.h"

namespace conv1x1 {
namespace {

// Through memcpy, since an element of a caller's array may lie at any address.
template <class T>
inline T read(const char* p) {
  T value;
  __builtin_memcpy(&value, p, sizeof(T));
  return value;
}

template <class S, class D, bool Add>
inline void put(char* to, S value) {
  const D converted = static_cast<D>(value);
  const D result = Add ? read<D>(to) + converted : converted;
  __builtin_memcpy(to, &result, sizeof(D));
}

template <class S, class D, bool Add>
inline void move_row(const char* src, char* dst, size_t n) {
  for (size_t j = 0; j < n; ++j) put<S, D, Add>(dst + j * sizeof(D), read<S>(src + j * sizeof(S)));
}

// Every second element, as a stride of 2 leaves them: with the step known, the compiler makes shuffles of it.
template <class S, class D, bool Add>
inline void move_every_second(const char* src, char* dst, size_t n) {
  for (size_t j = 0; j < n; ++j) put<S, D, Add>(dst + j * sizeof(D), read<S>(src + 2 * j * sizeof(S)));
}

// A square block whose source is contiguous along i and whose destination is contiguous along j, by way of memory.
// An instruction set may offer a better one for elements of one type, with the same two members.
template <class S, class D, bool Add>
struct TurnInMemory {
  static constexpr size_t size = 8;
  static void turn(const char* src, ptrdiff_t src_row, char* dst, ptrdiff_t dst_row) {
    S block[size][size];
    for (size_t j = 0; j < size; ++j)
      __builtin_memcpy(block[j], src + static_cast<ptrdiff_t>(j) * src_row, sizeof(block[j]));
    for (size_t i = 0; i < size; ++i, dst += dst_row) {
#pragma GCC unroll 8
      for (size_t j = 0; j < size; ++j) put<S, D, Add>(dst + j * sizeof(D), block[j][i]);
    }
  }
};

template <class S, class D, bool Add, class Turn>
void move(Move m) {
  constexpr ptrdiff_t s = sizeof(S), d = sizeof(D);
  if (m.src_i == s && m.dst_i == d && !(m.src_j == s && m.dst_j == d && m.n_j >= m.n_i))
    m = {m.src, m.src_j, m.src_i, m.dst, m.dst_j, m.dst_i, m.n_j, m.n_i};
  if (m.src_j == s && m.dst_j == d) {
    for (size_t i = 0; i < m.n_i; ++i, m.src += m.src_i, m.dst += m.dst_i) move_row<S, D, Add>(m.src, m.dst, m.n_j);
    return;
  }
  if (m.src_i == 2 * s && m.dst_i == d) m = {m.src, m.src_j, m.src_i, m.dst, m.dst_j, m.dst_i, m.n_j, m.n_i};
  if (m.src_j == 2 * s && m.dst_j == d) {
    for (size_t i = 0; i < m.n_i; ++i, m.src += m.src_i, m.dst += m.dst_i)
      move_every_second<S, D, Add>(m.src, m.dst, m.n_j);
    return;
  }
  if (m.src_j == s && m.dst_i == d) m = {m.src, m.src_j, m.src_i, m.dst, m.dst_j, m.dst_i, m.n_j, m.n_i};
  size_t whole_i = 0, whole_j = 0;
  if (m.src_i == s && m.dst_j == d) {
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
    for (size_t j = first; j < m.n_j; ++j, src += m.src_j, dst += m.dst_j) put<S, D, Add>(dst, read<S>(src));
  }
}

template <class S, class D, class Turn = TurnInMemory<S, D, false>>
void copy(const Move& m) noexcept {
  move<S, D, false, Turn>(m);
}

template <class S, class D>
void add(const Move& m) noexcept {
  move<S, D, true, TurnInMemory<S, D, true>>(m);
}

}  // namespace
}  // namespace conv1x1
