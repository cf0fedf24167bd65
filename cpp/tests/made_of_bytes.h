// What the tests make of bytes: choices, numbers, and arrays that lie in memory in any way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "call/problem.h"
#include "kernels/kernel.h"

namespace conv1x1 {

// Any bytes will do; where they end there are zeros.
class Bytes {
 public:
  Bytes(const uint8_t* bytes, size_t count) : next_(bytes), end_(bytes + count) {}
  // A number below n ≤ 65536.
  size_t below(size_t n) {
    const size_t low = byte();
    return (n > 256 ? low | byte() << 8 : low) % n;
  }
  bool one_in(size_t n) { return below(n) == n - 1; }
  template <class T, size_t N>
  T one_of(const T (&choices)[N]) {
    return choices[below(N)];
  }

 private:
  size_t byte() { return next_ == end_ ? 0 : *next_++; }
  const uint8_t *next_, *end_;
};

// Numbers of a kind: small whole ones, those of every day, or any bits at all.
class Numbers {
 public:
  explicit Numbers(Bytes& bytes) : kind_(bytes.below(3)), state_(bytes.below(65536)) {}
  // For elements of this type, where it may still be rounded and saturated.
  double next(DType);
  // A whole number of low … high, small ones where all are.
  double whole(int low, int high);

 private:
  uint64_t bits();
  size_t kind_;
  uint64_t state_;
};

using Index = std::vector<ptrdiff_t>;

// Moves an index on, the last axis first; false at the end.
bool next_index(Index&, const Index& shape);

// An array with memory of its own, against pages that cannot be touched.
class Placed {
 public:
  enum class Lies {
    contiguous,       // in C's order, in this machine's byte order, at any address
    anyhow,           // in any order, with gaps, backwards, in any byte order
    maybe_repeatedly  // likewise, or with several elements at one place
  };
  Placed(Bytes&, DType, const Index& shape, Lies);
  ~Placed();
  Placed(const Placed&) = delete;
  Placed& operator=(const Placed&) = delete;

  Array array() const;
  DType dtype() const { return dtype_; }
  double get(const Index&) const;
  void put(const Index&, double);

  // Fills it with number() for every element.
  template <class Number>
  void fill(Number number) {
    for_each([&](const Index& index) { put(index, number()); });
  }
  // Calls fn(index) for every element.
  template <class Fn>
  void for_each(Fn fn) const {
    if (empty()) return;
    Index index(shape_.size());
    do fn(index);
    while (next_index(index, shape_));
  }
  // From now on nothing may be written, nor anything but elements be read. What lies between those is guarded where
  // addresses are sanitized, as far as eight bytes in a row are forbidden.
  void seal();

  // All of its memory, between the elements too, made what no result is likely to be; as it is; and as it was.
  void forget();
  std::vector<char> image() const { return {memory_, memory_ + bytes_}; }
  bool is(const std::vector<char>& image) const;
  // One element as it is in an image, and taken over from there.
  double get(const Index&, const std::vector<char>& image) const;
  void restore(const Index&, const std::vector<char>& image);

 private:
  bool empty() const;
  ptrdiff_t offset(const Index&) const;  // from memory_

  DType dtype_;
  bool swapped_ = false;
  Index shape_, strides_;
  size_t page_, inner_, bytes_ = 0;
  ptrdiff_t first_ = 0;  // the element of index 0, from memory_
  char *mapped_, *memory_;
};

}  // namespace conv1x1
