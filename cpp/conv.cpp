#include "conv.h"

#include <algorithm>
#include <new>

#include "fp_environment.h"

#include "thread_pool.h"

namespace conv1x1 {

namespace {

// Scratch that stays with its thread, so that a repeated call allocates nothing; null when memory is out.
char* thread_scratch(size_t bytes) noexcept {
  thread_local Buffer buffer;
  thread_local size_t size = 0;
  if (bytes > size || !buffer) {
    size = 0;
    buffer.reset();
    try {
      buffer = allocate(bytes);
    } catch (const std::bad_alloc&) {
      return nullptr;
    }
    size = bytes;
  }
  return buffer.get();
}

// Pixels of a tile in scratch, in the type of the arithmetic.
struct Tile {
  char* data = nullptr;
  ptrdiff_t pixel = 0, channel = 0;  // bytes
};

// Calls fn(first, count, n) for `total` in equal parts of at most `most`: `count` parts of n, at most two kinds.
template <class Fn>
void split(size_t total, size_t most, Fn fn) {
  if (total == 0) return;
  const size_t parts = (total + most - 1) / most, low = total / parts, higher = total % parts;
  if (higher) fn(size_t{0}, higher, low + 1);
  fn(higher * (low + 1), parts - higher, low);
}

// One layer's work on pixels [first, last) with filters [filter, filter + filters) of one group.
class LayerTile {
 public:
  LayerTile(const Layer& layer, size_t first, size_t last, char* scratch)
      : data_(layer.data),
        problem_(*layer.problem),
        plan_(*layer.plan),
        weights_(*layer.weights),
        epilogue_(layer.epilogue),
        size_(static_cast<ptrdiff_t>(size_of(problem_.arithmetic))),
        rows_(plan_.orientation == Orientation::pixels_as_rows),
        first_(first),
        last_(last),
        scratch_(scratch) {}

  // `source`: the pixels, where they were handed on; null when they are the array's.
  // `target`: where to hand the results on to; null when they go to the array.
  void run(const Tile* source, const Tile* target, size_t group, size_t filter, size_t filters) {
    group_ = group;
    filter_ = filter;
    filters_ = filters;
    char* after_x = scratch_ + (plan_.stage_x ? x_bytes() : 0);
    staged_ = !source && plan_.stage_x;
    in_scratch_ = source || staged_;
    out_scratch_ = target || plan_.scratch_y;
    if (source) {
      source_ = *source;
      source_.data += static_cast<ptrdiff_t>(group * problem_.in_channels) * source->channel;
    } else {
      source_ = tile_at(scratch_, plan_.x_pitch);
    }
    if (target) {
      target_ = *target;
      target_.data += static_cast<ptrdiff_t>(group * problem_.out_channels + filter) * target->channel;
    } else {
      target_ = tile_at(after_x, plan_.y_pitch);
    }
    if (plan_.method == Method::multiply) {
      size_t channel = 0;
      do {  // once for no channels at all: the sum is 0
        const size_t channels = std::min(plan_.channel_block, problem_.in_channels - channel);
        if (staged_) stage(channel, channels);
        multiply(channel, channels);
        channel += channels;
      } while (channel < problem_.in_channels);
    } else {
      if (staged_) stage(0, problem_.in_channels);
      plan_.method == Method::few_filters_lanes ? filter_lanes() : filter_rows();
    }
    finish(target == nullptr);
  }

 private:
  Tile tile_at(char* data, size_t pitch) const {
    const ptrdiff_t bytes = static_cast<ptrdiff_t>(pitch) * size_;
    return rows_ ? Tile{data, bytes, size_} : Tile{data, size_, bytes};
  }

  ptrdiff_t x_bytes() const {
    return static_cast<ptrdiff_t>(plan_.x_pitch * (rows_ ? plan_.tile_pixels : plan_.channel_block)) * size_;
  }

  ptrdiff_t y_bytes() const {
    const size_t bytes = plan_.y_pitch * (rows_ ? plan_.tile_pixels : plan_.chunk_filters) * static_cast<size_t>(size_);
    return static_cast<ptrdiff_t>((bytes + 63) / 64 * 64);
  }

  static size_t index(DType dtype) { return static_cast<size_t>(dtype); }

  const char* x_channel(size_t channel) const {
    return data_.x + static_cast<ptrdiff_t>(group_ * problem_.in_channels + channel) * problem_.x.channel;
  }

  ptrdiff_t y_filter(const Side& side) const {
    return static_cast<ptrdiff_t>(group_ * problem_.out_channels + filter_) * side.channel;
  }

  void stage(size_t channel, size_t channels) const {
    const MoveFn copy = plan_.table->copy[index(problem_.x.dtype)][index(problem_.arithmetic)];
    char* dst = source_.data;
    Runs runs(problem_.source, first_, last_);
    for (Run run; runs.next(run); dst += static_cast<ptrdiff_t>(run.n) * source_.pixel)
      copy({x_channel(channel) + run.x, run.x_step, problem_.x.channel, dst, source_.pixel, source_.channel, run.n,
            channels});
  }

  // Calls fn(x, x_pixel, x_channel, y, y_pixel, y_channel, run) for each run of pixels that is even on both sides.
  template <class Fn>
  void for_each_run(size_t channel, Fn fn) const {
    const char* x = !in_scratch_ ? x_channel(channel)
                    : staged_    ? source_.data
                                 : source_.data + static_cast<ptrdiff_t>(channel) * source_.channel;
    char* y = out_scratch_ ? target_.data : data_.y + y_filter(problem_.y);
    if (in_scratch_ && out_scratch_) {
      const Run all{0, 0, 0, last_ - first_, 0, 0, 0};
      fn(x, source_.pixel, source_.channel, y, target_.pixel, target_.channel, all);
      return;
    }
    Runs runs(in_scratch_ ? problem_.target : out_scratch_ ? problem_.source : problem_.all, first_, last_);
    ptrdiff_t done = 0;
    for (Run run; runs.next(run); done += static_cast<ptrdiff_t>(run.n))
      fn(in_scratch_ ? x + done * source_.pixel : x + run.x, in_scratch_ ? source_.pixel : run.x_step,
         in_scratch_ ? source_.channel : problem_.x.channel, out_scratch_ ? y + done * target_.pixel : y + run.y,
         out_scratch_ ? target_.pixel : run.y_step, out_scratch_ ? target_.channel : problem_.y.channel, run);
  }

  void multiply(size_t channel, size_t channels) const {
    const bool ends = channel + channels == problem_.in_channels;
    Multiply m{};
    m.channels = channels;
    m.resume = channel > 0;
    m.bias_per_row = !rows_;
    m.clamp = ends && fuse_clamp();
    m.lo = epilogue_.a;
    m.hi = epilogue_.b;
    const char* bias = ends ? weights_.bias_at(group_, filter_) : nullptr;
    const char* residual = ends && plan_.fuse_residual ? data_.residual + y_filter(problem_.residual) : nullptr;
    const size_t width = plan_.family->width;
    const ptrdiff_t vector_bytes = static_cast<ptrdiff_t>(width) * size_;
    const ptrdiff_t skipped = static_cast<ptrdiff_t>(channel) * vector_bytes;

    if (rows_) {
      m.lane_vector = weights_.panel_bytes();
      m.lane_channel = vector_bytes;
      for_each_column(filters_, plan_.near_vectors,
                      [&](size_t lane, size_t columns, size_t vectors, size_t last_lanes) {
                        const ptrdiff_t lane_bytes = static_cast<ptrdiff_t>(lane) * size_;
                        m.lanes = weights_.panel(group_, filter_ + lane) + skipped;
                        m.columns = columns;
                        m.last_lanes = last_lanes;
                        m.bias = bias ? bias + lane_bytes : nullptr;
                        for_each_run(channel, [&](const char* x, ptrdiff_t x_pixel, ptrdiff_t x_channel, char* y,
                                                  ptrdiff_t y_pixel, ptrdiff_t, const Run& run) {
                          m.rows = x;
                          m.row_stride = x_pixel;
                          m.row_channel = x_channel;
                          m.out = y + lane_bytes;
                          m.out_row = y_pixel;
                          m.residual = residual ? residual + run.residual + lane_bytes : nullptr;
                          m.residual_row = run.residual_step;
                          multiply_rows(m, vectors, run.n, 0);
                        });
                      });
    } else {
      m.row_stride = size_;
      m.row_channel = vector_bytes;
      m.lane_vector = vector_bytes;
      m.residual_row = problem_.residual.channel;
      for_each_run(channel, [&](const char* x, ptrdiff_t, ptrdiff_t x_channel, char* y, ptrdiff_t, ptrdiff_t y_channel,
                                const Run& run) {
        m.lane_channel = x_channel;
        m.out_row = y_channel;
        for_each_column(run.n, plan_.near_vectors, [&](size_t lane, size_t columns, size_t vectors, size_t last_lanes) {
          const ptrdiff_t lane_bytes = static_cast<ptrdiff_t>(lane) * size_;
          m.lanes = x + lane_bytes;
          m.columns = columns;
          m.last_lanes = last_lanes;
          for (size_t k = 0; k < filters_; k += width) {
            const ptrdiff_t row = static_cast<ptrdiff_t>(k);
            m.rows = weights_.panel(group_, filter_ + k) + skipped;
            m.lanes_ahead = k == 0 && !in_scratch_;
            m.out = y + lane_bytes + row * y_channel;
            m.bias = bias ? bias + row * size_ : nullptr;
            m.residual = residual ? residual + run.residual + lane_bytes + row * m.residual_row : nullptr;
            multiply_rows(m, vectors, std::min(width, filters_ - k), m.bias ? size_ : 0);
          }
        });
      });
    }
  }

  // Cuts `lanes` into columns of equal width, as nearly as can be, and calls fn(first lane, columns, vectors, lanes in
  // the last vector) for as many of them at a time as hold no more than `near` vectors.
  template <class Fn>
  void for_each_column(size_t lanes, size_t near, Fn fn) const {
    const size_t width = plan_.family->width, needed = (lanes + width - 1) / width;
    split(needed, plan_.vectors, [&](size_t first, size_t count, size_t vectors) {
      split(count, std::max<size_t>(near / vectors, 1), [&](size_t column, size_t times, size_t columns) {
        for (size_t v = first + column * vectors; times > 0; v += columns * vectors, --times)
          fn(v * width, columns, vectors, v + columns * vectors == needed ? lanes - (needed - 1) * width : width);
      });
    });
  }

  // `m` as it stands for the first of `rows` rows; every row moves the bias on by `bias_row` bytes.
  void multiply_rows(Multiply& m, size_t vectors, size_t rows, ptrdiff_t bias_row) const {
    const MultiplyFamily& family = *plan_.family;
    split(rows, family.max_rows[vectors - 1], [&](size_t first, size_t count, size_t height) {
      Multiply block = m;
      const ptrdiff_t row = static_cast<ptrdiff_t>(first);
      block.rows += row * m.row_stride;
      block.out += row * m.out_row;
      if (block.bias) block.bias += row * bias_row;
      if (block.residual) block.residual += row * m.residual_row;
      block.blocks = count;
      family.fn[vectors - 1][height - 1](block);
    });
  }

  // The kernels that take the filters as plain rows: what they are told of them.
  template <class Arguments>
  Arguments plain_filters() const {
    Arguments a{};
    a.weights = weights_.row(group_, 0);
    a.filter_stride = weights_.row_bytes;
    a.channels = problem_.in_channels;
    a.filters = problem_.out_channels;
    a.bias = weights_.bias_at(group_, 0);
    return a;
  }

  void filter_rows() const {
    const auto& kernels = plan_.method == Method::few_filters ? plan_.table->few_filters : plan_.table->few_channels;
    const FilterRowsFn kernel = kernels[index(problem_.arithmetic)];
    FilterRows f = plain_filters<FilterRows>();
    for_each_run(
        0, [&](const char* x, ptrdiff_t x_pixel, ptrdiff_t, char* y, ptrdiff_t y_pixel, ptrdiff_t, const Run& run) {
          f.x = x;
          f.pixel_stride = x_pixel;
          f.pixels = run.n;
          f.out = y;
          f.out_pixel = y_pixel;
          kernel(f);
        });
  }

  void filter_lanes() const {
    FilterLanes f = plain_filters<FilterLanes>();
    for_each_run(
        0, [&](const char* x, ptrdiff_t, ptrdiff_t x_channel, char* y, ptrdiff_t, ptrdiff_t y_channel, const Run& run) {
          f.x = x;
          f.x_channel = x_channel;
          f.pixels = run.n;
          f.out = y;
          f.out_row = y_channel;
          plan_.table->few_filters_lanes[index(problem_.arithmetic)](f);
        });
  }

  bool fuse_clamp() const {
    return plan_.method == Method::multiply && epilogue_.activation == Activation::clamp &&
           (!problem_.adds_residual || plan_.fuse_residual);
  }

  // What the kernel has not done yet: residual, activation, and the way from scratch to the array.
  void finish(bool to_array) const {
    const bool add_residual = problem_.adds_residual && !plan_.fuse_residual;
    const bool activates = epilogue_.activation != Activation::none && !fuse_clamp();
    const bool moves = to_array && out_scratch_;
    if (!add_residual && !activates && !moves) return;
    const MoveFn add = plan_.table->add[index(problem_.residual.dtype)][index(problem_.arithmetic)];
    const MoveFn copy = plan_.table->copy[index(problem_.arithmetic)][index(problem_.y.dtype)];
    char* y = data_.y + y_filter(problem_.y);
    ptrdiff_t done = 0;
    Runs runs(problem_.target, first_, last_);
    for (Run run; runs.next(run); done += static_cast<ptrdiff_t>(run.n)) {
      const Tile at = out_scratch_ ? Tile{target_.data + done * target_.pixel, target_.pixel, target_.channel}
                                   : Tile{y + run.y, run.y_step, problem_.y.channel};
      if (add_residual)
        add({data_.residual + run.residual + y_filter(problem_.residual), run.residual_step, problem_.residual.channel,
             at.data, at.pixel, at.channel, run.n, filters_});
      if (activates) activate(at, run.n);
      if (moves) copy({at.data, at.pixel, at.channel, y + run.y, run.y_step, problem_.y.channel, run.n, filters_});
    }
  }

  void activate(const Tile& at, size_t pixels) const {
    const ActivateFn fn = plan_.table->activate[index(problem_.arithmetic)];
    const ptrdiff_t row = rows_ ? at.pixel : at.channel;
    size_t rows = rows_ ? pixels : filters_, length = rows_ ? filters_ : pixels;
    if (row == static_cast<ptrdiff_t>(length) * size_) {
      length *= rows;
      rows = 1;
    }
    for (size_t i = 0; i < rows; ++i)
      fn(at.data + static_cast<ptrdiff_t>(i) * row, length, epilogue_.activation, epilogue_.a, epilogue_.b);
  }

  const Data& data_;
  const Problem& problem_;
  const Plan& plan_;
  const PackedWeights& weights_;
  const Epilogue& epilogue_;
  const ptrdiff_t size_;
  const bool rows_;
  const size_t first_, last_;
  char* const scratch_;
  size_t group_ = 0, filter_ = 0, filters_ = 0;
  bool staged_ = false;                            // source_ holds what stage() brought
  bool in_scratch_ = false, out_scratch_ = false;  // the pixels are in source_, the results go to target_
  Tile source_, target_;
};

struct Work {
  const Layer* layers;
  size_t count;
  size_t tile_pixels;
  size_t parts;          // units in a tile: the parts of an only layer; 1 for a list, whose tiles stay whole
  size_t handed_bytes;   // scratch for what one layer hands to the next; two of these, then the layers' own
  size_t scratch_bytes;  // in all, for each thread
  bool (*stop)(void*);
  void* stop_context;
};

size_t parts_of(const Layer& layer) { return layer.problem->groups * layer.plan->chunks; }

Tile handed_tile(const Layer& layer, char* data, size_t pixels) {
  const size_t size = size_of(layer.problem->arithmetic), filters = layer.problem->groups * layer.problem->out_channels;
  const bool rows = layer.plan->orientation == Orientation::pixels_as_rows;
  return {data, static_cast<ptrdiff_t>(size * (rows ? filters : 1)),
          static_cast<ptrdiff_t>(size * (rows ? 1 : pixels))};
}

void run_part(const Layer& layer, size_t first, size_t last, size_t part, const Tile* source, const Tile* target,
              char* scratch) {
  const Plan& plan = *layer.plan;
  const size_t filter = part % plan.chunks * plan.chunk_filters;
  LayerTile(layer, first, last, scratch)
      .run(source, target, part / plan.chunks, filter,
           std::min(plan.chunk_filters, layer.problem->out_channels - filter));
}

void run_unit(void* context, size_t index) noexcept {
  const DefaultArithmetic arithmetic;
  const Work& work = *static_cast<const Work*>(context);
  char* scratch = thread_scratch(work.scratch_bytes);
  const size_t first = index / work.parts * work.tile_pixels;
  const size_t last = std::min(first + work.tile_pixels, work.layers->problem->pixels);
  Tile handed[2];
  const Tile* source = nullptr;
  for (size_t l = 0; l < work.count; ++l) {
    const Layer& layer = work.layers[l];
    const Tile* target = nullptr;
    if (l + 1 < work.count) {
      handed[l % 2] = handed_tile(layer, scratch + l % 2 * work.handed_bytes, work.tile_pixels);
      target = &handed[l % 2];
    }
    const size_t parts = parts_of(layer) / work.parts;
    for (size_t part = 0; part < parts; ++part)
      run_part(layer, first, last, index % work.parts + part, source, target, scratch + 2 * work.handed_bytes);
    source = target;
  }
}

bool enter(void* context) noexcept {
  return thread_scratch(static_cast<const Work*>(context)->scratch_bytes) != nullptr;
}

bool stop(void* context) {
  const Work& work = *static_cast<const Work*>(context);
  return work.stop && work.stop(work.stop_context);
}

}  // namespace

bool convolve(const Layer* layers, size_t count, bool (*stop_asked)(void*), void* stop_context) {
  const Problem& problem = *layers->problem;
  const Plan& plan = *layers->plan;
  if (problem.pixels == 0 || layers[count - 1].problem->out_channels == 0) return true;
  Work work{layers, count, plan.tile_pixels, 1, 0, 0, stop_asked, stop_context};
  if (count == 1) work.parts = parts_of(*layers);
  for (size_t l = 0; l < count; ++l) {
    const Problem& p = *layers[l].problem;
    if (l + 1 < count)
      work.handed_bytes = std::max(
          work.handed_bytes, (p.groups * p.out_channels * work.tile_pixels * size_of(p.arithmetic) + 63) / 64 * 64);
    work.scratch_bytes = std::max(work.scratch_bytes, layers[l].plan->scratch_bytes);
  }
  work.scratch_bytes += 2 * work.handed_bytes;
  if (!enter(&work)) throw std::bad_alloc();
  return run_job({plan.tiles * work.parts, enter, run_unit, stop, &work}, plan.threads);
}

}  // namespace conv1x1
