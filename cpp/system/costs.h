// What things cost a processor: every number that plans are weighed by, and every threshold. Which processor gets which
// is said in cpu.cpp.
//
// What is not said otherwise is fitted to measured times (see cpp/README.md), on a Zen 4 and a Cascade Lake. No result
// depends on any of it.
#pragma once

#include <cstddef>
#include <limits>

#include "kernels/kernel.h"

namespace conv1x1 {

struct Costs {
  // Of a block of the multiply kernel, in cycles.
  double fma = 0.5, wide_fma = 0.5;                      // of vectors of up to 32 bytes, and of wider ones
  double instructions[operand_count] = {1, 1, 2, 1, 1};  // that a multiply-add takes
  double load = 0.63, straddle = 2.4;                    // of a vector, in fmas; times that where lines are straddled
  double broadcast = 0.67;                               // of a number
  double overlap = 0.8;                                  // of the shorter of loads and fmas, what still counts
  double latency = 6.8;                                  // of a channel at least: sums wait for each other
  double filter_byte = 0.002, pixel_byte = 0.115;        // from the second-level cache
  double call = 42, start = 4, finish = 5;               // of a call; of a block; in fmas, of storing one sum

  // Of an element that goes through a tile, in cycles: contiguous as the tile is; every second pixel; contiguous in the
  // other direction, which is turned in registers, by size: 1, 2, more bytes; and all else. Where its type changes,
  // more.
  double straight_move = 0.15, every_second_move = 0.55, turned_move[3] = {0.4, 0.7, 1.7}, other_move = 1.9;
  double conversion = 0.15;

  // Of a whole call, for the forecast: the cycles above, of which loads and multiply-adds count more than they take;
  // and where no cycles are known, operations. The bytes of all arrays come on top.
  double cycles_in_microsecond = 5000;
  double flop_in_microsecond = 80e3, bytes_in_microsecond = 40e3;
  double over_channels_flop = 40;  // of a softmax or the like, for an element: what takes as long
  double worth_threads = 16;  // microseconds of work for each thread: with less, waking it costs more than it brings

  // Of plans that are tried on real calls: how many times the shortest forecast theirs may be, and what panels for
  // them alone may take.
  double worth_trying = 1.5;
  size_t small_panels = size_t{128} << 10;

  // Caches.
  size_t first_level_bytes = 24000;        // what stays there while something else streams past it
  size_t l2_bytes = size_t{1} << 20;       // as the processor says, …
  size_t most_l2_bytes = size_t{2} << 20;  // … up to here: some machines tell of many megabytes
  size_t l2_parts = 4;                     // a tile of pixels may take one, and one of results another
  size_t set_bytes = 2048;    // rows of a tile are never a multiple of this apart, which would share cache sets
  size_t far_channel = 4096;  // bytes apart, from where on the channels of pixels that are rows do so

  // Tiles.
  size_t most_scratch_pixels = 1024;  // whose results go through scratch
  size_t channels_over = 2;  // channels are cut in blocks where they take more than so many times their part …
  size_t most_channels = std::numeric_limits<size_t>::max();  // … or are more than so many times this
  size_t box_side = 32, box_step = 16;  // pixels along an axis of a box, and what it is a multiple of
  size_t units_for_thread = 8;          // at least, so that nobody waits long for the last one
  size_t least_blocks = 4;              // of rows in a tile that is cut for threads
  size_t usual_chain_pixels = 128;      // in a tile of a chain, while it is weighed which way round its blocks lie
  // Multiply-adds in a unit at most: signals are looked at between units, and Ctrl-C shall not wait for long. Some
  // milliseconds with vectors, ten or twenty without.
  size_t longest_unit = size_t{1} << 28, longest_portable_unit = size_t{1} << 23;

  // Runs of pixels shorter than so many rows, or vectors of lanes, are gathered first; and planes of fewer pixels are
  // not worth a kernel of their own.
  size_t shortest_rows = 4, shortest_vectors = 2, shortest_plane = 64;
};

}  // namespace conv1x1
