#include "run/convolve.h"

#include <pthread.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <optional>

#include "run/transfer.h"
#include "system/fp_environment.h"
#include "system/thread_pool.h"

namespace conv1x1 {

namespace {

// Scratch that stays with its thread, so that a repeated call allocates nothing; null when memory is out. What there
// was stays then: a signal handler may compute in the middle of a call that has its scratch. Not thread_local: for that
// the C library allocates at a thread's first use, and aborts where it cannot.
char* thread_scratch(size_t bytes) noexcept {
  static const std::optional<pthread_key_t> key = []() -> std::optional<pthread_key_t> {
    pthread_key_t made;
    if (pthread_key_create(&made, std::free) != 0) return std::nullopt;
    return made;
  }();
  if (!key) return nullptr;
  constexpr size_t header = 64;  // says how many bytes follow
  char* block = static_cast<char*>(pthread_getspecific(*key));
  if (!block || *reinterpret_cast<size_t*>(block) < bytes) {
    void* larger = nullptr;
    if (posix_memalign(&larger, 64, header + bytes) != 0) return nullptr;
    if (pthread_setspecific(*key, larger) != 0) {
      std::free(larger);
      return nullptr;
    }
    std::free(block);
    block = static_cast<char*>(larger);
    *reinterpret_cast<size_t*>(block) = bytes;
  }
  return block + header;
}

// Pixels of a tile in scratch.
struct Tile {
  char* data = nullptr;
  ptrdiff_t pixel = 0, channel = 0;  // bytes; to the next pair or quad of channels where those go together
};

// The pixels of a tile: [first, last) of a problem's walks, or a box, which begins at `start` and is a walk of its own.
struct Pixels {
  size_t first, last;
  bool boxed = false;
  PixelAxis box[2] = {};
  PixelAxis start = {};

  Walk walk(const PixelAxes& axes) const { return boxed ? Walk(box, 2) : Walk(axes); }
};

Pixels pixels_of(const Problem& p, const Plan& plan, size_t tile) {
  if (!p.boxed) {
    const size_t first = tile * plan.tile_pixels;
    return {first, std::min(first + plan.tile_pixels, p.pixels)};
  }
  Pixels box{0, 1, true};
  for (size_t i = p.all.size(); i-- > 0;) {
    const PixelAxis& axis = p.all[i];
    const bool inside = i + 2 >= p.all.size();
    const size_t side = inside ? plan.box[i + 2 - p.all.size()] : 1, sides = (axis.n + side - 1) / side;
    const size_t first = tile % sides * side;
    tile /= sides;
    const ptrdiff_t at = static_cast<ptrdiff_t>(first);
    box.start.x += at * axis.x;
    box.start.y += at * axis.y;
    box.start.residual += at * axis.residual;
    if (!inside) continue;
    PixelAxis& own = box.box[i + 2 - p.all.size()] = axis;
    own.n = std::min(side, axis.n - first);
    box.last *= own.n;
  }
  return box;
}

// Calls fn(first, count, n) for `total` in equal parts of at most `most`: `count` parts of n, at most two kinds.
template <class Fn>
void split(size_t total, size_t most, Fn fn) {
  if (total == 0) return;
  const size_t parts = (total + most - 1) / most, low = total / parts, higher = total % parts;
  if (higher) fn(size_t{0}, higher, low + 1);
  fn(higher * (low + 1), parts - higher, low);
}

// One layer's work on the pixels of a tile with filters [filter, filter + filters) of one group.
class LayerTile {
 public:
  LayerTile(const Layer& layer, const Pixels& pixels, char* scratch)
      : pixels_(pixels),
        problem_(*layer.problem),
        plan_(*layer.plan),
        weights_(*layer.weights),
        epilogue_(layer.epilogue),
        size_(static_cast<ptrdiff_t>(size_of(problem_.arithmetic))),
        out_size_(problem_.quantized ? 1 : size_),
        depth_(traits(plan_.family->operand).together),
        rows_(plan_.orientation == Orientation::pixels_as_rows),
        first_(pixels.first),
        last_(pixels.last),
        scratch_(scratch),
        whole_(layer.data) {
    whole_.x += pixels.start.x;
    whole_.y += pixels.start.y;
    if (whole_.residual) whole_.residual += pixels.start.residual;
  }

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
      source_ = tile_at(scratch_, plan_.x_pitch, size_);
    }
    if (target) {
      target_ = *target;
      target_.data += static_cast<ptrdiff_t>(group * problem_.out_channels + filter) * target->channel;
    } else {
      target_ = tile_at(after_x, plan_.y_pitch, out_size_);
    }
    data_ = whole_;
    run_half(target == nullptr);
    if (problem_.halves == 1) return;
    second_half_ = true;
    data_.x += problem_.x.half;
    data_.y += problem_.y.half;
    data_.residual = problem_.real_residual ? nullptr : data_.residual + problem_.residual.half;
    target_.data += half_bytes();
    run_half(target == nullptr);
    if (out_scratch_) put_together();
  }

 private:
  void run_half(bool to_array) {
    if (plan_.method == Method::few_channels) return pixels_.boxed ? few_channels_in_box() : few_channels(pixels_);
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
    finish(to_array && problem_.halves == 1);
  }

  Tile tile_at(char* data, size_t pitch, ptrdiff_t size) const {
    const ptrdiff_t bytes = static_cast<ptrdiff_t>(pitch) * size;
    return rows_ ? Tile{data, bytes, size} : Tile{data, size, bytes};
  }

  ptrdiff_t x_bytes() const {
    const size_t steps = (plan_.channel_block + depth_ - 1) / depth_;
    const size_t bytes = plan_.x_pitch * (rows_ ? plan_.tile_pixels : steps) * static_cast<size_t>(size_);
    return static_cast<ptrdiff_t>((bytes + 63) / 64 * 64);
  }

  // From the first half of a tile's results to the second.
  ptrdiff_t half_bytes() const {
    const size_t bytes = plan_.y_pitch * (rows_ ? plan_.tile_pixels : plan_.chunk_filters) * static_cast<size_t>(size_);
    return static_cast<ptrdiff_t>((bytes + 63) / 64 * 64);
  }

  static size_t index(DType dtype) { return static_cast<size_t>(dtype); }

  static Elements elements(const Side& side) { return {size_of(side.dtype), side.swapped}; }

  // From one type to another; null where they are the same.
  ConvertFn conversion(DType from, DType to) const {
    return from == to ? nullptr : plan_.table->convert[index(from)][index(to)];
  }

  // Whether the kernel takes bytes of the other sign.
  bool raised() const {
    const DType x = problem_.x.dtype, pixel = traits(plan_.family->operand).pixel;
    return size_of(pixel) == 1 && x != DType::boolean && x != pixel;
  }

  // From x's type to what the kernel takes.
  ConvertFn x_conversion() const {
    if (raised()) return plan_.table->raise_int8;
    const DType x = problem_.x.dtype, pixel = traits(plan_.family->operand).pixel;
    return conversion(x, x == DType::boolean && size_of(pixel) == 1 ? DType::uint8 : pixel);
  }

  // Where pairs are apart, only their first channels are asked for.
  static ptrdiff_t offset(const Side& side, size_t channel) {
    return static_cast<ptrdiff_t>(side.pair ? channel / 2 : channel) * side.channel;
  }

  const char* x_channel(size_t channel) const {
    return data_.x + offset(problem_.x, group_ * problem_.in_channels + channel);
  }

  ptrdiff_t y_filter(const Side& side) const { return offset(side, group_ * problem_.out_channels + filter_); }

  void stage(size_t channel, size_t channels) const {
    if (depth_ > 1 && !rows_) return stage_together();
    move_pixels(channel, channels, first_, last_, source_.data, source_.pixel,
                rows_ ? element_size() : source_.channel);
  }

  // Channels of pixels [first, last), converted, to `dst`.
  void move_pixels(size_t channel, size_t channels, size_t first, size_t last, char* dst, ptrdiff_t dst_pixel,
                   ptrdiff_t dst_channel) const {
    if (pixels_.boxed && !problem_.x.pair) {
      const size_t length = pixels_.box[1].n;
      const PixelAxis &row = pixels_.box[0], &column = pixels_.box[1];
      return transfer(*plan_.table, x_channel(channel) + static_cast<ptrdiff_t>(first / length) * row.x, dst,
                      {{(last - first) / length, row.x, static_cast<ptrdiff_t>(length) * dst_pixel},
                       {length, column.x, dst_pixel},
                       {channels, problem_.x.channel, dst_channel}},
                      elements(problem_.x), {static_cast<size_t>(element_size())}, x_conversion());
    }
    Runs runs(pixels_.walk(problem_.source), first, last);
    for (Run run; runs.next(run); dst += static_cast<ptrdiff_t>(run.n) * dst_pixel) {
      const char* x = x_channel(channel) + run.x;
      const Elements from = elements(problem_.x), to{static_cast<size_t>(element_size())};
      if (problem_.x.pair)
        transfer_pairs(*plan_.table,
                       {x, run.x_step, problem_.x.channel, dst, dst_pixel, 2 * dst_channel, run.n, channels / 2},
                       problem_.x.pair, dst_channel, from, to, x_conversion());
      else
        transfer(*plan_.table, {x, run.x_step, problem_.x.channel, dst, dst_pixel, dst_channel, run.n, channels}, from,
                 to, x_conversion());
    }
  }

  // Bytes of one channel in a staged tile.
  ptrdiff_t element_size() const { return size_ / static_cast<ptrdiff_t>(depth_); }

  // Pixels as lanes, each with the numbers of a pair or quad of channels. Where the last one wants channels that are
  // not there, any numbers will do: their weights are 0.
  void stage_together() const {
    constexpr size_t chunk = 512, high = 16;  // pixels and channels that are rows of the kernel's numbers at a time
    alignas(64) char rows_of_numbers[high * chunk * 2];
    const ptrdiff_t size = element_size(), row = static_cast<ptrdiff_t>(chunk) * size;
    const PixelAxes& axes = problem_.source;
    const bool in_place = !x_conversion() && axes.size() <= 1 && (axes.empty() || axes.back().x == size);
    const size_t most = pixels_.boxed ? chunk / pixels_.box[1].n * pixels_.box[1].n : chunk;  // whole rows of a box
    for (size_t first = first_; first < last_; first += most) {
      const size_t n = std::min(most, last_ - first);
      char* to = source_.data + static_cast<ptrdiff_t>(first - first_) * source_.pixel;
      for (size_t block = 0; block < problem_.in_channels; block += high) {
        const size_t channels = std::min(high, problem_.in_channels - block);
        if (!in_place) move_pixels(block, channels, first, first + n, rows_of_numbers, size, row);
        for (size_t c = 0; c < channels; c += depth_, to += source_.channel) {
          char* rows[most_rows] = {};
          for (size_t d = 0; d < depth_; ++d) {
            const size_t own = c + d < channels ? c + d : c;
            rows[d] = in_place ? const_cast<char*>(x_channel(block + own)) + static_cast<ptrdiff_t>(first) * size
                               : rows_of_numbers + static_cast<ptrdiff_t>(own) * row;
          }
          plan_.table->join[depth_ - 2][log2_of(static_cast<size_t>(size))]({to, rows, n});
        }
      }
    }
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
    Runs runs(pixels_.walk(in_scratch_    ? problem_.target
                           : out_scratch_ ? problem_.source
                                          : problem_.all),
              first_, last_);
    ptrdiff_t done = 0;
    for (Run run; runs.next(run); done += static_cast<ptrdiff_t>(run.n))
      fn(in_scratch_ ? x + done * source_.pixel : x + run.x, in_scratch_ ? source_.pixel : run.x_step,
         in_scratch_ ? source_.channel : problem_.x.channel * static_cast<ptrdiff_t>(depth_),
         out_scratch_ ? y + done * target_.pixel : y + run.y, out_scratch_ ? target_.pixel : run.y_step,
         out_scratch_ ? target_.channel : problem_.y.channel, run);
  }

  // What to ask the memory for while a block is multiplied: pixels `blocks` blocks of rows on.
  struct Ahead {
    const char* data = nullptr;
    ptrdiff_t pixel = 0, channel = 0;
    ptrdiff_t blocks = 0;
  };

  // x's pixels of the tile after this one, which are staged next, where they lie as this one's do; else nothing.
  Ahead next_tile() const {
    const PixelAxes& axes = problem_.source;
    if (axes.size() != 1 || last_ == problem_.pixels) return {};
    const PixelAxis& axis = axes.back();
    const bool contiguous = (rows_ ? problem_.x.channel : axis.x) == static_cast<ptrdiff_t>(size_of(problem_.x.dtype));
    if (!contiguous) return {};
    return {x_channel(0) + static_cast<ptrdiff_t>(last_) * axis.x, axis.x,
            problem_.x.channel * static_cast<ptrdiff_t>(depth_), 0};
  }

  void multiply(size_t channel, size_t channels) const {
    const bool ends = channel + channels == problem_.in_channels;
    Multiply m{};
    m.channels = (channels + depth_ - 1) / depth_;
    m.resume = channel > 0;
    m.bias_per_row = !rows_;
    m.clamp = ends && fuse_clamp();
    m.lo = epilogue_.a;
    m.hi = epilogue_.b;
    m.zero_point = epilogue_.zero_point;
    if (problem_.arithmetic == DType::int32 && m.clamp) {
      m.lo = std::clamp(m.lo, -2147483648.0, 2147483647.0);
      m.hi = std::clamp(m.hi, -2147483648.0, 2147483647.0);
    }
    const char* bias = ends ? weights_.bias_at(group_, filter_, raised() || second_half_) : nullptr;
    const char* scale = problem_.quantized ? weights_.scale_at(group_, filter_) : nullptr;
    const char* residual =
        ends && plan_.fuse_residual && data_.residual ? data_.residual + y_filter(problem_.residual) : nullptr;
    const size_t width = plan_.family->width;
    const ptrdiff_t vector_bytes = static_cast<ptrdiff_t>(width) * size_;
    const ptrdiff_t skipped = static_cast<ptrdiff_t>(channel) * vector_bytes;

    const Ahead ahead = staged_ ? next_tile() : Ahead{};

    if (rows_) {
      m.lane_vector = weights_.panel_bytes();
      m.lane_channel = vector_bytes;
      const bool one_block = last_ - first_ <= plan_.family->max_rows[plan_.vectors - 1];
      for_each_column(filters_, one_block, [&](size_t lane, size_t columns, size_t vectors, size_t last_lanes) {
        const ptrdiff_t lane_bytes = static_cast<ptrdiff_t>(lane) * size_;
        const ptrdiff_t out_bytes = static_cast<ptrdiff_t>(lane) * out_size_;
        m.lanes = weights_.panel(group_, filter_ + lane) + skipped;
        m.columns = columns;
        m.last_lanes = last_lanes;
        m.bias = bias ? bias + lane_bytes : nullptr;
        m.scale = scale ? scale + lane_bytes : nullptr;
        for_each_run(channel, [&](const char* x, ptrdiff_t x_pixel, ptrdiff_t x_channel, char* y, ptrdiff_t y_pixel,
                                  ptrdiff_t, const Run& run) {
          m.rows = x;
          m.row_stride = x_pixel;
          m.row_channel = x_channel;
          m.out = y + out_bytes;
          m.out_row = y_pixel;
          m.residual = residual ? residual + run.residual + lane_bytes : nullptr;
          m.residual_row = run.residual_step;
          multiply_rows(m, vectors, run.n, 0, ahead.data ? ahead : Ahead{x, x_pixel, 0, 1});
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
        for_each_column(run.n, true, [&](size_t lane, size_t columns, size_t vectors, size_t last_lanes) {
          const ptrdiff_t lane_bytes = static_cast<ptrdiff_t>(lane) * size_;
          const ptrdiff_t out_bytes = static_cast<ptrdiff_t>(lane) * out_size_;
          m.lanes = x + lane_bytes;
          m.columns = columns;
          m.last_lanes = last_lanes;
          for (size_t k = 0; k < filters_; k += width) {
            const ptrdiff_t row = static_cast<ptrdiff_t>(k);
            m.rows = weights_.panel(group_, filter_ + k) + skipped;
            m.lanes_ahead = k == 0 && !in_scratch_;
            m.ahead = ahead.data + static_cast<ptrdiff_t>(lane) * ahead.pixel;
            m.ahead_channel = ahead.channel;
            m.ahead_column = static_cast<ptrdiff_t>(vectors * width) * ahead.pixel;
            m.ahead_blocks = k == 0 && ahead.data ? static_cast<size_t>((m.ahead_column + 63) / 64) : 0;
            m.out = y + out_bytes + row * y_channel;
            m.bias = bias ? bias + row * size_ : nullptr;
            m.scale = scale ? scale + row * size_ : nullptr;
            m.residual = residual ? residual + run.residual + lane_bytes + row * m.residual_row : nullptr;
            multiply_rows(m, vectors, std::min(width, filters_ - k), size_, {});
          }
        });
      });
    }
  }

  // Cuts `lanes` into columns of equal width, as nearly as can be, and calls fn(first lane, columns, vectors, lanes in
  // the last vector) for each of them, or `together` for all of a width.
  template <class Fn>
  void for_each_column(size_t lanes, bool together, Fn fn) const {
    const size_t width = plan_.family->width, needed = (lanes + width - 1) / width;
    split(needed, plan_.vectors, [&](size_t first, size_t count, size_t vectors) {
      const size_t columns = together ? count : 1, end = first + count * vectors;
      for (size_t v = first; v < end; v += columns * vectors)
        fn(v * width, columns, vectors, v + columns * vectors == needed ? lanes - (needed - 1) * width : width);
    });
  }

  // `m` as it stands for the first of `rows` rows; every row moves bias and scale on by `bias_row` bytes.
  void multiply_rows(const Multiply& m, size_t vectors, size_t rows, ptrdiff_t bias_row, const Ahead& ahead) const {
    const MultiplyFamily& family = *plan_.family;
    split(rows, family.max_rows[vectors - 1], [&](size_t first, size_t count, size_t height) {
      Multiply block = m;
      const ptrdiff_t row = static_cast<ptrdiff_t>(first);
      block.rows += row * m.row_stride;
      block.out += row * m.out_row;
      if (block.bias) block.bias += row * bias_row;
      if (block.scale) block.scale += row * bias_row;
      if (block.residual) block.residual += row * m.residual_row;
      block.blocks = count;
      if (rows_) {
        const ptrdiff_t high = static_cast<ptrdiff_t>(height);
        block.ahead = ahead.data + (row + ahead.blocks * high) * ahead.pixel;
        block.ahead_block = high * ahead.pixel;
        block.ahead_channel = block.ahead_block / static_cast<ptrdiff_t>(std::max<size_t>(m.channels, 1));
        block.ahead_blocks = count;
      } else if (first > 0) {
        block.ahead_blocks = 0;
      }
      family.fn[vectors - 1][height - 1](block);
    });
  }

  // The kernels that take the filters as plain rows: what they are told of them.
  template <class Arguments>
  Arguments plain_filters() const {
    Arguments a{};
    a.weights = weights_.row(group_, filter_);
    a.filter_stride = weights_.row_bytes;
    a.channels = problem_.in_channels;
    a.filters = filters_;
    a.bias = weights_.bias_at(group_, filter_, second_half_);
    return a;
  }

  void filter_rows() const {
    FilterRows f = plain_filters<FilterRows>();
    for_each_run(
        0, [&](const char* x, ptrdiff_t x_pixel, ptrdiff_t, char* y, ptrdiff_t y_pixel, ptrdiff_t, const Run& run) {
          f.x = x;
          f.pixel_stride = x_pixel;
          f.pixels = run.n;
          f.out = y;
          f.out_pixel = y_pixel;
          plan_.table->few_filters[index(problem_.arithmetic)](f);
        });
  }

  // Whole colour pixels, where there is such a kernel and nothing for it to leave undone; else false.
  bool colour(const Pixels& pixels) const {
    const auto taken = [](DType type) { return type == DType::float32 || type == DType::uint8; };
    const bool clamps = epilogue_.activation == Activation::clamp;
    if (problem_.arithmetic != DType::float32 || !taken(problem_.x.dtype) || !taken(problem_.y.dtype) ||
        problem_.adds_residual || (epilogue_.activation != Activation::none && !clamps))
      return false;
    const ColourFn kernel = plan_.table->colour[problem_.x.dtype == DType::uint8][problem_.y.dtype == DType::uint8];
    if (!kernel) return false;
    Colour c = plain_filters<Colour>();
    c.clamp = clamps;
    c.lo = epilogue_.a;
    c.hi = epilogue_.b;
    Runs runs(pixels.walk(problem_.all), first_, last_);
    for (Run run; runs.next(run);) {
      c.x = data_.x + run.x;
      c.out = data_.y + run.y;
      c.pixels = run.n;
      kernel(c);
    }
    return true;
  }

  // Colour pixels as planes: in place, as many at a time as stay in the first-level cache for every filter.
  void few_planes() const {
    constexpr size_t block = 1024;
    FewChannels f = plain_filters<FewChannels>();
    f.x_row = problem_.x.channel;
    f.out_row = problem_.y.channel;
    Runs runs(pixels_.walk(problem_.all), first_, last_);
    for (Run run; runs.next(run);) {
      for (size_t first = 0; first < run.n; first += block) {
        const ptrdiff_t offset = static_cast<ptrdiff_t>(first) * size_;
        f.x = data_.x + run.x + offset;
        f.out = data_.y + y_filter(problem_.y) + run.y + offset;
        f.pixels = std::min(block, run.n - first);
        plan_.table->few_channels[index(problem_.arithmetic)](f);
      }
    }
    finish(true);
  }

  // Colour pixels in a box: those of the side that turns are packed in scratch.
  void few_channels_in_box() {
    Pixels packed = pixels_;
    PixelAxis &row = packed.box[0], &column = packed.box[1];
    const auto pixel_of = [](const Side& side, size_t channels) {
      return static_cast<ptrdiff_t>(channels * size_of(side.dtype));
    };
    const ptrdiff_t length = static_cast<ptrdiff_t>(column.n);
    if (plan_.stage_x) {
      const Elements own = elements(problem_.x);
      const ptrdiff_t pixel = pixel_of(problem_.x, problem_.in_channels);
      transfer(*plan_.table, data_.x, scratch_,
               {{row.n, row.x, length * pixel},
                {column.n, column.x, pixel},
                {problem_.in_channels, problem_.x.channel, static_cast<ptrdiff_t>(own.size)}},
               own, own, nullptr);
      data_.x = scratch_;
      row.x = length * pixel;
      column.x = pixel;
      return few_channels(packed);
    }
    const Elements own = elements(problem_.y);
    const ptrdiff_t pixel = pixel_of(problem_.y, filters_);
    char* y = data_.y;
    data_.y = scratch_;
    row.y = length * pixel;
    column.y = pixel;
    few_channels(packed);
    transfer(*plan_.table, scratch_, y,
             {{row.n, row.y, pixels_.box[0].y},
              {column.n, column.y, pixels_.box[1].y},
              {filters_, static_cast<ptrdiff_t>(own.size), problem_.y.channel}},
             own, own, nullptr);
  }

  // Colour pixels of any type: a block of them at a time is taken apart into channels, converted, multiplied,
  // converted, and put together again. Where one side is planes it is apart already, or stays so.
  void few_channels(const Pixels& pixels) const {
    if (planes(problem_)) return few_planes();
    const PixelAxis& inner = pixels.boxed ? pixels.box[1] : problem_.all.back();
    const bool x_planes = problem_.in_channels > 1 && inner.x == static_cast<ptrdiff_t>(size_of(problem_.x.dtype));
    const bool y_planes = filters_ > 1 && inner.y == static_cast<ptrdiff_t>(size_of(problem_.y.dtype));
    if (!x_planes && !y_planes && colour(pixels)) return;
    constexpr size_t block = 128;
    alignas(64) char x_rows[most_rows * block * 8], x_raw[most_rows * block * 8];
    alignas(64) char y_rows[most_rows * block * 8], y_raw[most_rows * block * 8];
    const KernelTable& table = *plan_.table;
    const size_t channels = problem_.in_channels, filters = filters_;
    const size_t size = static_cast<size_t>(size_), x_size = size_of(problem_.x.dtype),
                 y_size = size_of(problem_.y.dtype);
    const ConvertFn from_x = conversion(problem_.x.dtype, problem_.arithmetic);
    const ConvertFn to_y = conversion(problem_.arithmetic, problem_.y.dtype);
    const bool activates = epilogue_.activation != Activation::none && !problem_.adds_residual;
    FewChannels f = plain_filters<FewChannels>();
    Runs runs(pixels.walk(problem_.all), first_, last_);
    for (Run run; runs.next(run);) {
      for (size_t first = 0; first < run.n; first += block) {
        const size_t n = std::min(block, run.n - first);
        const auto rows_at = [n](char* rows, size_t element, char*(&row)[most_rows]) {
          for (size_t r = 0; r < most_rows; ++r) row[r] = rows + r * n * element;
        };
        char* row[most_rows];
        char* x = const_cast<char*>(data_.x) + run.x + static_cast<ptrdiff_t>(first) * run.x_step;
        if (channels > 1 && !x_planes) {
          char* apart = from_x ? x_raw : x_rows;
          rows_at(apart, x_size, row);
          table.split[channels - 2][log2_of(x_size)]({x, row, n});
          x = apart;
        }
        f.x_row = f.out_row = static_cast<ptrdiff_t>(n * size);
        if (from_x && x_planes) {
          for (size_t c = 0; c < channels; ++c)
            from_x(x + static_cast<ptrdiff_t>(c) * problem_.x.channel, x_rows + c * n * size, n);
        } else if (from_x) {
          from_x(x, x_rows, channels * n);
        } else if (x_planes) {
          f.x_row = problem_.x.channel;
        }
        f.x = from_x ? x_rows : x;
        f.pixels = n;
        char* y = data_.y + run.y + static_cast<ptrdiff_t>(first) * run.y_step;
        const bool in_place = !to_y && (filters == 1 || (y_planes && !activates));
        if (in_place && y_planes) f.out_row = problem_.y.channel;
        char* sums = in_place ? y : y_rows;
        f.out = sums;
        table.few_channels[index(problem_.arithmetic)](f);
        if (activates)
          table.activate[index(problem_.arithmetic)](sums, filters * n, epilogue_.activation, epilogue_.a, epilogue_.b);
        char* apart = sums;
        if (to_y) to_y(sums, apart = filters == 1 ? y : y_raw, filters * n);
        if (filters == 1 || in_place) continue;
        rows_at(apart, y_size, row);
        for (size_t k = 0; k < filters && y_planes; ++k)
          std::memcpy(y + static_cast<ptrdiff_t>(k) * problem_.y.channel, row[k], n * y_size);
        if (y_planes) continue;
        table.join[filters - 2][log2_of(y_size)]({y, row, n});
      }
    }
    if (problem_.adds_residual) finish(true);
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
    return plan_.method == Method::multiply && epilogue_.activation == Activation::clamp && !problem_.quantized &&
           (!problem_.adds_residual || plan_.fuse_residual);
  }

  // What the kernel has not done yet: residual, activation, and the way from scratch to the array.
  void finish(bool to_array) const {
    const bool add_residual = data_.residual && !plan_.fuse_residual;
    const bool activates = epilogue_.activation != Activation::none && !fuse_clamp() && !problem_.quantized;
    const bool turns = to_array && out_scratch_ && pixels_.boxed && !problem_.y.pair;
    const bool moves = to_array && out_scratch_ && !turns;
    const Elements from{static_cast<size_t>(out_size_)}, to = elements(problem_.y);
    const ConvertFn to_y = problem_.quantized ? nullptr : conversion(problem_.arithmetic, problem_.y.dtype);
    char* y = data_.y + y_filter(problem_.y);
    ptrdiff_t done = 0;
    Runs runs(pixels_.walk(problem_.target), first_, add_residual || activates || moves ? last_ : first_);
    for (Run run; runs.next(run); done += static_cast<ptrdiff_t>(run.n)) {
      const Tile at = out_scratch_ ? Tile{target_.data + done * target_.pixel, target_.pixel, target_.channel}
                                   : Tile{y + run.y, run.y_step, problem_.y.channel};
      if (add_residual) add_residual_to(at, run);
      if (activates) activate(at, run.n);
      if (!moves) continue;
      if (problem_.y.pair)
        transfer_pairs(
            *plan_.table,
            {at.data, at.pixel, 2 * at.channel, y + run.y, run.y_step, problem_.y.channel, run.n, filters_ / 2},
            at.channel, problem_.y.pair, from, to, to_y);
      else
        transfer(*plan_.table,
                 {at.data, at.pixel, at.channel, y + run.y, run.y_step, problem_.y.channel, run.n, filters_}, from, to,
                 to_y);
    }
    if (!turns) return;
    const PixelAxis &row = pixels_.box[0], &column = pixels_.box[1];
    transfer(*plan_.table, target_.data, y,
             {{row.n, static_cast<ptrdiff_t>(column.n) * target_.pixel, row.y},
              {column.n, target_.pixel, column.y},
              {filters_, target_.channel, problem_.y.channel}},
             from, to, to_y);
  }

  void add_residual_to(const Tile& at, const Run& run) const {
    const Side& side = problem_.residual;
    const bool alone = problem_.real_residual && problem_.pairs_filters;  // for every second filter
    const auto add = [&](const char* residual, char* sums, ptrdiff_t channel, size_t filters) {
      accumulate(*plan_.table,
                 {residual + run.residual, run.residual_step, side.channel, sums, at.pixel, channel, run.n, filters},
                 elements(side), static_cast<size_t>(size_), conversion(side.dtype, problem_.arithmetic),
                 plan_.table->add[index(problem_.arithmetic)]);
    };
    if (alone)
      return add(data_.residual + static_cast<ptrdiff_t>((group_ * problem_.out_channels + filter_) / 2) * side.channel,
                 at.data, 2 * at.channel, filters_ / 2);
    const char* residual = data_.residual + y_filter(side);
    if (!side.pair) return add(residual, at.data, at.channel, filters_);
    add(residual, at.data, 2 * at.channel, filters_ / 2);
    add(residual + side.pair, at.data + at.channel, 2 * at.channel, filters_ / 2);
  }

  // Both halves of the results, from scratch to the array.
  void put_together() const {
    const ptrdiff_t half = problem_.y.half;
    char* y = data_.y - half + y_filter(problem_.y);
    const char* first = target_.data - half_bytes();
    Runs runs(pixels_.walk(problem_.target), first_, last_);
    for (Run run; runs.next(run); first += static_cast<ptrdiff_t>(run.n) * target_.pixel)
      transfer_pairs(
          *plan_.table,
          {first, target_.pixel, target_.channel, y + run.y, run.y_step, problem_.y.channel, run.n, filters_},
          half_bytes(), half, {static_cast<size_t>(size_)}, elements(problem_.y),
          conversion(problem_.arithmetic, problem_.y.dtype));
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

  const Pixels& pixels_;
  const Problem& problem_;
  const Plan& plan_;
  const PackedWeights& weights_;
  const Epilogue& epilogue_;
  const ptrdiff_t size_;      // of a sum
  const ptrdiff_t out_size_;  // of what the kernel writes
  const size_t depth_;        // channels that are multiplied together
  const bool rows_;
  const size_t first_, last_;
  char* const scratch_;
  Data whole_;
  Data data_;  // of the half at hand
  bool second_half_ = false;
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

void run_part(const Layer& layer, const Pixels& pixels, size_t part, const Tile* source, const Tile* target,
              char* scratch) {
  const Plan& plan = *layer.plan;
  const size_t filter = part % plan.chunks * plan.chunk_filters;
  LayerTile(layer, pixels, scratch)
      .run(source, target, part / plan.chunks, filter,
           std::min(plan.chunk_filters, layer.problem->out_channels - filter));
}

void run_unit(void* context, size_t index) noexcept {
  const DefaultArithmetic arithmetic;
  const Work& work = *static_cast<const Work*>(context);
  char* scratch = thread_scratch(work.scratch_bytes);
  const Pixels pixels = pixels_of(*work.layers->problem, *work.layers->plan, index / work.parts);
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
      run_part(layer, pixels, index % work.parts + part, source, target, scratch + 2 * work.handed_bytes);
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
