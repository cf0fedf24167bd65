#include "run/few_channels.h"

#include <algorithm>
#include <cstring>

#include "run/finish.h"
#include "system/nervous.h"

namespace conv1x1 {

namespace {

// Whole colour pixels, where there is such a kernel and nothing for it to leave undone; else false.
bool colour(const Task& t, const End& from, const End& to) {
  const Problem& p = t.problem;
  const auto taken = [](DType type) { return type == DType::float32 || type == DType::uint8; };
  const bool clamps = t.epilogue.activation == Activation::clamp;
  if (p.centered || p.arithmetic != DType::float32 || !taken(p.x.dtype) || !taken(p.y.dtype) || p.adds_residual ||
      (t.epilogue.activation != Activation::none && !clamps))
    return false;
  const ColourFn kernel = t.plan.table->colour[p.x.dtype == DType::uint8][p.y.dtype == DType::uint8];
  if (!kernel) return false;
  Colour c = plain_filters<Colour>(t);
  c.clamp = clamps;
  c.lo = t.epilogue.a;
  c.hi = t.epilogue.b;
  for_each_run(t, from, to, [&](const Block& x, const Block& y, const Run& run) {
    c.x = x.data;
    c.out = y.data;
    c.pixels = run.n;
    kernel(c);
  });
  return true;
}

// Planes: in place, as many pixels at a time as stay in the first-level cache for every filter.
void in_planes(const Task& t) {
  constexpr size_t block = nervous ? 16 : 1024;
  FewChannels f = plain_filters<FewChannels>(t);
  f.x_row = t.x.channel;
  f.out_row = t.y.channel;
  const FewChannelsFn kernel = t.plan.table->few_channels[index(t.problem.arithmetic)];
  for_each_run(t, t.x, t.y, [&](const Block& x, const Block& y, const Run& run) {
    for (size_t first = 0; first < run.n; first += block) {
      const ptrdiff_t bytes = static_cast<ptrdiff_t>(first) * t.size();
      f.x = x.data + bytes;
      f.out = y.data + bytes;
      f.pixels = std::min(block, run.n - first);
      kernel(f);
    }
  });
  finish(t, t.y, false);
}

// A block of colour pixels of any type at a time: taken apart into channels, converted, multiplied, converted, and put
// together again. Where one side is planes it is apart already, or stays so.
class InBlocks {
 public:
  static constexpr size_t most = nervous ? 16 : 128;

  InBlocks(const Task& t, bool x_planes, bool y_planes)
      : task_(t),
        table_(*t.plan.table),
        x_planes_(x_planes),
        y_planes_(y_planes),
        channels_(t.problem.in_channels),
        filters_(t.filters),
        size_(size_of(t.problem.arithmetic)),
        x_size_(size_of(t.problem.x.dtype)),
        y_size_(size_of(t.problem.y.dtype)),
        from_x_(conversion(table_, t.problem.x.dtype, t.problem.arithmetic)),
        to_y_(conversion(table_, t.problem.arithmetic, t.problem.y.dtype)),
        activate_(t.epilogue.activation != Activation::none && !t.problem.adds_residual
                      ? table_.activate[index(t.problem.arithmetic)]
                      : nullptr),
        epilogue_(t.epilogue),
        center_(t.weights.center_at(t.group, 0)),
        subtract_(table_.center[index(t.problem.arithmetic)][index(t.problem.arithmetic)]),
        kernel_(table_.few_channels[index(t.problem.arithmetic)]),
        f_(plain_filters<FewChannels>(t)) {}

  void operator()(const Block& x, const Block& y, size_t n) {
    f_.pixels = n;
    f_.x_row = f_.out_row = static_cast<ptrdiff_t>(n * size_);
    f_.x = channels_of(x, n);
    if (center_) take_center_off(n);
    if (task_.limit) look(task_, f_.x, channels_ * n);
    const bool in_place = !to_y_ && (filters_ == 1 || (y_planes_ && !activate_));
    if (in_place && y_planes_) f_.out_row = y.channel;
    f_.out = in_place ? y.data : y_rows_;
    kernel_(f_);
    if (activate_) activate_(f_.out, filters_ * n, epilogue_.activation, epilogue_.a, epilogue_.b);
    if (!in_place) pixels_to(y, n);
  }

 private:
  // The channels as rows of numbers of the type of the sums.
  const char* channels_of(const Block& x, size_t n) {
    const char* apart = x.data;
    if (channels_ > 1 && !x_planes_) {
      char* rows = from_x_ ? x_raw_ : x_rows_;
      char* row[most_rows];
      rows_at(rows, n * x_size_, row);
      table_.split[channels_ - 2][log2_of(x_size_)]({x.data, row, n});
      apart = rows;
    }
    if (from_x_ && x_planes_) {
      for (size_t c = 0; c < channels_; ++c)
        from_x_(apart + static_cast<ptrdiff_t>(c) * x.channel, x_rows_ + c * n * size_, n);
    } else if (from_x_) {
      from_x_(apart, x_rows_, channels_ * n);
    } else if (x_planes_) {
      f_.x_row = x.channel;
    }
    return from_x_ ? x_rows_ : apart;
  }

  // Off the channels, which are copied where they lie in x itself.
  void take_center_off(size_t n) {
    const size_t row = n * size_;
    for (size_t c = 0; f_.x != x_rows_ && c < channels_; ++c)
      std::memcpy(x_rows_ + c * row, f_.x + static_cast<ptrdiff_t>(c) * f_.x_row, row);
    f_.x = x_rows_;
    f_.x_row = static_cast<ptrdiff_t>(row);
    subtract_({x_rows_, f_.x_row, x_rows_, f_.x_row, channels_, n, center_, true});
  }

  // From rows of sums to the results.
  void pixels_to(const Block& y, size_t n) {
    char* apart = y_rows_;
    if (to_y_) to_y_(y_rows_, apart = filters_ == 1 ? y.data : y_raw_, filters_ * n);
    if (filters_ == 1) return;
    char* row[most_rows];
    rows_at(apart, n * y_size_, row);
    if (!y_planes_) return table_.join[filters_ - 2][log2_of(y_size_)]({y.data, row, n});
    for (size_t k = 0; k < filters_; ++k)
      std::memcpy(y.data + static_cast<ptrdiff_t>(k) * y.channel, row[k], n * y_size_);
  }

  static void rows_at(char* rows, size_t bytes, char* (&row)[most_rows]) {
    for (size_t r = 0; r < most_rows; ++r) row[r] = rows + r * bytes;
  }

  const Task& task_;
  const KernelTable& table_;
  const bool x_planes_, y_planes_;
  const size_t channels_, filters_, size_, x_size_, y_size_;
  const ConvertFn from_x_, to_y_;
  const ActivateFn activate_;
  const Epilogue& epilogue_;
  const char* const center_;
  const CenterFn subtract_;
  const FewChannelsFn kernel_;
  FewChannels f_;
  alignas(64) char x_rows_[most_rows * most * 8], x_raw_[most_rows * most * 8];
  alignas(64) char y_rows_[most_rows * most * 8], y_raw_[most_rows * most * 8];
};

// What a pixel is at an end, from where it lies to the next: an array's innermost axis, or a block's step.
ptrdiff_t pixel_step(const Task& t, const End& end, ptrdiff_t PixelAxis::*step) {
  return !end.walked ? end.pixel : (t.pixels.boxed ? t.pixels.box[1] : t.problem.all.back()).*step;
}

void whole_pixels(const Task& t, const End& from, const End& to) {
  const Problem& p = t.problem;
  const bool x_planes =
      p.in_channels > 1 && pixel_step(t, from, &PixelAxis::x) == static_cast<ptrdiff_t>(size_of(p.x.dtype));
  const bool y_planes = t.filters > 1 && pixel_step(t, to, &PixelAxis::y) == static_cast<ptrdiff_t>(size_of(p.y.dtype));
  if (!x_planes && !y_planes && colour(t, from, to)) return;
  InBlocks block(t, x_planes, y_planes);
  for_each_run(t, from, to, [&](const Block& x, const Block& y, const Run& run) {
    for (size_t first = 0; first < run.n; first += InBlocks::most) {
      const ptrdiff_t done = static_cast<ptrdiff_t>(first);
      block(x.at(done * x.pixel), y.at(done * y.pixel), std::min(InBlocks::most, run.n - first));
    }
  });
  if (p.adds_residual) finish(t, t.y, false);
}

// Whole pixels without gaps, of an array's own type.
End packed(const Side& side, size_t channels, char* scratch) {
  const ptrdiff_t size = static_cast<ptrdiff_t>(size_of(side.dtype));
  return {{scratch, static_cast<ptrdiff_t>(channels) * size, size}, false};
}

void in_box(const Task& t, char* scratch) {
  const PixelAxis &row = t.pixels.box[0], &column = t.pixels.box[1];
  const ptrdiff_t length = static_cast<ptrdiff_t>(column.n);
  const KernelTable& table = *t.plan.table;
  if (t.plan.stage_x) {
    const Elements own = elements(t.problem.x);
    const End x = packed(t.problem.x, t.problem.in_channels, scratch);
    transfer(table, t.x.data, x.data,
             {{row.n, row.x, length * x.pixel},
              {column.n, column.x, x.pixel},
              {t.problem.in_channels, t.x.channel, x.channel}},
             own, own, nullptr);
    return whole_pixels(t, x, t.y);
  }
  const Elements own = elements(t.problem.y);
  const End y = packed(t.problem.y, t.filters, scratch);
  whole_pixels(t, t.x, y);
  transfer(table, y.data, t.y.data,
           {{row.n, length * y.pixel, row.y}, {column.n, y.pixel, column.y}, {t.filters, y.channel, t.y.channel}}, own,
           own, nullptr);
}

}  // namespace

void few_channels(const Task& t, char* scratch) {
  if (t.plan.stage_x || t.plan.scratch_y) return in_box(t, scratch);
  planes(t.problem) && !t.problem.centered ? in_planes(t) : whole_pixels(t, t.x, t.y);
}

}  // namespace conv1x1
