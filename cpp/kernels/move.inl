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

// A block whose source is contiguous along i and whose destination is contiguous along j.
template <class S, class D, bool Add, int B>
inline void transpose_block(const char* src, ptrdiff_t src_j, char* dst, ptrdiff_t dst_i) {
  S block[B][B];
  for (int j = 0; j < B; ++j) __builtin_memcpy(block[j], src + j * src_j, sizeof(block[j]));
  for (int i = 0; i < B; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < B; ++j) put<S, D, Add>(dst + i * dst_i + j * ptrdiff_t(sizeof(D)), block[j][i]);
  }
}

template <class S, class D, bool Add>
void move(Move m) {
  constexpr ptrdiff_t s = sizeof(S), d = sizeof(D);
  if (m.src_i == s && m.dst_i == d && !(m.src_j == s && m.dst_j == d && m.n_j >= m.n_i))
    m = {m.src, m.src_j, m.src_i, m.dst, m.dst_j, m.dst_i, m.n_j, m.n_i};
  if (m.src_j == s && m.dst_j == d) {
    for (size_t i = 0; i < m.n_i; ++i, m.src += m.src_i, m.dst += m.dst_i) move_row<S, D, Add>(m.src, m.dst, m.n_j);
    return;
  }
  if (m.src_j == s && m.dst_i == d) m = {m.src, m.src_j, m.src_i, m.dst, m.dst_j, m.dst_i, m.n_j, m.n_i};
  constexpr size_t B = 8;
  size_t whole_i = 0, whole_j = 0;
  if (m.src_i == s && m.dst_j == d) {
    whole_i = m.n_i / B * B;
    whole_j = m.n_j / B * B;
    for (size_t i = 0; i < whole_i; i += B)
      for (size_t j = 0; j < whole_j; j += B)
        transpose_block<S, D, Add, B>(m.src + ptrdiff_t(i) * m.src_i + ptrdiff_t(j) * m.src_j, m.src_j,
                                      m.dst + ptrdiff_t(i) * m.dst_i + ptrdiff_t(j) * m.dst_j, m.dst_i);
  }
  for (size_t i = 0; i < m.n_i; ++i) {
    const size_t first = i < whole_i ? whole_j : 0;
    const char* src = m.src + ptrdiff_t(i) * m.src_i + ptrdiff_t(first) * m.src_j;
    char* dst = m.dst + ptrdiff_t(i) * m.dst_i + ptrdiff_t(first) * m.dst_j;
    for (size_t j = first; j < m.n_j; ++j, src += m.src_j, dst += m.dst_j) put<S, D, Add>(dst, read<S>(src));
  }
}

template <class S, class D>
void copy(const Move& m) noexcept {
  move<S, D, false>(m);
}

template <class S, class D>
void add(const Move& m) noexcept {
  move<S, D, true>(m);
}

}  // namespace
}  // namespace conv1x1
