// How the pixels are cut into tiles or boxes, and the filters and channels where a tile of all of them is too much;
// how rows lie in a tile, and what that takes.
#pragma once

#include <cstddef>

#include "call/problem.h"
#include "plan/machine.h"
#include "plan/plan.h"

namespace conv1x1 {

// How many runs of pixels a walk over `axes` has, and how long each is.
struct Shape {
  size_t runs, length;
};
Shape runs_of(const Costs&, const Problem&, const PixelAxes& axes);

// What a tile of pixels, and one of results, may take.
size_t scratch_budget(const Costs&);

// What tiles are whole multiples of: the pixels in a block of the kernel.
size_t granule_of(const Plan&);

// Cuts the pixels into boxes, whole runs of pixels, or tiles of a size; at most `tile` pixels, or a little more.
void choose_pixels(Plan&, const Problem&, const Costs&, size_t tile);

// Cuts them into tiles of so many pixels, or boxes of at most that.
void force_pixels(Plan&, const Problem&, const Costs&, size_t tile);

// Fills in tiles, boxes, chunks, blocks of channels, threads and the forecast, of a plan whose kernel is chosen.
void choose_tiles(Plan&, const Problem&, const Machine&, int max_threads);

// Fills in pitches and what scratch takes, of a plan whose tiles are chosen.
void choose_pitches(Plan&, const Problem&, const Costs&);

}  // namespace conv1x1
