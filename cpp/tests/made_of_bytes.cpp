#include "made_of_bytes.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "elements.h"

#if __has_include(<sanitizer/asan_interface.h>)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) (static_cast<void>(p), static_cast<void>(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) (static_cast<void>(p), static_cast<void>(n))
#endif

namespace conv1x1 {

uint64_t Numbers::bits() {
  state_ += 0x9e3779b97f4a7c15u;  // splitmix64
  uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

double Numbers::next(DType dtype) {
  const uint64_t z = bits();
  if (kind_ == 0) return static_cast<double>(z % 17) - 8;
  if (kind_ == 2) return element(reinterpret_cast<const char*>(&z), dtype);
  return is_integer(dtype) ? static_cast<double>(z % 511) - 255 : static_cast<double>(z >> 11) * 0x1p-51 - 2;
}

double Numbers::whole(int low, int high) {
  if (kind_ == 0) low = std::max(low, -8), high = std::min(high, 8);
  return static_cast<double>(bits() % static_cast<uint64_t>(high - low + 1)) + low;
}

bool next_index(Index& index, const Index& shape) {
  for (size_t i = shape.size(); i-- > 0;) {
    if (++index[i] < shape[i]) return true;
    index[i] = 0;
  }
  return false;
}

Placed::Placed(Bytes& bytes, DType dtype, const Index& shape, Lies lies) : dtype_(dtype), shape_(shape) {
  const size_t rank = shape.size();
  const ptrdiff_t size = static_cast<ptrdiff_t>(size_of(dtype));
  const bool plain = lies == Lies::contiguous || bytes.one_in(2);
  std::vector<size_t> order(rank);
  for (size_t i = 0; i < rank; ++i) order[i] = i;
  for (size_t i = plain ? 0 : rank; i > 1; --i) std::swap(order[i - 1], order[bytes.below(i)]);
  strides_.resize(rank);
  constexpr ptrdiff_t most = 1 << 20;
  ptrdiff_t step = size, whole = size;  // bytes, as the axes lie so far
  for (const ptrdiff_t n : shape) whole *= std::max<ptrdiff_t>(n, 1);
  bytes_ = size_of(dtype);
  for (size_t i = rank; i-- > 0;) {
    const size_t axis = order[i];
    const ptrdiff_t n = std::max<ptrdiff_t>(shape[axis], 1);
    ptrdiff_t stride = step;
    switch (plain ? 0 : bytes.below(10)) {
      case 5: stride += size; break;
      case 6: stride *= 2; break;
      case 7: stride += 1; break;
      case 8: stride = (stride + 4095) / 4096 * 4096; break;
      case 9: stride = lies == Lies::maybe_repeatedly ? 0 : stride; break;
      default: break;
    }
    if (whole / step * stride > most) stride = step;
    if (stride > 0) whole = whole / step * stride;
    step = std::max(step, stride * n);
    bytes_ += static_cast<size_t>((n - 1) * stride);
    const bool backwards = !plain && bytes.one_in(4);
    if (backwards) first_ += (n - 1) * stride;
    strides_[axis] = backwards ? -stride : stride;
  }
  swapped_ = lies != Lies::contiguous && size > 1 && bytes.one_in(4);
  const size_t skew = bytes.one_in(4) ? bytes.below(8) : 0;
  page_ = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  inner_ = (bytes_ + skew + page_ - 1) / page_ * page_;
  void* mapped = mmap(nullptr, inner_ + 2 * page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) std::abort();
  mapped_ = static_cast<char*>(mapped);
  if (mprotect(mapped_, page_, PROT_NONE) != 0 || mprotect(mapped_ + page_ + inner_, page_, PROT_NONE) != 0)
    std::abort();
  memory_ = mapped_ + page_ + (bytes.one_in(2) ? skew : inner_ - skew - bytes_);
  forget();
}

Placed::~Placed() {
  ASAN_UNPOISON_MEMORY_REGION(mapped_ + page_, inner_);
  munmap(mapped_, inner_ + 2 * page_);
}

Array Placed::array() const {
  return {memory_ + first_, dtype_, swapped_, static_cast<int>(shape_.size()), shape_.data(), strides_.data()};
}

double Placed::get(const Index& index) const { return element(memory_ + offset(index), dtype_, swapped_); }

void Placed::put(const Index& index, double number) { set_element(memory_ + offset(index), dtype_, swapped_, number); }

void Placed::seal() {
  ASAN_POISON_MEMORY_REGION(mapped_ + page_, inner_);
  for_each([&](const Index& index) { ASAN_UNPOISON_MEMORY_REGION(memory_ + offset(index), size_of(dtype_)); });
  if (mprotect(mapped_ + page_, inner_, PROT_READ) != 0) std::abort();
}

void Placed::forget() { std::memset(memory_, 0x5b, bytes_); }

bool Placed::is(const std::vector<char>& image) const { return std::memcmp(memory_, image.data(), bytes_) == 0; }

double Placed::get(const Index& index, const std::vector<char>& image) const {
  return element(image.data() + offset(index), dtype_, swapped_);
}

void Placed::restore(const Index& index, const std::vector<char>& image) {
  std::memcpy(memory_ + offset(index), image.data() + offset(index), size_of(dtype_));
}

bool Placed::empty() const { return std::find(shape_.begin(), shape_.end(), 0) != shape_.end(); }

ptrdiff_t Placed::offset(const Index& index) const {
  ptrdiff_t bytes = first_;
  for (size_t i = 0; i < index.size(); ++i) bytes += index[i] * strides_[i];
  return bytes;
}

}  // namespace conv1x1
