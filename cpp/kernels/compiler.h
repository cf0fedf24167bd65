// What compilers spell differently.
#pragma once

// What a turn of the loop after this writes, no other turn reads: it may be done in vectors, though an array is worked
// on in place. Clang finds that out when it runs, and warns where it is told and cannot make use of it.
#if defined(__clang__)
#define CONV1X1_INDEPENDENT_TURNS
#else
#define CONV1X1_INDEPENDENT_TURNS _Pragma("GCC ivdep")
#endif
