#include "problem.h"

#include <algorithm>
#include <cstdlib>
#include <limits>

namespace conv1x1 {

size_t channels_together(Operand operand) { return is_quads(operand) ? 4 : operand == Operand::int16_pairs ? 2 : 1; }

DType sums_of(Operand operand) {
  return operand == Operand::float32 ? DType::float32 : operand == Operand::float64 ? DType::float64 : DType::int32;
}

bool is_quads(Operand operand) { return operand == Operand::int8_quads || operand == Operand::signed_quads; }

DType pixels_of_quads(Operand operand) { return operand == Operand::int8_quads ? DType::uint8 : DType::int8; }

namespace {

// Of the least stride too, which has no opposite.
size_t magnitude(ptrdiff_t stride) {
  const size_t bits = static_cast<size_t>(stride);
  return stride < 0 ? 0 - bits : bits;
}

}  // namespace

void memory_order(const Array& a, int* axes) {
  for (int i = 0; i < a.rank; ++i) axes[i] = i;
  const auto step = [&](int axis) { return magnitude(a.strides[axis]); };
  bool c_order = true;
  size_t outer = std::numeric_limits<size_t>::max();
  for (int i = 0; i < a.rank && c_order; ++i) {
    if (a.shape[i] == 1 || step(i) == 0) continue;
    c_order = step(i) <= outer;
    outer = step(i);
  }
  if (c_order) return;
  for (int i = a.rank - 1; i-- > 0;) {  // finds its place among the axes after it, as in NumPy's iterator
    int place = i;
    for (int j = i + 1; j < a.rank && step(i) != 0; ++j) {
      const int other = axes[j];
      if (step(other) == 0) continue;
      if (step(other) < step(i) || (step(other) == step(i) && (a.shape[i] != 1 || a.shape[other] == 1))) break;
      place = j;
    }
    std::rotate(axes + i, axes + i + 1, axes + place + 1);
  }
}

Runs::Runs(Walk walk, size_t first, size_t last) : walk_(walk), left_(last - first) {
  for (size_t i = walk.count; i-- > 0;) {
    index_[i] = first % walk.axes[i].n;
    first /= walk.axes[i].n;
  }
}

bool Runs::next(Run& run) {
  if (left_ == 0) return false;
  run = {0, 0, 0, 1, 0, 0, 0};
  if (walk_.count != 0) {
    const size_t inner = walk_.count - 1;
    for (size_t i = 0; i <= inner; ++i) {
      const ptrdiff_t at = static_cast<ptrdiff_t>(index_[i]);
      run.x += at * walk_.axes[i].x;
      run.y += at * walk_.axes[i].y;
      run.residual += at * walk_.axes[i].residual;
    }
    const PixelAxis& axis = walk_.axes[inner];
    run.n = std::min(left_, axis.n - index_[inner]);
    run.x_step = axis.x;
    run.y_step = axis.y;
    run.residual_step = axis.residual;
    index_[inner] = 0;
    for (size_t i = inner; i-- > 0 && ++index_[i] == walk_.axes[i].n;) index_[i] = 0;
  }
  left_ -= run.n;
  return true;
}

namespace {

// Wraps around where there can be no such array: it is only planned for.
ptrdiff_t extent_of(size_t n, ptrdiff_t stride) { return static_cast<ptrdiff_t>(n * static_cast<size_t>(stride)); }

PixelAxes merge(const PixelAxes& axes, bool by_x, bool by_y, bool by_residual) {
  PixelAxes merged;
  for (const PixelAxis& inner : axes) {
    PixelAxis* outer = merged.empty() ? nullptr : &merged.back();
    if (outer && (!by_x || outer->x == extent_of(inner.n, inner.x)) &&
        (!by_y || outer->y == extent_of(inner.n, inner.y)) &&
        (!by_residual || outer->residual == extent_of(inner.n, inner.residual)))
      *outer = {outer->n * inner.n, inner.x, inner.y, inner.residual};
    else
      merged.push_back(inner);
  }
  return merged;
}

// Whether x's pixels are nearest along another axis than y's. If so those two come last.
bool turn(const Problem& p, PixelAxes& axes) {
  if (axes.size() < 2) return false;
  const auto nearer = [](const PixelAxis& a, const PixelAxis& b) {
    return (a.x ? std::abs(a.x) : std::numeric_limits<ptrdiff_t>::max()) <
           (b.x ? std::abs(b.x) : std::numeric_limits<ptrdiff_t>::max());
  };
  const auto of_y = axes.end() - 1, of_x = std::min_element(axes.begin(), axes.end(), nearer);
  if (!nearer(*of_x, *of_y)) return false;
  std::rotate(of_x, of_x + 1, of_y);  // now x's before y's
  const size_t x_size = size_of(p.x.dtype);
  const bool whole_pixels = p.in_channels > 1 && p.x.channel == static_cast<ptrdiff_t>(x_size);
  if (whole_pixels || p.out_channels * size_of(p.y.dtype) < p.in_channels * x_size) std::iter_swap(of_y - 1, of_y);
  return true;
}

// The outermost first, as `stride` says.
template <class Stride>
void sort_axes(PixelAxes& axes, Stride stride) {
  std::stable_sort(axes.begin(), axes.end(),
                   [&](const PixelAxis& a, const PixelAxis& b) { return magnitude(stride(a)) > magnitude(stride(b)); });
}

// The first byte of an array and the one past its last.
void extent(const Array& a, const char*& low, const char*& high) {
  low = a.data;
  high = a.data + element_bytes(a);
  for (int i = 0; i < a.rank; ++i) {
    if (a.shape[i] == 0) {
      high = low;
      return;
    }
    (a.strides[i] < 0 ? low : high) += (a.shape[i] - 1) * a.strides[i];
  }
}

}  // namespace

PixelAxes axes_of(const Array& a) {
  PixelAxes axes;
  for (int i = 0; i < a.rank; ++i)
    if (a.shape[i] == 0 || (a.shape[i] > 1 && a.strides[i] != 0))
      axes.push_back({static_cast<size_t>(a.shape[i]), a.strides[i], 0, 0});
  sort_axes(axes, [](const PixelAxis& axis) { return axis.x; });
  return merge(axes, true, false, false);
}

namespace {

// An array of so many channels, `stride` bytes apart. Where nobody walks along them, it may be any number, beyond all
// arithmetic too.
Side side_of(const Array& a, size_t channels, ptrdiff_t stride, bool pairs) {
  if (channels <= 1) stride = static_cast<ptrdiff_t>(element_bytes(a));
  Side side{a.dtype, a.swapped, stride};
  if (!a.is_complex) return side;
  const ptrdiff_t part = static_cast<ptrdiff_t>(size_of(a.dtype));
  if (!pairs)
    side.half = part;
  else if (stride == 2 * part || channels == 1)
    side.channel = part;
  else
    side.pair = part;
  return side;
}

// Whether the halves of one pixel and the next follow one another evenly, so that they may be pixels like any others.
bool halves_alternate(const Problem& p, const PixelAxes& axes) {
  if (p.real_residual) return false;
  if (axes.empty()) return true;
  const PixelAxis& inner = axes.back();
  return inner.x == 2 * p.x.half && inner.y == 2 * p.y.half &&
         (!p.adds_residual || inner.residual == 2 * p.residual.half);
}

}  // namespace

Problem make_problem(DType arithmetic, const Array& x, const Array& y, const Array* residual, int channel_axis,
                     bool keep_axis, const size_t* steps, size_t groups, size_t out_channels, Form form,
                     bool has_bias) {
  Problem p;
  p.arithmetic = arithmetic;
  p.groups = groups;
  p.pairs_filters = form == Form::pairs || form == Form::doubled;
  const size_t in_channels = static_cast<size_t>(x.shape[channel_axis]);
  p.in_channels = form == Form::imaginary ? 0 : in_channels / groups * (form == Form::pairs ? 2 : 1);
  p.out_channels = out_channels / groups * (p.pairs_filters ? 2 : 1);
  p.x = side_of(x, in_channels, x.strides[channel_axis], p.pairs_filters);
  const auto result_side = [&](const Array& a) {
    return side_of(a, out_channels, keep_axis ? a.strides[channel_axis] : 0, p.pairs_filters);
  };
  p.y = result_side(y);
  if (residual) p.residual = result_side(*residual);
  p.adds_residual = residual != nullptr;
  p.real_residual = residual && y.is_complex && !residual->is_complex;
  if (form == Form::plain && x.is_complex) p.halves = 2;

  PixelAxes axes;
  p.pixels = 1;
  const bool empty = std::find(y.shape, y.shape + y.rank, 0) != y.shape + y.rank;
  for (int i = 0; i < x.rank; ++i) {
    if (i == channel_axis) continue;
    const int j = i > channel_axis && !keep_axis ? i - 1 : i;
    const size_t n = static_cast<size_t>(y.shape[j]);
    p.pixels *= n;
    if (n == 1 || empty) continue;
    axes.push_back(
        {n, x.strides[i] * static_cast<ptrdiff_t>(steps[i]), y.strides[j], residual ? residual->strides[j] : 0});
  }
  // The result decides the order of the pixels: its innermost axis is walked last.
  sort_axes(axes, [](const PixelAxis& a) { return a.y; });
  if (p.halves == 2 && !has_bias && halves_alternate(p, axes)) {
    axes.push_back({2, p.x.half, p.y.half, p.residual.half});
    p.pixels *= 2;
    p.halves = 1;
  }
  p.all = merge(axes, true, true, p.adds_residual);
  p.source = merge(axes, true, false, false);
  p.target = merge(axes, false, true, p.adds_residual);
  p.boxed = turn(p, p.all);
  if (p.boxed) p.source = p.target = p.all;
  return p;
}

size_t element_bytes(const Array& a) { return size_of(a.dtype) * (a.is_complex ? 2 : 1); }

Array part_of(const Array& a, bool imaginary) {
  Array part = a;
  part.is_complex = false;
  if (imaginary) part.data += size_of(a.dtype);
  return part;
}

bool may_overlap(const Array& a, const Array& b) {
  const char *a_low, *a_high, *b_low, *b_high;
  extent(a, a_low, a_high);
  extent(b, b_low, b_high);
  return a_low < b_high && b_low < a_high && a_low < a_high && b_low < b_high;
}

bool may_overlap_itself(const Array& a) {
  struct Step {
    ptrdiff_t stride, span;
  } steps[max_rank];
  int count = 0;
  for (int i = 0; i < a.rank; ++i) {
    if (a.shape[i] == 0) return false;
    if (a.shape[i] == 1) continue;
    const ptrdiff_t stride = std::abs(a.strides[i]);
    steps[count++] = {stride, stride * (a.shape[i] - 1)};
  }
  std::sort(steps, steps + count, [](const Step& s, const Step& t) { return s.stride < t.stride; });
  ptrdiff_t covered = static_cast<ptrdiff_t>(element_bytes(a));
  for (int i = 0; i < count; ++i) {
    if (steps[i].stride < covered) return true;
    covered += steps[i].span;
  }
  return false;
}

}  // namespace conv1x1
