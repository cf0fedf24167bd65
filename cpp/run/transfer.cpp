#include "run/transfer.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "call/problem.h"
#include "system/nervous.h"

namespace conv1x1 {

namespace {

// Elements handled at a time, in buffers on the stack.
constexpr size_t chunk = nervous ? 16 : 512;

template <class T, class Swap>
void swap_each(char* p, size_t n, Swap swap) {
  for (size_t i = 0; i < n; ++i, p += sizeof(T)) {
    T word;
    std::memcpy(&word, p, sizeof(T));
    word = static_cast<T>(swap(word));
    std::memcpy(p, &word, sizeof(T));
  }
}

void swap_bytes(char* p, size_t size, size_t n) {
  if (size == 2) swap_each<uint16_t>(p, n, [](uint16_t w) { return __builtin_bswap16(w); });
  if (size == 4) swap_each<uint32_t>(p, n, [](uint32_t w) { return __builtin_bswap32(w); });
  if (size == 8) swap_each<uint64_t>(p, n, [](uint64_t w) { return __builtin_bswap64(w); });
}

// A row of elements between two strides, by way of buffers where they are not contiguous.
class Row {
 public:
  Row(const KernelTable& table, Elements from, Elements to, ConvertFn convert)
      : table_(table), from_(from), to_(to), convert_(convert) {}

  void operator()(const char* src, ptrdiff_t src_step, char* dst, ptrdiff_t dst_step, size_t n) {
    const bool gather = src_step != static_cast<ptrdiff_t>(from_.size) || from_.swapped;
    const bool scatter = dst_step != static_cast<ptrdiff_t>(to_.size) || to_.swapped;
    if (!gather && !scatter) return pass(src, dst, n);
    for (size_t first = 0; first < n; first += chunk) {
      const size_t count = std::min(chunk, n - first);
      const char* from = src + static_cast<ptrdiff_t>(first) * src_step;
      char* to = dst + static_cast<ptrdiff_t>(first) * dst_step;
      if (gather) from = gathered(from, src_step, count);
      pass(from, scatter ? out_ : to, count);
      if (!scatter) continue;
      if (to_.swapped) swap_bytes(out_, to_.size, count);
      const ptrdiff_t size = static_cast<ptrdiff_t>(to_.size);
      table_.move[log2_of(to_.size)]({out_, 0, size, to, 0, dst_step, 1, count});
    }
  }

  const char* gathered(const char* src, ptrdiff_t step, size_t count) {
    const ptrdiff_t size = static_cast<ptrdiff_t>(from_.size);
    table_.move[log2_of(from_.size)]({src, 0, step, in_, 0, size, 1, count});
    if (from_.swapped) swap_bytes(in_, from_.size, count);
    return in_;
  }

  void pass(const char* src, char* dst, size_t n) const {
    convert_ ? convert_(src, dst, n) : static_cast<void>(std::memcpy(dst, src, n * from_.size));
  }

 private:
  const KernelTable& table_;
  const Elements from_, to_;
  const ConvertFn convert_;
  alignas(64) char in_[chunk * 8], out_[chunk * 8];
};

// Where src is contiguous along i and dst along j: blocks are converted along i, then turned.
void turn(const KernelTable& table, const Move& m, size_t size, ConvertFn convert) {
  constexpr size_t block = 32;
  alignas(64) char buffer[block * block * 8];
  const ptrdiff_t step = static_cast<ptrdiff_t>(size), row = static_cast<ptrdiff_t>(block) * step;
  for (size_t i = 0; i < m.n_i; i += block) {
    const size_t n_i = std::min(block, m.n_i - i);
    for (size_t j = 0; j < m.n_j; j += block) {
      const size_t n_j = std::min(block, m.n_j - j);
      const char* src = m.src + static_cast<ptrdiff_t>(i) * m.src_i + static_cast<ptrdiff_t>(j) * m.src_j;
      for (size_t k = 0; k < n_j; ++k)
        convert(src + static_cast<ptrdiff_t>(k) * m.src_j, buffer + static_cast<ptrdiff_t>(k) * row, n_i);
      table.move[log2_of(size)]({buffer, step, row,
                                 m.dst + static_cast<ptrdiff_t>(i) * m.dst_i + static_cast<ptrdiff_t>(j) * m.dst_j,
                                 m.dst_i, m.dst_j, n_i, n_j});
    }
  }
}

template <size_t Bytes>
void move_by(const Move& m) {
  for (size_t i = 0; i < m.n_i; ++i) {
    const char* src = m.src + static_cast<ptrdiff_t>(i) * m.src_i;
    char* dst = m.dst + static_cast<ptrdiff_t>(i) * m.dst_i;
    for (size_t j = 0; j < m.n_j; ++j, src += m.src_j, dst += m.dst_j) std::memcpy(dst, src, Bytes);
  }
}

// Moves units of so many bytes; false where there is nothing for that size.
bool move_units(const KernelTable& table, const Move& m, size_t bytes) {
  switch (bytes) {
    case 1:
    case 2:
    case 4:
    case 8: table.move[log2_of(bytes)](m); return true;
    case 3: move_by<3>(m); return true;
    case 6: move_by<6>(m); return true;
    case 12: move_by<12>(m); return true;
    case 16: move_by<16>(m); return true;
    case 24: move_by<24>(m); return true;
    case 32: move_by<32>(m); return true;
    default: return false;
  }
}

Move with_axes_swapped(const Move& m) { return {m.src, m.src_j, m.src_i, m.dst, m.dst_j, m.dst_i, m.n_j, m.n_i}; }

}  // namespace

void transfer(const KernelTable& table, const Move& asked, Elements from, Elements to, ConvertFn convert) noexcept {
  if (!convert && !from.swapped && !to.swapped) return table.move[log2_of(from.size)](asked);
  const ptrdiff_t s = static_cast<ptrdiff_t>(from.size), d = static_cast<ptrdiff_t>(to.size);
  const auto straight = [&](const Move& m) { return m.src_j == s && m.dst_j == d; };
  Move m = asked;
  // Rows run along j: where both are contiguous, else where dst is, else where src is, unless they are short; else the
  // longer way.
  const Move other = with_axes_swapped(m);
  const auto rank = [&](const Move& a) {
    return straight(a) ? 4 : a.dst_j == d && a.n_j >= 8 ? 3 : a.src_j == s && a.n_j >= 8 ? 2 : a.n_j >= a.n_i ? 1 : 0;
  };
  if (rank(other) > rank(m) || (rank(other) == rank(m) && other.n_j > m.n_j)) m = other;
  if (straight(m) && !from.swapped && !to.swapped) {
    const bool gapless = m.src_i == static_cast<ptrdiff_t>(m.n_j) * s && m.dst_i == static_cast<ptrdiff_t>(m.n_j) * d;
    if (gapless) return convert(m.src, m.dst, m.n_i * m.n_j);
    const bool far = is_far(m.src_i);
    for (size_t i = 0; i < m.n_i; ++i, m.src += m.src_i, m.dst += m.dst_i) {
      if (far && i + rows_ahead < m.n_i)
        ask_for(m.src + static_cast<ptrdiff_t>(rows_ahead) * m.src_i, m.n_j * from.size);
      convert(m.src, m.dst, m.n_j);
    }
    return;
  }
  if (convert && m.src_i == s && m.dst_j == d && m.n_i >= 8 && m.n_j >= 8 && !from.swapped && !to.swapped)
    return turn(table, m, to.size, convert);
  Row row(table, from, to, convert);
  for (size_t i = 0; i < m.n_i; ++i, m.src += m.src_i, m.dst += m.dst_i) row(m.src, m.src_j, m.dst, m.dst_j, m.n_j);
}

void transfer_pairs(const KernelTable& table, const Move& asked, ptrdiff_t src_part, ptrdiff_t dst_part, Elements from,
                    Elements to, ConvertFn convert) noexcept {
  const ptrdiff_t size = static_cast<ptrdiff_t>(from.size);
  const bool as_they_are = !convert && !from.swapped && !to.swapped;
  if (as_they_are && src_part == size && dst_part == size && from.size == 4) return table.move[log2_of(8)](asked);
  const auto apart = [&](const Move& m) { return src_part == size && m.src_j == 2 * size && m.dst_j == size; };
  const auto together = [&](const Move& m) { return dst_part == size && m.dst_j == 2 * size && m.src_j == size; };
  for (Move m : {asked, with_axes_swapped(asked)}) {
    if (!as_they_are || !(apart(m) || together(m))) continue;
    const ptrdiff_t n = static_cast<ptrdiff_t>(m.n_j);
    if (m.src_i == n * m.src_j && m.dst_i == n * m.dst_j) {
      m.n_j *= m.n_i;
      m.n_i = 1;
    }
    for (size_t i = 0; i < m.n_i; ++i, m.src += m.src_i, m.dst += m.dst_i) {
      char* const src = const_cast<char*>(m.src);
      char* parts[most_rows] = {apart(m) ? m.dst : src, apart(m) ? m.dst + dst_part : src + src_part};
      (apart(m) ? table.split : table.join)[0][log2_of(from.size)]({apart(m) ? src : m.dst, parts, m.n_j});
    }
    return;
  }
  Move second = asked;
  second.src += src_part;
  second.dst += dst_part;
  for (const Move& m : {asked, second}) transfer(table, m, from, to, convert);
}

void transfer(const KernelTable& table, const char* src, char* dst, const MoveAxis (&axes)[3], Elements from,
              Elements to, ConvertFn convert) noexcept {
  // Two axes go together: those that are contiguous on one side, or long. What is contiguous on both sides but short
  // would be moved by the element: its bytes are moved as one, where nothing has to be done to them.
  const auto contiguous = [](ptrdiff_t step, Elements of) { return step == static_cast<ptrdiff_t>(of.size); };
  const auto importance = [&](const MoveAxis& axis) {
    const bool in_src = contiguous(axis.src, from), in_dst = contiguous(axis.dst, to);
    if (in_src && in_dst && axis.n <= most_rows) return size_t{1};
    return axis.n == 1 ? 0 : in_src || in_dst ? std::numeric_limits<size_t>::max() : axis.n;
  };
  const MoveAxis* alone = std::min_element(
      axes, axes + 3, [&](const MoveAxis& a, const MoveAxis& b) { return importance(a) < importance(b); });
  MoveAxis i = axes[alone == axes ? 1 : 0], j = axes[alone == axes + 2 ? 1 : 2];
  if (std::abs(i.dst) < std::abs(j.dst)) std::swap(i, j);  // written in a row
  const bool as_they_are = !convert && !from.swapped && !to.swapped;
  if (as_they_are && contiguous(alone->src, from) && contiguous(alone->dst, to) &&
      move_units(table, {src, i.src, j.src, dst, i.dst, j.dst, i.n, j.n}, alone->n * from.size))
    return;
  for (size_t k = 0; k < alone->n; ++k, src += alone->src, dst += alone->dst)
    transfer(table, {src, i.src, j.src, dst, i.dst, j.dst, i.n, j.n}, from, to, convert);
}

void accumulate(const KernelTable& table, const Move& asked, Elements from, size_t size, ConvertFn convert,
                ConvertFn add) noexcept {
  constexpr size_t high = 16, wide = 128;
  alignas(64) char terms[high * wide * 8], sums[wide * 8];
  const ptrdiff_t step = static_cast<ptrdiff_t>(size), row = static_cast<ptrdiff_t>(wide) * step;
  const Move m = asked.dst_i == step && asked.dst_j != step ? with_axes_swapped(asked) : asked;
  for (size_t i = 0; i < m.n_i; i += high) {
    const size_t n_i = std::min(high, m.n_i - i);
    for (size_t j = 0; j < m.n_j; j += wide) {
      const size_t n_j = std::min(wide, m.n_j - j);
      const char* src = m.src + static_cast<ptrdiff_t>(i) * m.src_i + static_cast<ptrdiff_t>(j) * m.src_j;
      char* dst = m.dst + static_cast<ptrdiff_t>(i) * m.dst_i + static_cast<ptrdiff_t>(j) * m.dst_j;
      transfer(table, {src, m.src_i, m.src_j, terms, row, step, n_i, n_j}, from, {size}, convert);
      for (size_t k = 0; k < n_i; ++k, dst += m.dst_i) {
        const char* term = terms + static_cast<ptrdiff_t>(k) * row;
        if (m.dst_j == step) {
          add(term, dst, n_j);
          continue;
        }
        table.move[log2_of(size)]({dst, 0, m.dst_j, sums, 0, step, 1, n_j});
        add(term, sums, n_j);
        table.move[log2_of(size)]({sums, 0, step, dst, 0, m.dst_j, 1, n_j});
      }
    }
  }
}

}  // namespace conv1x1
